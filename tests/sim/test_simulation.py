"""Fixed seeds of the simulator, what they went through, and that a seed is one run."""

import random
import re
import subprocess
import sys

import pytest

from tests.sim import planted
from tests.sim.faults import Fault
from tests.sim.late import KINDS
from tests.sim.shrinking import smaller
from tests.sim.simulation import Plan, draw, simulate
from tests.sim.workload import EARLY

SEEDS = 80
QUICK_BUGS = (
    "a lost retraction",
    "a sink that reads uncommitted",
    "input offsets outside the transaction",
    "no fencing",
    "no new epoch",
    "offsets committed before the insert",
    "seek one too far",
    "store written before the commit",
)
"""Found within some dozens of seeds; `./do sim --planted` looks for all."""


def _sim(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.sim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_fixed_seeds_differ_in_nothing() -> None:
    """Whatever fails in these runs, the final rows are what the naive checker says; and enough did fail."""
    done = _sim("--seeds", str(SEEDS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds in" in done.stdout
    counts = {name: int(number) for number, name in re.findall(r"^ +(\d+)  (.+?)$", done.stdout, re.MULTILINE)}
    for name in ("worker: commit decided", "worker: store write", "sink: insert stored", "worker: wherever it was"):
        assert counts[name] >= 1, name
    for name in (
        "zombie",
        "stop",
        "leave",
        "exposures retracted",
        "visits retracted",
        "waiting resolved",
        "store lost",
        *(f"late {kind} within a later transaction" for kind in KINDS),
    ):
        assert counts[name] >= 3, name


def test_a_seed_is_one_run() -> None:
    """The same seed gives the same trace, to the last step; another one another."""
    first, again, other = (simulate(draw(seed)) for seed in (3, 3, 4))
    assert first.trace == again.trace
    assert first.ticks == again.ticks
    assert first.trace != other.trace
    assert first.faults >= 3
    assert len(first.plan.workload.sends) >= 300


@pytest.mark.parametrize("name", QUICK_BUGS)
def test_planted_bugs_are_found(name: str) -> None:
    """Each of these bugs makes some seed differ."""
    done = _sim("--planted", "--bug", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name}:" in done.stdout


def test_every_planted_bug_still_fits_the_code() -> None:
    """A bug whose text is no longer there would be planted nowhere."""
    for name in planted.BUGS:
        with planted.planted(name):
            pass


def test_a_failing_run_is_made_smaller() -> None:
    """Of many events and faults those few remain that the failure needs."""
    plan = draw(1)
    rng = random.Random(5)
    later = [send for send in plan.workload.sends if send.at > EARLY]
    needed = [later[at] for at in sorted(rng.sample(range(len(later)), 3))]
    fault: Fault = plan.faults[2]

    def fails(tried: Plan) -> bool:
        return fault in tried.faults and all(send in tried.workload.sends for send in needed)

    small = smaller(plan, fails)
    assert list(small.faults) == [fault]
    assert [send for send in small.workload.sends if send.at > EARLY] == needed
