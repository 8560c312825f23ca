"""The bench's figures: what a round's samples come to, what processes use, and the table of all rounds."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from bench import run
from bench.checking import Verdict
from bench.contenders import contenders
from bench.measuring import Figures, Sample, Ticks, cpu_seconds, figures, memory_bytes, tree
from bench.report import Outcome, as_json, table
from bench.rounds import Round
from bench.run import rounds_of
from bench.workload import Shape
from truyvet.config import Settings

RIGHT = Verdict(outputs=970, missing=0, unknown=0, doubled=0, wrong=0, cells_wrong=0)


def _figures(cpu: float) -> Figures:
    return Figures(50_000.0, cpu, 2.0, 1.0, 1.0 + cpu, 100.0)


def test_a_round_is_measured_from_its_first_output_on() -> None:
    """Neither start-up nor waiting for the end counts, and a scan that is a copy counts as one."""
    samples = [
        Sample(0.0, 0, 0, 0.0, finished=True),
        Sample(3.0, 0, 0, 2.0, finished=True),
        Sample(4.0, 97_000, 10, 3.0, finished=True),
        Sample(12.0, 970_000, 80, 12.0, finished=True),
        Sample(13.0, 970_000, 90, 12.5, finished=True),
        Sample(16.0, 970_000, 90, 20.0, finished=True),
    ]
    found = figures(samples, 1_000_000, 300 * 1024**2)
    assert found.events_per_second == pytest.approx(900_000 / 8)
    assert found.cpu_seconds_per_million == pytest.approx(9.5 / 0.9)
    assert (found.startup_seconds, found.startup_cpu_seconds, found.cpu_seconds_total) == (4.0, 3.0, 12.5)
    assert found.memory_mib_peak == 300.0


def test_each_process_is_told_apart() -> None:
    """As much as all together, and in the table beside that."""
    samples = [
        Sample(0.0, 0, 0, 0.0, finished=False),
        Sample(1.0, 100, 0, 3.0, finished=False, cpu_by_process=(2.0, 1.0)),
        Sample(9.0, 1000, 0, 12.0, finished=True, cpu_by_process=(9.0, 3.0)),
    ]
    found = figures(samples, 1_000_000, 0, ["worker-0", "sink"])
    assert found.cpu_by_process == pytest.approx({"worker-0": 7 / 0.9, "sink": 2 / 0.9})
    assert sum(found.cpu_by_process.values()) == pytest.approx(found.cpu_seconds_per_million)
    shown = table(contenders(), [Outcome("pipeline", 1, found, RIGHT, None)])
    assert "| 10.0; worker-0 7.8, sink 2.2 |" in shown
    assert "stolen" not in shown
    disturbed = table(contenders(), [Outcome("pipeline", 1, found, RIGHT, None, stolen=0.314, taken=3)])
    assert f"{RIGHT.text()} (up to 31% of the machine stolen; taken again 2 times)" in disturbed


def test_what_is_stolen_is_a_share_of_the_whole() -> None:
    """As the kernel counts; nothing if no time has passed."""
    before = Ticks(10, 1000)
    assert Ticks(60, 1200).stolen_since(before) == 0.25
    assert before.stolen_since(before) == 0.0
    now = Ticks.now()
    assert 0 <= now.stolen < now.whole


def test_what_comes_behind_the_outputs_belongs_to_the_round() -> None:
    """Where a sink or slow counts follow, the round ends with them."""
    outputs = [(0.0, 0), (1.0, 100), (2.0, 1000), (3.0, 1000), (9.0, 1000), (12.0, 1000)]
    sink = [Sample(at, many, 0, at, finished=at > 5.0) for at, many in outputs]
    assert figures(sink, 1000, 0).events_per_second == pytest.approx(900 / 8)
    counted = [Sample(at, many, int(at), at, finished=True) for at, many in outputs]
    assert figures(counted, 1000, 0).events_per_second == pytest.approx(900 / 10)


def test_what_comes_at_once_is_measured_from_before_it() -> None:
    """An output that is there whole when it is first seen has no second moment to be measured between."""
    samples = [Sample(1.0, 0, 0, 1.0, finished=True), Sample(2.0, 500, 0, 2.0, finished=True)]
    found = figures(samples, 500, 0)
    assert (found.events_per_second, found.cpu_seconds_per_million) == (500.0, 2000.0)


def test_a_round_without_outputs_has_no_figures() -> None:
    """It says so."""
    with pytest.raises(ValueError, match="no output"):
        figures([Sample(1.0, 0, 0, 1.0, finished=True)], 500, 0)


def test_processes_are_measured_with_their_children() -> None:
    """A child belongs to the tree; time and memory are more than nothing."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        pids = tree([os.getpid()])
        assert {os.getpid(), child.pid} <= pids
        assert memory_bytes(pids) > memory_bytes([os.getpid()]) > 0
        child.communicate(b"\n")
    assert cpu_seconds([os.getpid()]) > 0
    assert cpu_seconds([child.pid]) == 0


def test_contenders_take_turns() -> None:
    """Every second round goes backwards."""
    chosen = list(contenders().values())[:3]
    names = [(number, contender.name) for number, contender in rounds_of(chosen, 2)]
    first, second, third = (contender.name for contender in chosen)
    assert names == [(1, first), (1, second), (1, third), (2, third), (2, second), (2, first)]


def test_the_table_says_medians_spread_and_ratio() -> None:
    """One row a contender; the ratio is that of rounds, to this project's person room."""
    outcomes = [
        Outcome(name, number, _figures(cpu), RIGHT, None)
        for name, cpus in (("person", (10.0, 12.0, 11.0)), ("quix", (33.0, 30.0, 33.0)))
        for number, cpu in enumerate(cpus, 1)
    ]
    rows = table(contenders(), outcomes).splitlines()
    assert len(rows) == 4
    assert "| 11.0 (10.0–12.0) | 1.00 |" in rows[2]
    assert "| 33.0 (30.0–33.0) | 3.00 |" in rows[3]
    assert len({len(re.findall(r"\|", row)) for row in rows}) == 1


def test_a_failure_is_a_row_of_its_own() -> None:
    """What could not be run is said, in the table and in the JSON."""
    outcomes = [Outcome("faust", 1, None, None, "faust ended: a | b")]
    row = table(contenders(), outcomes).splitlines()[-1]
    assert "FAILED: faust ended: a / b" in row
    assert '"failure": "faust ended: a | b"' in as_json(Shape(), contenders(), outcomes)


@pytest.mark.parametrize(
    ("stolen", "kept", "taken"),
    [([0.01], 0.01, 1), ([0.3, 0.05], 0.05, 2), ([0.3, 0.1, 0.2, 0.0], 0.1, 3)],
)
def test_a_disturbed_run_is_taken_again(
    stolen: list[float], kept: float, taken: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Twice at most, under names of its own; of all of them the least disturbed counts."""
    groups: list[str] = []

    def run_round(task: Round, *_: object) -> Outcome:
        groups.append(task.group)
        return Outcome("person", 1, None, RIGHT, None)

    shares = iter(stolen)
    monkeypatch.setattr(run, "run_round", run_round)
    monkeypatch.setattr(Ticks, "stolen_since", lambda *_: next(shares))
    task = Round(Settings(), "person", 1, tmp_path)
    outcome = run.undisturbed(task, cast("Any", None), Shape(), cast("Any", None))
    assert (outcome.stolen, outcome.taken) == (kept, taken)
    assert len(set(groups)) == taken


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("person", 1, None, None, "it ended"),
        Outcome("person", 1, None, None, None),
        Outcome("person", 1, None, replace(RIGHT, missing=1), None),
    ],
)
def test_what_went_wrong_is_not_tried_again(outcome: Outcome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever was stolen meanwhile: it is told."""
    monkeypatch.setattr(run, "run_round", lambda *_: outcome)
    monkeypatch.setattr(Ticks, "stolen_since", lambda *_: 0.5)
    task = Round(Settings(), "person", 1, tmp_path)
    found = run.undisturbed(task, cast("Any", None), Shape(), cast("Any", None))
    assert found == replace(outcome, stolen=0.5)


def test_one_that_went_wrong_the_second_time_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Even if the first was right, and less disturbed."""
    found = iter([Outcome("person", 1, None, RIGHT, None), Outcome("person", 1, None, replace(RIGHT, wrong=1), None)])
    shares = iter([0.3, 0.4])
    monkeypatch.setattr(run, "run_round", lambda *_: next(found))
    monkeypatch.setattr(Ticks, "stolen_since", lambda *_: next(shares))
    outcome = run.undisturbed(Round(Settings(), "person", 1, tmp_path), cast("Any", None), Shape(), cast("Any", None))
    assert (outcome.right, outcome.taken) == (False, 2)
