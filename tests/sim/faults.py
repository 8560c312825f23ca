"""Which faults come when: drawn from the seed, one list a run, so that a failing run can be tried with fewer."""

import random
from dataclasses import dataclass, replace

WORKER_STEPS: tuple[str, ...] = (
    *("records asked", "ends asked", "partitions assigned", "consumer closed"),
    *("join", "assigned", "seek", "fetch"),
    *(
        "topics asked",
        "init sent",
        "init done",
        "abort decided",
        "partitions sent",
        "transaction begun",
        "records sent",
        "commit sent",
        "commit decided",
        "marker written",
    ),
    *("commit heard", "answer lost"),
    *("store open", "store opened", "store write", "store written", "store flush", "store flushed", "store close"),
    *("store rename", "store deletion", "store deleted in part"),
)
"""Every step of a worker: after each of them it may be killed."""
WIPING_STEPS = ("store rename", "store deletion", "store deleted in part")
RETRYING_STEPS = ("answer lost",)
REOPENING_STEPS = ("init done", "abort decided", "abort decided")
JOINING_STEPS = ("group asked", "group joined", "partitions given back", "partitions taken over")
REJOINED_STEPS = (*JOINING_STEPS, "insert stored", "offsets on their way", "offsets on their way")
CLOSING_STEPS = ("consumer closed", "consumer closed", "store flush", "store flushed", "store close")
SINK_STEPS: tuple[str, ...] = (
    *("records asked", "group asked", "group joined", "partitions given back", "partitions taken over"),
    *("insert sent", "insert stored in part", "insert stored", "offsets sent", "offsets on their way"),
    *("topics asked", "consumer closed"),
)
COMMIT_STEPS = (
    "partitions sent",
    "transaction begun",
    "records sent",
    "commit sent",
    "commit decided",
    "marker written",
    "commit heard",
    "store write",
)
WORKS = (
    "scans",
    "venues",
    "cases",
    "erasures",
    "venue-marks",
    "visits",
    "case-visits",
    "waiting scans",
    "expiry",
    "portions",
)
"""What a step of a room can be about."""
STORE_FATES = ("warm", "warm", "warm", "lost", "old")


KINDS = (
    *("stop", "stop", "zombie", "zombie", "leave", "leave", "join", "broker away", "clickhouse away", "insert fails"),
    *("compact", "answer lost", "answer lost", "transaction times out", "leader moves"),
    *("requests come late",) * 4,
    *("a day passes", "a day passes"),
)
"""What may happen beside crashes; each a method of the simulation."""


@dataclass(frozen=True)
class Fault:
    """One fault; ``who`` is a process family such as ``worker-0``, where it concerns one."""

    at: float
    """Seconds after the start."""
    kind: str
    who: str = ""
    step: str = ""
    """Of a crash, or of a stop that comes at a step: which; ``who`` is the kind of process, ``worker`` or ``sink``."""
    work: str = ""
    """Of a crash: what must be being committed, if that matters."""
    nth: int = 1
    """Of a crash: at the how many-th pass of that step from ``at`` on."""
    seconds: float = 0.0
    """How long it lasts, or until a killed process is started again."""
    store: str = "warm"
    """Of a crash: what the process finds when it starts again."""


def draw(rng: random.Random, workers: list[str], sinks: list[str], seconds: float) -> list[Fault]:
    """At least four faults over ``seconds``."""
    faults = [_one(rng, workers, sinks, rng.uniform(0.5, seconds)) for _ in range(rng.randint(4, 12))]
    return sorted(faults, key=lambda fault: fault.at)


def _one(rng: random.Random, workers: list[str], sinks: list[str], at: float) -> Fault:
    chance = rng.random()
    if chance < 0.38:
        return _crash(rng, at, "worker", WORKER_STEPS)
    if chance < 0.52:
        return replace(_crash(rng, at, "worker", COMMIT_STEPS), work=rng.choice(WORKS), nth=rng.choice([1, 1, 2]))
    if chance < 0.66:
        return _crash(rng, at, "sink", SINK_STEPS)
    if chance < 0.72:
        steps = rng.choice([COMMIT_STEPS, WORKER_STEPS])
        return replace(_crash(rng, at, "worker", steps), kind="stop", seconds=rng.uniform(2.0, 12.0))
    kind = rng.choice(KINDS)
    who = rng.choice([*workers, *sinks]) if kind in ("stop", "zombie", "leave") else ""
    return Fault(at, kind, who, seconds=rng.choice([0.1, 1.0, 2.0, 4.0, 8.0]) * rng.uniform(0.5, 1.5))


def _crash(rng: random.Random, at: float, who: str, steps: tuple[str, ...]) -> Fault:
    return Fault(
        at,
        "crash",
        who,
        step=rng.choice(steps),
        nth=rng.choice([1, 1, 1, 2, 3, rng.randint(1, 20)]),
        seconds=rng.choice([0.1, 0.5, 2.0, 5.0]),
        store=rng.choice(STORE_FATES),
    )
