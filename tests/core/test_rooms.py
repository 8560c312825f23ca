"""The rooms as pure functions: golden rows, the naive checker, and law 1 in every way it can be broken."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streams.core import held_scans, person
from streams.core.partition import partition_of
from streams.core.returned import RETURNS
from streams.core.step import Record
from tests.core.pipeline import Pipeline, one_by_one, replayed, whole
from tests.golden.compare import CELL_KEYS, DATA, NOT_COMPARED, compare_rows, read_rows
from tests.oracle.events import random_input, shuffled, tripled
from tests.oracle.files import Files
from tests.oracle.naive import certain, naive_views

VENUE = (
    b'{"venue_id":"CAFE","name":"CAFE","category":"cafe","province_code":"01","district_code":"007",'
    b'"ward_code":"00262","lat":21.0,"lon":105.8,"registered_at":"2021-09-01T08:00:00+07:00","status":"active"}'
)
TABLES = ("scans", "visits", "cases", "exposures", "rejects", "ward_minute", "venue_hour", "area_day")
CASES = sorted(path for path in DATA.iterdir() if path.is_dir())
SETTINGS = hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _pipeline(files: Files, directory: Path, partitions: int, seed: int | None) -> Pipeline:
    """``seed`` None takes each log as one batch; else batches of random sizes."""
    files.write(directory)
    rng = random.Random(seed)  # noqa: S311
    return replayed(
        directory, partitions, whole if seed is None else lambda n: [rng.choice([1, 1, 2, 3, 7, 20]) for _ in range(n)]
    )


def _differences(
    expected: dict[str, list[dict[str, object]]], pipeline: Pipeline, tables: tuple[str, ...]
) -> list[str]:
    """Against the naive checker's views: where persons are erased, without what depends on the order."""
    views = pipeline.views()
    return [
        text
        for table in tables
        for text in compare_rows(table, *(certain(expected, table, rows[table]) for rows in (expected, views)))
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("partitions", [1, 3])
def test_golden_cases(case: Path, partitions: int) -> None:
    """Every golden case comes out, whole and one by one."""
    tables = tuple(table for table in TABLES if table not in NOT_COMPARED.get(case.name, ()))
    expected = {table: read_rows(case / "expected" / f"{table}.jsonl") for table in tables}
    for cut in (whole, one_by_one):
        views = replayed(case / "in", partitions, cut).views()
        assert not [text for table in tables for text in compare_rows(table, expected[table], views[table])]


@SETTINGS
@given(seed=st.integers(0, 2**32), partitions=st.integers(1, 4), split=st.none() | st.integers(0, 2**32))
def test_any_input_gives_the_naive_checkers_rows(tmp_path: Path, seed: int, partitions: int, split: int | None) -> None:
    """Whatever comes in, in whatever batches, over however many partitions: what SPEC's naive reading says."""
    files = random_input(seed)
    pipeline = _pipeline(files, tmp_path, partitions, split)
    assert not _differences(naive_views(files), pipeline, TABLES)


@SETTINGS
@given(seed=st.integers(0, 2**32), partitions=st.integers(1, 4), data=st.data())
def test_order_and_copies_change_no_view(tmp_path: Path, seed: int, partitions: int, data: st.DataObject) -> None:
    """Law 1: shuffled, sent three times, cut anywhere, over 1 to 4 partitions: the same views."""
    files = random_input(seed, order_free=True)
    expected = naive_views(files)
    changed = shuffled(files, data.draw(st.integers(0, 2**32)))
    if data.draw(st.booleans()):
        changed = shuffled(tripled(files), data.draw(st.integers(0, 2**32)))
    pipeline = _pipeline(changed, tmp_path, partitions, data.draw(st.none() | st.integers(0, 2**32)))
    # Rejects are outside the law: every copy of a bad event is a row of its own.
    assert not _differences(expected, pipeline, ("scans", "visits", "cases", "exposures", *CELL_KEYS))


@SETTINGS
@given(seed=st.integers(0, 2**32), split=st.integers(0, 2**32))
def test_long_timelines_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, split: int
) -> None:
    """A timeline that is kept in chunks says what a short one says."""
    monkeypatch.setattr(held_scans, "CHUNK_BYTES_MAX", 150)
    files = random_input(seed)
    pipeline = _pipeline(files, tmp_path, 1, split)
    assert not _differences(naive_views(files), pipeline, TABLES)


def test_a_step_repeated_gives_the_same_bytes(tmp_path: Path) -> None:
    """Law 3: the same batches from the same state give the same outputs, byte for byte."""
    files = random_input(7)
    first = _pipeline(files, tmp_path, 2, 5)
    second = _pipeline(files, tmp_path, 2, 5)
    assert first.outputs == second.outputs
    assert [state.data for state in first.person_states] == [state.data for state in second.person_states]
    assert any(state.data for state in first.person_states)


def test_no_record_can_grow_beyond_what_a_topic_takes() -> None:
    """Keys, headers and payloads of any size end in outputs and state of bounded size."""
    pipeline = Pipeline()
    room, state = pipeline.rooms[0], pipeline.person_states[0]
    huge = b"k" * 3_000_000
    scan = (
        b'{"scan_id":"s","person_id":"' + b"a1" * 16 + b'","venue_id":"NOWHERE","direction":"in",'
        b'"occurred_at":"2021-10-14T08:00:00+07:00","source":"vhd"}'
    )
    now_ms = 1_634_173_200_000
    records = [
        Record(0, now_ms, huge, scan),
        Record(1, now_ms, huge, huge),
        Record(2, now_ms, b"a1" * 16, scan, [("origin", huge), ("other", huge)]),
    ]
    step = person.take_scans(room, 1, records, state, pipeline.directory)
    assert step.counts == {"rejected": 2, "waiting": 1}
    for messages in step.outputs.values():
        assert all(len(key or b"") + len(value or b"") < 3_500_000 for key, value, _, _ in messages)
    assert all(len(value or b"") < 100_000 for value in step.changes.values())
    away = Pipeline(partitions=2)
    other = next(room for room in away.rooms if room.partition != partition_of(b"a1" * 16, 2))
    step = person.take_scans(other, 1, records[2:], away.person_states[0], away.directory)
    assert [sum(len(value) for _, value in forward.headers) < 100 for forward in step.headed] == [True]
    assert [forward.topic for forward in step.headed] == [RETURNS]
