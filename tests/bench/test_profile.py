"""The profile: clocks that take inner stages off outer ones, sums, and one small run of it all."""

import time
from pathlib import Path
from typing import Any, cast

import pytest

from bench import harness, profile
from bench.stages import Ledger, Spent


def _busy(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_an_inner_stage_is_taken_off_the_outer_one() -> None:
    """What is charged twice would be counted twice."""
    ledger = Ledger()
    with ledger.stage("outer", 3):
        _busy(0.01)
        with ledger.stage("inner", 1):
            _busy(0.03)
    _busy(0.02)
    outer, inner = ledger.spent["outer"], ledger.spent["inner"]
    assert (outer.records, inner.records) == (3, 1)
    assert 0.01 <= outer.cpu < 0.03 <= inner.cpu < 0.05
    assert outer.wall >= 0.01


def test_sums_are_of_rooms_and_of_the_whole_with_each_database() -> None:
    """Two databases are alternatives."""
    used = Spent(cpu=1.0, wall=2.0)
    names = ("person: decode", "venue: produce", "sink: columns", "sink: insert, embedded", "sink: insert, server")
    sums = profile.sums_of(dict.fromkeys(names, used))
    assert {what: total.cpu for what, total in sums.items()} == {
        "person room": 1.0,
        "venue room": 1.0,
        "sink, embedded": 2.0,
        "sink, server": 2.0,
        "all, embedded": 4.0,
        "all, server": 4.0,
    }


def test_rows_stand_in_the_order_of_work() -> None:
    """Each with its floor beside it, in microseconds a scan."""
    spent = {
        "sink: columns": Spent(1.0, 1.0, 300_000),
        "person: commit": Spent(1.0, 2.0, 10),
        "person: decode": Spent(0.2, 0.2, 100_000),
        profile.FETCH: Spent(0.1, 0.1, 100_000),
    }
    floors = {"person: decode": Spent(0.05), "sink: columns": Spent(0.5)}
    rows = profile.rows_of(spent, floors, 100_000)
    assert [row[0] for row in rows[:4]] == [profile.FETCH, "person: decode", "person: commit", "sink: columns"]
    assert rows[1] == ["person: decode", "2.00", "2.00", "1.00", "msgspec into the struct", "0.50"]
    assert rows[2][1:4] == ["10.00", "20.00", "0.0001"]
    assert rows[3][4:] == ["msgspec into structs", "5.00"]


def test_every_stage_is_measured_on_the_real_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small run: all stages are there, and the library calls beside those that have one."""
    monkeypatch.setattr(harness, "RESULTS_DIR", tmp_path)
    assert profile.main(["--scans", "3000", "--partitions", "2", "--backends", "embedded"]) == 0
    found = cast("dict[str, Any]", harness.load("profile"))
    parts = (
        "decode",
        "store, reads",
        "dedupe, enrich, encode",
        "visits",
        "counts",
        "produce",
        "commit",
        "store, write",
    )
    wanted = {profile.FETCH, *(f"person: {part}" for part in parts), "venue: proximity, visits", "sink: columns"}
    assert wanted | {"sink: insert, embedded"} <= found["stages"].keys()
    assert found["stages"]["person: decode"]["records"] == 3000
    assert "msgspec into the struct" in capsys.readouterr().out
