# Types of record_batches.pyx.
from collections.abc import Iterable
from typing import TypeAlias

from streams.core.outbox import Outbox
from streams.core.step import Message

Section: TypeAlias = tuple[int, int, int, int, bytes]
"""Partition, records, first and newest timestamp in epoch ms, the records."""

class Packing:
    def __init__(self, partitions: int, bytes_max: int) -> None: ...
    def add(self, messages: Outbox | Iterable[Message]) -> None: ...
    def add_changes(self, changes: dict[bytes, bytes | None], partition: int, timestamp_ms: int) -> None: ...
    def sections_of(self) -> list[Section]: ...
