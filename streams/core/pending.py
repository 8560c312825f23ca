"""Work in portions: what follows from a few records may be more than one step should send, hold or take time for.

A step does of such work what fits into it, and leaves the rest in state, in the same transaction as its input offset.
Before another record of that partition is taken, portions do the rest, each a step of its own. Nothing comes between
them, so what a portion reads is what it was when the work began, but for what portions did. And a portion follows
from state alone: after a crash, or at another owner, the work goes on where it was.

A value is ``timestamp of the record that caused it, i64 | the work, as msgpack``.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol, Self

import msgspec

from streams.core import keys
from streams.core.room import RoomPartition
from streams.core.step import StateReader, Step

PORTION_RECORDS = 5_000
"""Records, to topics and of state, that make a portion full: some hundred milliseconds of work."""
PORTION_BYTES = 4 * 1024 * 1024
"""The same in bytes of what is sent."""
_LOOKED_AT_PER_RECORD: Final = 20
"""What is looked at in vain counts as well, a twentieth."""
_PIECES_AT_ONCE: Final = 64
"""Pieces of work that a portion reads; a piece may have a few hundred kilobytes."""
_CAUSED = struct.Struct("<q")
_encode = msgspec.msgpack.Encoder().encode


class Turn:
    """What one step may do of such work, and what it has done."""

    def __init__(self, room: RoomPartition, step: Step, state: StateReader) -> None:
        """What ``step`` holds already counts for nothing."""
        self.room = room
        self.step = step
        self.state = state
        self.further: list[Work] = []
        """What the work led to, to be done after it."""
        self._records_before, self._bytes_before = _size(step)
        self._looked_at = 0

    def look_at(self, amount: int) -> None:
        """Counts keys, or pairs of them, that were looked at."""
        self._looked_at += amount

    @property
    def records_left(self) -> int:
        """How many records more fill the portion; at least 1, so that every turn gets on."""
        return max(1, PORTION_RECORDS - (_size(self.step)[0] - self._records_before))

    @property
    def is_full(self) -> bool:
        """Whether the rest is for the next portion."""
        records, size_bytes = _size(self.step)
        return (
            records - self._records_before >= PORTION_RECORDS
            or size_bytes - self._bytes_before >= PORTION_BYTES
            or self._looked_at >= PORTION_RECORDS * _LOOKED_AT_PER_RECORD
        )


class Work(Protocol):
    """A piece of work: a tagged struct that state can hold, of at most some hundred kilobytes."""

    def advance(self, turn: Turn) -> Self | None:
        """Does a part of it, until the turn is full; what is left. Once a step: it does not see its own changes."""
        ...


def _size(step: Step) -> tuple[int, int]:
    """(records, bytes to topics) of a step so far."""
    boxes = [*step.outputs.values(), *step.headed.topics.values()]
    return len(step.changes) + sum([box.count for box in boxes]), sum([box.size for box in boxes])


def begin(room: RoomPartition, step: Step, state: StateReader, works: Iterable[Work]) -> None:
    """Does of these works what fits into ``step``, one after another, and leaves the rest in state."""
    queue = deque(works)
    if not queue:
        return
    turn, left = Turn(room, step, state), []
    while queue:
        rest: Work | None = queue.popleft()
        if not turn.is_full and rest is not None:
            rest = rest.advance(turn)
            queue += turn.further
            turn.further.clear()
        if rest is not None:
            left.append(rest)
    _leave(step, left, _CAUSED.pack(step.timestamp_ms))


def _leave(step: Step, works: Iterable[Work], caused: bytes) -> None:
    for number, work in enumerate(works):
        step.changes[keys.pending_work(step.number, number)] = caused + _encode(work)
        step.pending = True


def first_left(state: StateReader) -> bytes | None:
    """The key of the first piece of work that is left; None if there is none."""
    found = state.between(keys.PENDING, keys.PENDING_END, 1)
    return found[0][0] if found else None


def take_portion(
    room: RoomPartition, number: int, first: bytes, state: StateReader, decode: Callable[[bytes], Work]
) -> tuple[Step, bytes] | None:
    """The next portion, and from which key on something is left, if ``step.pending`` says so; None if nothing was.

    ``first`` is that key as the portion before told it, ``keys.PENDING`` to begin with.
    """
    pairs = state.between(first, keys.PENDING_END, _PIECES_AT_ONCE)
    if not pairs:
        return None
    caused = pairs[0][1][: _CAUSED.size]
    step = Step(number, _CAUSED.unpack(caused)[0])
    turn = Turn(room, step, state)
    for key, value in pairs:
        if turn.is_full:
            step.pending = True
            break
        first = key
        rest = decode(value[_CAUSED.size :]).advance(turn)
        step.changes[key] = None if rest is None else value[: _CAUSED.size] + _encode(rest)
        step.pending = rest is not None
    step.pending = step.pending or len(pairs) == _PIECES_AT_ONCE
    _leave(step, turn.further, caused)
    return step, first
