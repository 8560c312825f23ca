"""One simulated run: from a seed the workload, the processes and the faults; then no more faults, and it must drain.

What is checked at the end is the workload's business (``checking.py``), and that nothing failed on the way: no process
ended by itself, every store is what its changelog says, no row was written with two contents.
"""

import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.topics import TOPICS as TOPIC_SPECS
from sinks.tables import TABLES
from streams.shell.inputs import TOPICS
from tests.sim import checking, faults
from tests.sim.clickhouse import FakeClickHouse
from tests.sim.faults import Fault
from tests.sim.groups import by_partition
from tests.sim.install import installed, noted, outside, smaller
from tests.sim.kafka import Broker
from tests.sim.mishaps import Mishaps
from tests.sim.recount import check_persons
from tests.sim.resting import check_claim, check_counts, check_expired, check_stores, check_visits, what_lags
from tests.sim.rocks import Disks, Snapshot
from tests.sim.sink import SimSink
from tests.sim.worker import SimWorker, WorkerOptions
from tests.sim.workload import Workload, make
from tests.sim.world import EPOCH_SECONDS, Process, StuckError, World
from truyvet.config import Settings

PACE = 4.0
"""So many times faster than it says is the workload sent."""
FAULT_SECONDS = 15.0
"""How long faults may begin; the workload is sent in this time."""
DRAIN_SECONDS_MAX = 200.0
"""By when, after the last fault, everything must have come to rest."""
REST_SECONDS = 3.0
"""For so long nothing may change before a run counts as drained: longer than anything waits before it looks again."""
FAULTS_MIN = 3
"""At least so many faults are had by every run."""
ANYWHERE = "wherever it was"
SESSION_SECONDS = 3.0
FAILURES_MAX = 20
"""What is wrong with every write is not said of every one."""


@dataclass(frozen=True)
class Plan:
    """Everything that a run depends on; a plan with fewer events or faults is a smaller run."""

    seed: int
    workload: Workload
    workers: int
    sinks: int
    faults: Sequence[Fault]


@dataclass
class Outcome:
    """What came of a run."""

    plan: Plan
    failures: list[str]
    crashes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    """What was exercised: faults by kind, and what the workload brought about."""
    faults: int = 0
    ticks: int = 0
    seconds: float = 0.0
    """Simulated."""
    trace: list[tuple[float, str, str]] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(f"plan {seed}")
    workers, sinks = rng.choice([1, 2, 2, 3]), rng.choice([1, 2, 2])
    names = [f"worker-{n}" for n in range(workers)], [f"sink-{n}" for n in range(sinks)]
    return Plan(seed, make(seed), workers, sinks, faults.draw(rng, *names, FAULT_SECONDS))


def simulate(plan: Plan) -> Outcome:
    """Runs a plan; the same plan gives the same outcome."""
    return Simulation(plan).run()


class Simulation:
    """One run, and what everything in it shares."""

    def __init__(self, plan: Plan) -> None:
        rng = random.Random(f"run {plan.seed}")
        self.plan = plan
        self.rng = rng
        self.world = world = World(rng, switch_share=rng.choice([0.05, 0.3, 0.8]))
        self.broker = Broker(world)
        self.disks = Disks(world)
        self.clickhouse = FakeClickHouse(world)
        self.settings = self._settings()
        rooms = [[self.settings.topic(topic) for topic in topics] for topics in TOPICS.values()]
        self.group = self.broker.group("workers", SESSION_SECONDS, by_partition(*rooms))
        self.sink_group = f"{self.settings.topic_prefix}sink-{self.clickhouse.backend().identity()}"
        self.options = WorkerOptions(
            fetch_max=rng.choice([1, 5, 30, 500]),
            sloppy_share=rng.choice([0.0, 0.5]),
            loses=self._loses,
            instance_id=None,
        )
        self.lossy_share = rng.choice([0.0, 0.0, 0.05])
        self.static = rng.random() < 0.3
        self.current: dict[str, SimWorker | SimSink] = {}
        self.runs: Counter[str] = Counter()
        self.armed: list[list[Any]] = []
        self.faulty = True
        self.failures: list[str] = []
        self.done: Counter[str] = Counter()
        self.snapshots: dict[str, Snapshot] = {}
        self.store_fate: dict[str, str] = {}
        self.unsent = deque(plan.workload.sends)
        self.quiet_since = (0.0, -1)
        self.mishaps = Mishaps(self)
        world.on_step = self._crashes_here
        world.on_crash = self._crashed
        world.on_exit = self._exited
        self.disks.on_write = self._written

    def _settings(self) -> Settings:
        workload, pick = self.plan.workload, self.rng.choice
        return Settings(
            partitions=workload.partitions,
            retention_days=workload.retention_days,
            restating=not workload.expires,
            batch_records_max=pick([1, 10, 100]),
            session_timeout_ms=int(SESSION_SECONDS * 1000),
            sink_batch_rows_max=pick([3, 40, 1000]),
            sink_batch_ms=pick([10, 500, 2_000]),
            clickhouse="clickhouse://sim",
        )

    # The run.

    def run(self) -> Outcome:
        names = outside(self.world, self.broker, self.disks, self.plan.workload.rulesets) + smaller(
            self.rng, self.plan.workload.chunk_bytes
        )
        tables: dict[str, Any] = {}
        topics: dict[str, Any] = {}
        with installed(names), noted(self.world):
            for spec in TOPIC_SPECS:
                self.broker.create_topic(self.settings.topic(spec.name), self.settings.partitions)
            self._schedule()
            try:
                self.world.run(self._all_sent, FAULT_SECONDS * 3)
                self._heal()
                self.world.run(self._drained, DRAIN_SECONDS_MAX)
            except StuckError as error:
                self.failures += [f"stuck: {error}", *what_lags(self)]
            else:
                self.failures += check_stores(self)
                self.failures += check_counts(self) + check_expired(self)
                tables, topics = self._results()
                self.failures += check_visits(self, tables["visits"])
                self.failures += checking.differences(self.plan.workload, tables, topics)
                self.failures += self.clickhouse.duplicates()
                enriched = self.settings.topic("enriched")
                by_partition = {p: self.broker.committed(enriched, p) for p in range(self.settings.partitions)}
                self.failures += check_persons(by_partition, tables["area_day"])
            self._end()
        coverage = checking.coverage(self.plan.workload, tables, topics) if tables else Counter()
        return Outcome(
            self.plan,
            self.failures,
            crashes=self.world.crashes,
            done=self.done + coverage + self.broker.late.counts,
            faults=sum(self.done.values()),
            ticks=self.world.ticks,
            seconds=self.world.now,
            trace=list(self.world.trace),
            tracebacks=self.world.fault_traces,
        )

    def _schedule(self) -> None:
        world, start = self.world, self.world.now
        for number in range(self.plan.workers):
            world.at(start + self.rng.uniform(0, 2), lambda name=f"worker-{number}": self.start(name))  # type: ignore[misc]
        for number in range(self.plan.sinks):
            world.at(start + self.rng.uniform(0, 2), lambda name=f"sink-{number}": self.start(name))  # type: ignore[misc]
        for send in self.plan.workload.sends:
            world.at(start + send.at / PACE, self._send)
        for fault in self.plan.faults:
            world.at(start + fault.at, lambda fault=fault: self.mishaps.begin(fault))  # type: ignore[misc]
        world.after(0.5, self._keep_time)

    def _send(self) -> None:
        """Sends what is due, in order; while the broker is away it waits, as producers do."""
        if not self.broker.available:
            self.world.after(1.0, self._send)
            return
        due = (self.world.now - self.world.leapt - EPOCH_SECONDS) * PACE
        while self.unsent and self.unsent[0].at <= due + 0.001:
            send = self.unsent.popleft()
            topic = self.settings.topic(send.topic)
            self.broker.append(topic, send.partition, send.key, send.value, send.timestamp_ms, send.headers)

    def _loses(self) -> bool:
        return self.faulty and self.rng.random() < self.lossy_share

    def _all_sent(self) -> bool:
        return not self.unsent and self.world.now - self.world.leapt > faults_end(self.plan)

    def _keep_time(self) -> None:
        """What the broker and the coordinators do as time passes."""
        for one in self.current.values():
            process = one.process
            if isinstance(one, SimWorker) and not process.dead and not process.stopped and self.broker.available:
                self.group.heartbeat(process.name)
        self.broker.check_groups()
        self.broker.end_of_time()
        self.world.after(0.5, self._keep_time)

    # Processes.

    def start(self, name: str) -> None:
        self.runs[name] += 1
        run = f"{name}.{self.runs[name]}"
        if name.startswith("sink"):
            backend = self.clickhouse.backend()
            ended = lambda: self.world.after(1.0, lambda: self.restart(name))  # noqa: E731 - used once
            self.current[name] = SimSink(self.world, self.settings, run, backend, ended)
            return
        fate = self.store_fate.pop(name, "warm")
        folder = f"/sim/{name}"
        if fate == "lost":
            self.disks.lose(folder)
        elif fate == "old" and folder in self.snapshots:
            self.disks.put_back(folder, self.snapshots.pop(folder))
        if fate != "warm":
            self.done[f"store {fate}"] += 1
        options = replace(self.options, instance_id=name if self.static else None)
        where: Path = self.disks.folder(folder)
        self.current[name] = SimWorker(self.world, self.broker, self.group, self.settings, run, options, where)

    def _crashes_here(self, process: Process, label: str) -> bool:
        if not self.armed or not self.faulty:
            return False
        for armed in self.armed:
            fault: Fault = armed[0]
            if fault.step == label and fault.who == process.kind and fault.work in ("", self.world.work()):
                armed[1] -= 1
                if armed[1] <= 0:
                    self.armed.remove(armed)
                    if fault.kind == "stop":
                        self.done["stop at a step"] += 1
                        self.mishaps.stop(process, fault.seconds)
                        return False
                    self._killed(process.name.partition(".")[0], fault)
                    return True
        return False

    def kill(self, family: str, fault: Fault) -> None:
        """SIGKILL wherever the process happens to be."""
        process = self.current[family].process if family in self.current else None
        if process is not None and not process.dead:
            self.world.crashes[process.kind, ANYWHERE, ""] += 1
            self._killed(family, fault)
            self.world.kill(process)
        elif process is not None:
            self.restart(family)

    def _killed(self, family: str, fault: Fault) -> None:
        self.done["crash"] += 1
        self.store_fate[family] = fault.store
        self.world.after(fault.seconds, lambda: self.restart(family))

    def _crashed(self, process: Process) -> None:
        self.disks.crashed(process)

    def restart(self, family: str) -> None:
        if self.current[family].process.dead:
            self.start(family)

    def _written(self, path: str, held: Mapping[bytes, bytes]) -> None:
        if len(self.failures) < FAILURES_MAX:
            self.failures += check_claim(self, path, held)

    def _exited(self, process: Process, why: str) -> None:
        said = next(
            (text for _, name, text in reversed(self.world.trace) if text.startswith("says") and process.name in name),
            "",
        )
        self.failures.append(f"{process.name} ended by itself: {why}; it {said}")

    def _heal(self) -> None:
        """From here on nothing fails any more."""
        self.world.note("NO MORE FAULTS")
        # Who never came to the step at which it should have died dies here, and at least three things happen.
        for fault, _ in self.armed:
            self.kill(self.rng.choice([name for name in sorted(self.current) if name.startswith(fault.who)]), fault)
        self.armed.clear()
        while sum(self.done.values()) < FAULTS_MIN:
            family = self.rng.choice(sorted(self.current))
            self.kill(family, Fault(0.0, "crash", family, seconds=self.rng.choice([0.1, 2.0])))
        self.faulty = False
        # What was lost behind the last record of a partition shows with the next rebalance at the latest.
        if self.lossy_share and self.group.members:
            self.group.kick(self.rng.choice(self.group.members))
        self.broker.available = self.clickhouse.available = True
        for name, one in list(self.current.items()):
            one.process.stopped = False
            if one.process.dead:
                self.restart(name)

    # The end.

    def _drained(self) -> bool:
        size = sum(
            self.broker.end(self.settings.topic(spec.name), p)
            for spec in TOPIC_SPECS
            for p in range(self.settings.partitions)
        )
        if size != self.quiet_since[1] or self.broker.late.under_way or what_lags(self):
            self.quiet_since = self.world.now, size
            return False
        return self.world.now - self.quiet_since[0] >= REST_SECONDS

    def _results(self) -> tuple[dict[str, Any], dict[str, Any]]:
        tables = {table: self.clickhouse.rows(table) for table in TABLES}
        topics = {
            spec.name: [
                r
                for p in range(self.settings.partitions)
                for r in self.broker.committed(self.settings.topic(spec.name), p)
            ]
            for spec in TOPIC_SPECS
        }
        return tables, topics

    def _end(self) -> None:
        """Ends every process, so that nothing of this run is left to the next."""
        self.world.on_crash = lambda _process: None
        for one in list(self.current.values()):
            self.world.kill(one.process)


def faults_end(plan: Plan) -> float:
    """When the last fault of a plan has begun, as the world's time without leaps."""
    return EPOCH_SECONDS + max((fault.at for fault in plan.faults), default=0.0)
