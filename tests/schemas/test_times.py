"""Times: texts to milliseconds and back, and the local days, hours and minutes of several zones."""

from collections.abc import Sized
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.fields import instant_ms
from streams.core import times
from streams.core.times import LocalClock, format_ms, parse_ms
from tests.schemas.values import bent_instants, instants

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MS: Final = timedelta(milliseconds=1)

event_times = st.integers(-86_400_000, 4_102_444_800_000 + 86_400_000)
zones = st.sampled_from(
    [
        "Asia/Ho_Chi_Minh",
        "UTC",
        "Asia/Kolkata",
        "Australia/Lord_Howe",  # half an hour of summer time
        "America/St_Johns",  # changed its clocks at one minute past midnight
        "Africa/Monrovia",  # was 44 minutes and 30 seconds behind until 1972
        "Pacific/Apia",  # left out a day in 2011
    ]
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2021-10-14T08:15:30+07:00", 1634174130000),
        ("2021-10-14T01:15:30.5Z", 1634174130500),
        ("2021-10-14T01:15:30.12Z", 1634174130120),
        ("2021-10-14T01:15:30.1239999Z", 1634174130123),
        ("2021-10-13T15:45:30.000-09:30", 1634174130000),
        ("2021-10-14T01:15:30-00:00", 1634174130000),
        ("1970-01-01T00:00:00+07:00", -25_200_000),
        ("1970-01-01T00:00:00.999+07:00", -25_199_001),
        ("2099-12-31T23:59:59.999-23:59", 4102444799999 + 86_340_000),
        ("2020-02-29T00:00:00Z", 1582934400000),
    ],
)
def test_good_texts(text: str, ms: int) -> None:
    """The instant, cut to the millisecond."""
    assert parse_ms(text) == ms == instant_ms(text)


@given(text=st.one_of(instants, bent_instants, st.text(max_size=30)))
def test_texts_mean_what_the_contract_says(text: str) -> None:
    """The halves looked up and the whole parsed by the calendar agree, also on what is no time."""
    try:
        expected: int | None = instant_ms(text)
    except ValueError:
        expected = None
    for _ in range(2):  # the second time from the memo
        try:
            actual: int | None = parse_ms(text)
        except ValueError:
            actual = None
        assert actual == expected


def test_errors_name_the_rule_and_not_the_text() -> None:
    """They end up in the detail of a reject, which must not repeat what a producer sent."""
    for text in ("0912345678", "2021-02-30T08:15:30Z", "2150-01-01T00:00:00Z", "2021-10-14T08:15:30 Nguyen"):
        with pytest.raises(ValueError, match=r"^must ") as raised:
            parse_ms(text)
        assert not any(part in str(raised.value) for part in ("0912", "30", "2150", "Nguyen"))


@given(ms=event_times)
@example(ms=-1)
def test_format_is_what_the_calendar_says_and_parses_back(ms: int) -> None:
    """UTC, milliseconds, Z."""
    text = format_ms(ms)
    assert text == (EPOCH + ms * MS).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if 0 <= ms < 4_102_444_800_000:
        assert parse_ms(text) == ms


def test_format_keeps_within_the_calendar() -> None:
    """A record timestamp may be any 64-bit number; it is shown as the nearest that the calendar has."""
    assert format_ms(2**63 - 1) == "9999-12-31T23:59:59.999Z"
    assert format_ms(-(2**63)) == "0001-01-02T00:00:00.000Z"


@given(zone=zones, ms=event_times)
@example(zone="America/St_Johns", ms=1143955859999)  # the last millisecond before summer time 2006, 00:01
@example(zone="America/St_Johns", ms=1143955860000)
@example(zone="Africa/Monrovia", ms=63593069999)
@example(zone="Africa/Monrovia", ms=63593070000)
@example(zone="Asia/Ho_Chi_Minh", ms=1634144400000 - 1)  # the last millisecond of 13 October 2021
@example(zone="Asia/Ho_Chi_Minh", ms=-1)
def test_local_days_hours_and_minutes(zone: str, ms: int) -> None:
    """As the standard library has them, whatever was asked before."""
    clock = LocalClock(ZoneInfo(zone))
    for moment in (ms - 60_000, ms, ms + 60_000, ms):
        local = (EPOCH + moment * MS).astimezone(ZoneInfo(zone))
        within_ms = local.second * 1000 + local.microsecond // 1000
        assert clock.day_text(moment) == local.date().isoformat()
        assert clock.minute_start(moment) == moment - within_ms
        assert clock.hour_start(moment) == moment - within_ms - local.minute * 60_000
        assert clock.offset_ms(moment) * MS == local.utcoffset()


def test_clock_keeps_within_the_calendar() -> None:
    """Timestamps beyond all calendars give a day, not an error."""
    clock = LocalClock(ZoneInfo("Asia/Ho_Chi_Minh"))
    assert clock.day_text(2**63 - 1) == "9999-12-31"
    assert clock.day_text(-(2**63)) == "0001-01-02"
    assert clock.minute_start(2**63 - 1) <= 2**63 - 1


def test_memos_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new texts and times make memos start again, and change no result."""
    monkeypatch.setattr(times, "_MEMO_ENTRIES_MAX", 10)
    clock = LocalClock(ZoneInfo("Asia/Ho_Chi_Minh"))
    for number in range(100):
        ms = 1634174130123 + number * 86_460_000
        text = format_ms(ms)
        assert parse_ms(text) == ms
        assert parse_ms(f"{text[:19]}+00:{number % 60:02d}") == ms // 1000 * 1000 - number % 60 * 60_000
        assert clock.day_text(ms) == (EPOCH + (ms + 25_200_000) * MS).date().isoformat()
    memos: list[Sized] = [times.MINUTES, times.RESTS, times._MINUTE_TEXTS, clock._days, clock.steady_ms]
    assert max(len(memo) for memo in memos) <= 10
