"""Fetched records by the thousand, read where they lie in memory: no object is made of any.

aiokafka itself makes four objects of each record and goes through them in Python. Here what it takes for one record is
a ``Chunk``: up to some hundred records of one batch, as ``streams/core/records.pyx`` reads them. What a
batch says of itself is judged by ``batch_gate.py``; where the next fetch begins is by the broker's word alone.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

from aiokafka.consumer import fetcher

from streams.core.records import Records
from streams.shell.batch_gate import Doubts, FetchedBatch, committed

CHUNK_RECORDS_MAX: Final = 500
CHUNK_BYTES_MAX: Final = 512 * 1024
"""A chunk ends once its records take so much: few records may take hundreds of megabytes, compressed to one."""


class Chunk(NamedTuple):
    """Some records of one partition that follow each other; for aiokafka a record, whose offset is the last one's.

    Of a batch that the gate refuses it is the broker's last one: reading goes on behind that.
    """

    offset: int
    records: Records
    size_bytes: int


class _Batches:
    """The record batches of one fetch, in place of aiokafka's ``MemoryRecords``."""

    def __init__(self, data: bytes, records_max: int) -> None:
        self.data = data
        self.records_max = records_max

    def has_next(self) -> bool:
        """Whether there is a whole one: the broker sends at least that."""
        return bool(self.data)

    def size_in_bytes(self) -> int:
        return len(self.data)


class _ChunkedRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types here
    """What was fetched of one partition, without what was aborted; gone through chunk by chunk."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Chunk]:
        fetched = self._records
        for batch, counts in committed(fetched.data, self._aborted_transactions, _DOUBTS):
            for piece in batch.pieces(self.next_fetch_offset) if counts else ():
                for chunk in _chunks(piece, batch, fetched.records_max):
                    self.next_fetch_offset = chunk.offset + 1
                    yield chunk
            self.next_fetch_offset = batch.next_offset


def _chunks(piece: Records, batch: FetchedBatch, records_max: int) -> Iterator[Chunk]:
    start = 0
    while start < len(piece):
        stop, size_bytes = piece.fitting(start, records_max, CHUNK_BYTES_MAX)
        records = piece.part(start, stop)
        yield Chunk(batch.next_offset - 1 if batch.refused else records[-1].offset, records, size_bytes)
        start = stop


_DOUBTS: Final = Doubts()


def fetch_in_chunks(records_max: int) -> None:
    """Has aiokafka's consumers in this process hand out chunks of up to ``records_max`` records from now on."""
    fetcher.PartitionRecords = _ChunkedRecords
    fetcher.MemoryRecords = partial(_Batches, records_max=min(records_max, CHUNK_RECORDS_MAX))
