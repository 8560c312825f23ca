"""The person room in its plain form alone: nothing goes through what is compiled for the common case."""

from collections.abc import Iterable, Sequence

import pytest

from streams.core import person
from streams.core.directory import Directory
from streams.core.room import RoomPartition
from streams.core.step import InRecord, StateReader, Step
from streams.core.tally import Tally


class NothingInOrder:
    """Stands in for ``InOrder``: reads no record and takes nobody."""

    def __init__(self, records: Sequence[InRecord], _room: RoomPartition, _expired_ms: int) -> None:
        self.unread = list(range(len(records)))

    def leave(self, persons: Iterable[bytes]) -> None:
        """Has nobody to leave."""

    def take(self, _step: Step, _state: StateReader, _venues: Directory, _tally: Tally) -> tuple[int, int, list[int]]:
        """Takes nobody."""
        return 0, 0, []


def become(patch: pytest.MonkeyPatch) -> None:
    """Makes the person room work in its plain form until ``patch`` undoes it."""
    patch.setattr(person, "InOrder", NothingInOrder)
