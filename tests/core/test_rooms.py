"""The rooms as pure functions: golden rows, the naive checker, and law 1 in every way it can be broken."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streams.core import timeline
from tests.core.pipeline import Pipeline, one_by_one, replayed, whole
from tests.golden.compare import CELL_KEYS, DATA, compare_rows, read_rows
from tests.oracle.events import random_input, shuffled, tripled
from tests.oracle.files import Files
from tests.oracle.naive import naive_views

TABLES = ("scans", "cases", "rejects", "ward_minute", "venue_hour", "area_day")
CASES = sorted(path for path in DATA.iterdir() if path.is_dir() and not path.name.startswith("16"))
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
    views = pipeline.views()
    return [text for table in tables for text in compare_rows(table, expected[table], views[table])]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("partitions", [1, 3])
def test_golden_cases(case: Path, partitions: int) -> None:
    """Every golden case comes out, whole and one by one."""
    expected = {table: read_rows(case / "expected" / f"{table}.jsonl") for table in TABLES}
    for cut in (whole, one_by_one):
        assert not _differences(expected, replayed(case / "in", partitions, cut), TABLES)


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
    assert not _differences(expected, pipeline, ("scans", "cases", *CELL_KEYS))


@SETTINGS
@given(seed=st.integers(0, 2**32), split=st.integers(0, 2**32))
def test_long_timelines_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, split: int
) -> None:
    """A timeline that is kept in chunks says what a short one says."""
    monkeypatch.setattr(timeline, "CHUNK_BYTES_MAX", 150)
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
