"""The measuring tools' pure parts: what they are called by, what their figures come to."""

from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as tools
from bench import harness, latency, scaling, state
from infra.kafka import KafkaBroker

FIGURES = {
    "events_per_second": 20_000.0,
    "cpu_seconds_per_million": 50.0,
    "startup_seconds": 2.0,
    "memory_mib_peak": 300.0,
}
RIGHT = {"missing": 0, "unknown": 0, "doubled": 0, "wrong": 0, "cells_wrong": 0}


@pytest.fixture(autouse=True)
def _results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS_DIR", tmp_path)


def test_tools_are_named_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is there and explains itself; one that is not there is said to be none, beside those that are."""
    for name in tools.TOOLS:
        with pytest.raises(SystemExit) as ended:
            tools.main([name, "--help"])
        assert ended.value.code == 0
        assert f"./do bench {name}" in capsys.readouterr().out
    assert tools.main(["nothing"]) == 2
    assert "no such tool: nothing" in capsys.readouterr().err


def test_without_a_name_the_comparison_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """What was ``./do bench --list`` still is."""
    assert tools.main(["--list"]) == 0
    assert "Kafka Streams" in capsys.readouterr().out


def test_results_are_kept_beside_the_machine() -> None:
    """A figure is of a machine, a day and its arguments."""
    assert harness.load("scaling") is None
    harness.save("scaling", {"scans": 5, "out": Path("x")}, rows=[1])
    found = harness.load("scaling") or {}
    assert (found["rows"], found["arguments"]) == ([1], {"scans": 5, "out": "x"})
    assert found["machine"]["cores"] > 0


def test_a_table_is_markdown() -> None:
    """A row of dashes after the header."""
    assert harness.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_folders_are_measured_by_name(tmp_path: Path) -> None:
    """Bytes of the files that match, however deep."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.log").write_bytes(b"12345")
    (tmp_path / "b.index").write_bytes(b"12")
    assert (harness.folder_bytes(tmp_path, "*.log"), harness.folder_bytes(tmp_path)) == (5, 7)


def test_the_last_assignment_counts() -> None:
    """Workers that join one after another are measured from when all have their partitions."""
    logs = {
        "worker-0.log": "1970-01-01T00:00:01.000Z INFO rooms partitions assigned generation=1 rooms=8 opened=8\n"
        "1970-01-01T00:00:04.500Z INFO rooms partitions assigned generation=2 rooms=4 opened=0\n",
        "worker-1.log": "1970-01-01T00:00:03.000Z INFO rooms partitions assigned generation=2 rooms=4 opened=4\n",
    }
    assert scaling.assigned_at(logs) == 4.5
    assert scaling.assigned_at({}) == 0.0


def test_rows_of_scaling_say_what_is_wrong() -> None:
    """A wrong output, a failure and a start that could not be left out are told."""
    row: dict[str, Any] = {"kind": "person", "workers": 2, "partitions": 4, "figures": FIGURES, "verdict": RIGHT}
    row |= {"failure": None, "broker_cpu_seconds": 1.0, "steady": True}
    assert scaling.row_of(row, 100_000)[3:] == ["20,000", "50.0", "10.0", "300", "right"]
    assert scaling.row_of(row | {"steady": False}, 100_000)[-1] == "right, joining included"
    assert scaling.row_of(row | {"verdict": RIGHT | {"missing": 1}}, 100_000)[-1] == "WRONG"
    assert scaling.row_of(row | {"figures": None, "failure": "gone"}, 100_000)[-1] == "FAILED: gone"


def test_disk_is_that_of_a_whole_pipeline() -> None:
    """The person room alone writes less."""
    rows = [
        {"kind": "pipeline", "figures": FIGURES, "disk_bytes": {"scans": 1000, "state": 50}},
        {"kind": "person", "figures": FIGURES, "disk_bytes": {"scans": 1}},
    ]
    assert scaling.disk_per_scan(rows, 10) == {"scans": 100.0, "state": 5.0}
    assert scaling.disk_per_scan(rows[1:], 10) == {}


def test_what_is_being_deleted_is_not_on_disk(tmp_path: Path) -> None:
    """A topic of the round before lies beside this one's for a minute."""
    for name in ("b.enriched-0", "b.enriched-1", "b.enriched-0.0a1b-delete", "b.nothing-0", "other.enriched-0"):
        (tmp_path / "kafka" / "data" / name).mkdir(parents=True)
        (tmp_path / "kafka" / "data" / name / "0.log").write_bytes(b"12345")
    found = scaling.disk_bytes(KafkaBroker(tmp_path / "kafka"), "b.", tmp_path / "round")
    assert {place: size for place, size in found.items() if size} == {"enriched": 10}


def test_stores_are_summed_over_workers() -> None:
    """Each worker tells the size of each partition that it holds."""
    pages = [
        'truyvet_state_bytes{partition="0",room="person"} 1.5e+06\nother 1\n',
        'truyvet_state_bytes{partition="0",room="venue"} 7.0\n',
        '# TYPE truyvet_state_bytes gauge\ntruyvet_state_bytes{partition="1",room="person"} 500000.0\nother 1\n',
    ]
    assert scaling.store_bytes(pages) == {"store-person": 2_000_000, "store-venue": 7}


def test_states_are_compared_with_the_first() -> None:
    """Cost as a multiple of the smallest state's."""
    row: dict[str, Any] = {"held": 1_000_000, "people": 100_000, "state_bytes": 2**20, "verdict": RIGHT}
    row |= {"figures": FIGURES, "failure": None}
    more = row | {"held": 50_000_000, "figures": FIGURES | {"cpu_seconds_per_million": 60.0}}
    assert state.row_of(more, row) == ["50", "100,000", "1", "60.0", "1.20", "20,000", "2.0", "right"]
    assert state.row_of(row | {"figures": None, "failure": "gone"}, row)[-1] == "FAILED: gone"


def test_scaling_on_the_real_parts() -> None:
    """A small round of the whole pipeline: right, measured, with what is on disk."""
    arguments = ["--scans", "2000", "--workers", "1", "--partitions", "2", "--kinds", "pipeline"]
    assert scaling.main(arguments) == 0
    found = harness.load("scaling") or {}
    [row] = found["rows"]
    assert all(row["disk_bytes"][place] > 0 for place in ("enriched", "store-person", "store-venue", "clickhouse"))
    assert row["broker_cpu_seconds"] > 0


def test_states_on_the_real_parts() -> None:
    """A worker believes a store that was filled for it, and takes a day on it."""
    arguments = ["--held", "4000", "--scans", "2000", "--partitions", "2"]
    assert state.main(arguments) == 0
    [row] = (harness.load("state") or {})["rows"]
    assert row["state_bytes"] > 0


def test_latency_on_the_real_parts() -> None:
    """A slow level of some seconds: every scan comes out, and markers' rows are found."""
    arguments = ["--rate", "400", "--shares", "0.5", "--minutes", "0.05", "--partitions", "2"]
    assert latency.main(arguments) == 0
    [level] = (harness.load("latency") or {})["levels"]
    assert (level["missing"], level["sent"]) == (0, 1600)
    assert level["row_count"] > 0
    assert level["enriched_ms"]["p50"] > 0
