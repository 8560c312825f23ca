"""One room partition's transactional producer: a step goes out whole or not at all.

A transaction holds the step's outputs, its state changes for the changelog and, as one of those, the new
input offsets. A producer of the same ``transactional.id`` that starts later fences this one for good.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.core.step import KAFKA_TIMESTAMP_MIN_MS, HeadedMessage, Message, Step
from truyvet.config import Settings
from truyvet.metrics import BROKER_ERRORS

_CALL_SECONDS: Final = 30.0
_AT_ONCE_SECONDS: Final = 0.15
_RETRY_SECONDS: Final = 0.5
_QUEUE_FULL_WAIT_SECONDS: Final = 0.05
MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024

log = logging.getLogger("truyvet.transaction")


class FencedError(Exception):
    """This producer may not write any more: another owner of the partition has started."""


class TransactionalProducer:
    """Commits steps of one room partition, one at a time, from one thread."""

    def __init__(self, settings: Settings, room: str, partition: int, changelog: str) -> None:
        """Fences older owners and settles what they left open; waits for the broker as long as it takes.

        Raises:
            KafkaException: the broker refuses for good (rights, configuration).
        """
        self._topic = settings.topic
        self._changelog = changelog
        self._partition = partition
        self._name = f"{settings.topic_prefix}{room}-{partition}"
        self._options = settings.librdkafka() | {
            "transactional.id": self._name,
            "transaction.timeout.ms": 60_000,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 500,  # a commit sends at once what is left; until then batches may fill
            "batch.size": 1_000_000,
            "batch.num.messages": 100_000,
            "message.max.bytes": MESSAGE_BYTES_MAX,
            "queue.buffering.max.messages": 500_000,
            "delivery.report.only.error": True,
        }
        self._producer = self._connected()
        try:
            self._producer.init_transactions(_AT_ONCE_SECONDS)
        except KafkaException as exception:
            if exception.args[0].code() in {KafkaError.CONCURRENT_TRANSACTIONS, KafkaError._TIMED_OUT}:
                # Of a transaction that was left open the broker first says that it is being aborted, and the client
                # asks again only after half a second. A new client asks at once.
                self._producer = self._connected()
            self._retry("init_transactions", self._producer.init_transactions)

    def _connected(self) -> Producer:
        producer = Producer(self._options)
        # With a connection up, the client finds the coordinator at once; else it looks again after half a second.
        with contextlib.suppress(KafkaException):
            producer.list_topics(self._topic(self._changelog), timeout=_CALL_SECONDS)
        return producer

    def _retry(self, what: str, call: Callable[[float], object]) -> None:
        """Calls until it succeeds, as long as the broker merely cannot be reached; says so once."""
        said = False
        while True:
            try:
                call(_CALL_SECONDS)
                break
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                if error.fatal() or _is_fence(error):
                    raise FencedError(str(error)) from exception
                if not error.retriable():
                    raise
                BROKER_ERRORS.inc()
                if not said:
                    log.warning("%s: %s waits for the broker: %s", self._name, what, error.str())
                    said = True
                time.sleep(_RETRY_SECONDS)
        if said:
            log.warning("%s: %s went on: the broker is back", self._name, what)

    def commit(self, step: Step) -> None:
        """Sends the step as one transaction and returns once it is committed; again from the start if aborted.

        Raises:
            FencedError: another owner has started; nothing of the step counts.
            KafkaException: the broker refuses for good.
        """
        while True:
            try:
                self._producer.begin_transaction()
                self._send(step)
                self._retry("commit", self._producer.commit_transaction)
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                if error.fatal() or _is_fence(error):
                    raise FencedError(str(error)) from exception
                # A transaction that has failed takes no more records, and only that is what produce() says of it.
                if not error.txn_requires_abort() and error.code() != KafkaError._STATE:
                    raise
                BROKER_ERRORS.inc()
                log.warning("%s: transaction starts over: %s", self._name, error.str())
                self._retry("abort", self._producer.abort_transaction)
            else:
                return

    def _send(self, step: Step) -> None:
        for topic, messages in step.outputs.items():
            self._produce(self._topic(topic), messages)
        for message in step.headed:
            self._produce_headed(message)
        timestamp_ms = max(step.timestamp_ms, KAFKA_TIMESTAMP_MIN_MS)
        changes = [(key, value, self._partition, timestamp_ms) for key, value in step.changes.items()]
        self._produce(self._topic(self._changelog), changes)

    def _produce(self, topic: str, messages: Iterable[Message]) -> None:
        # Not produce_batch: it knows no timestamps, and outputs carry those of their cause. By position
        # (callback and on_delivery are two): names cost 0.6 µs a call.
        produce = self._producer.produce
        for key, value, partition, timestamp_ms in messages:
            try:
                produce(topic, value, key, partition, None, None, timestamp_ms)
            except BufferError:
                self._produce_when_there_is_room(topic, value, key, partition, None, None, timestamp_ms)

    def _produce_when_there_is_room(self, *record: Any) -> None:
        while True:
            self._producer.poll(_QUEUE_FULL_WAIT_SECONDS)
            with contextlib.suppress(BufferError):
                self._producer.produce(*record)
                return

    def _produce_headed(self, message: HeadedMessage) -> None:
        headers = cast("list[tuple[str, str | bytes | None]]", message.headers)
        record = (message.value, message.key, message.partition, None, None, message.timestamp, headers)
        topic = self._topic(message.topic)
        try:
            self._producer.produce(topic, *record)
        except BufferError:
            self._produce_when_there_is_room(topic, *record)


def _is_fence(error: KafkaError) -> bool:
    return error.code() in (KafkaError._FENCED, KafkaError._FATAL)
