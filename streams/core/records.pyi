# Types of records.pyx.
from collections.abc import Iterator, Sequence
from typing import Self

from streams.core.step import InRecord

TIMESTAMP_MIN_MS: int
TIMESTAMP_MAX_MS: int
INFLATED: int
HEAD: int
SUM: int
FORMAT: int
COMPRESSION: int
FRAME: int

class CorruptBatchError(ValueError):
    fault: int
    def __init__(self, fault: int) -> None: ...

class Batch:
    def __init__(
        self,
        data: bytes,
        count: int,
        first_offset: int,
        last_delta: int,
        first_ms: int,
        append_ms: int = -1,
        bounded: bool = True,
    ) -> None: ...
    def __iter__(self) -> Iterator[Records]: ...
    def __next__(self) -> Records: ...

class Records(Sequence[InRecord]):
    @staticmethod
    def parsed(data: bytes, count: int, first_offset: int, first_ms: int, append_ms: int = -1) -> Records: ...
    @staticmethod
    def refused(offset: int, timestamp_ms: int, fault: int, count: int) -> Records: ...
    @staticmethod
    def of(given: Sequence[InRecord]) -> Records: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> InRecord: ...  # type: ignore[override]  # no slices: part() is one
    def part(self, start: int, stop: int) -> Records: ...
    def extend(self, others: Self) -> None: ...
    def fitting(self, start: int, records_max: int, bytes_max: int) -> tuple[int, int]: ...
    def distinct_keys(self) -> list[bytes]: ...

def newest_ms(given: Sequence[InRecord]) -> int: ...
