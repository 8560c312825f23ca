"""What a simulated run is sent: at least 300 records of every kind that the contract has a word about, from one seed.

Whatever order Kafka may deliver them in, there is one right answer (``checking.py``): what law 1 excepts is left out
or left open. Conflicting duplicates are sent to one partition, where the log orders them; the register's early part
(``at`` 0) must be in the log before the first worker starts; and nobody is erased up to between two instants that one
scan_id is told of.

With the profile ``days`` time passes, and what is old expires while the run goes on. Records must then be appended in
the order of ``at``. Whatever an answer depends on lies at or after ``floor_ms``, where nothing expires until the end:
so the answer does not depend on when something expires, or on how far one partition is behind another.
"""

import json
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import msgspec

from streams.core.ruleset import Ruleset
from tests.oracle import contacts
from tests.oracle.contacts import Rule
from tests.oracle.making import MIDNIGHT_MS, Instants
from tests.oracle.register import Register
from tests.oracle.wire import DAY_MS
from tests.sim.workload_reports import Forgettings, Reporting
from tests.sim.workload_scans import Scans, Send
from tests.sim.workload_time import HOUR_MS, QUIET_FROM, Jumping, Passing, When, bursts

__all__ = ["Send", "Workload", "make"]

EARLY = 0.0
"""When the register's early part is sent; all else comes within a minute after it."""
_LATEST = 59.0
PERSONS = (*(f"{number:032x}" for number in range(0xA1, 0xA7)), "f" * 32, "9f86d081884c7d659a2feaa0c55ad015")
_CHUNK_BYTES = 8_192


@dataclass(frozen=True, eq=False)
class Workload:
    """What is sent, in this order, and the settings that the answer depends on."""

    seed: int
    profile: str
    """``mixed``, ``days`` (time passes), ``bad`` (half of all is malformed), ``copies`` (30 % are)."""
    partitions: int
    sends: tuple[Send, ...]
    chunk_bytes: int
    """For ``streams.core.held_scans.CHUNK_BYTES_MAX``: beyond it a timeline is kept in chunks."""
    floor_ms: int | None = None
    """Of the profile ``days``: from when on nothing expires before the end of the run; else nothing may expire."""
    retention_days: int = 28
    rules: Mapping[str, Rule] = field(default_factory=lambda: contacts.KINDS)
    """The rulesets as the naive checker takes them."""

    @property
    def expires(self) -> bool:
        """Whether rooms let go of old days; in the other runs stamps jump ahead, as in a replay of history."""
        return self.floor_ms is not None

    @cached_property
    def rulesets(self) -> Mapping[str, Ruleset]:
        """The rulesets as a ``RoomPartition`` takes them."""
        return {name: msgspec.convert(fields, Ruleset) for name, fields in self.rules.items()}

    def without(self, indices: Collection[int]) -> "Workload":
        """The workload without these sends; its answer is the naive checker's, too.

        The register's early part stays: without it scans would wait that the answer must not depend on the order of.
        """
        left_out = set(indices)
        left = (send for at, send in enumerate(self.sends) if at not in left_out or send.at == EARLY)
        return replace(self, sends=tuple(left))


def profile_of(seed: int) -> str:
    """Every fourth seed lets days pass, every eighth sends mostly bad events, every eighth many copies."""
    if seed % 4 == 3:
        return "days"
    return {1: "bad", 5: "copies"}.get(seed % 8, "mixed")


def make(seed: int) -> Workload:
    """The workload of this seed."""
    rng = random.Random(seed)
    profile = profile_of(seed)
    partitions = rng.choice([1, 2, 2, 3, 3])
    register = Register(rng, order_free=False)
    sends = [_venue(EARLY, line) for line in register.early()]
    register.order_free = True  # from here on nothing changes that a scan may have been told already
    instants = Instants(rng, register.events)
    retention_ms = 28 * DAY_MS
    when: When = Jumping(rng, instants, retention_ms, in_order=rng.random() < 0.5)
    if profile == "days":
        when = Passing(rng, instants.steps_ms, retention_ms)
    persons = rng.sample(PERSONS, rng.choice([4, 5, 5, 6]))
    shares = {"bad": (0.12, 0.56), "copies": (0.34, 0.09)}.get(profile, (0.12, 0.09))
    scans = Scans(rng, when, persons[2:], persons[:2], register.venue_ids, partitions, shares)
    latest = QUIET_FROM if profile == "days" else _LATEST
    for at in bursts(rng, rng.randint(280, 350), 50 if profile == "days" else rng.choice([6, 15, 40]), latest):
        sends.append(scans.send(at))
        if scans.events:
            instants.pool_ms.append(scans.events[-1]["occurred_ms"])
    if isinstance(when, Passing):
        sends += _at_the_edge(rng, when, scans, retention_ms, partitions)
    reports = Reporting(rng, when, instants, persons, partitions, shares[1])
    sends += reports.sends([rng.uniform(1, _LATEST) for _ in range(rng.randint(20, 30))])
    if when.floor_ms is not None:
        sends.append(reports.at_the_edge(rng.uniform(QUIET_FROM + 2, _LATEST), when.floor_ms))
    if rng.random() < 0.5:
        pasts = {who: [*scans.past(who), *reports.past(who)] for who in persons[:2]}
        sends += Forgettings(rng, when, pasts, scans.told_twice, partitions).sends()
    sends += [_venue(rng.uniform(1, _LATEST), line) for line in register.late()]
    sends.sort(key=lambda send: send.at)
    chunk_bytes = rng.choice([_CHUNK_BYTES, _CHUNK_BYTES, 1_000, 200])
    return Workload(seed, profile, partitions, tuple(sends), chunk_bytes, when.floor_ms)


def _at_the_edge(rng: random.Random, when: Passing, scans: Scans, retention_ms: int, partitions: int) -> list[Send]:
    """Meetings on the oldest day that must not expire: some as it passes, some told of when all else has expired."""
    at = when.at(when.floor_ms + 3 * HOUR_MS)
    sends = scans.gathering(at, when.now(at, "scans") - HOUR_MS, when.now(at, "scans"))
    # The last records before the last expiry: every partition sees the time that it goes by.
    for topic in ("scans", "cases", "erasures"):
        stamp_ms = when.now(QUIET_FROM, topic)
        sends += [Send(QUIET_FROM, topic, None, b"{", stamp_ms, partition) for partition in range(partitions)]
    at = rng.uniform(QUIET_FROM + 2, QUIET_FROM + 5)
    first_ts = ("first-ts", b"%d" % (when.floor_ms + retention_ms))
    for after_ms in (0, rng.randrange(DAY_MS)):
        sends += scans.gathering(at, when.floor_ms + after_ms, when.now(at, "scans"), [first_ts])
    return sends


def _venue(at: float, line: bytes) -> Send:
    """A version of a venue as its record: the register's stamps mean nothing."""
    venue_id = json.loads(line)["venue_id"]
    return Send(at, "venues", venue_id.encode(), line, MIDNIGHT_MS)
