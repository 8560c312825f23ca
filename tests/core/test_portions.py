"""Work in portions: none is large, none is lost, and together they give what one step gave."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.core import held_scans, keys, pending, portions, proximity
from streams.core.step import Step
from streams.core.times import MINUTE_MS
from tests.core.pipeline import MemoryState, Pipeline, Row
from tests.core.test_erasure import _plan, _played, _with_erasures
from tests.core.test_proximity import NOON_MS, PLAIN, ROOM, CaseId, Cut, VisitId, World

STEP_BYTES_MAX = 16 * 1024 * 1024
ACTIVE = ("active", "confirmed", "withdrawn")


@contextmanager
def bounds(records: int, chunk_bytes: int) -> Iterator[None]:
    """With portions of so many records, and timelines in chunks of so many bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pending, "PORTION_RECORDS", records)
        patch.setattr(held_scans, "CHUNK_BYTES_MAX", chunk_bytes)
        yield


def _active(pipeline: Pipeline) -> dict[str, list[str]]:
    """What the views show: active rows, without what their emission adds."""

    def content(row: Row) -> str:
        return repr({name: row[name] for name in sorted(row) if name not in ("revision", "reason", "detected_at")})

    return {
        table: sorted(content(row) for row in rows if table == "rejects" or row.get("status", "active") in ACTIVE)
        for table, rows in pipeline.views().items()
    }


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    order=st.integers(0, 2**32),
    records=st.sampled_from([1, 2, 5]),
    chunk_bytes=st.sampled_from([150, 8_192]),
)
def test_portions_of_any_size_give_the_same_rows(
    tmp_path: Path, seed: int, order: int, records: int, chunk_bytes: int
) -> None:
    """Scans, cases and erasures in any order, in portions of one, two or five records: the rows of one step each."""
    plan = _plan(_with_erasures(seed), tmp_path, order)
    with bounds(1 << 40, chunk_bytes):
        at_once = _played(plan, 1, lambda *_: False)
    with bounds(records, chunk_bytes):
        in_portions = _played(plan, 1, lambda *_: False)
    assert at_once.portions == 0
    assert _active(in_portions) == _active(at_once)


def _crowd(stays: int, visitors: int) -> tuple[World, int]:
    """A case of so many stays at one venue, one an hour, and so many visitors of each; and how many records it has."""
    world = World()
    persons = range(1, visitors + 1)
    for stay in range(stays):
        start_ms = NOON_MS + stay * 60 * MINUTE_MS
        for person in persons:
            visit = VisitId(f"{person:032x}", "A", stay * (visitors + 1) + person)
            world.send(visit, (start_ms, start_ms + 30 * MINUTE_MS))
        case = CaseId("C0", VisitId(f"{0:032x}", "A", stay * (visitors + 1)))
        world.send(case, Cut(start_ms, start_ms + 30 * MINUTE_MS, None, PLAIN))
    return world, stays * visitors


def _joined(state: MemoryState, after: Step) -> list[Step]:
    """A step and its portions, each from nothing but what state holds."""
    steps, number = [after], after.number
    state.apply(after)
    while (found := pending.first_left(state)) is not None:
        number += 1
        portion = portions.take_portion(ROOM, number, keys.PENDING, state)
        assert portion is not None
        assert found in portion[0].changes, "each portion gets on"
        state.apply(portion[0])
        steps.append(portion[0])
    return steps


def test_a_case_of_many_stays_and_visitors_goes_in_portions() -> None:
    """100 stays with 200 visitors each: no step sends more than 16 MiB, and every exposure is sent once."""
    world, expected = _crowd(100, 200)
    state = MemoryState()
    visits = [record for record, _, _ in world.logs["visits"]]
    state.apply(proximity.take_visits(ROOM, 1, visits, state))
    cases = [record for record, _, _ in world.logs["case-visits"]]
    steps = _joined(state, proximity.take_case_visits(ROOM, 2, cases, state))
    assert len(steps) > 3
    sent = [step.outputs["exposures"] for step in steps if "exposures" in step.outputs]
    assert max(box.size for box in sent) <= STEP_BYTES_MAX
    assert max(box.count for box in sent) <= 2 * pending.PORTION_RECORDS
    assert len({value for box in sent for _, value, _, _ in box}) == sum(box.count for box in sent) == expected


def test_one_case_visit_of_many_visitors_goes_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """One record alone that meets three hundred others is joined ten at a time."""
    monkeypatch.setattr(pending, "PORTION_RECORDS", 10)
    world, expected = _crowd(1, 300)
    state = MemoryState()
    visits = [record for record, _, _ in world.logs["visits"]]
    state.apply(proximity.take_visits(ROOM, 1, visits, state))
    cases = [record for record, _, _ in world.logs["case-visits"]]
    steps = _joined(state, proximity.take_case_visits(ROOM, 2, cases, state))
    sent = [step.outputs["exposures"].count for step in steps if "exposures" in step.outputs]
    assert sum(sent) == expected
    assert max(sent) <= 10
    assert not state.between(keys.PENDING, keys.PENDING_END)
