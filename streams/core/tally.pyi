# Types of tally.pyx.
from collections.abc import Set as AbstractSet

from streams.core.outbox import Outbox
from streams.core.step import StateReader
from streams.core.times import LocalClock

class Places:
    clock: LocalClock
    def __init__(self, clock: LocalClock) -> None: ...

class Tally:
    timestamp_ms: int
    places: Places
    def __init__(self, places: Places) -> None: ...
    def add(
        self, venue_id: bytes, area: bytes, occurred_ms: int, direction: int, counted: AbstractSet[bytes]
    ) -> None: ...
    def ward_minutes(
        self,
        state: StateReader,
        changes: dict[bytes, bytes | None],
        emitted: Outbox,
        part: bytes,
        revision: int,
    ) -> None: ...
    def venue_hours(
        self,
        state: StateReader,
        changes: dict[bytes, bytes | None],
        emitted: Outbox,
        marks: Outbox,
        part: bytes,
        revision: int,
    ) -> None: ...
    def area_days(self) -> dict[tuple[bytes, bytes], list[int]]: ...
