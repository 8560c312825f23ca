"""Records of one topic, taken out of the Kafka client's own objects.

Those are let go as soon as possible: a few hundred at a time come and go in the same, warm memory, while thousands of
them, kept until they are decoded, cost as much again as fetching them did (0.77 µs a record instead of 0.57).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, Protocol, Self

from streams.core.step import InRecord


class Record(Protocol):
    """What a Kafka message has that matters here."""

    def key(self) -> bytes | None:
        """The record's key."""

    def value(self) -> bytes | None:
        """The record's value."""

    def offset(self) -> int | None:
        """Its place in the partition."""

    def partition(self) -> int | None:
        """The partition's number."""

    def timestamp(self) -> tuple[int, int]:
        """What kind of timestamp it has, and the timestamp in epoch ms."""


class Place(NamedTuple):
    """Where a record stands in its topic."""

    partition: int
    offset: int


def each(records: Sequence[Any], name: str) -> Iterator[Any]:
    """What this method says of each of some records, all of one class; called without a loop in Python."""
    return map(getattr(type(records[0]), name), records) if records else iter(())


def runs(records: Sequence[Any], name: str) -> Iterator[tuple[Any, Sequence[Any]]]:
    """The records that follow each other and of which this method says the same, and what it says."""
    said = list(each(records, name))
    if said and said.count(said[0]) == len(said):
        # So it is most often, and finding it out takes next to no time.
        yield said[0], records
        return
    start = 0
    for what, alike in groupby(said):
        stop = start + len(list(alike))
        yield what, records[start:stop]
        start = stop


class Records:
    """Values in order of each partition, and where each stood.

    ``keys`` stay empty unless they are asked for, and so do ``times_ms`` unless they or keys are.
    """

    __slots__ = ("_keyed", "_spans", "keys", "timed", "times_ms", "value_bytes", "values")

    def __init__(self, records: Sequence[Record] = (), *, keyed: bool = False, timed: bool = False) -> None:
        self.timed = timed
        self.times_ms: list[int] = []
        self.values: list[bytes | None] = []
        self.keys: list[bytes | None] = []
        self.value_bytes = 0
        self._keyed = keyed
        self._spans: list[tuple[int, Sequence[int]]] = []
        if records:
            self.add(records)

    def __len__(self) -> int:
        return len(self.values)

    def add(self, records: Sequence[Record]) -> None:
        """Takes what is needed of some records; afterwards they may go."""
        values = list(each(records, "value"))
        self.values += values
        self.value_bytes += sum(map(len, filter(None, values)))
        if self._keyed:
            self.keys += each(records, "key")
        if self.timed or self._keyed:
            self.times_ms += [timestamp for _, timestamp in each(records, "timestamp")]
        for partition, run in runs(records, "partition"):
            self._spans.append((partition, self._offsets(run)))

    def add_fetched(self, partition: int, records: Iterable[InRecord]) -> None:
        """Takes records of one partition that came through the gate, without those that it refused."""
        good = [record for record in records if record.fault is None]
        if not good:
            return
        values = [record.value for record in good]
        self.values += values
        self.value_bytes += sum(map(len, filter(None, values)))
        self.keys += [record.key for record in good]
        self.times_ms += [record.timestamp for record in good]
        self._spans.append((partition, [record.offset for record in good]))

    def _offsets(self, records: Sequence[Record]) -> Sequence[int]:
        """The offsets of records of one partition; as they rise, the first and the last tell all if none is missing."""
        first, last = records[0].offset() or 0, records[-1].offset() or 0
        if last - first == len(records) - 1 and not self._keyed:
            return range(first, last + 1)
        # Who looks at keys may look at each offset, too, and then none is inferred.
        return [record.offset() or 0 for record in records]

    @property
    def last_offsets(self) -> dict[int, int]:
        """By partition, the offset of its last record."""
        return {partition: offsets[-1] for partition, offsets in self._spans}

    def places(self) -> list[Place]:
        """Where each record stood."""
        return [Place(partition, offset) for partition, offsets in self._spans for offset in offsets]

    def part(self, start: int, stop: int) -> "Records":
        """The records from ``start`` on, before ``stop``."""
        part = Records(keyed=self._keyed, timed=self.timed)
        part.values = self.values[start:stop]
        part.keys, part.times_ms = self.keys[start:stop], self.times_ms[start:stop]
        part.value_bytes = sum(map(len, filter(None, part.values)))
        at = 0
        for partition, offsets in self._spans:
            inside = offsets[max(start - at, 0) : max(stop - at, 0)]
            if inside:
                part._spans.append((partition, inside))
            at += len(offsets)
        return part

    def halves(self) -> "tuple[Records, Records]":
        """The first half and the other one."""
        middle = len(self) // 2
        return self.part(0, middle), self.part(middle, len(self))

    @classmethod
    def of_values(cls, values: Sequence[bytes]) -> Self:
        """Values that stood nowhere."""
        records = cls()
        records.values = list(values)
        return records


@dataclass(slots=True)
class Fetched:
    """What some calls of the Kafka client brought."""

    records: dict[str, Records] = field(default_factory=dict)
    """By topic."""
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    """By topic and partition, the offset behind the last record of partitions that were read to their end."""
    count: int = 0
    """Messages, ends of partitions included."""
    bytes: int = 0

    def reached(self) -> dict[tuple[str, int], int]:
        """By topic and partition, the offset behind the last record."""
        return {
            (topic, partition): offset + 1
            for topic, records in self.records.items()
            for partition, offset in records.last_offsets.items()
        }
