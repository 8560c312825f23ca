"""Fetched records by the thousand, read where they lie in memory: no object is made of any.

aiokafka itself makes four objects of each record and goes through them in Python. Here what it takes for one record is
a ``Chunk``: up to some hundred records of one batch, as ``streams/core/records.pyx`` reads them. What aiokafka decides
stays its own: which batches were aborted, where the next fetch begins, whether a checksum is right.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import cramjam
import lz4.frame
from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

from streams.core.records import Records

CHUNK_RECORDS_MAX: Final = 500
CHUNK_BYTES_MAX: Final = 512 * 1024
"""A chunk ends once its values take so much: few records may take hundreds of megabytes, compressed to one."""

_LENGTH_AT: Final = 8
_LENGTH_FROM: Final = 12
_CHECKED_FROM: Final = 21
_HEAD_BYTES: Final = 61
_MAGIC: Final = 2
_APPEND_TIME: Final = 1
_DECODERS: Final[dict[int, Callable[[memoryview], Any]]] = {
    0: bytes,
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: lz4.frame.decompress,  # lets other threads run, which aiokafka's does not
    4: codec.zstd_decode,
}
"""By compression, as a batch names it."""


class Chunk(NamedTuple):
    """Some records of one partition that follow each other; for aiokafka a record, whose offset is the last one's."""

    offset: int
    records: Records
    size_bytes: int
    """Of their values."""


class _Batch:
    """A record batch as aiokafka knows it, but for what it gives when it is gone through: chunks."""

    def __init__(self, batch: Any, packed: bytes, records_max: int) -> None:
        """``packed`` is the batch as it was fetched."""
        self._batch = batch
        self._packed = packed
        self._records_max = records_max

    def __getattr__(self, name: str) -> object:
        return getattr(self._batch, name)

    def validate_crc(self) -> bool:
        """Whether the checksum is right; aiokafka's own way takes fifteen times as long, and a copy."""
        return bool(crc32c(memoryview(self._packed)[_CHECKED_FROM:]) == self._batch.crc)

    def _records(self) -> Records:
        batch, packed = self._batch, self._packed
        append_ms = batch.max_timestamp if batch.timestamp_type == _APPEND_TIME else -1
        count = int.from_bytes(packed[_HEAD_BYTES - 4 : _HEAD_BYTES], "big")
        try:
            data = bytes(_DECODERS[batch.compression_type](memoryview(packed)[_HEAD_BYTES:]))
            return Records.parsed(data, count, batch.base_offset, batch.first_timestamp, append_ms)
        except (ValueError, KeyError, RuntimeError, cramjam.DecompressionError) as error:
            raise CorruptRecordException(f"record batch at offset {batch.base_offset}: {error}") from error

    def __iter__(self) -> Iterator[Chunk]:
        records = self._records()
        start = 0
        while start < len(records):
            stop, size_bytes = records.fitting(start, self._records_max, CHUNK_BYTES_MAX)
            chunk = records.part(start, stop)
            yield Chunk(chunk[-1].offset, chunk, size_bytes)
            start = stop


class _Batches:
    """The record batches of one fetch, in place of aiokafka's ``MemoryRecords``."""

    def __init__(self, data: bytes, records_max: int) -> None:
        self._batches = MemoryRecords(data)
        self._data = data
        self._at = 0
        self._records_max = records_max

    def has_next(self) -> bool:
        return bool(self._batches.has_next())

    def size_in_bytes(self) -> int:
        return int(self._batches.size_in_bytes())

    def next_batch(self) -> Any:
        batch = self._batches.next_batch()
        start = self._at
        length = int.from_bytes(self._data[start + _LENGTH_AT : start + _LENGTH_FROM], "big")
        self._at = start + _LENGTH_FROM + length
        if batch is None or batch.magic < _MAGIC:
            raise CorruptRecordException("records in a format older than Kafka 0.11")
        # Of a batch that ends a transaction aiokafka wants to see the record.
        if batch.is_control_batch:
            return batch
        return _Batch(batch, self._data[start : self._at], self._records_max)


class _ChunkedRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types here
    """What was fetched of one partition, without what was aborted; gone through chunk by chunk."""

    def _consumer_record(self, _: Any, chunk: Chunk) -> Chunk:
        records = chunk.records
        if records[0].offset >= self.next_fetch_offset:
            return chunk
        # A fetch brings the whole of the batch that it begins in.
        known = sum(record.offset < self.next_fetch_offset for record in records)
        return chunk._replace(records=records.part(known, len(records)))


def fetch_in_chunks(records_max: int) -> None:
    """Has aiokafka's consumers in this process hand out chunks of up to ``records_max`` records from now on."""
    fetcher.PartitionRecords = _ChunkedRecords
    fetcher.MemoryRecords = partial(_Batches, records_max=min(records_max, CHUNK_RECORDS_MAX))
