"""The scans of a workload: fresh, late, copied, contradicted, malformed, misaddressed, sent again."""

import json
import random
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from streams.core.partition import partition_of
from streams.core.rejected import Origin
from streams.core.returned import RETURNS, Provenance, headers_of
from tests.oracle import hostile, wire
from tests.oracle.register import CODES, GHOSTS
from tests.oracle.render import MINUTE_MS, render, time_text
from tests.oracle.wire import FUTURE_MS, SOURCES, VALUE_BYTES_MAX
from tests.sim.workload_time import When

Event = dict[str, Any]
NOWHERE = "NOWHERE"
"""No venue is ever registered under this name."""


class Send(NamedTuple):
    """One record as a producer sends it; ``topic`` without prefix, ``at`` in seconds after the start of the run."""

    at: float
    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    partition: int = -1
    """-1: by its key."""
    headers: Sequence[tuple[str, bytes]] = ()


_encode = json.JSONEncoder().encode


def spelled(rng: random.Random, event: Event) -> bytes:
    """The event as JSON, now and then in one of its odder spellings."""
    return render(rng, event) if rng.random() < 0.15 else _encode(event).encode()


def told(rng: random.Random, instant_ms: int) -> str:
    """The instant as RFC 3339, now and then in one of its odder spellings."""
    if rng.random() < 0.15:
        return time_text(rng, instant_ms)
    minute, ms = divmod(instant_ms, MINUTE_MS)
    return f"{_minute_text(minute)}:{ms // 1000:02d}.{ms % 1000:03d}Z"


@cache
def _minute_text(minute: int) -> str:
    return wire.instant_text(minute * MINUTE_MS)[:16]


def misrouted(rng: random.Random, send: Send, partitions: int) -> Send:
    """The same record on a partition that is not its key's; of an input, no header says how often it went on."""
    home = partition_of(send.key or b"", partitions)
    headers = [*send.headers]
    hops = rng.choice([None, None, b"1", b"2", b"7", b"x"])
    if hops is not None:
        headers.append(("hops", hops))
    return Send(
        *(send.at, send.topic, send.key, send.value, send.timestamp_ms),
        (home + rng.randrange(1, partitions)) % partitions,
        headers,
    )


class Scans:
    """Makes one scan record after the other, in the order in which they are sent."""

    def __init__(
        self,
        rng: random.Random,
        when: When,
        persons: Sequence[str],
        late_persons: Sequence[str],
        venue_ids: Sequence[str],
        partitions: int,
        shares: tuple[float, float],
    ) -> None:
        """``late_persons`` do nothing of which anything expires; ``shares`` are those of copies and of bad records."""
        self.rng = rng
        self.when = when
        self.persons = [*persons]
        if rng.random() < 0.3:
            self.persons += [persons[0]] * 2 * len(persons)
        self.late_persons = [*late_persons]
        self.venue_ids = [*venue_ids]
        self.names = [*self.venue_ids * (30 // len(venue_ids)), *CODES, *GHOSTS, NOWHERE]
        self.partitions = partitions
        self.copies, self.bad = shares
        self.events: list[Event] = []
        self.told_twice: set[tuple[str, int]] = set()
        """(person_id, instant) of scans that a conflicting duplicate puts a millisecond later."""
        self._conflicting: set[str] = set()
        self._wandering: set[str] = set()
        """scan_ids of which records may arrive in any order."""
        self._single: set[str] = set()
        """scan_ids of which no second record may come."""

    def past(self, person_id: str) -> list[int]:
        """When this person scanned, epoch ms."""
        return [event["occurred_ms"] for event in self.events if event["person_id"] == person_id]

    def send(self, at: float) -> Send:
        """The next record."""
        kind = self.rng.random()
        if kind < self.bad:
            return self._bad(at)
        kind = self.rng.random()
        if self.events and kind < self.copies:
            return self._copy(at)
        if self.events and kind < self.copies + 0.05:
            return self._conflict(at)
        return self._fresh(at)

    def fresh_event(self, at: float) -> Event:
        """A scan that nobody has sent before."""
        rng, number = self.rng, len(self.events)
        event: Event = {
            "scan_id": rng.choice([f"s{number}", f"{number:026d}", f"{number}-_"]),
            "person_id": "",
            "venue_id": rng.choice(self.names),
            "direction": rng.choice(["in", "in", "in", "out", "pass"]),
            "occurred_ms": self.when.scan(at),
            "source": rng.choice(SOURCES),
        }
        if self.events and rng.random() < 0.6:
            # What a rescan, a check-out or somebody else's scan there shares with an event, and when it happens.
            other = rng.choice(self.events[-5:])
            event["occurred_ms"] = self.when.beside(at, other["occurred_ms"])
            event["venue_id"] = other["venue_id"]
            if rng.random() < 0.6:
                event["person_id"] = other["person_id"]
        self._settle(at, event)
        return event

    def _settle(self, at: float, event: Event) -> None:
        """Gives an event a person, and a venue that never has to be waited for where a waiting scan may expire."""
        spared = self._is_spared(at, event["occurred_ms"])
        if not event["person_id"] or (event["person_id"] in self.late_persons and not spared):
            event["person_id"] = self.rng.choice([*self.persons, *self.late_persons] if spared else self.persons)
        if event["venue_id"] in GHOSTS and not spared:
            event["venue_id"] = self.rng.choice(self.venue_ids)

    def _is_spared(self, at: float, instant_ms: int) -> bool:
        return self.when.spared(instant_ms, self.when.stamp(at, "scans", instant_ms))

    def _fresh(self, at: float) -> Send:
        event = self.fresh_event(at)
        self.events.append(event)
        send = self._record(at, event)
        if not self.when.spared(event["occurred_ms"], send.timestamp_ms):
            return send
        kind = self.rng.random()
        if kind < 0.06 and self.partitions > 1:
            self._wandering.add(event["scan_id"])
            if event["venue_id"] not in self.venue_ids:
                self._single.add(event["scan_id"])
            return misrouted(self.rng, send, self.partitions)
        if kind < 0.08:
            self._single.add(event["scan_id"])
            return self._sent_again(send)
        if kind < 0.10:
            earlier_ms = send.timestamp_ms - self.rng.choice([0, 1, 1000, FUTURE_MS, -1])
            return self._headed(send, ("first-ts", self.rng.choice([b"", b"-1", b"soon", b"%d" % earlier_ms])))
        return send

    def _record(self, at: float, event: Event) -> Send:
        fields = {name: value for name, value in event.items() if name != "occurred_ms"}
        fields["occurred_at"] = told(self.rng, event["occurred_ms"])
        stamp_ms = self.when.stamp(at, "scans", event["occurred_ms"])
        return Send(at, "scans", event["person_id"].encode(), spelled(self.rng, fields), stamp_ms)

    def _headed(self, send: Send, *headers: tuple[str, bytes]) -> Send:
        return Send(send.at, send.topic, send.key, send.value, send.timestamp_ms, send.partition, headers)

    def gathering(
        self, at: float, first_ms: int, stamp_ms: int, headers: Sequence[tuple[str, bytes]] = ()
    ) -> list[Send]:
        """Scans of several persons, all at one venue and at about the same time."""
        sends = []
        for who in [*dict.fromkeys(self.persons)]:
            event = self.fresh_event(at) | {"person_id": who, "venue_id": self.venue_ids[0]}
            event["occurred_ms"] = first_ms + self.rng.choice([0, 0, 1, MINUTE_MS, 20 * MINUTE_MS])
            event["direction"] = self.rng.choice(["in", "in", "out"])
            self.events.append(event)
            self._single.add(event["scan_id"])
            sends.append(self._headed(self._record(at, event)._replace(timestamp_ms=stamp_ms), *headers))
        return sends

    def _sent_again(self, send: Send) -> Send:
        """As ``rejects --redrive`` sends it: by ``returns``, whose headers name the row that it settles."""
        rng = self.rng
        if rng.random() < 0.2:
            # Whoever may write an input may write headers, too: there they are nothing.
            return self._headed(send, ("origin", rng.choice([b"[]", b"{", b'"\xed\xa0\x80"'])), ("attempt", b"1"))
        first_ms = max(0, send.timestamp_ms - rng.choice([0, 0, 1, 1000, -1000]))
        origin = Origin("scans", rng.choice([0, 0, 1]), rng.randrange(self.partitions), 10**9 + len(self.events))
        came = Provenance(origin, first_ms, attempt=rng.choice([1, 1, 2]), reason="in_future")
        partition, hops = -1, 0
        if rng.random() < 0.2 and self.partitions > 1:
            hops = rng.choice([0, 1, 2])
            partition = (partition_of(send.key or b"", self.partitions) + 1) % self.partitions
        headers = headers_of(came._replace(hops=hops))
        return Send(send.at, RETURNS, send.key, send.value, send.timestamp_ms, partition, headers)

    def _copy(self, at: float) -> Send:
        event = self.rng.choice(self.events[-60:])
        if event["scan_id"] in self._single:
            return self._fresh(at)
        send = self._record(at, event)  # perhaps out of bounds this time
        may_wander = event["venue_id"] in self.venue_ids and event["scan_id"] not in self._conflicting
        spared = self.when.spared(event["occurred_ms"], send.timestamp_ms)
        if may_wander and spared and self.partitions > 1 and self.rng.random() < 0.1:
            self._wandering.add(event["scan_id"])
            return misrouted(self.rng, send, self.partitions)
        return send

    def _conflict(self, at: float) -> Send:
        event = self.rng.choice(self.events[-60:])
        if event["scan_id"] in self._single | self._wandering:
            return self._fresh(at)
        self._conflicting.add(event["scan_id"])
        name = self.rng.choice(["venue_id", "direction", "occurred_ms", "source"])
        other = event | {name: self.fresh_event(at)[name]}
        if name == "occurred_ms":
            other[name] = event[name] + 1
            self.told_twice.add((event["person_id"], event[name]))
        self._settle(at, other)
        return self._record(at, other)

    def _bad(self, at: float) -> Send:
        """Bytes that are no scan; or a good one under another key, or none."""
        rng = self.rng
        event = self.fresh_event(at)
        good = self._record(at, event)
        fields = {name: value for name, value in event.items() if name != "occurred_ms"}
        fields["occurred_at"] = told(rng, event["occurred_ms"])
        keys = [good.key, good.key, good.key, None, b"", b"\xff", b"nobody", rng.choice(self.persons).encode()]
        key, value, kind = rng.choice(keys), good.value, rng.random()
        if kind < 0.03:
            value = None
        elif kind < 0.45:
            value = hostile.bad_bytes(rng, fields)
            if len(value) > VALUE_BYTES_MAX and rng.random() < 0.8:
                value = b"{"
        elif kind < 0.8:
            value = json.dumps(fields | rng.choice(hostile.BAD_FIELDS)).encode()
        else:
            others = [who.encode() for who in self.persons if who != fields["person_id"]]
            key = rng.choice([None, b"", b"\xff", b"nobody", *others])
        # A record without a key has no partition of its own.
        partition = rng.randrange(self.partitions) if not key else -1
        return Send(at, "scans", key, value, good.timestamp_ms, partition)
