"""``./do sim``: seeds through the simulator, on all cores; a failing one is made smaller and shown with its trace."""

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count, islice

from tests.sim import planted
from tests.sim.faults import SINK_STEPS, WORKER_STEPS, WORKS
from tests.sim.late import KINDS
from tests.sim.shrinking import smaller
from tests.sim.simulation import ANYWHERE, Outcome, Plan, draw, simulate

CHUNK_SEEDS = 10
TRACE_LINES = 60
SEEDS_PER_BUG = 500


@dataclass
class Tally:
    """What so many seeds came to."""

    seeds: int = 0
    events: int = 0
    events_min: int = 1 << 30
    faults_min: int = 1 << 30
    faults: int = 0
    ticks: int = 0
    crashes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, list[str]]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Counts one run in."""
        events = len(outcome.plan.workload.sends)
        self.seeds += 1
        self.events += events
        self.events_min = min(self.events_min, events)
        self.faults_min = min(self.faults_min, outcome.faults)
        self.faults += outcome.faults
        self.ticks += outcome.ticks
        self.crashes += outcome.crashes
        self.done += outcome.done
        if outcome.failures:
            self.failed.append((outcome.plan.seed, outcome.failures[:5]))

    def merge(self, other: "Tally") -> None:
        """Counts what another process ran."""
        self.seeds += other.seeds
        self.events += other.events
        self.events_min = min(self.events_min, other.events_min)
        self.faults_min = min(self.faults_min, other.faults_min)
        self.faults += other.faults
        self.ticks += other.ticks
        self.crashes += other.crashes
        self.done += other.done
        self.failed += other.failed


def run_seeds(seeds: Iterable[int], bug: str | None = None, *, until_found: bool = False) -> Tally:
    """Runs these seeds in this process, with a planted bug if one is named."""
    tally = Tally()
    # Killed processes are full of cycles; looking for them after each run costs less than while it runs.
    gc.freeze()
    gc.disable()
    for seed in seeds:
        with planted.planted(bug):
            tally.add(simulate(draw(seed)))
        gc.collect()
        if tally.failed and until_found:
            break
    return tally


def run_everywhere(seeds: Iterator[int], deadline: float | None) -> Tally:
    """Runs seeds on all cores until there are none left, or the time is up, or ten have failed."""
    tally, cores = Tally(), os.cpu_count() or 1
    began = said = time.monotonic()
    with ProcessPoolExecutor(cores) as pool:
        pending: set[Future[Tally]] = set()
        while True:
            late = deadline is not None and time.monotonic() > deadline
            while len(pending) < 2 * cores and not late and len(tally.failed) < 10:
                chunk = list(islice(seeds, CHUNK_SEEDS))
                if not chunk:
                    break
                pending.add(pool.submit(run_seeds, chunk))
            if not pending:
                return tally
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for one in done:
                of_chunk = one.result()
                for seed, failures in of_chunk.failed:
                    print(f"seed {seed} FAILED: {failures[0][:200]}", flush=True)
                tally.merge(of_chunk)
            if time.monotonic() - said > 10:
                said = time.monotonic()
                print(
                    f"{tally.seeds} seeds, {len(tally.failed)} failed, {tally.seeds / (said - began):.1f} a second",
                    flush=True,
                )


def report(tally: Tally, seconds: float) -> None:
    """Prints what was exercised, and what never was."""
    print(f"{tally.seeds} seeds in {seconds:.0f} s: {tally.events} events, {tally.faults} faults, {tally.ticks} turns")
    print(f"at least {tally.events_min} events and {tally.faults_min} faults a seed")
    by_step: Counter[tuple[str, str]] = Counter()
    for (kind, step, _), number in tally.crashes.items():
        by_step[kind, step] += number
    print("\ncrashes by step")
    for kind, steps in (("worker", WORKER_STEPS), ("sink", SINK_STEPS)):
        for step in (*steps, ANYWHERE):
            number = by_step.pop((kind, step), 0)
            print(f"  {number:7d}  {kind}: {step}{'   NEVER CRASHED HERE' if not number else ''}")
    print("\ncrashes of a worker by what it was committing")
    by_work: Counter[str] = Counter()
    for (kind, _, what), number in tally.crashes.items():
        if kind == "worker" and what:
            by_work[what] += number
    for what in WORKS:
        print(f"  {by_work[what]:7d}  {what}{'   NEVER CRASHED HERE' if not by_work[what] else ''}")
    print("\nrequests carried out after their sender gave up, and how many of them within a later transaction")
    for kind in KINDS:
        late, within = tally.done[f"late {kind}"], tally.done[f"late {kind} within a later transaction"]
        print(f"  {late:7d}  {within:7d}  {kind}{'' if within else '   NEVER CAME LATE'}")
    print("\nexercised")
    for name, number in sorted(tally.done.items()):
        print(f"  {number:9d}  {name}")


def show(plan: Plan) -> None:
    """Makes a failing plan smaller, and shows it with its trace."""
    print(f"\nmaking seed {plan.seed} smaller ...", flush=True)
    plan = smaller(plan, lambda tried: bool(simulate(tried).failures))
    outcome = simulate(plan)
    for at, who, what in outcome.trace[-TRACE_LINES:]:
        print(f"  {at:9.3f}  {who:12} {what}")
    print(f"{len(plan.faults)} faults:")
    for fault in plan.faults:
        print(f"  {fault}")
    print(f"{len(plan.workload.sends)} events:")
    for send in plan.workload.sends[:40]:
        print(f"  {send}")
    for text in outcome.tracebacks:
        print(text)
    print("\n".join(outcome.failures))


def find_planted(names: Iterable[str]) -> int:
    """Looks for each planted bug; 1 if one was not found."""
    missed = 0
    with ProcessPoolExecutor(os.cpu_count() or 1) as pool:
        found = {name: pool.submit(run_seeds, range(SEEDS_PER_BUG), name, until_found=True) for name in names}
        for name, future in found.items():
            tally = future.result()
            if tally.failed:
                seed, failures = tally.failed[0]
                print(f"found after {seed + 1:3d} seeds: {name}: {failures[0][:160]}", flush=True)
            else:
                missed += 1
                print(f"NOT FOUND in {tally.seeds} seeds: {name}", flush=True)
    return int(missed > 0)


def main() -> int:
    """Parses the arguments and runs."""
    parser = argparse.ArgumentParser(prog="./do sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="this seed alone, with its trace if it fails")
    parser.add_argument("--seeds", type=int, help="so many seeds from 0 on, or from --from")
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--seconds", type=float, default=60.0, help="fresh seeds for so long (60)")
    parser.add_argument("--bug", choices=sorted(planted.BUGS), help="with this planted bug")
    parser.add_argument("--planted", action="store_true", help="each planted bug must be found in 500 seeds")
    arguments = parser.parse_args()
    if arguments.planted:
        return find_planted([arguments.bug] if arguments.bug else sorted(planted.BUGS))
    began = time.monotonic()
    if arguments.seed is not None:
        tally = run_seeds([arguments.seed], arguments.bug)
    elif arguments.seeds is not None:
        tally = run_everywhere(iter(range(arguments.first, arguments.first + arguments.seeds)), None)
    else:
        first = arguments.first or int.from_bytes(os.urandom(4))
        print(f"fresh seeds from {first} on")
        tally = run_everywhere(count(first), began + arguments.seconds)
    report(tally, time.monotonic() - began)
    for seed, failures in tally.failed:
        print(f"\nseed {seed}: ./do sim --seed {seed}")
        print("\n".join(failures))
    if tally.failed:
        with planted.planted(arguments.bug):
            show(draw(tally.failed[0][0]))
    return int(bool(tally.failed))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets are walked in an order that depends on it, and a seed must give the same run everywhere.
        again = [sys.executable, "-m", "tests.sim", *sys.argv[1:]]
        os.execve(again[0], again, os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606 - itself
    sys.exit(main())
