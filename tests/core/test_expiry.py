"""Retention in state: what goes goes silently, nothing that stays changes, and state stays flat."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.core import expiry, held_scans
from streams.core.keys import EXPIRED, expired_of
from streams.core.packed import StoredScan
from streams.core.rejected import Origin
from streams.core.returned import RETURNS, Provenance, headers_of
from streams.core.step import Step
from streams.core.timeline import Timeline
from streams.core.times import format_ms
from streams.core.visits import START, all_of, longest_ms
from tests.core.pipeline import CLOCK, DAY_MS, MemoryState, Pipeline, whole
from tests.core.test_visits import BASE_MS, HEAD_KEY, MINUTE_MS, PERSON, ROWS, _scan

START_MS = 1_630_454_400_000  # 2021-09-01T07:00:00+07:00
HOUR_MS = 3_600_000
VENUES = ("CAFE", "MARKET", "HOTEL")
PERSONS = tuple(f"{number:032x}" for number in range(0xA1, 0xA9))


@example(rows=[(minute, b"CAFE", 0, False) for minute in (0, 0, 1440, 1440)], cutoff_minutes=241, chunk_bytes=130)
@example(rows=[(minute, b"CAFE", 0, False) for minute in (1440, 1440, 1440, 0)], cutoff_minutes=241, chunk_bytes=130)
@given(rows=ROWS, cutoff_minutes=st.integers(-100, 6_000), chunk_bytes=st.sampled_from([130, 400, 8192]))
def test_a_timeline_expires_between_visits(
    rows: list[tuple[int, bytes, int, bool]], cutoff_minutes: int, chunk_bytes: int
) -> None:
    """What stays gives the visits it gave before; what went could not have lasted until the cutoff."""
    scans = [_scan(number, *row[:3], waiting=row[3]) for number, row in enumerate(rows)]
    cutoff_ms = BASE_MS + cutoff_minutes * MINUTE_MS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_scans, "CHUNK_BYTES_MAX", chunk_bytes)
        state = MemoryState()
        line = Timeline(PERSON, None, state)
        for scan in scans:
            line.add(scan, CLOCK)
        line.settle()
        _apply(line, state)
        line = Timeline(PERSON, state.get(HEAD_KEY), state)
        gone = {scan.scan_id for scan in line.expire(cutoff_ms, CLOCK, 1 << 30)[0]}
        _apply(line, state)
        _check_left(state, scans, gone, cutoff_ms)
        # It goes on as if nothing had gone.
        later = _scan(999, max(cutoff_minutes, 0) + 3_000, b"CAFE", 1, waiting=False)
        line = Timeline(PERSON, state.get(HEAD_KEY), state)
        line.add(later, CLOCK)
        _, are = line.settle()
        assert all(visit in all_of(START, _accepted([*scans, later])) for visit in are)
        again = Timeline(PERSON, state.get(HEAD_KEY), state)
        assert again.expire(cutoff_ms, CLOCK, 1) == ([], False), "a second time changes nothing"


def _apply(line: Timeline, state: MemoryState) -> None:
    step = Step(1, 1)
    step.changes |= line.changes()
    state.apply(step)


def _accepted(scans: list[StoredScan]) -> list[StoredScan]:
    return sorted((scan for scan in scans if not scan.waiting), key=lambda scan: scan.place)


def _check_left(state: MemoryState, scans: list[StoredScan], gone: set[bytes], cutoff_ms: int) -> None:
    visits = all_of(START, _accepted(scans))
    stay = 0
    while stay < len(visits) and visits[stay].start_ms + longest_ms(visits[stay].attributes) < cutoff_ms:
        stay += 1
    left = [scan for scan in scans if scan.scan_id not in gone]
    assert {scan.scan_id for scan in scans if scan.waiting} & gone == {
        scan.scan_id for scan in scans if scan.waiting and scan.occurred_ms < cutoff_ms
    }
    line = Timeline(PERSON, state.get(HEAD_KEY), state)
    assert [visit for page, _ in line.visits_between(-(1 << 40), 1 << 42) for visit in page] == visits[stay:]
    for scan in scans:
        assert (line.find(scan.scan_id) is None) == (scan.scan_id in gone)
    if not left and HEAD_KEY in state.data:
        assert list(state.data) == [HEAD_KEY], "at most when the last visit ended"


def _venue(venue_id: str, category: str) -> bytes:
    event = {"venue_id": venue_id, "name": venue_id, "category": category, "province_code": "01"}
    event |= {"district_code": "007", "ward_code": "00262", "status": "active"}
    return json.dumps(event | {"lat": 21.0, "lon": 105.8, "registered_at": "2021-08-01T08:00:00+07:00"}).encode()


def _day(pipeline: Pipeline, day: int, rng: random.Random) -> None:
    """A day's scans, some of them hours late, now and then a case; timestamps rise as a broker's clock does."""
    lines = []
    for number in range(40):
        at_ms = START_MS + day * DAY_MS + rng.randrange(DAY_MS)
        late_ms = rng.choice([0, 0, 0, rng.randrange(20 * HOUR_MS)])
        event = {"scan_id": f"{day}-{number}", "person_id": rng.choice(PERSONS), "venue_id": rng.choice(VENUES)}
        event |= {"direction": rng.choice(["in", "in", "out", "pass"]), "source": "vhd"}
        lines.append((at_ms + late_ms, "scans", event | {"occurred_at": format_ms(at_ms)}))
    if day % 3 == 0:
        at_ms = START_MS + day * DAY_MS + DAY_MS - HOUR_MS
        case = {"case_id": f"C{day}", "person_id": rng.choice(PERSONS), "status": "confirmed"}
        case |= {"sampled_at": format_ms(at_ms), "ruleset": "vn-2021-07"}
        lines.append((at_ms, "cases", case | {"reported_at": format_ms(at_ms)}))
    for at_ms, topic, event in sorted(lines, key=lambda line: line[0]):
        pipeline.produce(topic, event["person_id"].encode(), json.dumps(event).encode(), at_ms)
    if day % 7 == 2:
        scan = {"scan_id": f"w{day}", "person_id": PERSONS[0], "venue_id": "GHOST", "direction": "in", "source": "vhd"}
        at_ms = START_MS + day * DAY_MS
        pipeline.produce(
            "scans", PERSONS[0].encode(), json.dumps(scan | {"occurred_at": format_ms(at_ms)}).encode(), at_ms
        )
        pipeline.produce("scans", PERSONS[1].encode(), b"no scan", at_ms)


def _months(days: int, *, expires: bool) -> tuple[Pipeline, list[Counter[bytes]]]:
    pipeline = Pipeline(partitions=2)
    for venue_id, category in zip(VENUES, ("cafe", "market", "hotel"), strict=True):
        pipeline.produce("venues", venue_id.encode(), _venue(venue_id, category), START_MS - DAY_MS)
    pipeline.register()
    rng = random.Random(3)  # noqa: S311
    sizes = []
    for day in range(days):
        _day(pipeline, day, rng)
        pipeline.run(whole)
        if expires:
            pipeline.expire()
        states = (*pipeline.person_states, *pipeline.venue_states)
        sizes.append(Counter(key[:1] for state in states for key in state.data))
    return pipeline, sizes


def test_months_with_and_without_expiry_give_the_same_rows() -> None:
    """Expiry changes no row that was or will be emitted, and state stays as large as after the retention."""
    kept, grown = _months(130, expires=False)
    expiring, sizes = _months(130, expires=True)
    for table, rows in kept.views().items():
        found = expiring.views()[table]
        without = [{k: v for k, v in row.items() if k not in ("revision", "part")} for row in (*rows, *found)]
        assert sorted(map(repr, without[: len(rows)])) == sorted(map(repr, without[len(rows) :])), table
    assert set(grown[-1]) >= {b"a", b"h", b"k", b"m", b"p", b"r", b"s", b"v", b"w", b"x", b"y"}
    for tag in (b"a", b"h", b"k", b"m", b"v", b"w", b"r", b"x"):
        assert sizes[-1][tag] <= 1.2 * max(sizes[day][tag] for day in range(32, 40)) < grown[-1][tag], tag
    assert sizes[-1][b"s"] <= 1.3 * max(sizes[day][b"s"] for day in range(92, 100)) < grown[-1][b"s"]
    assert kept.views()["exposures"], "months without an exposure prove little"


def test_portions_of_any_size_let_go_of_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few keys a portion looks at, the state ends the same."""
    whole_state = [state.data for state in _states(_months(45, expires=True)[0])]
    monkeypatch.setattr(expiry, "PAGE_KEYS", 7)
    assert [state.data for state in _states(_months(45, expires=True)[0])] == whole_state


def test_a_short_visit_kept_for_a_long_one_before_it_can_be_taken_back() -> None:
    """A timeline lets go from its front only, the venue room of each visit by its own length: an erasure meets both."""
    pipeline = Pipeline()
    for venue_id, category in (("HOTEL", "hotel"), ("SHOP", "pharmacy")):
        pipeline.produce("venues", venue_id.encode(), _venue(venue_id, category), START_MS - DAY_MS)
    pipeline.register()
    day_ms = CLOCK.day_start(START_MS)
    newest_ms = day_ms + 30 * DAY_MS
    stays = ((0, "HOTEL", day_ms + HOUR_MS), (0, "SHOP", day_ms + 2 * HOUR_MS), (1, "SHOP", newest_ms - HOUR_MS))
    for who, venue_id, at_ms in stays:
        scan = {"scan_id": f"s{at_ms}", "person_id": PERSONS[who], "venue_id": venue_id, "direction": "in"}
        value = json.dumps(scan | {"source": "vhd", "occurred_at": format_ms(at_ms)}).encode()
        pipeline.produce("scans", PERSONS[who].encode(), value, at_ms)
    case = {"case_id": "C", "person_id": PERSONS[1], "status": "confirmed", "ruleset": "vn-2021-07"}
    value = json.dumps(case | dict.fromkeys(("sampled_at", "reported_at"), format_ms(newest_ms))).encode()
    pipeline.produce("cases", PERSONS[1].encode(), value, newest_ms)
    pipeline.run(whole)
    pipeline.produce("scans", None, b"no scan", newest_ms)
    pipeline.produce("venue-marks", b"SHOP", _mark(newest_ms), newest_ms)
    pipeline.run(whole)
    pipeline.expire()
    left = [key.partition(b"\0")[0] for key, _ in pipeline.venue_states[0].scan(b"v", 3)]
    assert left == [b"vHOTEL", b"vSHOP"], "what may have lasted until the cutoff, and the case's"
    request = json.dumps({"person_id": PERSONS[0], "requested_at": format_ms(newest_ms)}).encode()
    pipeline.produce("erasures", PERSONS[0].encode(), request, newest_ms)
    pipeline.run(whole)
    assert sorted(row["status"] for row in pipeline.views()["visits"]) == ["active", "retracted", "retracted"]


def _states(pipeline: Pipeline) -> list[MemoryState]:
    return [*pipeline.person_states, *pipeline.venue_states]


def test_what_comes_again_after_its_day_has_expired_is_too_old() -> None:
    """A record sent again keeps its first timestamp; but what it would be compared with is gone."""
    pipeline, _ = _months(40, expires=True)
    state = next(state for state in pipeline.person_states if state.get(EXPIRED))
    assert expired_of(state.get(EXPIRED)) == CLOCK.day_start(START_MS + (40 - 29) * DAY_MS)
    at_ms = START_MS + 2 * DAY_MS
    scan = {"scan_id": "2-0", "person_id": PERSONS[2], "venue_id": "CAFE", "direction": "in", "source": "vhd"}
    value = json.dumps(scan | {"occurred_at": format_ms(at_ms)}).encode()
    headers = headers_of(Provenance(Origin("scans", 0, 0, 5), at_ms, attempt=1, reason="in_future"))
    before = len(pipeline.outputs["enriched"])
    pipeline.produce(RETURNS, PERSONS[2].encode(), value, START_MS + 40 * DAY_MS, headers=headers)
    pipeline.run(whole)
    assert pipeline.outputs["rejects"][-1]["reason"] == "too_old"
    assert len(pipeline.outputs["enriched"]) == before


def test_a_longer_retention_brings_nothing_back() -> None:
    """What is gone stays gone: scans of its days would be visits without those beside them."""
    pipeline, _ = _months(40, expires=True)
    before = [state.get(EXPIRED) for state in _states(pipeline)]
    assert any(before)
    pipeline.rooms = [replace(room, retention_ms=room.retention_ms + 10 * DAY_MS) for room in pipeline.rooms]
    pipeline.expire()
    assert [state.get(EXPIRED) for state in _states(pipeline)] == before


def test_nobody_is_left_when_everything_has_expired() -> None:
    """A person who comes no more is forgotten whole."""
    pipeline, _ = _months(5, expires=False)
    at_ms = START_MS + 200 * DAY_MS
    for room in pipeline.rooms:
        pipeline.produce("scans", None, b"no scan", at_ms, room.partition)
        pipeline.produce("venue-marks", b"CAFE", _mark(at_ms), at_ms, room.partition)
    pipeline.run(whole)
    pipeline.expire()
    pipeline.expire()
    left = {key[:1] for state in pipeline.person_states for key in state.data}
    assert left <= {b"!"}, left
    assert {key[:1] for state in pipeline.venue_states for key in state.data} <= {b"!", b"k", b"a"}


def _mark(ms: int) -> bytes:
    day = CLOCK.day_text(ms)
    codes = {"ward_code": "00262", "district_code": "007", "province_code": "01"}
    return json.dumps({"venue_id": "CAFE", "day": day, **codes}).encode()
