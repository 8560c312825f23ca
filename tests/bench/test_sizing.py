"""Sizing on paper: the formulas, by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import harness
from bench.sizing import Demand, Figures, clickhouse_gib, figures_of, flows_of, main, needs, topics_gib

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
    found = figures_of(_scaling(), state, None)
    assert (found.worker_us, found.broker_us, found.held_bytes) == (90.0, 40.0, 70.0)
    assert (dict(found.topic_bytes), found.clickhouse_bytes, found.venue_bytes) == ({"scans": 100.0}, 400.0, 20.0)
    assert figures_of(_scaling(), None, None).held_bytes == 80.0
    with pytest.raises(ValueError, match="no whole pipeline"):
        figures_of(_scaling(figures=None), None, None)


def _level(share: float, rate: float, missing: int = 0) -> dict[str, Any]:
    cores = {"kafka": 0.25, "sink": 0.5, "worker-0": 0.25, "worker-1": 0.25, "stolen": 0.5}
    return {"share": share, "rate": rate, "missing": missing, "cores": cores}


def test_a_flow_costs_what_its_level_did() -> None:
    """Below the lowest as many cores as there, between two those of the upper, above the highest as much a scan."""
    figures = replace(FIGURES, flows=flows_of({"levels": [_level(0.5, 10_000.0), _level(0.1, 2_000.0)]}))
    for rate, worker_us, broker_us in (
        (100.0, 10_000.0, 2_500.0),
        (2_000.0, 500.0, 125.0),
        (4_000.0, 250.0, 62.5),
        (10_000.0, 100.0, 25.0),
        (1_000_000.0, 100.0, 25.0),
    ):
        found = figures.at(rate)
        assert [found.worker_us, found.broker_us] == pytest.approx([worker_us, broker_us])


def test_levels_near_what_is_sustained_do_not_count() -> None:
    """Nor those of which something was not seen."""
    assert flows_of({"levels": [_level(0.9, 18_000.0), _level(0.1, 2_000.0, missing=1)]}) == []
    assert flows_of(None) == []


def test_needs_at_the_peak_are_those_of_its_flow() -> None:
    """1,000 a second keep as many cores busy as the level of 2,000; a day's hours are those of its mean rate."""
    figures = replace(FIGURES, flows=flows_of({"levels": [_level(0.1, 2_000.0)]}))
    found = {what: value for what, (_, value) in needs(figures, DEMAND, 28).items()}
    assert found["cores, workers and sink"] == pytest.approx(1.0 / DEMAND.load)
    assert found["cores, brokers"] == pytest.approx(0.25 * 3 / DEMAND.load)
    assert found["CPU-hours a day"] == pytest.approx(24 * (1.0 + 0.25 * 3))


def test_the_table_has_a_column_for_each_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Formulas beside results; what is given counts, not what was measured; without either it says what to do."""
    monkeypatch.setattr(harness, "RESULTS_DIR", tmp_path)
    with pytest.raises(SystemExit):
        main([])
    assert "./do bench scaling" in capsys.readouterr().err
    harness.save("scaling", {"scans": 100_000}, rows=_scaling()["rows"])
    harness.save("latency", {}, levels=[_level(0.1, 2_000.0)])
    assert main([]) == 0
    text = capsys.readouterr().out
    assert "cores are those of an even flow, measured at 2,000 scans a second" in text
    assert "| peak × worker µs / load | 2 | 15 |" in text
    assert main(["--worker-us", "50"]) == 0
    text = capsys.readouterr().out
    assert "50.0 µs in workers and sink" in text
    assert "cores are those of a heap, or given" in text
    assert "| peak × worker µs / load | 0.01 | 1.50 |" in text
    assert "| 2,200,000 a day, 150/s | 220,000,000 a day, 15,000/s |" in text
    assert "peak × worker µs / load" in text
