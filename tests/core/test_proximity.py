"""The venue room's join: against a naive one, for any sequence of changes, however it is cut into batches."""

import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schemas.outbound import Exposure, RetractedExposure
from streams.core import proximity
from streams.core.categories import CATEGORIES
from streams.core.crossing import CaseVisit, Interval, encode_case_visit, was_header
from streams.core.intervals import BOUNDS_MINUTES
from streams.core.room import RoomPartition
from streams.core.ruleset import DayWeight, Level, Ruleset
from streams.core.step import Record, Step
from streams.core.times import MINUTE_MS, LocalClock, format_ms

Row = dict[str, Any]
ROOM = RoomPartition(0, 1, "checkin.", 28 * 86_400_000, LocalClock(ZoneInfo("Asia/Ho_Chi_Minh")), {})
DAY_START_MS = 1_634_144_400_000
"""2021-10-14T00:00+07:00."""
NOON_MS = DAY_START_MS + 12 * 60 * MINUTE_MS
LEVELS = (Level("low", 0), Level("medium", 15), Level("high", 60))
PLAIN = Ruleset("vn-2021-07", 1, 3, 14, 14, 0, 0, "none", 0, (), LEVELS)
WEIGHED = Ruleset(
    "vn-2021-12", 2, 2, 2, 10, 0, 15, "fixed", 30, (DayWeight(-1, 2.0), DayWeight(0, 1.5), DayWeight(1, 0.5)), LEVELS
)
EITHER: TypeAdapter[Exposure | RetractedExposure] = TypeAdapter(Exposure | RetractedExposure)


class VisitId(NamedTuple):
    """A visit as far as it never changes."""

    person_id: str
    venue_id: str
    number: int

    @property
    def visit_id(self) -> str:
        return blake2b(f"{self.person_id}|{self.venue_id}|S{self.number}".encode(), digest_size=16).hexdigest()


class CaseId(NamedTuple):
    """Of a case visit what never changes."""

    case_id: str
    visit: VisitId


class Cut(NamedTuple):
    """A version of a case visit."""

    from_ms: int
    until_ms: int
    anchor_ms: int | None
    rule: Ruleset


PLACES = [(0, "A"), (0, "A"), (1, "A"), (2, "A"), (3, "A-1"), (1, "A-1"), (0, "A-1")]
VISITS = [VisitId(f"{person:032x}", venue, number) for number, (person, venue) in enumerate(PLACES)]
CASES = [CaseId("C0", VISITS[0]), CaseId("C1", VISITS[0]), CaseId("C0", VISITS[1]), CaseId("C2", VISITS[2]),
         CaseId("C2", VISITS[5]), CaseId("C1", VISITS[6])]  # fmt: skip


class Dictionary:
    """A StateReader over a dictionary, its keys sorted anew for every range."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.only_counts = False

    def get(self, key: bytes) -> bytes | None:
        assert not self.only_counts
        return self.data.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        assert not self.only_counts or keys == [b"yA"]
        return [self.data.get(key) for key in keys]

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        raise NotImplementedError

    def between(self, first: bytes, stop: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        assert not self.only_counts
        ordered = sorted(self.data)
        found = ordered[bisect_left(ordered, first) : bisect_left(ordered, stop)]
        return [(key, self.data[key]) for key in found[:limit]]


class World:
    """The venue room over a dictionary, and the two logs it reads, written as the person room would."""

    def __init__(self) -> None:
        self.state = Dictionary()
        self.logs: dict[str, list[tuple[Record, Any, Any]]] = {"visits": [], "case-visits": []}
        self.taken = {"visits": 0, "case-visits": 0}
        self.sent: dict[Any, Any] = {}
        self.held: dict[Any, Any] = {}
        self.step = 0
        self.newest: dict[str, Row] = {}

    def send(self, key: VisitId | CaseId, version: Any) -> None:  # noqa: ANN401 - an interval, or a Cut
        """Sends a version of a visit or case visit; None retracts it, if it is there."""
        was = self.sent.get(key)
        if version is None and was is None:
            return
        self.sent[key] = version
        if isinstance(key, CaseId):
            topic, headers, value = "case-visits", [], self._case_visit(key, was, version)
        else:
            topic, headers, value = "visits", was_header(Interval(*was)) if was else [], self._visit(key, version)
        log = self.logs[topic]
        venue = key.visit.venue_id if isinstance(key, CaseId) else key.venue_id
        log.append((Record(len(log), NOON_MS + len(log), venue.encode(), value, headers), key, version))

    def _visit(self, visit: VisitId, interval: tuple[int, int] | None) -> bytes:
        first_scan_at = format_ms(NOON_MS + visit.number)
        row: Row = {"visit_id": visit.visit_id, "first_scan_at": first_scan_at, "status": "retracted", "revision": 1}
        if interval is not None:
            row |= {
                "status": "active", "person_id": visit.person_id, "venue_id": visit.venue_id, "category": "market",
                "started_at": format_ms(interval[0]), "ended_at": format_ms(interval[1]), "start_kind": "scanned",
                "end_kind": "moved", "first_scan_id": f"S{visit.number}", "scan_count": 1,
                "province_code": "01", "district_code": "007", "ward_code": f"{visit.number:05d}",
            }  # fmt: skip
        return json.dumps(row).encode()

    def _case_visit(self, case: CaseId, old: Cut | None, cut: Cut | None) -> bytes:
        was = None if old is None else Interval(old.from_ms, old.until_ms)
        if cut is None:
            event = CaseVisit(case.case_id, case.visit.visit_id, "case", was, "retracted")
        else:
            event = CaseVisit(
                case.case_id, case.visit.visit_id, "case", was, "active", case.visit.person_id,
                cut.from_ms, cut.until_ms, cut.until_ms, cut.anchor_ms, cut.rule,
            )  # fmt: skip
        return encode_case_visit(event)

    def take(self, topic: str, count: int) -> list[Row]:
        """One step over the next records of a topic; what it emitted, held against a naive join before and after."""
        batch = self.logs[topic][self.taken[topic] :][:count]
        self.taken[topic] += len(batch)
        before = self.naive()
        self.held.update((key, version) for _, key, version in batch)
        after = self.naive()
        self.step += 1
        take: Callable[..., Step] = proximity.take_visits if topic == "visits" else proximity.take_case_visits
        step = take(ROOM, self.step, [record for record, _, _ in batch], self.state)
        assert sum(step.counts.values()) == len(batch)
        for key, value in step.changes.items():
            if value is None:
                self.state.data.pop(key, None)
            else:
                self.state.data[key] = value
        rows = self._emitted(step)
        assert {row["exposure_id"] for row in rows} == {
            key for key in before | after if before.get(key) != after.get(key)
        }, "what changed is emitted, the rest is silent"
        shown = {key: content(row) for key, row in self.newest.items() if row["status"] == "active"}
        assert shown == after
        return rows

    def _emitted(self, step: Step) -> list[Row]:
        rows = []
        for key, value, _, _ in step.outputs.get("exposures", []):
            row = json.loads(value or b"")
            EITHER.validate_json(value or b"")
            assert (key or b"").decode() == row["person_id"]
            known = self.newest.get(row["exposure_id"])
            assert known is None or known["revision"] < row["revision"] == step.number
            self.newest[row["exposure_id"]] = row
            rows.append(row)
        return rows

    def naive(self) -> dict[str, Row]:
        """Every exposure there should be, each case visit held against each visit."""
        there = {key: version for key, version in self.held.items() if version is not None}
        cases = [key for key in there if isinstance(key, CaseId)]
        visits = [key for key in there if isinstance(key, VisitId)]
        found = [expected(case, there[case], visit, there[visit]) for case in cases for visit in visits]
        return {row["exposure_id"]: row for row in found if row is not None}


def content(row: Row) -> Row:
    """A row without what its emission adds."""
    return {name: value for name, value in row.items() if name not in ("reason", "detected_at", "revision", "status")}


def expected(case: CaseId, cut: Cut, visit: VisitId, interval: tuple[int, int]) -> Row | None:
    """The exposure of two visits, read off the rules."""
    first, last = max(cut.from_ms, interval[0]), min(cut.until_ms, interval[1])
    if visit.person_id == case.visit.person_id or visit.venue_id != case.visit.venue_id:
        return None
    if last <= first or last - first < cut.rule.min_overlap_minutes * MINUTE_MS:
        return None
    weight = 1.0
    if cut.anchor_ms is not None and cut.rule.weights:
        days = (first - DAY_START_MS) // 86_400_000 - (cut.anchor_ms - DAY_START_MS) // 86_400_000
        weight = {-1: 2.0, 0: 1.5, 1: 0.5}[min(max(days, -1), 1)]
    minutes = (last - first) // MINUTE_MS
    score = weight * minutes
    named = f"{case.case_id}|{case.visit.visit_id}|{visit.visit_id}"
    return {
        "exposure_id": blake2b(named.encode(), digest_size=16).hexdigest(), "case_id": case.case_id,
        "person_id": visit.person_id, "venue_id": visit.venue_id, "category": "market", "province_code": "01",
        "district_code": "007", "ward_code": f"{visit.number:05d}", "overlap_from": format_ms(first),
        "overlap_to": format_ms(last), "overlap_minutes": minutes, "score": score,
        "level": "high" if score >= 60 else "medium" if score >= 15 else "low", "ruleset": cut.rule.name,
        "ruleset_version": cut.rule.version, "contact_scan_at": format_ms(NOON_MS + visit.number),
    }  # fmt: skip


starts = st.one_of(
    st.integers(0, 90).map(lambda minute: NOON_MS + minute * MINUTE_MS),
    st.sampled_from([NOON_MS - 1, NOON_MS + 1, NOON_MS - 1440 * MINUTE_MS, NOON_MS - 239 * MINUTE_MS]),
)
lengths = st.one_of(
    st.sampled_from([0, 1, 15 * MINUTE_MS - 1, 15 * MINUTE_MS, 239 * MINUTE_MS + 1]),
    st.sampled_from([minutes * MINUTE_MS for minutes in BOUNDS_MINUTES if minutes <= 1440]),
    st.integers(1, 90).map(lambda minutes: minutes * MINUTE_MS),
)
intervals = st.builds(lambda start, length: (start, start + length), starts, lengths)
cuts = st.builds(
    lambda start, length, anchor, rule: Cut(start, start + length, anchor, rule),
    starts,
    lengths.filter(bool) | st.sampled_from([1441, 2881, 20_000]).map(lambda minutes: minutes * MINUTE_MS),
    st.sampled_from([None, NOON_MS, NOON_MS - 86_400_000, NOON_MS + 86_400_000]),
    st.sampled_from([PLAIN, WEIGHED]),
)
changes = st.one_of(
    st.tuples(st.sampled_from(VISITS), st.none() | intervals | intervals),
    st.tuples(st.sampled_from(CASES), st.none() | cuts | cuts),
)
batches = st.lists(st.tuples(st.sampled_from(["visits", "case-visits"]), st.integers(1, 8)), min_size=4, max_size=30)


@given(st.lists(changes, min_size=15, max_size=40), batches)
@settings(max_examples=300, deadline=None)
def test_after_every_batch_exposures_are_a_naive_join(
    sent: list[tuple[Any, Any]], order: list[tuple[str, int]]
) -> None:
    """Whatever changes, however batches are cut and topics interleave: the exposures of a naive join, and no others.

    Held after every step: only what changed is emitted, once, with a higher revision than ever before.
    """
    world = World()
    for key, version in sent:
        world.send(key, version)
    for topic, count in [*order, ("visits", 99), ("case-visits", 99)]:
        world.take(topic, count)


@given(st.dictionaries(st.sampled_from(VISITS), intervals), st.dictionaries(st.sampled_from(CASES), cuts), st.randoms())
@settings(max_examples=50, deadline=None)
def test_a_withdrawn_case_takes_only_its_own_exposures(
    visits: dict[VisitId, tuple[int, int]], cases: dict[CaseId, Cut], random: Random
) -> None:
    """All visits and cases in any order, then one case withdrawn: no row of another case is touched."""
    world = World()
    sends: list[tuple[Any, Any]] = [*visits.items(), *cases.items()]
    random.shuffle(sends)
    for key, version in sends:
        world.send(key, version)
        world.take("case-visits" if isinstance(key, CaseId) else "visits", 1)
    others = {key: row for key, row in world.newest.items() if row.get("case_id") != "C0"}
    for case in cases:
        if case.case_id == "C0":
            world.send(case, None)
    rows = world.take("case-visits", 99)
    assert all(row["status"] == "retracted" for row in rows)
    assert {key: row for key, row in world.newest.items() if row.get("case_id") in ("C1", "C2")} == others


@pytest.mark.parametrize("length_ms", [bound * MINUTE_MS + more for bound in BOUNDS_MINUTES for more in (-1, 0, 1)])
def test_every_length_is_found_at_its_edges(length_ms: int) -> None:
    """A stay of any length meets whom it overlaps by a millisecond at either end, and nobody it only touches."""
    start, stop = NOON_MS, NOON_MS + length_ms
    overlaps = [((start - 1, start + 1), 1), ((stop - 1, stop + 5), 1), ((start - 5, start), 0), ((stop, stop + 5), 0)]
    for case_is_long in (True, False) if length_ms <= 1440 * MINUTE_MS else (True,):
        for case_first in (True, False):
            for other, count in overlaps:
                world = World()
                case, visit = ((start, stop), other) if case_is_long else (other, (start, stop))
                world.send(CASES[0], Cut(*case, None, PLAIN))
                world.send(VISITS[2], visit)
                world.take("case-visits" if case_first else "visits", 1)
                assert len(world.take("visits" if case_first else "case-visits", 1)) == count


def test_who_only_touches_is_no_contact() -> None:
    """A visit that moves until it begins as the case's stay ends is taken back, without a minimum overlap too."""
    world = World()
    world.send(CASES[0], Cut(NOON_MS, NOON_MS + MINUTE_MS, None, PLAIN))
    world.take("case-visits", 1)
    for shift_ms, status in ((-1, "active"), (0, "retracted")):
        world.send(VISITS[2], (NOON_MS + MINUTE_MS + shift_ms, NOON_MS + 2 * MINUTE_MS))
        (row,) = world.take("visits", 1)
        assert row["status"] == status


def test_the_table_of_lengths_has_every_category() -> None:
    """What estimated visits last is a bound of its own: so the visits just before a case's stay are not read."""
    assert {minutes for category in CATEGORIES.values() for minutes in category} <= set(BOUNDS_MINUTES)
    assert all(smaller < larger for smaller, larger in pairwise(BOUNDS_MINUTES))


def test_where_no_case_was_nothing_is_read() -> None:
    """A visit is one put and a changed one a deletion more; the only question is how many case visits there are."""
    world = World()
    world.send(CASES[4], Cut(NOON_MS, NOON_MS + 1, None, PLAIN))
    world.take("case-visits", 1)
    world.state.only_counts = True
    for shift in range(3):
        for visit in VISITS[:4]:
            world.send(visit, (NOON_MS + shift, NOON_MS + 60 * MINUTE_MS))
    world.take("visits", 99)
    assert len([key for key in world.state.data if key.startswith(b"vA\0")]) == 4


def test_what_is_gone_leaves_nothing_behind() -> None:
    """After every retraction the state is empty again, the count of case visits too."""
    world = World()
    world.send(VISITS[2], (NOON_MS, NOON_MS))
    world.take("visits", 1)
    assert world.state.data == {}, "of no length, it meets nobody"
    world.send(VISITS[2], (NOON_MS, NOON_MS + MINUTE_MS))
    for case in CASES[:2]:
        world.send(case, Cut(NOON_MS - 1, NOON_MS + MINUTE_MS, None, PLAIN))
        world.send(case, Cut(NOON_MS, NOON_MS + 99 * MINUTE_MS, None, PLAIN))
    world.take("visits", 1)
    world.take("case-visits", 4)
    world.send(VISITS[2], None)
    for case in CASES[:2]:
        world.send(case, None)
    world.take("case-visits", 1)
    world.take("visits", 1)
    world.take("case-visits", 1)
    assert world.state.data == {}
    assert [row["status"] for row in world.newest.values()] == ["retracted"] * 2


def test_a_row_says_what_came_last() -> None:
    """Reason and time are those of the last record of the visit or case visit that came last."""
    world = World()
    world.send(CASES[0], Cut(NOON_MS, NOON_MS + 99 * MINUTE_MS, None, PLAIN))
    world.send(VISITS[2], (NOON_MS, NOON_MS + MINUTE_MS))
    world.send(VISITS[2], (NOON_MS, NOON_MS + 2 * MINUTE_MS))
    world.take("case-visits", 1)
    (row,) = world.take("visits", 2)
    assert (row["reason"], row["detected_at"]) == ("visit", format_ms(NOON_MS + 1))
    world.send(CASES[0], Cut(NOON_MS, NOON_MS + MINUTE_MS, None, PLAIN))
    (row,) = world.take("case-visits", 1)
    assert (row["reason"], row["detected_at"]) == ("case", format_ms(NOON_MS + 1))


def test_a_version_that_is_not_there_is_a_bug_that_names_nobody() -> None:
    """A record that replaces what is not there raises, without a word of whose it was."""
    world = World()
    sends: list[tuple[Any, Any, str]] = [
        (CASES[0], Cut(NOON_MS, NOON_MS + 1, None, PLAIN), "case-visits"),
        (VISITS[2], (NOON_MS, NOON_MS + 1), "visits"),
    ]
    for key, version, topic in sends:
        world.send(key, version)
        world.take(topic, 1)
    world.state.data = {key: value for key, value in world.state.data.items() if key[:1] == b"y"}
    for key, _, topic in sends:
        world.send(key, None)
        with pytest.raises(AssertionError, match=r"^a record replaces what is not there$"):
            world.take(topic, 1)
