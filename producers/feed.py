"""Sends input files to their topics: confluent-kafka, murmur2, idempotent, acks=all; nothing is lost in silence.

librdkafka reads a timestamp of 0 as "now". The few lines that have it go through aiokafka's producer, which does not;
so do those that follow next, since the two take turns and one waits for the other: a partition keeps its order.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as AioKafkaError
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.lines import Line
from streams.core.partition import partition_of
from streams.core.step import KAFKA_TIMESTAMP_MIN_MS
from truyvet.config import Settings

_QUEUE_MESSAGES_MAX: Final = 200_000
MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""More than the topics take: the broker has the last word, and says it."""
_POLL_EVERY: Final = 10_000
_QUEUE_FULL_WAIT_SECONDS: Final = 0.05
_FLUSH_SECONDS_MAX: Final = 600.0
_FOLLOWING_LINES: Final = 500
"""So many after a line of timestamp 0 go the same way: where every other line has it, nobody waits for each of them."""
_RUN_LINES_MAX: Final = 5_000


class FeedError(Exception):
    """The broker did not take a line; says of which file, its number there, and why."""


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
        self._failure: str | None = None
        self.sent = 0

    def send(
        self,
        topic: str,
        lines: Iterable[Line],
        on_progress: Callable[[int], None] | None = None,
        *,
        source: str = "",
    ) -> int:
        """Sends all lines and waits until the broker has them; returns how many there were.

        Args:
            topic: Its name without prefix.
            lines: In their order.
            on_progress: Is told how many were handed over, now and then and in the end.
            source: Whose lines they are, for errors: the file's name; the topic's where none is given.

        Raises:
            FeedError: one was not taken.
        """
        name, count, following = self._settings.topic(topic), 0, 0
        run: list[tuple[Line, int]] = []
        for line in lines:
            following = _FOLLOWING_LINES if line.timestamp_ms < KAFKA_TIMESTAMP_MIN_MS else following - 1
            if following > 0:
                run.append((line, self._partition(line, count)))
            else:
                self._send_run(name, run, source or topic)
                self._produce(name, line, self._partition(line, count), source or topic)
            count += 1
            self.sent += 1
            if len(run) >= _RUN_LINES_MAX:
                self._send_run(name, run, source or topic)
            if count % _POLL_EVERY == 0:
                self._producer.poll(0)
                self._check()
                if on_progress is not None:
                    on_progress(count)
        self._send_run(name, run, source or topic)
        self._flush(source or topic)
        if on_progress is not None:
            on_progress(count)
        return count

    def _partition(self, line: Line, number: int) -> int:
        # A line without a key has no partition of its own; in turn, so that none of them drowns.
        partitions = self._settings.partitions
        return number % partitions if line.key is None else partition_of(line.key, partitions)

    def _flush(self, source: str) -> None:
        left = self._producer.flush(_FLUSH_SECONDS_MAX)
        self._check()
        if left:
            raise FeedError(f"{source}: the broker has not acknowledged {left} lines")

    def _produce(self, name: str, line: Line, partition: int, source: str) -> None:
        done = partial(self._on_error, f"{source}, line {line.number}")
        while True:
            try:
                # By position the client hears of one of its two names for the callback only: the first.
                self._producer.produce(name, line.value, line.key, partition, done, None, line.timestamp_ms)
            except BufferError:
                self._producer.poll(_QUEUE_FULL_WAIT_SECONDS)
            except KafkaException as error:
                raise FeedError(f"{source}, line {line.number}: was not taken: {error.args[0].str()}") from error
            else:
                return

    def _on_error(self, line: str, error: KafkaError | None, _: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = f"{line}: was not taken: {error.str()}"

    def _check(self) -> None:
        if self._failure is not None:
            raise FeedError(self._failure)

    def _send_run(self, name: str, run: list[tuple[Line, int]], source: str) -> None:
        """Sends these lines, with timestamps that may be 0, behind all that were sent so far; and forgets them."""
        if run:
            self._flush(source)
            asyncio.run(_send_exactly(self._settings, name, run, source))
            run.clear()


async def _send_exactly(settings: Settings, name: str, run: Iterable[tuple[Line, int]], source: str) -> None:
    producer = AIOKafkaProducer(
        **settings.aiokafka(),
        acks="all",
        enable_idempotence=True,
        max_request_size=MESSAGE_BYTES_MAX,
    )
    await producer.start()
    try:
        sent = []
        for line, partition in run:
            try:
                sent.append((line, await producer.send(name, line.value, line.key, partition, line.timestamp_ms)))
            except AioKafkaError as error:
                raise FeedError(f"{source}, line {line.number}: was not taken: {error}") from error
        for line, taken in sent:
            try:
                await taken
            except AioKafkaError as error:
                raise FeedError(f"{source}, line {line.number}: was not taken: {error}") from error
    finally:
        await producer.stop()
