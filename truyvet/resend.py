"""Sends again what lies on partitions of the inputs that nobody reads: those from the configured number on.

Producers that went by the topic's own number of partitions put records there. They go to the partition of their key
among those that are read, with the timestamp that they have. Done twice, it makes copies, which are dropped.
"""

from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from infra.topics import TOPICS, existing_topics
from streams.core.partition import partition_of
from streams.core.step import KAFKA_TIMESTAMP_MIN_MS
from streams.shell.restore import log_consumer, passes, watermarks
from truyvet.config import Settings

_CONSUME_RECORDS: Final = 1_000
_CONSUME_SECONDS: Final = 0.5
_FLUSH_SECONDS_MAX: Final = 60.0


def resend(settings: Settings) -> dict[str, int]:
    """Sends again what is there now; returns the number of records by full name of the topic.

    Raises:
        KafkaException: the broker does not take all of it.
        BrokerAwayError: the broker cannot be reached.
    """
    counts = existing_topics(settings)
    names = [settings.topic(spec.name) for spec in TOPICS if spec.direction == "in"]
    more = {name: counts[name] for name in names if counts.get(name, 0) > settings.partitions}
    return {name: _resend_topic(settings, name, count) for name, count in more.items()}


def _resend_topic(settings: Settings, topic: str, partitions: int) -> int:
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(settings.librdkafka() | {"acks": "all", "enable.idempotence": True, "log_level": 0})
    consumer = log_consumer(settings)
    sent = 0
    try:
        for partition in range(settings.partitions, partitions):
            for message in _records(consumer, topic, partition):
                _send(producer, message, settings.partitions, delivered)
                sent += 1
        if producer.flush(_FLUSH_SECONDS_MAX):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - the constant's public name
    finally:
        consumer.close()
    if failures:
        raise KafkaException(failures[0])
    return sent


def _records(consumer: Consumer, topic: str, partition: int) -> Iterator[Message]:
    """All records of a partition up to where it ends now."""
    position, end = watermarks(consumer, topic, partition)
    consumer.assign([TopicPartition(topic, partition, position)])
    while position < end:
        for message in consumer.consume(_CONSUME_RECORDS, _CONSUME_SECONDS):
            error = message.error()
            if error is None:
                position = (message.offset() or 0) + 1
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - same
                position = max(position, message.offset() or 0)
            elif not passes(error):
                raise KafkaException(error)


def _send(producer: Producer, message: Message, partitions: int, delivered: object) -> None:
    key = message.key()
    home = 0 if key is None else partition_of(key, partitions)
    stamp = max(message.timestamp()[1], KAFKA_TIMESTAMP_MIN_MS)
    while True:
        try:
            producer.produce(message.topic() or "", message.value(), key, home, delivered, timestamp=stamp)  # type: ignore[arg-type]
        except BufferError:
            producer.poll(0.1)
        else:
            return
