"""Retention in ClickHouse: which days go, that others stay, and that it may be run again at any point."""

from datetime import UTC, date, datetime, timedelta

import pytest

from sinks import ddl
from sinks.backends import Backend, StorageError
from sinks.changing import Changing
from sinks.maintenance import PurgeAction, RefusedError, perform
from sinks.retention import Purge, gone_on, kept_from, purge
from sinks.tables import TABLES
from tests.sinks import data
from tests.sinks.test_backends import rows, store
from truyvet.config import Settings

AS_OF = date(2021, 11, 13)
"""The first day on which 14 October is past its 28 days and a day more."""


@pytest.fixture(autouse=True)
def _files_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddl, "OLD_PARTS_SECONDS", 0)


def fill(backend: Backend) -> None:
    """Rows of three days, 13 to 15 October."""
    days = (13, 14, 15)
    store(backend, "enriched", [data.scan(day, day=day) for day in days])
    store(backend, "enriched", [data.scan(day, day=day, revision=2) for day in days])
    store(backend, "visits", [data.visit(day, day=day) for day in days])
    store(backend, "exposures", [data.exposure(day, day=day) for day in days])
    store(backend, "rejects", [data.reject(day, record_at=f"2021-10-{day}T01:00:00.000Z") for day in days])
    store(backend, "venues", [data.venue("CAFE", day="2019-01-01")])
    store(backend, "aggregates", [data.area_day(f"2021-10-{day}", "VN", "person-0", (1, 1, 0)) for day in days])
    hours = [data.venue_hour(f"2021-10-{day}T01:00:00.000Z", "CAFE", "person-0", (1, 0, 0)) for day in days]
    store(backend, "aggregates", hours)


def reported(backend: Backend, *times: str) -> None:
    """Cases C0, C1 ... reported at these times."""
    cases = [data.case_state(f"C{number}", reported_at=time) for number, time in enumerate(times)]
    store(backend, "case-states", cases)


def dropped(done: Purge) -> dict[str, list[int]]:
    """Days of October that went, by table."""
    return {one.table: [day.day for day in one.days] for one in done.tables if one.days}


@pytest.mark.parametrize(("as_of", "gone"), [(AS_OF - timedelta(1), [13]), (AS_OF, [13, 14])])
def test_whole_days_go(backend: Backend, backend_settings: Settings, as_of: date, gone: list[int]) -> None:
    """Days go once their end, 28 days and one more are past; cells and venues stay; again, there is nothing to do."""
    fill(backend)
    rehearsed = purge(backend, backend_settings, as_of, dry_run=True)
    assert rows(backend, "SELECT count() FROM v_scans") == [(3,)]
    done = purge(backend, backend_settings, as_of)
    assert dropped(done) == dropped(rehearsed) == dict.fromkeys(("scans", "visits", "exposures", "rejects"), gone)
    assert [one.rows_dropped for one in done.tables] == [one.rows_dropped for one in rehearsed.tables]
    scans = next(one for one in done.tables if one.table == "scans")
    assert (scans.rows_dropped, scans.rows_left) == (2 * len(gone), 6 - 2 * len(gone))
    assert 0 < scans.bytes_after < scans.bytes_before
    for table in ("scans", "visits", "exposures", "rejects"):
        left = [20211000 + day for day in (13, 14, 15) if day not in gone]
        assert rows(backend, f"SELECT DISTINCT day FROM {table} ORDER BY day") == [(day,) for day in left]
    assert (
        rows(backend, "SELECT count() FROM v_area_day") == rows(backend, "SELECT count() FROM v_venue_hour") == [(3,)]
    )
    assert rows(backend, "SELECT count() FROM venues") == [(1,)]
    again = purge(backend, backend_settings, as_of)
    assert dropped(again) == {}
    assert {one.rows_dropped for one in again.tables} == {0}


def test_cells_go_after_400_days(backend: Backend, backend_settings: Settings) -> None:
    """Cells outlive what they count by a year."""
    fill(backend)
    done = purge(backend, backend_settings, gone_on(date(2021, 10, 13), 400))
    assert dropped(done)["area_day"] == dropped(done)["venue_hour"] == [13]
    assert rows(backend, "SELECT DISTINCT day FROM area_day ORDER BY day") == [(20211014,), (20211015,)]
    assert rows(backend, "SELECT count() FROM venues") == [(1,)]


def test_a_days_margin() -> None:
    """The first day that stays, and the day on which one goes, are two sides of one rule; it is that of the rooms."""
    for day in (date(2021, 10, 14), date(2024, 2, 29), date(2023, 12, 31)):
        assert kept_from(gone_on(day, 28), 28) == day + timedelta(1)
        assert kept_from(gone_on(day, 28) - timedelta(1), 28) == day
    assert gone_on(date(2021, 10, 14), 28) == AS_OF


def test_cases_go_by_their_report(backend: Backend, backend_settings: Settings) -> None:
    """Cases go 90 days and one more after the local day of their report: midnight in Vietnam is 17:00 UTC."""
    reported(backend, "2021-10-13T16:59:59.999Z", "2021-10-13T17:00:00.000Z", "2021-10-14T11:00:00.000Z")
    as_of = gone_on(date(2021, 10, 13), 90)
    done = purge(backend, backend_settings, as_of, dry_run=True)
    assert rows(backend, "SELECT count() FROM cases") == [(3,)]
    assert purge(backend, backend_settings, as_of).tables[3].rows_dropped == done.tables[3].rows_dropped == 1
    assert rows(backend, "SELECT case_id FROM cases ORDER BY case_id") == [("C1",), ("C2",)]
    assert purge(backend, backend_settings, as_of).tables[3].rows_dropped == 0
    assert purge(backend, backend_settings, as_of + timedelta(1)).tables[3].rows_dropped == 2
    assert rows(backend, "SELECT count() FROM cases") == [(0,)]


def test_an_erased_case_goes_and_never_comes_back(backend: Backend, backend_settings: Settings) -> None:
    """What is left of an erased case goes with what it replaced, whichever parts they lie in."""
    reported(backend, "2021-10-14T11:00:00.000Z", "2021-10-14T11:00:00.000Z")
    erased = {"case_id": "C0", "person_id": data.PERSON.format(1), "status": "erased", "revision": 9}
    store(backend, "case-states", [erased])
    purge(backend, backend_settings, date(2021, 10, 15))
    assert rows(backend, "SELECT case_id, status FROM cases") == [("C1", "confirmed")]


def test_killed_in_the_middle(backend: Backend, backend_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended after any day and run again, the same is left."""
    fill(backend)
    reported(backend, "2021-07-01T11:00:00.000Z")
    whole = Changing.drop_day
    left = 3

    def some(self: Changing, table: str, day: int) -> None:
        nonlocal left
        if not left:
            raise StorageError("killed")
        left -= 1
        whole(self, table, day)

    monkeypatch.setattr(Changing, "drop_day", some)
    with pytest.raises(StorageError):
        purge(backend, backend_settings, AS_OF)
    assert rows(backend, "SELECT count() FROM cases") == [(1,)]
    monkeypatch.undo()
    purge(backend, backend_settings, AS_OF)
    counts = [rows(backend, f"SELECT uniqExact(day) FROM {table}") for table in ("scans", "visits", "exposures")]
    assert counts == [[(1,)]] * 3
    assert rows(backend, "SELECT count() FROM cases") == [(0,)]


def test_history_is_not_wiped_by_todays_clock(backend: Backend, backend_settings: Settings) -> None:
    """A database that restates 2021 needs a day named; another takes the local day of the clock."""
    fill(backend)
    restating = backend_settings.model_copy(update={"restating": True})
    with pytest.raises(RefusedError, match="as-of"):
        perform(backend, restating, PurgeAction())
    assert rows(backend, "SELECT count() FROM v_scans") == [(3,)]
    done = perform(backend, restating, PurgeAction(as_of=AS_OF, dry_run=True))
    assert isinstance(done, Purge)
    assert done.as_of == AS_OF
    before = datetime.now(UTC) + timedelta(hours=7)
    today = perform(backend, backend_settings, PurgeAction(dry_run=True))
    assert isinstance(today, Purge)
    assert before.date() <= today.as_of <= before.date() + timedelta(1)


def test_every_table_says_how_long() -> None:
    """Retention is as SPEC, section 8, has it; a table has day partitions, or a time to reckon from, or stays."""
    days = {name: spec.retention.days(28) for name, spec in TABLES.items()}
    assert days == {
        **dict.fromkeys(("scans", "visits", "exposures", "rejects"), 28),
        **dict.fromkeys(("ward_minute", "venue_hour", "area_day"), 400),
        "cases": 90,
        "venues": None,
    }
    for name, spec in TABLES.items():
        assert (days[name] is None) is (spec.partition is None and spec.retention_of is None)
