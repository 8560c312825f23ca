"""Sends again what lies on partitions of the inputs that nobody reads: those from the configured number on.

Producers that went by the topic's own number of partitions put records there. They go to the partition of their key
among those that are read, with the timestamp that they have. Done twice, it makes copies, which are dropped.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.topics import TOPICS, existing_topics
from streams.core.partition import partition_of
from streams.core.step import KAFKA_TIMESTAMP_MIN_MS, InRecord
from streams.shell.raw_log import read_through
from streams.shell.restore import log_consumer, watermarks
from truyvet.config import Settings

_FLUSH_SECONDS_MAX: Final = 60.0


class Resent(NamedTuple):
    """How many records of a topic were sent again, and how many cannot be: too large, or in a damaged batch."""

    sent: int
    left: int


def resend(settings: Settings) -> dict[str, Resent]:
    """Sends again what is there now; returns how much of it, by full name of the topic.

    Raises:
        KafkaException: the broker does not take all of it.
        OffsetGoneError: records went out of retention meanwhile.
        RawLogError: the broker does not let them be read.
        BrokerAwayError: the broker cannot be reached.
    """
    counts = existing_topics(settings)
    names = [settings.topic(spec.name) for spec in TOPICS if spec.direction == "in"]
    more = {name: counts[name] for name in names if counts.get(name, 0) > settings.partitions}
    return {name: _resend_topic(settings, name, count) for name, count in more.items()}


def _resend_topic(settings: Settings, topic: str, partitions: int) -> Resent:
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(settings.librdkafka() | {"acks": "all", "enable.idempotence": True, "log_level": 0})
    sent = left = 0
    for partition in range(settings.partitions, partitions):
        for record in _records(settings, topic, partition):
            if record.fault is None:
                _send(producer, topic, record, settings.partitions, delivered)
                sent += 1
            else:
                left += 1
    if producer.flush(_FLUSH_SECONDS_MAX):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - the constant's public name
    if failures:
        raise KafkaException(failures[0])
    return Resent(sent, left)


def _records(settings: Settings, topic: str, partition: int) -> Iterator[InRecord]:
    """All records of a partition up to where it ends now."""
    consumer = log_consumer(settings)
    try:
        start, end = watermarks(consumer, topic, partition)
    finally:
        consumer.close()
    return read_through(settings, topic, partition, start, end)


def _send(producer: Producer, topic: str, record: InRecord, partitions: int, delivered: object) -> None:
    home = 0 if record.key is None else partition_of(record.key, partitions)
    stamp = max(record.timestamp, KAFKA_TIMESTAMP_MIN_MS)
    while True:
        try:
            producer.produce(topic, record.value, record.key, home, delivered, timestamp=stamp)  # type: ignore[arg-type]
        except BufferError:
            producer.poll(0.1)
        else:
            return
