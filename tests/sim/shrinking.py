"""Makes a failing run smaller: fewer faults and events, as long as it still fails."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.sim.simulation import Plan

Fails = Callable[[Plan], bool]


def smaller(plan: Plan, fails: Fails, *, seconds_max: float = 60.0) -> Plan:
    """The smallest failing plan that was found in that time; ``plan`` itself fails."""
    deadline = time.monotonic() + seconds_max

    def try_faults(kept: Sequence[int]) -> bool:
        return fails(replace(plan, faults=[plan.faults[i] for i in kept]))

    kept = _minimal(len(plan.faults), try_faults, deadline)
    plan = replace(plan, faults=[plan.faults[i] for i in kept])

    def without(kept: Sequence[int]) -> Plan:
        gone = set(range(len(plan.workload.sends))) - set(kept)
        return replace(plan, workload=plan.workload.without(sorted(gone)))

    kept = _minimal(len(plan.workload.sends), lambda kept: fails(without(kept)), deadline)
    return without(kept)


def _minimal(count: int, fails: Callable[[Sequence[int]], bool], deadline: float) -> list[int]:
    """Delta debugging: leaves out ever smaller parts of 0..count-1 as long as what is left fails."""
    kept = list(range(count))
    size = max(1, count // 2)
    while kept:
        left_out = False
        start = 0
        while start < len(kept) and time.monotonic() < deadline:
            tried = kept[:start] + kept[start + size :]
            if fails(tried):
                kept, left_out = tried, True
            else:
                start += size
        if time.monotonic() >= deadline or (size == 1 and not left_out):
            break
        if not left_out:
            size = max(1, size // 2)
    return kept
