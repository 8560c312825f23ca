# Types of in_order.pyx.
from collections.abc import Iterable

from streams.core.directory import Directory
from streams.core.records import Records
from streams.core.room import RoomPartition
from streams.core.step import StateReader, Step
from streams.core.tally import Places, Tally
from streams.core.times import LocalClock

def places_of(clock: LocalClock) -> Places: ...

class InOrder:
    unread: list[int]
    def __init__(self, records: Records, room: RoomPartition, expired_ms: int) -> None: ...
    def leave(self, persons: Iterable[bytes]) -> None: ...
    def take(self, step: Step, state: StateReader, venues: Directory, tally: Tally) -> tuple[int, int, list[int]]: ...
