"""Fetched records by the hundred, as aiokafka's parser makes them.

aiokafka itself goes through each record in Python and copies it into one of its own, at three times the cost of
parsing it. What its parser makes has all that a step asks of a record (``streams.core.step.InRecord``), so here they
go on as they are, in chunks: what aiokafka takes for one record is a chunk.
"""

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from aiokafka.consumer import fetcher

_AT_ONCE: Final = 100
CHUNK_RECORDS_MAX: Final = 500
CHUNK_BYTES_MAX: Final = 512 * 1024
"""A chunk ends once its values take so much: few records may take hundreds of megabytes, compressed to one."""


class Chunk(NamedTuple):
    """Some records of one partition that follow each other; for aiokafka a record, whose offset is the last one's."""

    offset: int
    records: list[Any]
    size_bytes: int
    """Of their values."""


class _Batch:
    """A record batch as aiokafka knows it, but for what it gives when it is gone through: chunks."""

    def __init__(self, batch: Any, records_max: int) -> None:
        self._batch = batch
        self._records_max = records_max

    def __getattr__(self, name: str) -> object:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Chunk]:
        records: list[Any] = []
        size_bytes = 0
        parsed = chain(self._batch)  # the parser's own iterator may not be asked for itself twice
        while more := list(islice(parsed, min(_AT_ONCE, self._records_max - len(records)))):
            records += more
            size_bytes += sum([len(record.value or b"") for record in more])
            if len(records) >= self._records_max or size_bytes >= CHUNK_BYTES_MAX:
                yield Chunk(records[-1].offset, records, size_bytes)
                records, size_bytes = [], 0
        if records:
            yield Chunk(records[-1].offset, records, size_bytes)


class _Batches:
    """The record batches of one fetch."""

    def __init__(self, batches: Any, records_max: int) -> None:
        self._batches = batches
        self._records_max = records_max

    def has_next(self) -> bool:
        return bool(self._batches.has_next())

    def next_batch(self) -> Any:
        batch = self._batches.next_batch()
        # Of a batch that ends a transaction aiokafka wants to see the record.
        return batch if batch.is_control_batch else _Batch(batch, self._records_max)


class _ChunkedRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types here
    """What was fetched of one partition, without what was aborted; gone through chunk by chunk."""

    def __init__(self, tp: Any, records: Any, *others: Any, records_max: int) -> None:
        super().__init__(tp, _Batches(records, records_max), *others)

    def _consumer_record(self, _: Any, chunk: Chunk) -> Chunk:
        records = chunk.records
        if records[0].offset < self.next_fetch_offset:
            # A fetch brings the whole of the batch that it begins in.
            records = [record for record in records if record.offset >= self.next_fetch_offset]
        return chunk._replace(records=records)


def fetch_in_chunks(records_max: int) -> None:
    """Has aiokafka's consumers in this process hand out chunks of up to ``records_max`` records from now on."""
    fetcher.PartitionRecords = partial(_ChunkedRecords, records_max=min(records_max, CHUNK_RECORDS_MAX))
