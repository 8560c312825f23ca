"""The gate: what was fetched of an input becomes records here, or one entry that says why it does not.

Every reader of a topic that others write goes through it: the worker, the register, the sink, the backup. A batch is
judged whole before any of its records. What it says of itself is not believed, but for what the broker wrote itself:
where it begins and where the next one does.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, NamedTuple

from crc32c import crc32c

from streams.core.records import FORMAT, HEAD, SUM, Batch, CorruptBatchError, Records
from streams.shell.inflating import inflated

HEAD_BYTES: Final = 61
_HEAD: Final = Struct(">qiibIhiqqqhii")
_FRAMED: Final = Struct(">qi")
_FRAME_BYTES: Final = 12
_LENGTH_MIN: Final = 14
"""That of the shortest batch of any format."""
_SUMMED_FROM: Final = 21
_MAGIC: Final = 2
_MAGIC_AT: Final = 16
_TIME_BEFORE: Final = slice(18, 26)
_COMPRESSION: Final = 0x07
_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_SUMS_KEPT: Final = 64


class Head(NamedTuple):
    """The head of a batch, in the order in which it is written."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_delta: int
    first_ms: int
    max_ms: int
    producer_id: int
    producer_epoch: int
    sequence: int
    records: int


class FetchedBatch:
    """A record batch as it was fetched."""

    __slots__ = ("_packed", "head", "refused", "sum_found")

    def __init__(self, packed: bytes) -> None:
        """``packed`` may be anything: what is no batch is refused as one."""
        self._packed = packed
        if len(packed) >= HEAD_BYTES and packed[_MAGIC_AT] == _MAGIC:
            self.head = Head(*_HEAD.unpack_from(packed))
        else:
            # Of an older format, or cut off: where it begins and when it was is all that is asked.
            begin = int.from_bytes(packed[:8], "big", signed=True)
            stamp = int.from_bytes(packed[_TIME_BEFORE], "big", signed=True)
            magic = packed[_MAGIC_AT] if len(packed) > _MAGIC_AT else _MAGIC
            self.head = Head(begin, len(packed) - _FRAME_BYTES, 0, magic, 0, 0, 0, stamp, stamp, -1, 0, 0, 1)
        self.refused = False
        """Whether the gate let none of it through, once that is known."""
        self.sum_found = crc32c(memoryview(packed)[_SUMMED_FROM:])

    @property
    def next_offset(self) -> int:
        """Where the broker's next batch begins, at the least."""
        return self.head.base_offset + max(self.head.last_delta, 0) + 1

    @property
    def is_control(self) -> bool:
        """Whether it ends a transaction, and holds no records of anybody's. Brokers take none from producers."""
        return bool(self.head.attributes & _CONTROL)

    @property
    def is_transactional(self) -> bool:
        """Whether it counts only if its transaction was committed."""
        return bool(self.head.attributes & _TRANSACTIONAL)

    @property
    def sum_differs(self) -> bool:
        """Whether the bytes are not those that the broker wrote."""
        return self.head.magic == _MAGIC and self.sum_found != self.head.crc

    def pieces(self, start: int = 0, *, bounded: bool = True) -> Iterator[Records]:
        """Its records from the offset ``start`` on, 65,536 at a time; or one entry with a fault.

        Nothing comes where there are none. The whole was judged before the first piece is there. Not ``bounded``, keys
        and values are there whatever their size.
        """
        head = self.head
        try:
            batch = Batch(
                self._inside(), head.records, head.base_offset, head.last_delta, head.first_ms,
                head.max_ms if head.attributes & _APPEND_TIME else -1, bounded,
            )  # fmt: skip
        except CorruptBatchError as error:
            self.refused = True
            yield Records.refused(max(head.base_offset, start), head.max_ms, error.fault, head.records)
            return
        for piece in batch:
            # A fetch brings the whole of the batch that it begins in.
            known = _known(piece, start) if start > head.base_offset else 0
            if known < len(piece):
                yield piece.part(known, len(piece)) if known else piece

    def _inside(self) -> bytes:
        head = self.head
        if head.magic < _MAGIC:
            raise CorruptBatchError(FORMAT)
        if len(self._packed) < HEAD_BYTES or head.magic != _MAGIC or head.length != len(self._packed) - _FRAME_BYTES:
            raise CorruptBatchError(HEAD)
        if self.sum_differs:
            raise CorruptBatchError(SUM)
        return inflated(head.attributes & _COMPRESSION, memoryview(self._packed)[HEAD_BYTES:])


def judged(packed: bytes, *, bounded: bool = True) -> Iterator[Records]:
    """The records of one batch as it was fetched, piece by piece; or one entry with a ``fault`` in their place."""
    return FetchedBatch(packed).pieces(bounded=bounded)


class Doubts:
    """Batches that arrived with a wrong checksum, for one reader: who finds the same bytes again may believe them."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int, int]] = deque(maxlen=_SUMS_KEPT)

    def arise(self, batch: FetchedBatch) -> bool:
        """Whether it should be fetched once more: it may have been damaged on its way."""
        known = (batch.head.base_offset, batch.head.crc, batch.sum_found)
        if not batch.sum_differs or known in self._seen:
            return False
        self._seen.append(known)
        return True


def batches(data: bytes) -> Iterator[FetchedBatch]:
    """The whole batches of a fetch, which ends amid one most often."""
    at, whole = 0, memoryview(data)
    while at + _FRAME_BYTES <= len(data):
        length = _FRAMED.unpack_from(data, at)[1]
        end = at + _FRAME_BYTES + length
        if length < _LENGTH_MIN:
            # Where the next one begins nobody can say; the broker can.
            yield FetchedBatch(data[at : at + _FRAME_BYTES])
            return
        if end > len(data):
            return
        yield FetchedBatch(bytes(whole[at:end]))
        at = end


def committed(
    data: bytes, aborted: Iterable[tuple[int, int]] | None, doubts: Doubts
) -> Iterator[tuple[FetchedBatch, bool]]:
    """The batches of a fetch of what is committed, and whether their records count.

    Args:
        data: What came.
        aborted: (producer's id, first offset) of transactions that were aborted, as the broker tells with it.
        doubts: Of this reader; before a batch that is to be fetched again it ends.
    """
    coming = deque(sorted(aborted or [], key=lambda one: one[1]))
    producers = set[int]()
    for batch in batches(data):
        if doubts.arise(batch):
            return
        head = batch.head
        while coming and coming[0][1] <= head.base_offset:
            producers.add(coming.popleft()[0])
        if batch.is_control:
            # Whatever it says: a transaction that was aborted ends with the first such batch of its producer.
            producers.discard(head.producer_id)
            yield batch, False
        else:
            yield batch, not (batch.is_transactional and head.producer_id in producers)


def _known(piece: Records, start: int) -> int:
    """How many of its records lie before the offset ``start``."""
    return bisect_left(range(len(piece)), start, key=lambda index: piece[index].offset)
