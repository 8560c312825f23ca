"""What happens to a simulated run from outside: processes stopped, thrown out, told to leave; servers away."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.sim.faults import CLOSING_STEPS, REJOINED_STEPS, REOPENING_STEPS, RETRYING_STEPS, WIPING_STEPS, Fault
from tests.sim.kafka_producer import Fault as RequestFault
from tests.sim.late import KINDS, Kind
from tests.sim.sink import SimSink
from tests.sim.worker import SimWorker
from tests.sim.world import Process

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

DELETE_RETENTION_SECONDS: Final = 24 * 3600.0
"""How long a compacted topic keeps its tombstones."""
_LOST: Final[tuple[RequestFault, ...]] = (
    *("commit lost", "commit lost", "records lost", "records lost"),
    *("partitions lost", "init lost"),
)
_LATE: Final[dict[Kind, RequestFault]] = {
    "init": "init late",
    "partitions": "partitions late",
    "records": "records late",
    "commit": "commit late",
}
_MOVED: Final[tuple[tuple[RequestFault, ...], ...]] = (
    ("not the leader",),
    ("not the coordinator",),
    ("not the leader", "not the coordinator"),
)


class Mishaps:
    """The faults of one run; each kind is a method that says whether there was anything to happen to."""

    def __init__(self, simulation: "Simulation") -> None:
        self._sim = simulation

    def begin(self, fault: Fault) -> None:
        if not self._sim.faulty:
            return
        self._sim.world.note(f"FAULT {fault}")
        if fault.step:
            self._sim.armed.append([fault, fault.nth])
            return
        begin: Callable[[Fault], bool] = getattr(self, "_" + fault.kind.replace(" ", "_"))
        if begin(fault):
            self._sim.done[fault.kind] += 1

    def _living(self, fault: Fault) -> SimWorker | SimSink | None:
        one = self._sim.current.get(fault.who)
        return None if one is None or one.process.dead or one.process.stopped else one

    def _stop(self, fault: Fault) -> bool:
        """SIGSTOP, and SIGCONT later: a zombie that wakes up, if that is longer than its session."""
        one = self._living(fault)
        if one is None:
            return False
        self.stop(one.process, fault.seconds)
        if isinstance(one, SimSink):
            self._sim.world.after(fault.seconds, self._arm_rejoining)
        return True

    def stop(self, process: Process, seconds: float) -> None:
        """The same, wherever the process is."""
        process.stopped = True
        self._sim.world.after(seconds, lambda: setattr(process, "stopped", False))

    def _zombie(self, fault: Fault) -> bool:
        """The coordinator takes a living member for dead."""
        one = self._living(fault)
        if one is None:
            return False
        if isinstance(one, SimWorker):
            self._sim.group.kick(one.process.name)
        else:
            group = self._sim.broker.group(self._sim.sink_group)
            if group.members:
                group.kick(self._sim.rng.choice(group.members))
                self._arm_rejoining()
        return True

    def _leave(self, fault: Fault) -> bool:
        """SIGTERM, and a start later: a rolling restart."""
        one = self._living(fault)
        if one is None or one.stop.is_set():
            return False
        one.stop.set()
        worker = isinstance(one, SimWorker)
        self._arm_one_of("worker" if worker else "sink", CLOSING_STEPS if worker else CLOSING_STEPS[:1])
        self._sim.world.after(0.5, lambda: self._after_leaving(fault))
        return True

    def _after_leaving(self, fault: Fault) -> None:
        one = self._sim.current[fault.who]
        if one.process.dead or (isinstance(one, SimWorker) and one.ended):
            self._sim.world.kill(one.process)
            self._sim.world.after(fault.seconds if self._sim.faulty else 0.0, lambda: self._sim.restart(fault.who))
        else:
            self._sim.world.after(0.5, lambda: self._after_leaving(fault))

    def _join(self, _fault: Fault) -> bool:
        """One more worker, for good."""
        name = f"worker-{self._sim.plan.workers + self._sim.done['join']}"
        self._sim.start(name)
        return True

    def _broker_away(self, fault: Fault) -> bool:
        self._arm_one_of(self._sim.rng.choice(["sink", "worker"]), ("topics asked",))
        return self._away(self._sim.broker, fault)

    def _clickhouse_away(self, fault: Fault) -> bool:
        return self._away(self._sim.clickhouse, fault)

    def _away(self, server: Any, fault: Fault) -> bool:
        if not server.available:
            return False
        server.available = False
        self._sim.world.after(fault.seconds, lambda: setattr(server, "available", True))
        return True

    def _insert_fails(self, _fault: Fault) -> bool:
        self._sim.clickhouse.fail_next()
        return True

    def _compact(self, _fault: Fault) -> bool:
        """The log cleaner runs; and somebody copies the stores, to put them back later.

        Not over ``venues``: what it takes from an input before it was read is no loss of the pipeline's.
        """
        old = self._sim.world.now - DELETE_RETENTION_SECONDS
        for name in ("state-person", "state-venue", "aggregates"):
            for partition in range(self._sim.settings.partitions):
                self._sim.broker.compact(self._sim.settings.topic(name), partition, tombstones_before=old)
        for name in self._sim.current:
            if name.startswith("worker"):
                self._sim.snapshots[f"/sim/{name}"] = self._sim.disks.snapshot(f"/sim/{name}")
        return True

    def _a_day_passes(self, fault: Fault) -> bool:
        """Longer than tombstones are kept; who was away so long has an old store, and must not trust it."""
        workers = [name for name in self._sim.current if name.startswith("worker")]
        if not workers:
            return False
        name = self._sim.rng.choice(workers)
        self._sim.disks.flush(f"/sim/{name}")
        self._sim.kill(name, Fault(0.0, "crash", name, seconds=0.1))
        self._sim.world.leap(1.3 * DELETE_RETENTION_SECONDS)
        self._arm_one_of("worker", WIPING_STEPS)
        return self._compact(fault)

    def _arm_rejoining(self) -> None:
        """The first commits after a sink has lost its partitions are those that may skip what it dropped."""
        self._arm_one_of("sink", REJOINED_STEPS, self._sim.rng.choice([1, 1, 2, 3]))

    def _arm_one_of(self, kind: str, steps: tuple[str, ...], nth: int = 1) -> None:
        """Most times, a crash at one of these steps: they come only in the wake of something else."""
        rng = self._sim.rng
        if rng.random() < 0.8:
            crash = Fault(0.0, "crash", kind, rng.choice(steps), seconds=rng.choice([0.1, 1.0]))
            self._sim.armed.append([crash, nth])

    def _answer_lost(self, _fault: Fault) -> bool:
        """Of a request to a coordinator or to leaders, which was done or not; sometimes of several in turn."""
        rng = self._sim.rng
        lost = rng.choice(_LOST)
        for _ in range(rng.choice([1, 1, 2])):
            self._sim.broker.fail_next(lost)
        self._arm_one_of("worker", RETRYING_STEPS)
        return True

    def _requests_come_late(self, _fault: Fault) -> bool:
        """One or two of each kind: carried out after their senders gave up, and after what was asked for next."""
        for kind in KINDS:
            for _ in range(self._sim.rng.choice([1, 1, 2])):
                self._sim.broker.fail_next(_LATE[kind])
        self._arm_one_of("worker", RETRYING_STEPS, self._sim.rng.choice([1, 3, 10]))
        return True

    def _transaction_times_out(self, _fault: Fault) -> bool:
        """The coordinator finds one that was open for too long, and fences whoever began it, a living owner or not."""
        self._sim.broker.fail_next("transaction takes too long")
        self._arm_one_of("worker", REOPENING_STEPS)
        return True

    def _leader_moves(self, _fault: Fault) -> bool:
        """And with it, or instead, the coordinator."""
        moved = self._sim.rng.choice(_MOVED)
        for fault in moved:
            self._sim.broker.fail_next(fault)
        return True
