"""Erasures on the whole pipeline in memory (SPEC §8): what goes, wherever it was, and what nobody else notices.

The views are held to the naive checker elsewhere; here it is what the views do not show, too: state of both rooms,
dead letters, retractions.
"""

import base64
import random
from collections.abc import Callable, Iterator
from itertools import count
from json import dumps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from producers.lines import CASES, ERASURES, SCANS, VENUES, VENUES_LATE, FileKind, Line, read_lines
from streams.core import held_scans
from streams.core.step import BY_KEY, Headers
from tests.core.pipeline import KEYS, MemoryState, Pipeline, whole
from tests.golden.compare import CELL_KEYS, compare_rows
from tests.oracle import wire
from tests.oracle.events import random_input, shuffled, tripled
from tests.oracle.files import Files
from tests.oracle.naive import Views, certain, naive_views

Row = dict[str, Any]
Skip = Callable[[FileKind, Line], bool]
Plan = list[tuple[FileKind, int, Line] | str]

SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 2**32)
JUDGES = {SCANS: wire.scan, CASES: wire.case, ERASURES: wire.erasure}
# Beyond those of records that the rooms themselves send to a topic.
PLAN_OFFSET, LATE_OFFSET = 1_000_000, 2_000_000
# What a cell or a mark is about is an area or a venue: it stays (SPEC §8).
CELLS = {"person": (b"m", b"h", b"a"), "venue": (b"k", b"a")}
# What a row that takes back another may say.
BARE = {
    "scans": {"person_id", "scan_id", "occurred_at", "status", "revision"},
    "visits": {"visit_id", "first_scan_at", "status", "revision"},
    "cases": {"case_id", "person_id", "status", "revision"},
    "exposures": {"exposure_id", "person_id", "contact_scan_at", "status", "revision"},
}


def _with_erasures(seed: int, *, order_free: bool = False) -> Files:
    """The first input from this seed on that erases anybody."""
    inputs = (random_input(number, order_free=order_free) for number in count(seed))
    return next(files for files in inputs if naive_views(files)["erased"])


def _plan(files: Files, directory: Path, seed: int) -> Plan:
    """The lines in an order that mixes the files, each in its own order, with runs of the rooms between them."""
    rng = random.Random(seed)  # noqa: S311
    files.write(directory)
    lines = {kind: list(read_lines(directory / kind.file_name, kind)) for kind in (VENUES, *JUDGES, VENUES_LATE)}
    turns = [kind for kind in JUDGES for _ in lines[kind]]
    if rng.random() < 0.7:
        rng.shuffle(turns)
    turns.insert(rng.randint(0, len(turns)), VENUES_LATE)
    iterators = {kind: enumerate(lines[kind]) for kind in JUDGES}
    plan: Plan = [*((VENUES, number, line) for number, line in enumerate(lines[VENUES])), "register"]
    for kind in turns:
        if kind is VENUES_LATE:
            plan += [*((kind, number, line) for number, line in enumerate(lines[kind])), "register"]
        else:
            plan.append((kind, *next(iterators[kind])))
        if rng.random() < 0.3:
            plan.append("run")
    return [*plan, "run"]


def _played(plan: Plan, partitions: int, skip: Skip) -> Pipeline:
    """A pipeline that took a plan but for the lines to skip; the others stand at the offsets that they have anyhow."""
    pipeline = Pipeline(partitions)
    for entry in plan:
        if entry == "register":
            pipeline.register()
        elif entry == "run":
            pipeline.run(whole)
        elif isinstance(entry, tuple) and not skip(entry[0], entry[2]):
            kind, number, line = entry
            home = number % partitions if line.key is None else BY_KEY
            pipeline.produce(kind.topic, line.key, line.value, line.timestamp_ms, home)
            # The one that ends with it and was not moved yet: of values of one byte there is only one object each.
            log = next(
                log
                for log in pipeline.logs.values()
                if log and log[-1].value is line.value and log[-1].offset < min(PLAN_OFFSET, LATE_OFFSET)
            )
            log[-1] = log[-1]._replace(offset=number + (LATE_OFFSET if kind is VENUES_LATE else PLAN_OFFSET))
    return pipeline


def _from_before(erased_ms: dict[str, int]) -> Skip:
    """Tells which lines are covered: by their event's time; by their record's where that cannot be read.

    An erasure that counts is covered by none; one that was rejected is.
    """

    def is_covered(kind: FileKind, line: Line) -> bool:
        if kind not in JUDGES:
            return False
        who, instant_ms = (line.key or b"").decode("utf-8", "replace"), line.timestamp_ms
        try:
            event = JUDGES[kind](wire.parse(line.value or b""))
        except wire.BadEventError:
            return instant_ms <= erased_ms.get(who, -1)
        counts = kind is ERASURES and event["t"] <= instant_ms + wire.FUTURE_MS
        return event["t"] <= erased_ms.get(who, -1) and not counts

    return is_covered


def _erased_ms(views: Views) -> dict[str, int]:
    return {row["person_id"]: row["until_ms"] for row in views["erased"]}


def _state(pipeline: Pipeline) -> dict[tuple[str, int, bytes], bytes]:
    """All that both rooms hold, but for cells and marks."""
    stores: dict[str, list[MemoryState]] = {"person": pipeline.person_states, "venue": pipeline.venue_states}
    return {
        (room, partition, key): value
        for room, states in stores.items()
        for partition, state in enumerate(states)
        for key, value in state.data.items()
        if not key.startswith(CELLS[room])
    }


def _by_key(rows: list[Row], names: tuple[str, ...]) -> dict[tuple[Any, ...], Row]:
    return {tuple(row[name] for name in names): row for row in rows}


ROW_KEYS = {"scans": KEYS["enriched"], "cases": KEYS["case-states"]} | KEYS


@SETTINGS
@given(seed=SEEDS, order=SEEDS, partitions=st.integers(1, 3))
def test_what_is_erased_leaves_nothing(tmp_path: Path, seed: int, order: int, partitions: int) -> None:
    """State and dead letters are those of a pipeline that the erased events never came to, but for bare rows."""
    files = _with_erasures(seed)
    plan = _plan(files, tmp_path, order)
    covered = _from_before(_erased_ms(naive_views(files)))
    whole_story = _played(plan, partitions, lambda *_: False)
    spared = _played(plan, partitions, covered)
    assert _state(whole_story) == _state(spared)

    views, others = whole_story.views(), spared.views()
    rejects, other_rejects = (_by_key(rows["rejects"], KEYS["rejects"]) for rows in (views, others))
    assert {key: row for key, row in rejects.items() if key in other_rejects} == other_rejects
    left = [row for key, row in rejects.items() if key not in other_rejects]
    assert all(row["key"] is None and row["payload"] is None for row in left)
    assert not [row for row in left if row["status"] == "waiting"]
    for table, names in BARE.items():
        taken_back = [row for row in views[table] if row["status"] in ("retracted", "erased")]
        assert all({name for name, value in row.items() if value is not None} <= names for row in taken_back)


@SETTINGS
@given(seed=SEEDS, order=SEEDS, partitions=st.integers(1, 3))
def test_erasing_twice_changes_nothing(tmp_path: Path, seed: int, order: int, partitions: int) -> None:
    """The same request again, or an earlier one, says nothing and changes no state."""
    files = _with_erasures(seed)
    pipeline = _played(_plan(files, tmp_path, order), partitions, lambda *_: False)
    said = {topic: len(rows) for topic, rows in pipeline.outputs.items()}
    stored = [dict(state.data) for state in (*pipeline.person_states, *pipeline.venue_states)]
    for who, until_ms in _erased_ms(naive_views(files)).items():
        for again_ms in (until_ms, until_ms - 1):
            erase(pipeline, who, again_ms)
            pipeline.run(whole)
    assert {topic: len(rows) for topic, rows in pipeline.outputs.items()} == said
    assert [state.data for state in (*pipeline.person_states, *pipeline.venue_states)] == stored


def erase(pipeline: Pipeline, who: str, until_ms: int, record_ms: int | None = None, headers: Headers = ()) -> None:
    """``record_ms`` None: at the same time."""
    request = dumps({"person_id": who, "requested_at": wire.instant_text(until_ms)}).encode()
    pipeline.produce("erasures", who.encode(), request, until_ms if record_ms is None else record_ms, headers=headers)


@SETTINGS
@given(seed=SEEDS, order=SEEDS, partitions=st.integers(1, 3), data=st.data())
def test_nobody_else_notices(tmp_path: Path, seed: int, order: int, partitions: int, data: st.DataObject) -> None:
    """Erasing one person changes no row of another's but exposures that came of their meeting, and no cell."""
    files = shuffled(random_input(seed, order_free=True), order)
    files = Files(files.venues, files.scans, files.cases, (), files.venues_late)
    expected = naive_views(files)
    happened = {(row["person_id"], row["occurred_at"]) for row in expected["scans"]}
    happened |= {(row["person_id"], row["reported_at"]) for row in expected["cases"]}
    assume(happened)
    who, until = data.draw(st.sampled_from(sorted(happened)))
    request = dumps({"person_id": who, "requested_at": until}).encode()
    erased = naive_views(Files(files.venues, files.scans, files.cases, (request,), files.venues_late))
    alone = naive_views(_without(files, who))
    meetings = {row["exposure_id"] for row in expected["exposures"] + erased["exposures"]}
    meetings -= {row["exposure_id"] for row in alone["exposures"]}

    pipeline = _played(_plan(files, tmp_path, order), partitions, lambda *_: False)
    before = pipeline.views()
    erase(pipeline, who, wire.instant(until))
    pipeline.run(whole)
    after = pipeline.views()
    for table, rows in after.items():
        old = _by_key(before[table], ROW_KEYS[table])
        changed = [(old.get(key), row) for key, row in _by_key(rows, ROW_KEYS[table]).items() if old.get(key) != row]
        for was, row in changed:
            if table == "exposures":
                assert row["exposure_id"] in meetings
            elif table == "rejects":
                assert was is not None
                assert was["key"] == who
            else:
                assert ((was or {}) | row)["person_id"] == who, f"{table}: {was} became {row}"


def _without(files: Files, who: str) -> Files:
    """The input without the events of a person."""

    def others(kind: FileKind, lines: tuple[bytes, ...]) -> Iterator[bytes]:
        for line in lines:
            try:
                event = JUDGES[kind](wire.parse(line))
            except wire.BadEventError:
                continue
            if event["person_id"] != who:
                yield line

    return Files(files.venues, (*others(SCANS, files.scans),), (*others(CASES, files.cases),), (), files.venues_late)


@SETTINGS
@given(seed=SEEDS, order=SEEDS, partitions=st.integers(1, 3))
def test_any_interleaving_gives_the_same_views(tmp_path: Path, seed: int, order: int, partitions: int) -> None:
    """Erasures before, between and after what they cover, several copies of all: what the naive checker says."""
    files = _with_erasures(seed, order_free=True)
    expected = naive_views(files)
    copies = shuffled(tripled(files) if order % 2 else files, order)
    views = _played(_plan(copies, tmp_path, order), partitions, lambda *_: False).views()
    for table in ("scans", "visits", "cases", "exposures", *CELL_KEYS):
        wanted, found = (certain(expected, table, rows[table]) for rows in (expected, views))
        assert not compare_rows(table, wanted, found)


WHO, OTHER = "7e57ed" + "0" * 20 + "abcdef", "b" * 32
UNTIL_MS = 1_634_200_000_000
VENUE: Row = {
    "venue_id": "CAFE",
    "name": "",
    "category": "cafe",
    "dwell_minutes": None,
    "status": "active",
    "codes": [],
}
VENUE |= {"province_code": "01", "district_code": "007", "ward_code": "00262", "lat": 21, "lon": 105}
VENUE |= {"registered_at": "2021-09-01T00:00:00Z"}


def planted(*, returns: bool) -> Files:
    """A person's days in every shape, up to an erasure; and after it, if they return."""
    scans: list[Row] = []
    cases: list[Row] = []
    for number in range(40):
        instant_ms = UNTIL_MS - (number // 2) * 1_800_000
        event: Row = {"scan_id": f"planted-before-{number}", "person_id": WHO, "source": "vhd"}
        event |= {"venue_id": "LATE" if number % 7 == 0 else "NEVER" if number % 7 == 3 else "CAFE"}
        event |= {"direction": "out" if number % 5 == 0 else "in", "occurred_at": wire.instant_text(instant_ms)}
        record_ms = instant_ms + (-wire.FUTURE_MS - 1 if number == 2 else 30 * wire.DAY_MS if number == 4 else 0)
        other = {"scan_id": f"theirs-{number}", "person_id": OTHER, "venue_id": "CAFE"}
        scans += [event | {"_ts": record_ms}, event | other | {"_ts": instant_ms}]
        if number % 6 == 1:
            scans += [event | {"_ts": instant_ms, "source": "paper"}, event | {"_ts": instant_ms, "direction": "over"}]
        if returns:
            later = {"scan_id": f"planted-after-{number}", "occurred_at": wire.instant_text(UNTIL_MS + 1 + number)}
            scans.append(event | later | {"_ts": UNTIL_MS + number})
    for number, (who, ruleset) in enumerate([(WHO, "vn-2021-07"), (WHO, "vn-1900-01"), (OTHER, "vn-2021-07")]):
        report = {"case_id": f"planted-case-{number}", "person_id": who, "status": "confirmed", "ruleset": ruleset}
        times = {name: wire.instant_text(UNTIL_MS - number) for name in ("sampled_at", "reported_at")}
        cases.append(report | times)
    erasures = [{"person_id": WHO, "requested_at": wire.instant_text(UNTIL_MS - at)} for at in (3_600_000, 0)]
    late = VENUE | {"venue_id": "LATE"}
    return Files(*(tuple(dumps(row).encode() for row in rows) for rows in ([VENUE], scans, cases, erasures, [late])))


@SETTINGS
@given(
    order=SEEDS,
    partitions=st.integers(1, 3),
    chunk_bytes=st.sampled_from([150, held_scans.CHUNK_BYTES_MAX]),
    returns=st.booleans(),
)
def test_no_byte_of_an_erased_person_is_left(
    tmp_path: Path, order: int, partitions: int, chunk_bytes: int, *, returns: bool
) -> None:
    """Not in a key, a value or a payload: no id of a scan, visit or case from before, and no name but in the mark."""
    files = shuffled(planted(returns=returns), order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_scans, "CHUNK_BYTES_MAX", chunk_bytes)
        pipeline = _played(_plan(files, tmp_path, order), partitions, lambda *_: False)
    remain = {row["visit_id"] for row in naive_views(files)["visits"]}
    gone = {row["visit_id"] for row in pipeline.outputs["visits"]} - remain
    assert gone
    secrets = [b"planted-before", b"planted-case-0", b"planted-case-1", *map(bytes.fromhex, gone)]
    secrets += map(str.encode, gone)
    names = [] if returns else [WHO.encode(), bytes.fromhex(WHO)]
    mark = b"p" + bytes.fromhex(WHO)
    for state in (*pipeline.person_states, *pipeline.venue_states):
        stored = [(b"" if key == mark else key) + b" " + value for key, value in state.data.items()]
        assert not [text for text in stored if any(secret in text for secret in [*secrets, *names])]
    for table, rows in pipeline.views().items():
        told = [row for row in rows if table not in BARE or row["status"] in ("active", "confirmed", "withdrawn")]
        texts = [dumps(row).encode() + base64.b64decode(row.get("payload") or "") for row in told]
        assert not [text for text in texts if any(secret in text for secret in [*secrets, *names])]
