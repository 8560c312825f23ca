"""What goes into a room step and what comes out of it.

A step is a pure function of (its batch of records, the state it reads, the register it sees). The shell
performs what a step decides: one Kafka transaction, then one write to the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from streams.core.outbox import Headed, Outbox

Headers = Sequence[tuple[str, bytes]]

KAFKA_TIMESTAMP_MIN_MS = 1
"""Kafka's clients read a timestamp of 0 as "now", librdkafka for one, so no output carries it."""


class Fault(NamedTuple):
    """Why a record, or the whole batch that it stands for, is taken no further."""

    reason: str
    """A code of ``reasons.py``."""
    detail: str


class InRecord(Protocol):
    """A consumed record, as aiokafka hands it out."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def fault(self) -> Fault | None: ...


class Record(NamedTuple):
    """An input record for tests, simulators and tools; the worker passes aiokafka's own."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    fault: Fault | None = None


Message = tuple[bytes | None, bytes | None, int, int]
"""An output record without headers: key, value, partition (or ``BY_KEY``), timestamp in epoch ms.

A plain tuple. Compiled code makes none: it writes into the ``Outbox`` itself.
"""


class HeadedMessage(NamedTuple):
    """An output record with headers: one that is produced again where it belongs, or one that replaces another."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: list[tuple[str, bytes]]


class StateReader(Protocol):
    """What a step may ask of its store. Later steps see what earlier ones changed."""

    def get(self, key: bytes) -> bytes | None:
        """The value of ``key``, or None."""
        ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of ``keys``, in their order."""
        ...

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Up to ``limit`` pairs whose key begins with ``prefix`` and is greater than ``after``, in key order."""
        ...

    def between(self, first: bytes, stop: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        """The first ``limit`` pairs with ``first`` <= key < ``stop``, in key order, changes on their way included."""
        ...


BY_KEY = -1
"""Partition of an output that the producer's murmur2 partitioner decides."""


@dataclass(slots=True)
class Step:
    """What a step decided. ``changes`` maps state keys to new values; None deletes the key.

    ``timestamp_ms`` is that of the record that caused it: the newest of its batch.
    """

    number: int
    timestamp_ms: int
    outputs: dict[str, Outbox] = field(default_factory=dict)
    headed: Headed = field(default_factory=Headed)
    changes: dict[bytes, bytes | None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    foreign: list[tuple[str, int, int]] = field(default_factory=list)
    """Topic, partition and offset of records that were skipped as none of the pipeline's own."""
    waiting_more: int = 0
    """By how many the scans that wait for their venue have become more."""
    pending: bool = False
    """Whether work is left in state, to be done in portions before the next record is taken (``pending.py``)."""

    def emit(self, topic: str, key: bytes | None, value: bytes, timestamp_ms: int, partition: int = BY_KEY) -> None:
        """Adds one output record; ``topic`` is the name without prefix."""
        self.to(topic).append((key, value, partition, max(timestamp_ms, KAFKA_TIMESTAMP_MIN_MS)))

    def to(self, topic: str) -> Outbox:
        """The output records of ``topic``, to be appended to."""
        messages = self.outputs.get(topic)
        if messages is None:
            messages = self.outputs[topic] = Outbox()
        return messages

    def count(self, outcome: str, amount: int = 1) -> None:
        """Counts records by outcome: every record of a batch has exactly one."""
        self.counts[outcome] = self.counts.get(outcome, 0) + amount


def header(headers: Headers, name: str) -> bytes | None:
    """The last header of that name, or None."""
    found = None
    for key, value in headers:
        if key == name:
            found = value
    return found
