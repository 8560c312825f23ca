"""States of older versions, as they were written then, brought to this build's: nothing they say is lost or changed."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from streams.core import keys, migrate
from streams.core.held_scans import accepted_in, unpack_starts
from streams.core.migrate import Portion, Stand
from streams.core.step import StateReader, Step
from streams.core.timeline import Timeline
from streams.core.visits import run, unpack_carry
from streams.core.wire import reject_revision
from tests.core import version_2
from tests.core.pipeline import CLOCK, MemoryState, Pipeline

BATCH_RECORDS = 10
STAGE_BARE = 3
"""From this revision on a row of ``rejects`` of then is bare."""
FOREVER = (-(1 << 60), 1 << 60)
RECORDED: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parent / "recorded/version-2.json.gz").read_bytes())
)
"""A month of fourteen persons at four venues, day by day, in two partitions of both rooms: the records of the first 32
days, what the code of version 2 held then, the records of the days after, and its final views.

It holds a timeline that became long, waiting scans, cases, one that was withdrawn, erasures, dead letters, copies,
conflicts and expired days; after the cut, most of them once more, and the venue that was waited for.
"""
PARTITIONS = len(RECORDED["person"])
ROOMS = ("person", "venue")


def _take(pipeline: Pipeline, days: Sequence[Any]) -> Pipeline:
    for day in days:
        for topic, key, value, timestamp_ms, partition in day:
            pipeline.produce(topic, key.encode(), value.encode(), timestamp_ms, partition)
        pipeline.register()
        pipeline.run(lambda count: [BATCH_RECORDS] * count)
        pipeline.expire()
    return pipeline


def _views(table: str) -> list[dict[str, Any]]:
    """The recorded final rows; those of ``rejects`` as they are written today (``sinks.schema_steps``)."""
    rows: list[dict[str, Any]] = RECORDED["views"][table]
    if table != "rejects":
        return rows
    order = ("topic", "epoch", "partition", "offset", "record_at", "key", "reason", "detail", "payload", "attempts")
    brought_up = []
    for row in rows:
        revision = reject_revision(row["status"], 0, bare=row["revision"] >= STAGE_BARE)
        whole = row | {"epoch": 0, "attempts": 0, "revision": revision}
        brought_up.append({name: whole[name] for name in (*order, "status", "revision")})
    return brought_up


def _states(pipeline: Pipeline) -> dict[str, list[MemoryState]]:
    return {"person": pipeline.person_states, "venue": pipeline.venue_states}


def _recorded(room: str, partition: int) -> dict[bytes, bytes]:
    return {bytes.fromhex(key): bytes.fromhex(value) for key, value in RECORDED[room][partition].items()}


def _migrated(room: str, state: MemoryState, stand: Stand) -> int:
    """Brings a state to this build's version; returns in how many portions."""
    portions = 0
    while stand != migrate.current():
        portion, stand = migrate.take_portion(room, stand, state)
        stand = migrate.stand_of(json.loads(json.dumps(stand.note())))
        state.apply(Step(1, 1, changes=portion.changes))
        portions += 1
    return portions


def _said(state: Mapping[bytes, bytes]) -> dict[bytes, object]:
    """What a state says, whatever chunks its long timelines are in."""
    held = MemoryState()
    held.data = dict(state)
    said: dict[bytes, object] = {key: value for key, value in state.items() if key[:1] not in (b"c", b"p", b"i", b"d")}
    for key, value in held.scan(b"p", 1_000):
        line = Timeline(key[1:], value, held)
        scans = sorted(Timeline(key[1:], value, held).expire(FOREVER[1], CLOCK))
        found = [line.find(scan.scan_id) for scan in scans]
        compared = [(scan.occurred_ms, scan.direction, scan.source, scan.waiting, scan.code) for scan in found if scan]
        days = [line.areas_of_day(scan.occurred_ms, CLOCK) for scan in scans]
        said[key] = (line.has_cases, line.erased_ms, line.visits_between(*FOREVER), scans, compared, days)
    return said


def _check_chunks(state: MemoryState) -> int:
    """Each chunk's carry is where the pass over the scans before it stands; returns how many have an open visit."""
    opened = 0
    for key, value in state.scan(b"p", 1_000):
        if not value[0] & 1:
            continue
        carry = None
        for start in unpack_starts(value[1 + 8 * bool(value[0] & 4) :]):
            chunk = state.data[keys.person_chunk(key[1:], *start)]
            end = 2 + int.from_bytes(chunk[:2], "little")
            held = unpack_carry(chunk[2:end])
            assert carry in (None, held)
            opened += held.opener is not None
            _, carry = run(held, accepted_in(chunk[end:]))
    return opened


def test_an_old_build_made_of_this_one_writes_what_the_old_one_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made build of version 2 is true to it, byte for byte: others are upgraded from it, under load."""
    version_2.become(monkeypatch)
    pipeline = _take(Pipeline(PARTITIONS), RECORDED["taken_before"])
    for room, states in _states(pipeline).items():
        for partition, state in enumerate(states):
            assert state.data == _recorded(room, partition), (room, partition)
    assert migrate.refusal(Stand(3, b"p")), "from the first portion on, the old build keeps away"


@pytest.mark.parametrize("page_keys", [1, 3, migrate.PAGE_KEYS])
def test_a_state_of_version_2_goes_on_as_if_it_had_always_been_of_this_one(
    monkeypatch: pytest.MonkeyPatch, page_keys: int
) -> None:
    """The same records give the same views and the same further state with a migration in the middle, and without."""
    monkeypatch.setattr(migrate, "PAGE_KEYS", page_keys)
    monkeypatch.setattr(migrate, "PORTION_BYTES", 1)
    unmoved = _take(Pipeline(PARTITIONS), RECORDED["taken_before"])
    moved = _take(Pipeline(PARTITIONS), RECORDED["taken_before"])
    opened = 0
    for room, states in _states(moved).items():
        for partition, state in enumerate(states):
            state.data, state._sorted = _recorded(room, partition), None
            portions = _migrated(room, state, Stand(2))
            assert portions > 2 or page_keys > 3 or room == "venue", "a migration in one piece proves little"
            assert _said(state.data) == _said(_states(unmoved)[room][partition].data), (room, partition)
            opened += _check_chunks(state)
            short = [key for key, value in state.data.items() if key[:1] == b"p" and not value[0] & 1]
            assert all(state.data[key] == _states(unmoved)[room][partition].data[key] for key in short)
    assert opened, "chunks that begin within a visit"
    for pipeline in (moved, unmoved):
        _take(pipeline, RECORDED["taken_after"])
        for table, rows in pipeline.views().items():
            assert sorted(map(repr, rows)) == sorted(map(repr, _views(table))), table
    for room, states in _states(moved).items():
        for partition, state in enumerate(states):
            assert _said(state.data) == _said(_states(unmoved)[room][partition].data), (room, partition)


def test_what_is_recorded_holds_all_there_is() -> None:
    """Every kind of key, and timelines short and long, with and without what their heads may say."""
    held = {room: [_recorded(room, partition) for partition in range(PARTITIONS)] for room in ROOMS}
    tags = {key[:1] for states in held.values() for state in states for key in state}
    assert tags == set(map(bytes, zip(b"pcidwmhaksrvxy!")))
    heads = [value for state in held["person"] for key, value in state.items() if key[:1] == b"p"]
    assert {bit for head in heads for bit in (1, 2, 4, 8) if head[0] & bit} == {1, 2, 4, 8}
    assert RECORDED["views"]["exposures"]


def test_a_state_no_chain_leads_from_is_refused() -> None:
    """Newer, or too old: the sentence says what to do."""
    newest = keys.STATE_VERSION
    assert migrate.refusal(Stand(newest)) is None
    assert migrate.refusal(Stand(newest, b"p1")) is None
    assert migrate.refusal(Stand(2)) is None
    assert "newer build" in str(migrate.refusal(Stand(newest + 1)))
    assert "newer build" in str(migrate.refusal(Stand(newest + 1, b"p1")))
    for too_old in (Stand(1), Stand(2, b"p1")):
        assert "run a build in between" in str(migrate.refusal(too_old))
    assert sorted(migrate.MIGRATIONS) == list(range(min(migrate.MIGRATIONS), newest)), "without gaps"


def test_a_chain_of_migrations_is_gone_through_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """From two versions before, each migration sees what the one before it left, from wherever it was stopped."""

    def adding(letter: bytes) -> migrate.Migration:
        def portion(_: str, after: bytes, state: StateReader) -> Portion:
            return migrate.change_values({b"p": lambda value: value + letter}, after, state)

        return portion

    monkeypatch.setattr(migrate, "MIGRATIONS", {2: adding(b"x"), 3: adding(b"y")})
    monkeypatch.setattr(keys, "STATE_VERSION", 4)
    monkeypatch.setattr(migrate, "PAGE_KEYS", 1)
    monkeypatch.setattr(migrate, "PORTION_KEYS", 2)
    for stand, expected in (
        (Stand(2), [b"1xy", b"2xy", b"3xy"]),
        (Stand(3, b"p2"), [b"1y", b"2y", b"3xy"]),
        (Stand(3), [b"1y", b"2y", b"3y"]),
        (Stand(4, b"p1"), [b"1", b"2y", b"3y"]),
    ):
        state = MemoryState()
        state.data = {b"p1": b"1", b"p2": b"2", b"p3": b"3", b"q": b"q"}
        assert _migrated("person", state, stand) >= 1
        assert list(state.data.values()) == [*expected, b"q"], stand
