"""An upgrade in the simulator: all workers go, and come back as this build, under whatever else a seed brings."""

import gc
from dataclasses import replace

import pytest

from streams.core import migrate
from streams.core.partition import partition_of
from streams.core.returned import RETURNS
from tests.core import version_2
from tests.sim import simulation
from tests.sim.faults import Fault
from tests.sim.worker import SimWorker
from tests.sim.workload import Workload

SEEDS = range(5_000, 5_025)
STEPS = (
    *("init done", "transaction begun", "records sent", "commit decided", "marker written", "commit heard"),
    *("store opened", "store write", "store written"),
)


def _coming_back(workload: Workload) -> list[int]:
    """Sends that would go by ``returns``, which the older build did not know: its state cannot say whence they came."""
    return [
        number
        for number, send in enumerate(workload.sends)
        if send.topic == RETURNS
        or (send.partition >= 0 and send.key and send.partition != partition_of(send.key, workload.partitions))
    ]


class _Upgrade(simulation.Simulation):
    """Begins with workers of version 2; in the middle of the workload they are killed, and their successors migrate."""

    def __init__(self, seed: int, patch: pytest.MonkeyPatch) -> None:
        plan = simulation.draw(seed)
        super().__init__(replace(plan, workload=plan.workload.without(_coming_back(plan.workload))))
        self._patch = patch
        version_2.become(patch)

    def _schedule(self) -> None:
        super()._schedule()
        self.world.after(self.rng.uniform(0.4, 0.9) * simulation.FAULT_SECONDS, self._upgrade)

    def _upgrade(self) -> None:
        for family, one in self.current.items():
            if isinstance(one, SimWorker) and not one.process.dead:
                self.world.kill(one.process)
                self.world.after(self.rng.uniform(0.1, 2.0), lambda family=family: self.restart(family))  # type: ignore[misc]
            if isinstance(one, SimWorker):
                for _ in range(2):
                    nth = self.rng.choice([1, 3, 8])
                    crash = Fault(0.0, "crash", "worker", self.rng.choice(STEPS), nth=nth, seconds=1.0)
                    self.armed.append([crash, nth])
        self._patch.undo()


def _said(seed: int) -> list[str]:
    """Runs a seed with an upgrade in it; what was said of states."""
    with pytest.MonkeyPatch.context() as patch:
        outcome = _Upgrade(seed, patch).run()
    assert not outcome.failures, (seed, outcome.failures)
    return [text for _, _, text in outcome.trace if "says: state" in text]


@pytest.mark.filterwarnings("ignore:unclosed event loop")  # killed processes close nothing
def test_upgrades_of_all_workers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any step of a migration, resumed by themselves or by others: no difference, and all migrate."""
    monkeypatch.setattr(migrate, "PAGE_KEYS", 2)
    monkeypatch.setattr(migrate, "PORTION_KEYS", 2)
    said = [text for seed in SEEDS for text in _said(seed)]
    gc.collect()
    begun = [text for text in said if "older version" in text]
    assert sum("state is migrated" in text for text in said) > len(SEEDS), "states of many partitions"
    assert sum("migrating" in text for text in begun) > len(SEEDS) // 5, "migrations that were interrupted"
