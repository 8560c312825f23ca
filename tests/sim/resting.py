"""Whether a simulated run has come to rest, what its stores hold then, and what they say of themselves meanwhile."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sinks.tables import SINK_TOPICS
from streams.core import expiry
from streams.core.keys import EXPIRED, PENDING, expired_of
from streams.core.step import Step
from streams.shell.inputs import TOPICS
from streams.shell.runner import Runner
from tests.sim.worker import SimWorker

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

_LOCAL = b"~local"
"""Where a store keeps what it says of itself."""


def what_lags(sim: "Simulation") -> list[str]:
    """What is not done yet, in words."""
    lags = [f"{name} is not running" for name, one in sim.current.items() if one.process.dead]
    held: dict[str, list[tuple[SimWorker, Runner]]] = {}
    for one in sim.current.values():
        if isinstance(one, SimWorker) and not one.process.dead:
            for runner in one.runners():
                if not runner.idle_for_good:
                    held.setdefault(runner.part, []).append((one, runner))
    for room, names in TOPICS.items():
        for p in range(sim.settings.partitions):
            part = f"{room}-{p}"
            if len(held.get(part, [])) != 1:
                lags.append(f"{part} is held by {[one.process.name for one, _ in held.get(part, [])]}")
                continue
            one, runner = held[part][0]
            lags += _lag_of_room(sim, one, runner, names, p)
    return lags + _lag_of_sink(sim)


def _lag_of_sink(sim: "Simulation") -> list[str]:
    stored = sim.broker.group(sim.sink_group).committed
    places = [(sim.settings.topic(t), p) for t in SINK_TOPICS for p in range(sim.settings.partitions)]
    behind = [(place, stored.get(place, 0), sim.broker.end(*place)) for place in places]
    return [f"the sink is at {at} of {end} in {topic}-{p}" for (topic, p), at, end in behind if at < end]


def _lag_of_room(sim: "Simulation", one: SimWorker, runner: Runner, names: Sequence[str], partition: int) -> list[str]:
    lags = []
    following = one.rooms.progress()["rooms"][runner.part]["next"]  # type: ignore[union-attr,index]
    for topic in names:
        name = sim.settings.topic(topic)
        end = sim.broker.end(name, partition)
        if following.get(name, 0) < end:
            lags.append(f"{runner.part} ({one.process.name}) is at {following.get(name, 0)} of {end} in {name}")
    if one.rooms._expires and runner.may_expire:  # type: ignore[union-attr]
        lags.append(f"{runner.part} has not let go of all that is too old")
    if runner._store._pending:
        lags.append(f"{runner.part} has steps on their way")
    elif runner._store.scan(PENDING, 1):
        lags.append(f"{runner.part} has work left")
    if runner.name == "person":
        venues = sim.settings.topic("venues")
        lags += [
            f"{runner.part} has not looked at the register's partition {p}"
            for p in range(sim.settings.partitions)
            if runner.register_read.get(p, -1) < sim.broker.end(venues, p)
        ]
    return lags


def check_stores(sim: "Simulation") -> list[str]:
    """Every open store is what its changelog says, no more and no less."""
    differing = []
    for one in sim.current.values():
        for runner in one.runners() if isinstance(one, SimWorker) else ():
            folded: dict[bytes, bytes | None] = {}
            for record in sim.broker.committed(sim.settings.topic(f"state-{runner.name}"), runner.room.partition):
                folded[record.key or b""] = record.value
            family = one.process.name.partition(".")[0]
            held = sim.disks.contents(f"/sim/{family}/{runner.part}")
            keys = [k for k in held.keys() | folded.keys() if held.get(k) != folded.get(k) and k[:1] != b"~"]
            if keys:
                differing.append(f"the store of {runner.part} differs from its changelog in {sorted(keys)[:3]}")
    return differing


def check_claim(sim: "Simulation", path: str, held: Mapping[bytes, bytes]) -> list[str]:
    """As of when it says it holds everything, a store does: else it might miss tombstones that have gone by now."""
    local = json.loads(held[_LOCAL])
    room, partition = path.rpartition("/")[2].rsplit("-", 1)
    log = sim.broker.topics[sim.settings.topic(f"state-{room}")][int(partition)]
    missed = [
        key
        for key, (value, later) in log.newest(local["position"], local["as_of"]).items()
        if held.get(key) != value and held.get(key) not in later
    ]
    said = f"the store {path} says that it holds all of before {local['as_of']:.3f}"
    return [f"{said}, and lacks {sorted(missed)[:3]}"] if missed else []


def check_expired(sim: "Simulation") -> list[str]:
    """Of what was there when a partition last began to let go of things, nothing that had to go is held.

    Looked at key by key, as no sweep does. What comes later from a partition that was behind may stay for a day more.
    """
    held = []
    for one in sim.current.values():
        for runner in one.runners() if isinstance(one, SimWorker) else ():
            family = one.process.name.partition(".")[0]
            contents = sim.disks.contents(f"/sim/{family}/{runner.part}")
            changelog = sim.broker.committed(sim.settings.topic(f"state-{runner.name}"), runner.room.partition)
            offsets = {record.key: record.offset for record in changelog}
            began = offsets.get(EXPIRED, -1)
            keys = sorted(key for key in _too_old(runner, contents) if offsets.get(key, began) < began)
            held += [f"{runner.part} holds what has expired: {keys[:3]} of {len(keys)}"] if keys else []
    return held


def _too_old(runner: Runner, contents: Mapping[bytes, bytes]) -> Iterator[bytes]:
    cut = expiry.Cutoffs(expired_of(contents.get(EXPIRED)), expiry.cutoffs(runner._believed_ms, runner.room).cases_ms)
    for key, value in contents.items():
        sweep = expiry._Sweep(runner.room, Step(0, 0), cut, runner._store)
        for portion in sweep.person_room() if runner.name == "person" else sweep.venue_room():
            if key[:1] == portion.tag and (portion.stop is None or key < portion.stop):
                portion.drop(key, value)
        if sweep.step.changes:
            yield key
