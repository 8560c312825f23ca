"""Puts the simulated outside in the place of the real one, for as long as a simulation runs.

This is the whole seam: what is not named here runs as it does in production.
"""

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn

import sinks.columns
import sinks.consuming
import sinks.inserting
import sinks.register_topic
import sinks.status
import streams.core.expiry
import streams.core.held_scans
import streams.core.pending
import streams.shell.inputs
import streams.shell.metering
import streams.shell.register
import streams.shell.restore
import streams.shell.rooms
import streams.shell.runner
import streams.shell.seeking
import streams.shell.stepping
import streams.shell.store
import streams.shell.transaction
from streams.core.keys import PENDING
from streams.shell.runner import Runner
from tests.sim.kafka import Broker
from tests.sim.outside import Crashed
from tests.sim.rocks import Disks
from tests.sim.threads import NoExecutor, SimQueue, SimThreading, SimTime
from tests.sim.world import World

Names = list[tuple[Any, str, Any]]


def outside(world: World, broker: Broker, disks: Disks, rulesets: Mapping[str, Any]) -> Names:
    """(module, name, what stands there in the simulation)."""
    time, threading = SimTime(world), SimThreading(world)
    timed = (
        streams.shell.metering,
        streams.shell.register,
        streams.shell.runner,
        streams.shell.stepping,
        streams.shell.restore,
        streams.shell.transaction,
        streams.shell.store,
        sinks.consuming,
        sinks.inserting,
        sinks.register_topic,
        sinks.status,
    )
    return [
        *((module, "time", time) for module in timed),
        *(
            (m, "threading", threading)
            for m in (streams.shell.runner, streams.shell.register, sinks.inserting, sinks.status)
        ),
        (streams.shell.stepping, "queue", SimQueue(world)),
        (streams.shell.inputs, "admin_client", lambda _: None),
        (streams.shell.inputs, "describe", lambda settings, names, _: broker.describe(settings, names)),
        (streams.shell.rooms, "ThreadPoolExecutor", NoExecutor),
        (streams.shell.rooms, "os", SimpleNamespace(_exit=_exit_of(world))),
        (streams.shell.rooms, "load_rulesets", lambda *_, **__: rulesets),
        (streams.shell.metering, "_said", {}),
        (streams.shell.transaction, "Requests", broker.requests),
        (streams.shell.restore, "Consumer", broker.consumer),
        (streams.shell.register, "RawLog", broker.raw_log),
        (sinks.consuming, "Consumer", broker.consumer),
        (sinks.register_topic, "RawLog", broker.raw_log),
        (sinks.register_topic, "topic_ids", broker.topic_ids),
        (Runner, "_commit", _telling(world, Runner._commit)),
        *((streams.shell.store, name, value) for name, value in disks.names().items()),
    ]


def _telling(world: World, commit: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """``Runner._commit``, with what it commits known to the world: crashes are counted by it."""

    def commit_and_tell(runner: Any, work: Any) -> None:
        thread = world.thread()
        assert thread is not None
        other = "waiting scans" if "resolved" in work.step.counts else "expiry"
        if work.topic is None and any(key.startswith(PENDING) for key in work.step.changes):
            other = "portions"
        thread.what = work.topic or other
        commit(runner, work)
        thread.what = ""

    return commit_and_tell


def smaller(rng: random.Random, chunk_bytes: int) -> Names:
    """Bounds so small that a few hundred events reach them; which ones differs from run to run."""
    pick = rng.choice
    return [
        (streams.shell.store, "_CACHE_BYTES", pick([8, 16_000, 160_000, 48 << 20])),
        (streams.shell.runner, "WAITING_PER_STEP_MAX", pick([1, 3, 2_000])),
        (streams.shell.seeking, "_NOTE_SECONDS", pick([1.0, 3600.0])),
        (streams.shell.register, "_CHANGES_MAX", pick([1, 200_000])),
        (streams.shell.transaction, "BATCH_BYTES_MAX", pick([1, 500, 1_000_000, 1_000_000])),
        (streams.core.expiry, "PAGE_KEYS", pick([1, 5, 1_000])),
        (streams.core.expiry, "PORTION_KEYS", pick([2, 20, 20_000])),
        (streams.core.held_scans, "CHUNK_BYTES_MAX", chunk_bytes),
        (streams.core.pending, "PORTION_RECORDS", pick([1, 3, 10, 5_000])),
        (sinks.consuming, "_CONSUME_AT_ONCE", pick([1, 3, 500])),
        (sinks.columns, "_CUT_MIN", pick([1, 64])),
    ]


def _exit_of(world: World) -> Any:
    def exit_now(status: int) -> NoReturn:
        process = world.process()
        assert process is not None
        world.exit(process, f"status {status}")
        raise Crashed

    return exit_now


@contextmanager
def installed(names: Names) -> Iterator[None]:
    """With ``names`` in their places; afterwards everything is as it was."""
    before = [(module, name, getattr(module, name)) for module, name, _ in names]
    try:
        for module, name, value in names:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in reversed(before):
            setattr(module, name, value)


class _Noting(logging.Handler):
    """Puts what processes say into the trace, beside what they do."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "truyvet_fields", {})
        process = self._world.process()
        if process is None or not process.dead:
            self._world.note(f"says: {record.getMessage()} {fields or ''}")


@contextmanager
def noted(world: World) -> Iterator[None]:
    """With the log lines of the simulated processes in the trace of ``world``, and nowhere else."""
    logger = logging.getLogger("truyvet")
    before = logger.level, logger.propagate
    handler = _Noting(world)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
