"""The next portion of the work that a room partition has left, whatever it is of (``pending.py``)."""

import msgspec

from streams.core import pending
from streams.core.case_changes import CaseChange, CasesOfVisits
from streams.core.erasure import Forget
from streams.core.joins import CaseJoin, VisitJoin
from streams.core.room import RoomPartition
from streams.core.step import StateReader, Step

_decode = msgspec.msgpack.Decoder(VisitJoin | CaseJoin | CaseChange | CasesOfVisits | Forget).decode


def take_portion(room: RoomPartition, number: int, first: bytes, state: StateReader) -> tuple[Step, bytes] | None:
    """See ``pending.take_portion``."""
    return pending.take_portion(room, number, first, state, _decode)
