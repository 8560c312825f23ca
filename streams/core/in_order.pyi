# Types of in_order.pyx.
from collections.abc import Iterable, Sequence

from streams.core.directory import Directory
from streams.core.room import RoomPartition
from streams.core.step import InRecord, StateReader, Step
from streams.core.tally import Places, Tally
from streams.core.times import LocalClock

def places_of(clock: LocalClock) -> Places: ...

class InOrder:
    unread: list[int]
    def __init__(self, records: Sequence[InRecord], room: RoomPartition, expired_ms: int) -> None: ...
    def leave(self, persons: Iterable[bytes]) -> None: ...
    def take(self, step: Step, state: StateReader, venues: Directory, tally: Tally) -> tuple[int, int, list[int]]: ...
