"""Sends input files to their topics: confluent-kafka, murmur2, idempotent, acks=all; nothing is lost in silence."""

from collections.abc import Callable, Iterable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.lines import Line
from streams.core.intake import HEADER_FIRST_TS
from streams.core.partition import partition_of
from streams.core.step import KAFKA_TIMESTAMP_MIN_MS
from truyvet.config import Settings

_QUEUE_MESSAGES_MAX: Final = 200_000
MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""More than the topics take: the broker has the last word, and says it."""
_POLL_EVERY: Final = 10_000
_QUEUE_FULL_WAIT_SECONDS: Final = 0.05
_FLUSH_SECONDS_MAX: Final = 600.0


class FeedError(Exception):
    """The broker did not take a line; says which and why."""


def make_producer(settings: Settings) -> Producer:
    """An idempotent producer that places keys as Kafka's own default does."""
    return Producer(
        settings.librdkafka()
        | {
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 100,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": _QUEUE_MESSAGES_MAX,
            "delivery.report.only.error": True,
            "message.max.bytes": MESSAGE_BYTES_MAX,
        }
    )


class Feed:
    """Sends lines to one broker. ``sent`` counts the lines handed over so far."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = make_producer(settings)
        self._failure: KafkaError | None = None
        self.sent = 0

    def send(self, topic: str, lines: Iterable[Line], on_progress: Callable[[int], None] | None = None) -> int:
        """Sends all lines and waits until the broker has them; returns how many there were.

        Raises:
            FeedError: one was not taken.
        """
        name, count = self._settings.topic(topic), 0
        for line in lines:
            self._produce(name, line, count)
            count += 1
            self.sent += 1
            if count % _POLL_EVERY == 0:
                self._producer.poll(0)
                self._check(topic)
                if on_progress is not None:
                    on_progress(count)
        left = self._producer.flush(_FLUSH_SECONDS_MAX)
        self._check(topic)
        if left:
            raise FeedError(f"{topic}: the broker has not acknowledged {left} of {count} lines")
        if on_progress is not None:
            on_progress(count)
        return count

    def _produce(self, name: str, line: Line, number: int) -> None:
        # A line without a key has no partition of its own; in turn, so that none of them drowns.
        partition = number % self._settings.partitions if line.key is None else -1
        if line.key == b"":
            partition = partition_of(b"", self._settings.partitions)
        # librdkafka reads 0 as "now": the header says what was meant.
        headers: list[tuple[str, str | bytes | None]]
        headers = [(HEADER_FIRST_TS, b"0")] if line.timestamp_ms < KAFKA_TIMESTAMP_MIN_MS else []
        timestamp_ms = max(line.timestamp_ms, KAFKA_TIMESTAMP_MIN_MS)
        while True:
            try:
                # By position the client hears of one of its two names for the callback only: the first.
                self._producer.produce(
                    name, line.value, line.key, partition, self._on_error, None, timestamp_ms, headers
                )
            except BufferError:
                self._producer.poll(_QUEUE_FULL_WAIT_SECONDS)
            except KafkaException as error:
                raise FeedError(f"{name}, line {number + 1}: {error.args[0].str()}") from error
            else:
                return

    def _on_error(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = error

    def _check(self, topic: str) -> None:
        if self._failure is not None:
            raise FeedError(f"{topic}: a line was not taken: {self._failure.str()}")
