"""The bench's workload: the same for the same seed, valid, skewed, with copies; and what is expected of it."""

import json
from collections import Counter
from datetime import UTC, datetime

import pytest

from bench.workload import DAY, Expected, Shape, expected_of, minute_text, scan_lines, venue_lines
from producers.lines import Line
from producers.simulate.arrays import DAY_MS, day_start_ms
from schemas.fields import instant_ms
from schemas.models import Scan, Venue

SHAPE = Shape(scans=4_000, people=600, venues=150)


@pytest.fixture(scope="module", name="venues")
def _venues() -> list[Line]:
    return list(venue_lines(SHAPE))


@pytest.fixture(scope="module", name="scans")
def _scans() -> list[Line]:
    return list(scan_lines(SHAPE))


@pytest.fixture(scope="module", name="expected")
def _expected(venues: list[Line], scans: list[Line]) -> Expected:
    return expected_of(venues, scans)


def test_a_seed_gives_the_same_lines_again(venues: list[Line], scans: list[Line]) -> None:
    """Two runs with one seed write the same bytes, and another seed writes others."""
    assert list(scan_lines(SHAPE)) == scans
    assert list(venue_lines(SHAPE)) == venues
    other = Shape(scans=SHAPE.scans, people=SHAPE.people, venues=SHAPE.venues, seed=8)
    assert list(scan_lines(other)) != scans


def test_every_event_is_valid(venues: list[Line], scans: list[Line]) -> None:
    """Schemas take every line, keys are those of the events, and every scan's venue is registered."""
    register = {Venue.model_validate_json(line.value or b"").venue_id.encode(): line.key for line in venues}
    assert len(register) == SHAPE.venues
    assert all(venue == key for venue, key in register.items())
    for line in scans:
        scan = Scan.model_validate_json(line.value or b"")
        assert line.key == scan.person_id.encode()
        assert scan.venue_id.encode() in register


def test_records_come_after_what_they_tell_of(scans: list[Line]) -> None:
    """Record timestamps never fall and are after the scan, whose time lies in the one day."""
    stamps = [line.timestamp_ms for line in scans]
    assert stamps == sorted(stamps)
    begin = day_start_ms(DAY)
    for line in scans:
        occurred_ms = instant_ms(json.loads(line.value or b"")["occurred_at"])
        assert begin <= occurred_ms < begin + DAY_MS
        assert occurred_ms < line.timestamp_ms


def test_copies_are_the_same_bytes_sent_later(scans: list[Line], expected: Expected) -> None:
    """Three in a hundred records repeat an earlier one, and nothing else repeats an identity."""
    times = Counter(line.value for line in scans)
    assert len(scans) == SHAPE.scans
    assert len(times) == len(expected.venue_of)
    assert sum(times.values()) - len(times) == round(SHAPE.scans * SHAPE.copy_share)


def test_people_and_venues_are_skewed(scans: list[Line]) -> None:
    """The busiest venue has far more scans than the middle one, the busiest person some more."""
    events = [json.loads(line.value or b"") for line in scans]
    venues = [many for _, many in Counter(event["venue_id"] for event in events).most_common()]
    people = [many for _, many in Counter(event["person_id"] for event in events).most_common()]
    assert venues[0] > 5 * venues[len(venues) // 2]
    assert people[0] > 2 * people[len(people) // 2]


def test_counts_are_of_accepted_scans(expected: Expected) -> None:
    """All cells together have one scan for each that is accepted, and name wards of the register."""
    assert sum(sum(counts) for counts in expected.counts.values()) == len(expected.venue_of)
    wards = {ward for ward, *_ in expected.venues.values()}
    assert {ward for _, ward in expected.counts} <= wards


@pytest.mark.parametrize(
    ("occurred_at", "minute"),
    [
        ("2021-10-14T08:15:30+07:00", "2021-10-14T01:15:00.000Z"),
        ("2021-10-14T08:15:59.999+07:00", "2021-10-14T01:15:00.000Z"),
        ("2021-10-14T01:15:00.000Z", "2021-10-14T01:15:00.000Z"),
        ("2021-10-14T06:59:00+07:00", "2021-10-13T23:59:00.000Z"),
    ],
)
def test_minutes_are_in_utc(occurred_at: str, minute: str) -> None:
    """A minute is named by its beginning in UTC, however the scan writes its time."""
    assert minute_text(occurred_at) == minute
    assert datetime.fromisoformat(minute) <= datetime.fromisoformat(occurred_at).astimezone(UTC)
