"""Records of one topic, taken out of the Kafka client's own objects.

Those are let go as soon as possible: a few hundred at a time come and go in the same, warm memory, while thousands of
them, kept until they are decoded, cost as much again as fetching them did (0.77 µs a record instead of 0.57).
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol


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
        """Whose clock it was, and its time in epoch ms."""


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

    ``keys`` and ``timestamps`` (epoch ms) stay empty unless they are asked for.
    """

    __slots__ = ("_keyed", "_spans", "keys", "timestamps", "value_bytes", "values")

    def __init__(self, records: Sequence[Record] = (), *, keyed: bool = False) -> None:
        self.values: list[bytes | None] = []
        self.keys: list[bytes | None] = []
        self.timestamps: list[int] = []
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
            self.timestamps += [at_ms for _, at_ms in each(records, "timestamp")]
        for partition, run in runs(records, "partition"):
            self._spans.append((partition, self._offsets(run)))

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
