"""A transactional writer for the contract, on either Kafka: what ``TransactionalProducer`` does, one call at a time."""

import time
from collections.abc import Callable
from typing import Any

from streams.core.outbox import Headed
from streams.core.step import HeadedMessage, Message
from streams.shell.record_batches import Packing
from streams.shell.requests import NONE, Owner, Place
from streams.shell.transaction import _PASSING, BATCH_BYTES_MAX, TRANSACTION_TIMEOUT_MS, TransactionalProducer
from tests.sim.kafka_contract import CALLS_MAX, PARTITIONS, Kafka

_AGAIN_SECONDS = 0.05


class Writer:
    """An owner of a ``transactional.id``, from its init on; its batches are those of a room's producer."""

    _batch: Any = TransactionalProducer._batch

    def __init__(self, kafka: Kafka, name: str, timeout_ms: int) -> None:
        self._kafka = kafka
        self.requests = kafka.requests(name, timeout_ms)
        self._owner = Owner(-1, -1)
        assert self.answer(self._take_over) == NONE
        self._sequences: dict[Place, int] = {}
        self._places: dict[Place, None] = {}

    @property
    def owner(self) -> Owner:
        """Who it writes as."""
        return self._owner

    def _take_over(self) -> int:
        code: int
        code, self._owner = self.requests.init_producer_id()
        return code

    def answer(self, attempt: Callable[[], int]) -> int:
        """What is answered in the end, to whoever asks again as long as it is a matter of time."""
        for _ in range(CALLS_MAX):
            code = attempt()
            if code not in _PASSING:
                return code
            time.sleep(_AGAIN_SECONDS if self._kafka.real else 0)
        raise AssertionError(f"error {code} does not pass")

    def batches(
        self, topic: str, *messages: Message | HeadedMessage, partitions: int = PARTITIONS
    ) -> dict[Place, bytes]:
        """The next batches of a topic with so many partitions."""
        packing = Packing(partitions, BATCH_BYTES_MAX)
        for message in messages:
            if isinstance(message, HeadedMessage):
                headed = Headed()
                headed.append(message)
                packing.add(headed.topics[message.topic])
            else:
                packing.add([message])
        return {(topic, one[0]): self._batch((topic, one[0]), one) for one in packing.sections_of()}

    def batch(self, topic: str, *values: bytes, partition: int = 0) -> dict[Place, bytes]:
        """The next batch of one partition, with these values."""
        return self.batches(topic, *((b"key", value, partition, 1_600_000_000_000) for value in values))

    def add(self, *places: Place) -> int:
        """Makes these partitions part of the transaction, as all those that were before."""
        self._places |= dict.fromkeys(places)
        return self.answer(lambda: self.requests.add_partitions(self._owner, list(self._places)))

    def produce(self, batches: dict[Place, bytes]) -> set[int]:
        """Sends batches; what is answered in the end."""
        return {
            self.answer(lambda place=place, batch=batch: self.requests.produce({place: batch})[place])  # type: ignore[misc]
            for place, batch in batches.items()
        }

    def commit(self) -> int:
        """Ends the transaction."""
        self._places.clear()
        return self.answer(lambda: self.requests.commit_transaction(self._owner))


def ready(kafka: Kafka, name: str, timeout_ms: int = TRANSACTION_TIMEOUT_MS) -> Writer:
    """A new owner of that name: older ones are fenced, what they left open is aborted."""
    return Writer(kafka, name, timeout_ms)


def send(writer: Writer, topic: str, *values: bytes, partition: int = 0) -> None:
    """Writes the values within the transaction that is open, or begins one with them."""
    assert writer.add((topic, partition)) == NONE
    assert writer.produce(writer.batch(topic, *values, partition=partition)) == {NONE}


def transaction(writer: Writer, topic: str, *values: bytes, partition: int = 0) -> None:
    """Commits the values as one transaction."""
    send(writer, topic, *values, partition=partition)
    assert writer.commit() == NONE
