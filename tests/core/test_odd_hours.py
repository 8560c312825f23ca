"""Local minutes, hours and days where clocks were set: a scan's hour is its wall-clock time cut to the hour (SPEC §5).

Made an instant with the offset in force at the scan, it may begin within another hour, or before the clock was set.
"""

import json
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.room import RoomPartition
from streams.core.times import LocalClock, format_ms, parse_ms
from tests.core.pipeline import DAY_MS, RULESETS, Pipeline, Row, one_by_one, whole
from tests.core.test_in_order import VENUES
from tests.oracle.naive import cells_of

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SETTINGS_OF_CLOCKS: Final = {
    "Australia/Lord_Howe": ("2021-10-02T15:30:00Z", "2021-04-03T15:00:00Z"),  # half an hour
    "America/St_Johns": ("2006-04-02T03:31:00Z", "2006-10-29T02:31:00Z"),  # at 00:01, back over midnight
    "America/Goose_Bay": ("1988-04-03T04:01:00Z", "1988-10-30T02:01:00Z"),  # at 00:01, by two hours
    "Africa/Monrovia": ("1972-01-07T00:44:30Z",),  # by 44 minutes and a half
    "America/Sao_Paulo": ("2018-11-04T03:00:00Z", "2018-02-18T02:00:00Z"),  # at midnight
    "Antarctica/Troll": ("2021-03-28T01:00:00Z", "2021-10-31T01:00:00Z"),  # two hours
    "Antarctica/Casey": ("2018-03-10T17:00:00Z", "2010-03-04T15:00:00Z"),  # three hours
    "Asia/Kathmandu": ("1985-12-31T18:30:00Z",),  # by a quarter of an hour
    "Asia/Pyongyang": ("2015-08-14T15:00:00Z", "2018-05-04T15:00:00Z"),  # half an hour, at midnight
    "America/Caracas": ("2007-12-09T07:00:00Z", "2016-05-01T07:00:00Z"),  # half an hour
    "Pacific/Apia": ("2011-12-30T10:00:00Z",),  # a day left out
    "Pacific/Kwajalein": ("1993-08-21T12:00:00Z",),  # the same
    "Asia/Ho_Chi_Minh": ("1975-06-12T16:00:00Z",),  # where no clock is set any more
}
CHANGES: Final = [(zone, text) for zone, texts in SETTINGS_OF_CLOCKS.items() for text in texts]


def _cells(zone: str, instants: list[int], *, by_one: bool) -> tuple[list[Row], dict[str, list[Row]]]:
    """(the accepted scans, the cells) of scans at these instants, each of another person, in turn at two venues."""
    pipeline = Pipeline()
    pipeline.rooms = [RoomPartition(0, 1, "checkin.", 200 * 366 * DAY_MS, LocalClock(ZoneInfo(zone)), RULESETS)]
    for value in VENUES:
        pipeline.produce("venues", json.loads(value)["venue_id"].encode(), value, parse_ms("2099-01-01T00:00:00Z"))
    pipeline.register()
    for number, at_ms in enumerate(instants):
        person = f"{number:032x}"
        scan = {"scan_id": "s", "person_id": person, "venue_id": ("CAFE", "POST")[number % 2], "direction": "in"}
        scan |= {"occurred_at": format_ms(at_ms), "source": "other"}
        pipeline.produce("scans", person.encode(), json.dumps(scan).encode(), parse_ms("2099-01-01T00:00:00Z"))
    pipeline.run(one_by_one if by_one else whole)
    views = pipeline.views()
    return views["scans"], views


def _comparable(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


@pytest.mark.parametrize("by_one", [False, True])
@pytest.mark.parametrize(("zone", "text"), CHANGES)
def test_cells_around_a_setting_of_the_clock(zone: str, text: str, by_one: bool) -> None:  # noqa: FBT001 - a parameter
    """Every minute around it, whatever the order of scans and steps: the cells that a plain count gives."""
    change_ms = parse_ms(text)
    clock = LocalClock(ZoneInfo(zone))
    assert clock.offset_ms(change_ms) != clock.offset_ms(change_ms - 1), "no clock was set then"
    instants = [change_ms + minute * MINUTE_MS + 500 * (minute % 7) for minute in range(-200, 200, 3)]
    instants += [change_ms - 1, change_ms, change_ms + MINUTE_MS - 1]
    random.Random(1).shuffle(instants)  # noqa: S311 - nothing secret
    scans, found = _cells(zone, instants, by_one=by_one)
    assert len(scans) == len(instants)
    expected = cells_of(scans, ZoneInfo(zone))
    for family in ("ward_minute", "venue_hour"):
        rows = [{name: row[name] for name in expected[family][0]} for row in found[family]]
        assert sorted(rows, key=_comparable) == sorted(expected[family], key=_comparable), family
    days = [{name: row[name] for name in expected["area_day"][0]} for row in _summed(found["area_day"])]
    assert sorted(days, key=_comparable) == sorted(expected["area_day"], key=_comparable)


def _summed(rows: list[Row]) -> list[Row]:
    """Cells of both stages as one row each."""
    cells: dict[tuple[str, ...], Row] = {}
    for row in rows:
        cell = cells.setdefault((row["day"], row["level"], row["code"]), row | dict.fromkeys(_COUNTED, 0))
        for name in _COUNTED:
            cell[name] += row[name]
    return list(cells.values())


_COUNTED: Final = ("scans", "persons", "active_venues")


def _hours(zone: str, *texts: str) -> dict[str, int]:
    """Where hours begin, and how many scans at one venue they have."""
    instants = [parse_ms(text) for text in texts for _ in range(2)]
    counted: dict[str, int] = defaultdict(int)
    for row in _cells(zone, instants, by_one=True)[1]["venue_hour"]:
        if row["venue_id"] == "CAFE":
            counted[row["hour"]] += row["scans"]
    return dict(counted)


def test_hours_of_lord_howe_are_those_of_the_offset_at_the_scan() -> None:
    """Put forward 02:00 to 02:30: 02:35 is of 02:00 at +11:00, which was 01:30; put back, 01:30 comes twice."""
    forward = _hours("Australia/Lord_Howe", "2021-10-03T01:59:00+10:30", "2021-10-03T02:35:00+11:00")
    assert forward == {"2021-10-02T14:30:00.000Z": 1, "2021-10-02T15:00:00.000Z": 1}
    back = _hours(
        *("Australia/Lord_Howe", "2021-04-04T01:35:00+11:00", "2021-04-04T01:35:00+10:30", "2021-04-04T02:05:00+10:30")
    )
    assert back == {"2021-04-03T14:00:00.000Z": 1, "2021-04-03T14:30:00.000Z": 1, "2021-04-03T15:30:00.000Z": 1}


def test_hours_of_two_days_that_begin_at_one_instant_are_one_cell() -> None:
    """St John's put clocks back at 00:01 to 23:01: 00:00 at −02:30 is 23:00 at −03:30, and they add up."""
    found = _hours("America/St_Johns", "2006-10-29T00:00:30-02:30", "2006-10-28T23:05:00-03:30")
    assert found == {"2006-10-29T02:30:00.000Z": 2}


@given(
    zone=st.sampled_from(sorted(SETTINGS_OF_CLOCKS)),
    change=st.integers(0, 10),
    away_ms=st.integers(-3 * DAY_MS, 3 * DAY_MS) | st.integers(-2 * HOUR_MS, 2 * HOUR_MS),
)
def test_times_of_odd_zones_are_the_standard_librarys(zone: str, change: int, away_ms: int) -> None:
    """Minute, hour and day of any instant near a setting of the clock, asked before and behind it in turn."""
    texts = SETTINGS_OF_CLOCKS[zone]
    change_ms = parse_ms(texts[change % len(texts)])
    clock, info = LocalClock(ZoneInfo(zone)), ZoneInfo(zone)
    for at_ms in (change_ms + away_ms, change_ms, change_ms - 1, change_ms - away_ms, change_ms + away_ms):
        local = (EPOCH + timedelta(milliseconds=at_ms)).astimezone(info)
        cut_ms = local.second * 1_000 + local.microsecond // 1_000
        expected: tuple[Any, ...] = at_ms - cut_ms, at_ms - cut_ms - local.minute * MINUTE_MS
        assert clock.place(at_ms) == (*expected, local.date().isoformat().encode())
        assert (clock.minute_start(at_ms), clock.hour_start(at_ms)) == expected
