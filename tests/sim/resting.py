"""Whether a simulated run has come to rest, what its stores hold then, and what they say of themselves meanwhile."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sinks.tables import SINK_TOPICS
from streams.core import expiry, proximity
from streams.core.intervals import CLASSES
from streams.core.keys import (
    EXPIRED,
    META,
    PENDING,
    WAITING,
    expired_of,
    split_case_visit,
    split_venue_visit,
    venue_case_count,
)
from streams.core.partition import partition_of
from streams.core.step import Step
from streams.shell.inputs import TOPICS
from streams.shell.runner import Runner
from tests.oracle import wire
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
    for runner, held in _open_stores(sim):
        folded: dict[bytes, bytes | None] = {}
        for record in sim.broker.committed(sim.settings.topic(f"state-{runner.name}"), runner.room.partition):
            folded[record.key or b""] = record.value
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


def _open_stores(sim: "Simulation") -> Iterator[tuple[Runner, Mapping[bytes, bytes]]]:
    for one in sim.current.values():
        for runner in one.runners() if isinstance(one, SimWorker) else ():
            family = one.process.name.partition(".")[0]
            yield runner, sim.disks.contents(f"/sim/{family}/{runner.part}")


def check_counts(sim: "Simulation") -> list[str]:
    """What a state counts of itself is what it holds: scans that wait, a venue's case visits of each class."""
    wrong = []
    for runner, contents in _open_stores(sim):
        waiting = sum(key[:1] == WAITING for key in contents)
        if META in contents and json.loads(contents[META])["waiting"] != waiting:
            wrong.append(f"{runner.part} counts other than the {waiting} scans that wait")
        counts: dict[bytes, list[int]] = defaultdict(lambda: [0] * CLASSES)
        for key in contents:
            if key[:1] == b"x":
                venue, length, _ = split_case_visit(key)
                counts[venue_case_count(venue)][length] += 1
        told = {key: value for key, value in contents.items() if key[:1] == b"y"}
        if told != {key: proximity._COUNTS.pack(*of_class) for key, of_class in counts.items()}:
            wrong.append(f"{runner.part} counts other case visits than it holds")
    return wrong


def check_visits(sim: "Simulation", rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The venue room holds each visit that counts, and none else; of what may have expired this says nothing."""
    wanted: set[tuple[bytes, int, bytes]] = set()
    for row in rows:
        if row["status"] == "active" and row["started_at"] != row["ended_at"]:
            start_ms = wire.instant(row["started_at"])
            wanted.add((row["venue_id"].encode(), start_ms, bytes.fromhex(row["visit_id"])))
    wrong = []
    for runner, contents in _open_stores(sim):
        if runner.name == "venue":
            held = {(key[1 : key.index(b"\0")], *split_venue_visit(key)) for key in contents if key[:1] == b"v"}
            at, partitions = runner.room.partition, sim.settings.partitions
            mine = {one for one in wanted if partition_of(one[0], partitions) == at}
            until_ms = max(runner.expired_ms, expired_of(contents.get(EXPIRED)))
            unlike = sorted(one for one in held ^ mine if not until_ms or one[1] >= until_ms)
            wrong += [f"{runner.part} holds other visits than there are: {unlike[:3]}"] if unlike else []
    return wrong


def check_expired(sim: "Simulation") -> list[str]:
    """Of what was there when a partition last began to let go of things, nothing that had to go is held.

    Looked at key by key, as no sweep does. What comes later from a partition that was behind may stay for a day more.
    """
    held = []
    for runner, contents in _open_stores(sim):
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
