"""Sizing on paper: the formulas, by hand."""

from pathlib import Path
from typing import Any

import pytest

from bench import harness
from bench.sizing import Demand, Figures, clickhouse_gib, figures_of, main, needs, topics_gib

GIB = 2**30
FIGURES = Figures(
    worker_us=100.0,
    broker_us=40.0,
    topic_bytes={"scans": 100.0, "enriched": 300.0, "visits": 500.0, "aggregates": 200.0, "state-person": 400.0},
    clickhouse_bytes=400.0,
    held_bytes=80.0,
    venue_bytes=20.0,
)
DEMAND = Demand(GIB / 100, 1000.0, load=0.5, replication=3, broker_cores=8, broker_disk_gib=1e9)


def _scaling(**figures: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a row holds
    row = {"kind": "pipeline", "figures": {"cpu_seconds_per_million": 90.0}, "broker_cpu_seconds": 4.0}
    row |= {
        "disk_bytes": {
            "scans": 10_000_000,
            "store-person": 8_000_000,
            "store-venue": 2_000_000,
            "clickhouse": 40_000_000,
        }
    }
    return {"arguments": {"scans": 100_000}, "rows": [row | figures]}


def test_cores_follow_from_the_peak() -> None:
    """At half load twice as many as are busy; a broker does its work once for each replica."""
    found = {what: value for what, (_, value) in needs(FIGURES, DEMAND, 28).items()}
    assert found["cores, workers and sink"] == pytest.approx(0.2)
    assert found["cores, brokers"] == pytest.approx(0.24)
    assert found["brokers"] == 3
    assert found["CPU-hours a day"] == pytest.approx(DEMAND.scans_a_day * 220 / 1e6 / 3600)
    assert found["workers' disk, GiB"] == pytest.approx(28 * 100 / 100)


def test_brokers_follow_from_whatever_is_short() -> None:
    """Cores or disk; never fewer than three."""
    busy = Demand(1.0, 1e6, load=0.5, replication=3, broker_cores=8, broker_disk_gib=1e9)
    assert needs(FIGURES, busy, 28)["brokers"][1] == 30
    full = Demand(GIB / 100, 1.0, load=0.5, replication=3, broker_cores=8, broker_disk_gib=100.0)
    assert needs(FIGURES, full, 28)["brokers"][1] == -(-topics_gib(FIGURES, full, 28) // 100)


def test_topics_hold_what_their_retention_says() -> None:
    """Deleted ones their days, changelogs twice what is held, all of it in three copies."""
    expected = 30 * 100 + 28 * 300 + 28 * 500 + 400 * 200 + 28 * 100 * 2
    assert topics_gib(FIGURES, DEMAND, 28) == pytest.approx(expected * 3 / 100)


def test_clickhouse_keeps_cells_longer() -> None:
    """A fifth of the bytes are cells here."""
    assert clickhouse_gib(FIGURES, DEMAND, 28) == pytest.approx(400 * (0.8 * 28 + 0.2 * 400) / 100)


def test_figures_come_from_what_was_measured() -> None:
    """The dearest pipeline and the largest state; the pipeline's own stores where no state was measured."""
    state = {"rows": [{"held": 10, "state_bytes": 1000}, {"held": 100, "state_bytes": 7000}]}
    found = figures_of(_scaling(), state)
    assert (found.worker_us, found.broker_us, found.held_bytes) == (90.0, 40.0, 70.0)
    assert (dict(found.topic_bytes), found.clickhouse_bytes, found.venue_bytes) == ({"scans": 100.0}, 400.0, 20.0)
    assert figures_of(_scaling(), None).held_bytes == 80.0
    with pytest.raises(ValueError, match="no whole pipeline"):
        figures_of(_scaling(figures=None), None)


def test_the_table_has_a_column_for_each_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Formulas beside results; what is given counts instead of what was measured; without either it says what to do."""
    monkeypatch.setattr(harness, "RESULTS_DIR", tmp_path)
    with pytest.raises(SystemExit):
        main([])
    assert "./do bench scaling" in capsys.readouterr().err
    harness.save("scaling", {"scans": 100_000}, rows=_scaling()["rows"])
    assert main(["--worker-us", "50"]) == 0
    text = capsys.readouterr().out
    assert "50.0 µs in workers and sink" in text
    assert "| 2,200,000 a day, 150/s | 220,000,000 a day, 15,000/s |" in text
    assert "peak × worker µs / load" in text
