"""Both rooms under any sequence of events and of steps: always what the naive checker says of the events alone.

Hypothesis sends scans, case reports, erasures and venues in any order, lets any room take any number of records
of any topic in between, and shrinks what fails to the few events that matter.
"""

import dataclasses
import json
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, precondition, rule

from streams.core.ruleset import Ruleset
from tests.core.pipeline import CROSSING, KEYS, Cut, Pipeline, whole
from tests.core.pipeline import PERSONS as PERSON_TOPICS
from tests.golden.compare import CELL_KEYS, CELL_VALUES, compare_rows
from tests.oracle import contacts
from tests.oracle.files import Files
from tests.oracle.naive import Views, certain, naive_views
from tests.oracle.wire import CATEGORIES, DAY_MS, instant, instant_text

START_MS = 1_634_173_200_000  # 2021-10-14T08:00:00+07:00
RECORD_MS = START_MS + 3 * DAY_MS
PERSONS = ("a" * 32, "b" * 32, "c" * 32)
AREA = {"province_code": "01", "district_code": "007", "ward_code": "00262", "lat": 21.0, "lon": 105.8}
VENUES = {
    name: AREA
    | {"venue_id": name, "name": name, "category": category, "dwell_minutes": dwell, "codes": codes}
    | {"registered_at": "2021-09-01T00:00:00Z", "status": "active"}
    for name, category, dwell, codes in (("CAFE", "cafe", None, ["OLD"]), ("SHOP", "pharmacy", 10, []))
}
RULESETS = contacts.KINDS
KINDS = {name: msgspec.convert(fields, Ruleset) for name, fields in RULESETS.items()}
TABLES = ("scans", "visits", "cases", "exposures", *CELL_KEYS)
TOPICS = (*PERSON_TOPICS, *CROSSING)

TO_MIDNIGHT = 16 * 60
# Dwell and longest stay of both venues, minimums and tails, what lies just beside them, and a change of day.
INSTANTS = st.builds(
    lambda minutes, beside_ms: START_MS + minutes * 60_000 + beside_ms,
    st.sampled_from([0, 5, 10, 15, 20, 30, 60, 70, 120, 180, 240, 300, TO_MIDNIGHT - 5]),
    st.sampled_from([0, 0, 0, -1, 1]),
)
TIMES = INSTANTS.map(instant_text)
SECONDS = st.integers(0, 3)
IDENTITIES = st.sampled_from([("C1", "a" * 32), ("C2", "a" * 32), ("C1", "b" * 32)])
Identity = tuple[str, str]
Sent = tuple[str, str, bytes]
Row = dict[str, Any]


class Rooms(RuleBasedStateMachine):
    """What was sent, and the pipeline that it was sent to."""

    sent: Bundle[Sent] = Bundle("sent")

    @initialize(partitions=st.integers(1, 3), known=st.sampled_from([("CAFE", "SHOP"), ("CAFE",), ()]))
    def start(self, partitions: int, known: tuple[str, ...]) -> None:
        self.pipeline = Pipeline(partitions)
        self.pipeline.rooms = [dataclasses.replace(room, rulesets=KINDS) for room in self.pipeline.rooms]
        self.lines: dict[str, list[bytes]] = {"venues": [], "scans": [], "cases": [], "erasures": []}
        for name in known:
            self.register(name)

    def _send(self, topic: str, key: str, event: Row) -> Sent:
        value = json.dumps(event).encode()
        self.pipeline.produce(topic, key.encode(), value, RECORD_MS)
        self.lines[topic].append(json.dumps(event | {"_ts": RECORD_MS}).encode())
        return topic, key, value

    # -- what may be sent

    @rule(name=st.sampled_from(sorted(VENUES)))
    def register(self, name: str) -> None:
        self._send("venues", name, VENUES[name])
        self.pipeline.register()

    @rule(
        target=sent,
        who=st.sampled_from(PERSONS),
        where=st.sampled_from(["CAFE", "OLD", "SHOP"]),
        direction=st.sampled_from(["in", "out", "pass"]),
        occurred_at=TIMES,
        letter=st.sampled_from("ab"),
    )
    def scan(self, who: str, where: str, direction: str, occurred_at: str, letter: str) -> Sent:
        # The letter lets scans of one instant sort otherwise than they come.
        event = {"scan_id": f"{letter}{len(self.lines['scans'])}", "person_id": who, "venue_id": where}
        event |= {"direction": direction, "occurred_at": occurred_at, "source": "vhd"}
        return self._send("scans", who, event)

    @rule(
        target=sent,
        where=st.sampled_from(["CAFE", "SHOP"]),
        occurred_at=INSTANTS,
        stay_minutes=st.sampled_from([1, 5, 15, 60]),
        both=st.booleans(),
    )
    def meeting(self, where: str, occurred_at: int, stay_minutes: int, *, both: bool) -> Any:  # noqa: ANN401
        """Two persons come at once; one goes, perhaps both."""
        out_at = instant_text(occurred_at + stay_minutes * 60_000)
        scans = [(who, "in", instant_text(occurred_at)) for who in PERSONS[:2]]
        scans += [(who, "out", out_at) for who in PERSONS[: 1 + both]]
        return multiple(*(self.scan(who, where, direction, at, "a") for who, direction, at in scans))

    @rule(
        target=sent,
        identity=IDENTITIES,
        used=st.sampled_from(sorted(RULESETS)),
        anchor=st.sampled_from(["onset_at", "sampled_at"]),
        days=st.sampled_from([0, 0, 1, 2, -1]),
        seconds=SECONDS,
    )
    def report(self, identity: Identity, used: str, anchor: str, days: int, seconds: int) -> Sent:
        return self._report(identity, seconds, ruleset=used, **{anchor: instant_text(START_MS + days * DAY_MS)})

    @rule(
        target=sent,
        identity=IDENTITIES,
        used=st.sampled_from(sorted(RULESETS)),
        begin=TIMES,
        end=TIMES,
        end_field=st.sampled_from(["infectious_to", "isolated_at"]),
        seconds=SECONDS,
    )
    def report_period(self, identity: Identity, used: str, begin: str, end: str, end_field: str, seconds: int) -> Sent:
        return self._report(identity, seconds, ruleset=used, infectious_from=begin, **{end_field: end})

    @rule(target=sent, identity=IDENTITIES, seconds=SECONDS)
    def withdraw(self, identity: Identity, seconds: int) -> Sent:
        return self._report(identity, seconds, status="withdrawn")

    def _report(self, identity: Identity, seconds: int, **fields: str) -> Sent:
        reported_at = instant_text(RECORD_MS + seconds * 1000)
        case_id, who = identity
        event = {"case_id": case_id, "person_id": who, "status": "confirmed", "reported_at": reported_at, **fields}
        return self._send("cases", who, event)

    @rule(target=sent, who=st.sampled_from(PERSONS), requested_at=TIMES)
    def erase(self, who: str, requested_at: str) -> Sent:
        """Up to an instant at or beside those of scans."""
        return self._erase(who, requested_at)

    @rule(target=sent, who=st.sampled_from(PERSONS), seconds=st.sampled_from([-1, 0, 1, 2, 3, 301]))
    def erase_reports(self, who: str, seconds: int) -> Sent:
        """Of all scans, and of some or all reports; or further ahead than may be."""
        return self._erase(who, instant_text(RECORD_MS + seconds * 1000))

    def _erase(self, who: str, requested_at: str) -> Sent:
        return self._send("erasures", who, {"person_id": who, "requested_at": requested_at})

    @rule(copied=sent)
    def copy(self, copied: Sent) -> None:
        topic, key, value = copied
        self._send(topic, key, json.loads(value))

    # -- how it is taken

    def _is_behind(self) -> bool:
        logs, steps = self.pipeline.logs, self.pipeline.steps
        return any(len(log) > steps[f"next {topic}", at] for (topic, at), log in logs.items() if topic in TOPICS)

    @precondition(_is_behind)
    @rule(topic=st.sampled_from(TOPICS), partition=st.integers(0, 2), count=st.integers(1, 4))
    def take(self, topic: str, partition: int, count: int) -> None:
        """One step over the next few records of one topic, whatever lies in the others."""
        pipeline = self.pipeline
        at = partition % pipeline.partitions
        done = pipeline.steps[f"next {topic}", at]
        records = pipeline.logs[topic, at][done : done + count]
        if records:
            pipeline.steps[f"next {topic}", at] += len(records)
            pipeline._take(topic, pipeline.rooms[at], records)

    @precondition(_is_behind)
    @rule(sizes=st.lists(st.integers(1, 5), max_size=4))
    def drain(self, sizes: list[int]) -> None:
        self._drained(lambda _: sizes)

    def teardown(self) -> None:
        if hasattr(self, "pipeline"):
            self._drained(whole)

    # -- what must hold

    def _drained(self, cut: Cut) -> None:
        self.pipeline.run(cut)
        views = self.pipeline.views()
        files = Files(**{topic: tuple(lines) for topic, lines in self.lines.items()})
        expected = naive_views(files, rulesets=RULESETS)
        for table in TABLES:
            wanted, found = (certain(expected, table, rows[table]) for rows in (expected, views))
            assert compare_rows(table, wanted, found) == []
        _assert_revisions_grow(self.pipeline.outputs)
        visits, scans = _active(views["visits"]), _active(views["scans"])
        _assert_visits_share_the_scans(visits, scans)
        _assert_nobody_is_exposed_to_themselves(self.pipeline.outputs["exposures"], self.lines["cases"])
        _assert_cells_of_the_erased_stay_within(views, expected)


def _active(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["status"] == "active"]


def _assert_revisions_grow(outputs: dict[str, list[Row]]) -> None:
    """Of everything ever emitted, retractions too; so no revision of a key has two contents."""
    for topic in ("enriched", "visits", "case-states", "exposures"):
        newest: dict[tuple[Any, ...], int] = {}
        for row in outputs[topic]:
            key = tuple(row[name] for name in KEYS[topic])
            assert row["revision"] > newest.get(key, 0), f"{topic}: {row} after revision {newest[key]}"
            newest[key] = row["revision"]


def _assert_visits_share_the_scans(visits: list[Row], scans: list[Row]) -> None:
    """Each scan counts in one visit; visits of a person last no longer than allowed, and never overlap."""
    assert sum(row["scan_count"] for row in visits) == len(scans)
    for who in PERSONS:
        spans = [
            (instant(row["started_at"]), instant(row["ended_at"]), row["category"])
            for row in visits
            if row["person_id"] == who
        ]
        assert all(0 <= end - start <= CATEGORIES[category][1] * 60_000 for start, end, category in spans)
        assert all(before[1] <= after[0] for before, after in pairwise(sorted(spans)))


def _assert_nobody_is_exposed_to_themselves(exposures: list[Row], reports: list[bytes]) -> None:
    """Whoever an exposure ever named, somebody else was reported under its case_id."""
    persons: dict[str, set[str]] = {}
    for report in map(json.loads, reports):
        persons.setdefault(report["case_id"], set()).add(report["person_id"])
    for row in _active(exposures):
        assert persons[row["case_id"]] - {row["person_id"]}, row


def _assert_cells_of_the_erased_stay_within(views: Views, expected: Views) -> None:
    """A cell counts what remains, and of what was erased nothing or what was counted before, but nothing twice."""
    for table, names in CELL_KEYS.items():
        sums, remaining, forgotten = (
            _summed(rows, names) for rows in (views[table], expected[table], expected[f"forgotten_{table}"])
        )
        for cell in sums.keys() | remaining.keys():
            counts = sums[cell]
            for name in ("scans", "ins", "outs", "passes"):
                assert 0 <= counts[name] - remaining[cell][name] <= forgotten[cell][name], (cell, name)
            assert remaining[cell]["persons"] <= counts["persons"] <= counts["scans"], cell
            assert remaining[cell]["active_venues"] <= counts["active_venues"] <= counts["scans"], cell


def _summed(rows: list[Row], names: tuple[str, ...]) -> dict[tuple[Any, ...], Counter[str]]:
    sums: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in rows:
        sums[tuple(row[name] for name in names)].update({name: row[name] for name in CELL_VALUES if name in row})
    return sums


TestRooms = Rooms.TestCase
TestRooms.settings = settings(max_examples=400, stateful_step_count=40, deadline=None, report_multiple_bugs=False)
