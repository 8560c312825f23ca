"""Inputs through the real thing: broker, workers, sink, ClickHouse; and every way law 1 allows to vary them."""

import random
from pathlib import Path

import pytest

from infra.topics import ensure_topics
from producers.feed import Feed, FeedError
from producers.lines import Line
from tests.conftest import SettingsFactory
from tests.golden.compare import CELL_KEYS, DATA, compare, compare_views, read_rows
from tests.oracle.events import random_input, shuffled, tripled
from tests.oracle.naive import naive_views
from tests.pipeline.running import run_stack

VIEWS = ("scans", "visits", "cases", "exposures", *CELL_KEYS)
TABLES = (*VIEWS, "rejects")
CASES = sorted(path for path in DATA.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_cases_on_the_real_thing(case: Path, settings: SettingsFactory, tmp_path: Path) -> None:
    """Every golden case comes out of ClickHouse as SPEC gives it."""
    run_stack(settings, case / "in", tmp_path / "out")
    assert not compare(case, tmp_path / "out", TABLES)


VARIANTS = {
    "1 partition, 1 worker, in order": (1, 1, "once"),
    "12 partitions, 3 workers, shuffled": (12, 3, "shuffled"),
    "12 partitions, 1 worker, three times and shuffled": (12, 1, "tripled"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_partitions_workers_order_and_copies_change_no_view(
    variant: str, settings: SettingsFactory, tmp_path: Path
) -> None:
    """Law 1 on the real broker: the naive checker's views, however the input is spread, ordered and repeated."""
    partitions, workers, how = VARIANTS[variant]
    files = random_input(4712, order_free=True)
    expected = naive_views(files)
    sent = {"once": files, "shuffled": shuffled(files, 1), "tripled": shuffled(tripled(files), 2)}[how]
    sent.write(tmp_path / "in")
    run_stack(settings, tmp_path / "in", tmp_path / "out", partitions=partitions, workers=workers)
    assert not compare_views(expected, tmp_path / "out", TABLES if how == "once" else VIEWS)
    assert expected["exposures"], "an input without exposures proves little"


def test_a_line_of_megabytes_is_a_reject(settings: SettingsFactory, tmp_path: Path) -> None:
    """A value far beyond 64 KiB, in a file whose first line states no time, is one row of rejects and no more."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scans.jsonl").write_bytes(b'{"x": "' + b"x" * 2_500_000 + b'"}\n\n[1]\n')
    run_stack(settings, tmp_path / "in", tmp_path / "out")
    rows = sorted(read_rows(tmp_path / "out" / "rejects.jsonl"), key=lambda row: str(row["reason"]))
    assert [row["reason"] for row in rows] == ["oversized", "schema_violation"]
    assert "cut" in rows[0]["detail"]
    assert {row["record_at"] for row in rows} == {"1970-01-01T00:00:00.000Z"}


def test_a_line_that_the_broker_refuses_is_said(settings: SettingsFactory) -> None:
    """A value beyond what the topic takes is not lost in silence."""
    chosen = settings()
    ensure_topics(chosen)
    line = Line(b"key", random.Random(1).randbytes(5_000_000), 1)  # noqa: S311 - bytes that do not shrink
    with pytest.raises(FeedError, match="not taken"):
        Feed(chosen).send("scans", [line])
