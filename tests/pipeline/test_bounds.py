"""Loads that would hurt a pipeline without bounds, in small; ``bench_bounds`` runs them at full size."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from sinks.backends import TABLES, StorageError, open_backend
from streams.core import expiry
from streams.core.room import RoomPartition
from streams.core.times import DAY_MS
from streams.shell.runner import Runner
from tests.conftest import SettingsFactory
from tests.core.pipeline import CLOCK
from tests.pipeline import bounds_cases as cases
from tests.pipeline import bounds_faults as faults
from truyvet.config import Settings
from truyvet.stack import Stack


@pytest.fixture
def make(settings: SettingsFactory) -> cases.MakeStack:
    """Stacks on the session's broker."""

    def make(workers: int = 1, directory: Path | None = None, **overrides: object) -> Stack:
        return Stack(settings(**overrides), directory, workers=workers, own_broker=directory is not None)

    return make


@pytest.mark.parametrize("restating", [False, True])
def test_expiry_goes_no_further_than_this_machines_clock(restating: bool) -> None:  # noqa: FBT001 - one of two worlds
    """A record stamped years ahead lets nothing of tomorrow's share go; restating, there is no other clock."""
    room = RoomPartition(0, 1, "checkin.", 28 * DAY_MS, CLOCK, {})
    runner = Runner(Settings(restating=restating), "person", room, cast("Any", None), lambda _: None)
    now_ms = time.time_ns() // 1_000_000
    runner._newest_ms = now_ms + 1_000 * DAY_MS
    runner.expired_ms = expiry.cutoffs(now_ms + DAY_MS, room).scans_ms
    assert runner.may_expire == restating


def test_the_broker_is_not_asked_where_inputs_end_while_they_are_known_to_go_on() -> None:
    """Under load every partition would ask each second, and its next fetch would wait for the answers."""

    async def ask() -> bool:
        raise AssertionError("the broker was asked")

    room = RoomPartition(0, 1, "checkin.", 28 * DAY_MS, CLOCK, {})
    runner = Runner(Settings(), "person", room, cast("Any", None), lambda _: None)
    asyncio.run(runner.expire(lambda: False, ask))


def test_a_wrong_clock_has_nothing_expire(make: cases.MakeStack) -> None:
    """Scans of years ahead and behind are rejects; records that a broker stamped years ahead take nothing with them."""
    cases.clock(make, 500)


def test_poison_hurts_nobody_else(make: cases.MakeStack) -> None:
    """Every malformed value is a row of rejects, every good scan is accepted, and the log says little about it."""
    row = cases.poison(make, bad=10_000, large=500, good=1_000)
    assert row.log_lines < 10


@pytest.mark.parametrize("order", ["in order", "shuffled", "in a day"])
def test_one_card_with_many_scans(make: cases.MakeStack, order: str) -> None:
    """It is kept whole, and others in its partition are served meanwhile."""
    cases.person(make, 3_000, order, 20)


def test_a_case_in_a_crowd(make: cases.MakeStack) -> None:
    """Exactly those who met the case are warned."""
    cases.venue(make, 20_000)


def test_a_backlog_says_when_it_will_be_worked_off(make: cases.MakeStack) -> None:
    """At a third of the way the estimate is near the truth, as near as a machine that others use lets it be."""
    # A backlog is not told of before it has stood for ten seconds: 560,000 scans were worked off in less.
    row = cases.backlog(make, 28, 50_000)
    assert 0.5 < row.estimate_ratio < 2
    assert " d " in row.told[0], row.told
    assert any("catching up" in told for told in row.told), row.told


@pytest.mark.parametrize("full", [faults.full_state, faults.full_database, faults.full_broker])
def test_a_full_disk_is_said_and_waited_for(make: cases.MakeStack, full: Callable[..., cases.Row]) -> None:
    """Whoever writes there names the folder, and goes on once there is room; nothing is lost."""
    try:
        full(make, 20_000)
    except faults.NoSmallDiskError as error:
        pytest.skip(f"no small file system can be mounted: {error}")


def test_a_slow_clickhouse_fills_no_memory(make: cases.MakeStack) -> None:
    """What comes in faster than it is stored waits in Kafka, not in the sink."""
    row = faults.slow(make, minutes=1.0, per_second=2_000)
    assert any("records behind" in told for told in row.told), row.told


def test_the_embedded_database_refuses_what_it_has_no_room_for(tmp_path: Path) -> None:
    """It acknowledged such rows, once, and stored none of them; with room it takes them again."""
    disk = tmp_path / "disk"
    try:
        with faults.small_disk(disk, 64) as small, open_backend(Settings(embedded_dir=disk / "db")) as backend:
            backend.ensure_schema()
            cells: dict[str, list[Any]] = {column.name: list(range(20_000)) for column in TABLES["venue_hour"].columns}
            cells |= {"venue_id": [f"V{number}" for number in range(20_000)], "part": ["person-0"] * 20_000}
            cells |= {"day": [20211014] * 20_000}
            small.fill()
            with pytest.raises(StorageError, match="NOT_ENOUGH_SPACE"):
                backend.insert("venue_hour", cells)
            small.make_room()
            backend.insert("venue_hour", cells)
            assert backend.query("SELECT count() FROM checkin.venue_hour")[1] == [(20_000,)]
    except faults.NoSmallDiskError as error:
        pytest.skip(f"no small file system can be mounted: {error}")
