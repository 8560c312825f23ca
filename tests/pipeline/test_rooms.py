"""What the rooms do with runs of records that come at the wrong moment."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from faust.types import TP

from schemas.areas import load_areas
from streams.core.records import Records
from streams.core.room import RoomPartition
from streams.core.step import Record
from streams.shell.rooms import Rooms
from streams.shell.transport import Run
from tests.core.pipeline import CLOCK
from truyvet.config import Settings

TOPIC = "checkin.venue-marks"


class _Runner:
    """Stands for a runner that only notes what is submitted."""

    def __init__(self, following: int) -> None:
        self.part = "venue-0"
        self.name = "venue"
        self.room = RoomPartition(0, 1, "checkin.", 1, CLOCK, {})
        self.next = {"venue-marks": following}
        self.idle_for_good = False
        self.closed, self.lost, self.stopped = False, None, None
        self.lock = asyncio.Lock()
        self.submitted: list[tuple[int, int]] = []

    def epoch_of(self, _topic: str) -> int:
        return 0

    async def submit(
        self, topic: str, next_offset: int, records: Sequence[Record], _take: object, done: Callable[[], None]
    ) -> None:
        self.next[topic] = next_offset
        self.submitted.append((next_offset, len(records)))
        done()


def _run(start: int, following: int, epoch: int) -> Run:
    records = [Record(offset, 1, b"k", b"v") for offset in range(start, following)]
    return Run(TOPIC, 0, start, following, epoch, Records.of(records))


async def _take(runner: _Runner, epoch: int | None, runs: list[Run]) -> tuple[list[tuple[int, int]], int]:
    """(what was submitted, how many runs were acknowledged)."""
    rooms = Rooms(
        Settings(partitions=1),
        cast("Any", SimpleNamespace()),
        cast("Any", SimpleNamespace(directory=None)),
        load_areas(),
        Path("nowhere"),
    )
    rooms._runners["venue", 0] = cast("Any", runner)
    if epoch is not None:
        rooms._epochs[TP(TOPIC, 0)] = epoch
    rooms._seek = cast("Any", _never)  # type: ignore[method-assign]
    done = []
    for run in runs:
        await rooms.take(run, lambda: done.append(1))
    return runner.submitted, len(done)


async def _never(_: object) -> None:
    await asyncio.sleep(0)


def test_runs_follow_each_other() -> None:
    """Runs that fit are taken whole."""
    assert asyncio.run(_take(_Runner(0), 1, [_run(0, 5, 1), _run(5, 9, 1)])) == ([(5, 5), (9, 4)], 2)


def test_what_was_seen_is_cut_off() -> None:
    """A run read again is dropped, one that overlaps loses what was seen: offsets decide, not arrival."""
    assert asyncio.run(_take(_Runner(5), 1, [_run(0, 5, 1), _run(3, 9, 1)])) == ([(9, 4)], 2)


def test_runs_fetched_before_the_seek_are_dropped() -> None:
    """A room that was opened but not sought yet takes nothing: those runs were fetched for its predecessor."""
    assert asyncio.run(_take(_Runner(0), None, [_run(205, 300, 1)])) == ([], 1)
    assert asyncio.run(_take(_Runner(0), 2, [_run(0, 5, 1)])) == ([], 1)


def test_a_gap_is_read_again_and_never_skipped() -> None:
    """A run that begins beyond what was taken is dropped, and so is all until the seek has come."""
    assert asyncio.run(_take(_Runner(0), 1, [_run(205, 300, 1), _run(300, 400, 1)])) == ([], 2)
