"""Two runs of one input, the second under faults, held against each other."""

import random
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.processes import ProcessError
from producers.feed import FeedError
from tests.chaos import rows
from tests.chaos.faults import KILLS, STOPS, Fault, Faults, drawn_kinds
from tests.chaos.inputs import Inputs, make_inputs
from tests.chaos.stage import Flow, Shape, Stage
from tests.chaos.watching import Watch

RATE_SHARE: Final = 0.5
"""Of the sustained rate: the least that faults come under."""
PAUSE_SECONDS_GUESS: Final = 8.0
"""How long a fault takes, until one has."""
RATED_TABLES: Final = ("scans", "visits", "exposures", "cases", "rejects", "ward_minute")
"""Without rows in these a comparison proves nothing."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What the command line says; ``rate`` None is half of what the undisturbed run sustains, in scans a second."""

    kills: int
    seed: int
    rate: float | None
    scale: float
    days: int
    shape: Shape


@dataclass
class Outcome:
    """What came of it."""

    faults: list[Fault]
    under_flow: int
    """Faults while scans were being sent."""
    sustained: float
    rate: float
    same: bool
    """Whether every comparison found nothing, and no process ended by itself."""


def run(options: Options, directory: Path, tell: Tell) -> Outcome:
    """Makes the input, runs it undisturbed, runs it under faults, and compares; tells what happens as it does.

    Everything stays in ``directory`` unless all is the same.
    """
    began = time.monotonic()

    def say(text: str) -> None:
        tell(f"[{time.monotonic() - began:7.1f} s] {text}")

    inputs = make_inputs(directory / "input", options.seed, options.scale, options.days)
    say(f"{inputs.scans_count:,} scans, {len(inputs.register):,} venues and {len(inputs.extras):,} late ones and cases")
    sustained = _undisturbed(options, inputs, directory, say)
    rate = sustained * RATE_SHARE if options.rate is None else options.rate
    outcome = Outcome([], 0, sustained, rate, same=True)
    try:
        with Stage(directory / "disturbed", options.shape) as stage:
            _disturb(stage, Flow(stage, inputs, rate), options, outcome, say)
            say("drained; reading tables and topics")
            counts = rows.write_tables(stage.settings, directory / "disturbed-rows")
            rows.write_folded(stage.settings, directory / "disturbed-rows")
            stage.check()
    except (ProcessError, FeedError, rows.FoldError) as error:
        say(f"FAILED: {error}")
        outcome.same = False
        return outcome
    for table in RATED_TABLES:
        if not counts[table]:
            say(f"FAILED: no rows of {table}: this proves nothing")
            outcome.same = False
    outcome.same &= _compare(directory, say)
    return outcome


def _undisturbed(options: Options, inputs: Inputs, directory: Path, say: Tell) -> float:
    """The run that says what the rows must be; returns the scans a second that it sustained."""
    with Stage(directory / "undisturbed", options.shape) as stage:
        flow = Flow(stage, inputs, rate=None)
        flow.register()
        say("undisturbed run: the register is read")
        flow.start()
        flow.wait_settled()
        sustained = inputs.scans_count / (time.monotonic() - flow.began)
        counts = rows.write_tables(stage.settings, directory / "undisturbed-rows")
    shutil.rmtree(directory / "undisturbed")
    for file in (directory / "undisturbed-rows").glob("*.rows"):
        file.unlink()  # only the views are compared
    say(f"undisturbed run: {sustained:,.0f} scans/s; {sum(counts.values()):,} rows")
    return sustained


def _disturb(stage: Stage, flow: Flow, options: Options, outcome: Outcome, say: Tell) -> None:
    """Faults one after another, spread over the flow; then waits until all is processed and stored."""
    rng = random.Random(f"faults {options.seed}")
    faults = Faults(stage, Watch(stage, flow), rng)
    flow.register()
    flow.start()
    kinds = drawn_kinds(rng, options.kills)
    say(f"run under faults: {flow.rate:,.0f} scans/s, which gives each fault {flow.seconds_left / len(kinds):.1f} s")
    took: list[float] = []
    for number, kind in enumerate(kinds):
        mean_seconds = statistics.fmean(took) if took else PAUSE_SECONDS_GUESS
        pause_seconds = max(0.0, flow.seconds_left / (len(kinds) - number) - mean_seconds)
        time.sleep(rng.uniform(0, 2 * pause_seconds))
        stage.check()
        at = time.monotonic()
        outcome.under_flow += not flow.done.is_set()
        fault = faults.do(kind)
        took.append(time.monotonic() - at)
        outcome.faults.append(fault)
        back = "nothing was due" if fault.seconds is None else f"{fault.seconds:5.1f} s"
        say(f"{number + 1:3d}/{len(kinds)} {kind:15s} {fault.who:40s} {back}")
    flow.wait_settled()


def _compare(directory: Path, say: Tell) -> bool:
    """Views against the undisturbed run's, and each topic folded against its table."""
    expected, found = directory / "undisturbed-rows", directory / "disturbed-rows"
    same = True
    for file in sorted(found.glob("*.view")):
        different = rows.differences(file.stem, expected / file.name, file)
        same &= rows.report(say, f"{file.stem}: undisturbed, disturbed", different)
    for file in sorted(found.glob("*.folded")):
        different = rows.differences(file.stem, file, file.with_suffix(".rows"))
        same &= rows.report(say, f"{file.stem}: topic folded, table", different)
    return same


def summary(outcome: Outcome) -> list[str]:
    """The table by kind and the verdict, as lines."""
    lines = [f"{'fault':16s} {'count':>5s} {'median s':>9s} {'worst s':>8s}"]
    for kind in (*KILLS, *STOPS):
        seconds = [fault.seconds for fault in outcome.faults if fault.kind == kind and fault.seconds is not None]
        figures = f"{statistics.median(seconds):9.1f} {max(seconds):8.1f}" if seconds else f"{'':9s} {'':8s}"
        lines.append(f"{kind:16s} {sum(fault.kind == kind for fault in outcome.faults):5d} {figures}")
    kills = sum(fault.kind in KILLS for fault in outcome.faults)
    lines.append(
        f"{kills} kills and {len(outcome.faults) - kills} others, {outcome.under_flow} of them while scans came at "
        f"{outcome.rate:,.0f} a second, {outcome.rate / outcome.sustained:.0%} of {outcome.sustained:,.0f} sustained"
    )
    lines.append(
        "SAME: every view row for row, every topic folded is its table" if outcome.same else "NOT THE SAME: see above"
    )
    return lines
