"""One partition of the fake broker: records, transactions that are open, markers; and what a reader sees of it.

Rules, as of Kafka's own log: offsets only grow; the end of a transaction is a marker, one offset without a record;
a reader of committed records sees nothing from the last stable offset on, which is where the oldest open
transaction begins, and nothing of what was aborted; a cleaner leaves gaps and moves no offset.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from streams.core.step import Fault
from streams.shell.requests import NONE

_OUT_OF_ORDER_SEQUENCE_NUMBER: Final = 45
_BATCHES_REMEMBERED: Final = 5
"""Of each producer, as Kafka does."""

Headers = Sequence[tuple[str, bytes]]
Unsent = tuple[bytes | None, bytes | None, int, Headers]
"""A record on its way: key, value, timestamp in epoch ms (0 for the time of the append), headers."""


class Batch(NamedTuple):
    """A producer's batch on its way."""

    producer_id: int
    epoch: int
    sequence: int
    records: Sequence[Unsent]


class _Writer:
    """What a partition remembers of a producer, of its newest epoch: (sequence, records) of the last batches."""

    __slots__ = ("epoch", "latest", "next")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.next = 0
        self.latest: deque[tuple[int, int]] = deque(maxlen=_BATCHES_REMEMBERED)


class Transaction:
    """One transaction at the coordinator. ``logs`` are those that it touches and that have no marker of it yet."""

    __slots__ = ("aborted", "began", "decided", "epoch", "logs", "timeout")

    def __init__(self, epoch: int, began: float, timeout: float) -> None:
        self.epoch = epoch
        self.began = began
        self.timeout = timeout
        self.logs: dict[Log, None] = {}
        self.decided = False
        self.aborted = False


class Record(NamedTuple):
    """A record where it stands; timestamps in epoch ms, ``appended`` in epoch seconds."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    transaction: Transaction | None
    appended: float
    fault: Fault | None = None


class Log:
    """One partition. ``first`` is its first offset, ``end`` the next one to be given."""

    __slots__ = ("_offsets", "_open", "_records", "_writers", "end", "first", "log_append_time", "partition", "topic")

    def __init__(self, topic: str, partition: int, *, log_append_time: bool) -> None:
        self.topic = topic
        self.partition = partition
        self.log_append_time = log_append_time
        self.first = 0
        self.end = 0
        self._offsets: list[int] = []
        self._records: list[Record] = []
        # In the order of their first offsets, since that is when they come in: the first one is the oldest.
        self._open: dict[Transaction, int] = {}
        self._writers: dict[int, _Writer] = {}

    @property
    def lso(self) -> int:
        """The last stable offset: where a reader of committed records must stop."""
        return next(iter(self._open.values())) if self._open else self.end

    @property
    def last(self) -> Record:
        """The record appended last."""
        return self._records[-1]

    def extend(self, unsent: Iterable[Unsent], now: float, transaction: Transaction | None = None) -> None:
        """Appends records, those of a transaction as part of it; ``now`` in epoch seconds."""
        if transaction is not None and transaction not in self._open:
            self._open[transaction] = self.end
        offset, now_ms = self.end, int(now * 1000)
        for key, value, given_ms, headers in unsent:
            timestamp_ms = now_ms if self.log_append_time or given_ms == 0 else given_ms
            self._offsets.append(offset)
            self._records.append(Record(offset, timestamp_ms, key, value, headers, transaction, now))
            offset += 1
        self.end = offset

    def holds(self, transaction: Transaction) -> bool:
        """Whether the transaction has a record here, and no marker yet."""
        return transaction in self._open

    def take(self, batch: Batch, now: float, transaction: Transaction) -> int:
        """Appends a producer's batch if it is the next one; of the last few says again that they were taken."""
        writer = self._writers.get(batch.producer_id)
        if writer is None or writer.epoch != batch.epoch:
            writer = self._writers[batch.producer_id] = _Writer(batch.epoch)
        numbers = batch.sequence, len(batch.records)
        if numbers in writer.latest:
            return NONE
        if batch.sequence != writer.next:
            return _OUT_OF_ORDER_SEQUENCE_NUMBER
        writer.latest.append(numbers)
        writer.next += len(batch.records)
        self.extend(batch.records, now, transaction)
        return NONE

    def mark(self, transaction: Transaction) -> None:
        """Writes the marker of a transaction that is decided; also one that has no record here takes an offset."""
        self._open.pop(transaction, None)
        self.end += 1

    def limit(self, *, committed: bool) -> int:
        """Where reading ends for now."""
        return self.lso if committed else self.end

    def read(self, position: int, count: int, *, committed: bool) -> tuple[list[Record], int]:
        """Up to ``count`` records from ``position`` on, and the position behind what was looked at."""
        limit = self.limit(committed=committed)
        found: list[Record] = []
        records = self._records
        for i in range(bisect_left(self._offsets, position), len(records)):
            record = records[i]
            if record.offset >= limit:
                break
            if committed and record.transaction is not None and record.transaction.aborted:
                continue
            if len(found) == count:
                return found, found[-1].offset + 1
            found.append(record)
        return found, max(position, limit)

    def newest(self, position: int, until: float) -> dict[bytes, tuple[bytes | None, set[bytes | None]]]:
        """Of each key the newest committed record from ``position`` on that was there at ``until`` (epoch seconds).

        With the values that newer records gave the key.
        """
        found: dict[bytes, tuple[bytes | None, set[bytes | None]]] = {}
        newer: dict[bytes, set[bytes | None]] = {}
        for i in range(len(self._records) - 1, bisect_left(self._offsets, position) - 1, -1):
            record = self._records[i]
            transaction, key = record.transaction, record.key or b""
            if transaction is not None and (transaction.aborted or not transaction.decided):
                continue
            if record.appended > until:
                newer.setdefault(key, set()).add(record.value)
            elif key not in found:
                found[key] = record.value, newer.get(key, set())
        return found

    def compact(self, tombstones_before: float) -> None:
        """Does what the log cleaner does up to the last stable offset; tombstones appended before that time go."""
        stop = bisect_left(self._offsets, self.lso)
        cleanable = [r for r in self._records[:stop] if r.transaction is None or not r.transaction.aborted]
        newest = {record.key: record.offset for record in cleanable}
        kept = [
            record
            for record in cleanable
            if record.key is None
            or (
                newest[record.key] == record.offset
                and (record.value is not None or record.appended >= tombstones_before)
            )
        ]
        self._records[:stop] = kept
        self._offsets = [record.offset for record in self._records]

    def delete_before(self, offset: int) -> None:
        """Deletes what is before ``offset``, and nothing of what is still open."""
        self.first = max(self.first, min(offset, self.lso))
        stop = bisect_left(self._offsets, self.first)
        del self._offsets[:stop], self._records[:stop]
