"""The work that steps of a room partition leave in state, done before another record is taken (``core/pending.py``)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from streams.core import pending, portions
from streams.core.keys import PENDING
from streams.core.room import RoomPartition
from streams.core.step import Step
from streams.shell.steps import Compute, CoreFailedError, Stopped, purely
from streams.shell.store import Store


@dataclass(slots=True)
class Work:
    """A computed step on its way to the commit thread."""

    step: Step
    topic: str | None
    records: int
    done: Callable[[], None]
    meta: bytes
    settles: bool
    """Whether nothing is left to do of the records that led to it."""


class Carrying:
    """How a room partition carries on with what is left. Belongs to the event loop; ``Runner`` is the rest of it."""

    room: RoomPartition
    lock: asyncio.Lock
    _store: Store
    _step: int
    _slots: asyncio.Semaphore

    _left_from: bytes | None = None
    """From which key on work is left; None if there is none."""

    @property
    def part(self) -> str:
        """Room and partition."""
        raise NotImplementedError

    @property
    def idle_for_good(self) -> bool:
        """Whether no further step may be computed."""
        raise NotImplementedError

    def _compute(
        self,
        topic: str | None,
        records: int,
        compute: Compute,
        done: Callable[[], None],
        next_offset: int | None = None,
    ) -> None:
        raise NotImplementedError

    def stop(self, why: Stopped) -> None:
        """Takes no further step."""
        raise NotImplementedError

    def size_bytes(self) -> int:
        """About how much state the partition holds."""
        return self._store.size_bytes()

    def _look_for_work(self, following: dict[str, int]) -> dict[str, int]:
        """Notices what an owner before has left; up to where all is done then, of inputs that are read so far."""
        self._left_from = pending.first_left(self._store)
        return {topic: max(0, offset - (self._left_from is not None)) for topic, offset in following.items()}

    def _notice(self, step: Step) -> None:
        """Notices what a step leaves."""
        if step.pending:
            self._left_from = PENDING if self._left_from is None else self._left_from

    async def carry_on(self) -> None:
        """Does the work that is left, portion by portion, each a step of its own.

        Returns early if the partition is given back meanwhile: its next owner goes on. To be called with ``lock`` held.
        """
        while self._left_from is not None:
            await asyncio.sleep(0)  # between two portions others have their turn
            await self._slots.acquire()
            portion = None
            if not self.idle_for_good:
                portion = self._next_portion(self._left_from)
            if portion is None:
                self._slots.release()
                return
            step, following = portion
            self._left_from = following if step.pending else None
            self._compute(None, 0, lambda _number, _state: step, lambda: None)  # noqa: B023 - called at once

    def _next_portion(self, first: bytes) -> tuple[Step, bytes] | None:
        """The next portion; None if nothing is left, or the core fails at it: then the partition stands still."""
        try:
            portion = purely(lambda state: portions.take_portion(self.room, self._step + 1, first, state), self._store)
        except CoreFailedError as error:
            # It is of the pipeline's own doing: what it was of is not known any more to be passed over.
            self.stop(Stopped(f"{self.part} stands still at work left in its state: {error.detail}"))
            return None
        if portion is None:
            self._left_from = None
        return portion


def call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Calls in the loop, unless it is gone: then the process is ending, and nobody waits."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
