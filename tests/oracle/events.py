"""Small nasty inputs, seeded: few people, few venues, few instants, and whatever SPEC has a word about.

Left out is what SPEC leaves open, so that every input has one right answer: a late venue never fights with
another late one over a waiting scan, and a venue that waiting scans need is registered late only once; and nobody is
erased up to between two instants that one scan_id is told of.
"""

import random
from dataclasses import fields, replace

from tests.oracle import hostile
from tests.oracle.erasures import Erasures
from tests.oracle.files import Files
from tests.oracle.making import MIDNIGHT_MS, Event, Instants, Maker
from tests.oracle.register import CODES, GHOSTS, Register
from tests.oracle.render import DAY_MS, time_text
from tests.oracle.reports import Reports
from tests.oracle.wire import FUTURE_MS, SOURCES

RETENTION_MS = 28 * DAY_MS
PERSONS = (*(f"{number:032x}" for number in range(0xA1, 0xA5)), "f" * 32, "9f86d081884c7d659a2feaa0c55ad015")


def random_input(seed: int, *, order_free: bool = False) -> Files:
    """One input. With ``order_free`` it has none of SPEC's named exceptions to law 1 (§0).

    Then every line that can carry a time of its own states it as ``_ts``, so that lines may be moved.
    """
    rng = random.Random(seed)  # noqa: S311
    register = Register(rng, order_free=order_free)
    persons = rng.sample(PERSONS, rng.choice([1, 2, 3, 3, 3, 4, 4]))
    instants = Instants(rng, register.events)
    scans = _Scans(rng, persons, register.venue_ids, instants, order_free=order_free)
    reports = Reports(rng, persons, instants, order_free=order_free)
    files = Files(
        venues=tuple(register.early()),
        scans=tuple(scans.lines()),
        cases=tuple(reports.lines()) if rng.random() < 0.95 else (),
        venues_late=tuple(register.late()) if rng.random() < 0.7 else (),
    )
    if rng.random() < 0.5:
        pasts = {who: [*scans.past(who), *reports.past(who)] for who in PERSONS}
        erasures = Erasures(rng, pasts, scans.told_twice, order_free=order_free)
        files = replace(files, erasures=tuple(erasures.lines()))
    return shuffled(files, rng.randrange(2**32)) if order_free else files


def shuffled(files: Files, seed: int) -> Files:
    """The same lines, each file in another order."""
    rng = random.Random(seed)  # noqa: S311
    return Files(**{name: tuple(rng.sample(lines, len(lines))) for name, lines in _named(files)})


def tripled(files: Files) -> Files:
    """Every line three times in a row; a bad one is then three rejects."""
    return Files(**{name: tuple(line for line in lines for _ in range(3)) for name, lines in _named(files)})


def _named(files: Files) -> list[tuple[str, tuple[bytes, ...]]]:
    return [(field.name, getattr(files, field.name)) for field in fields(files)]


class _Scans(Maker):
    """The scans of one input: in any order, many beside an earlier one of the same person or venue."""

    def __init__(
        self, rng: random.Random, persons: list[str], venue_ids: list[str], instants: Instants, *, order_free: bool
    ) -> None:
        super().__init__(rng, order_free=order_free)
        self.persons = persons
        self.names = [*venue_ids * (30 // len(venue_ids)), *CODES, *GHOSTS]
        self.instants = instants
        self.numbers = iter(range(1_000_000))
        self.events: list[Event] = []
        self.told_twice: set[tuple[str, int]] = set()
        """(person_id, instant) of scans that a conflicting duplicate puts a millisecond later."""

    def past(self, person_id: str) -> list[int]:
        """When this person scanned, epoch ms."""
        return [event["occurred_ms"] for event in self.events if event["person_id"] == person_id]

    def lines(self) -> list[bytes]:
        """The lines of ``scans.jsonl``."""
        lines: list[bytes] = []
        for _ in range(self.rng.randint(*self.rng.choice([(0, 10), (20, 60), (40, 60)]))):
            kind = self.rng.random()
            if self.events and kind < 0.12:
                lines.append(self._scan_line(self.rng.choice(self.events)))  # perhaps out of bounds this time
            elif self.events and kind < 0.16 and not self.order_free:
                lines.append(self._conflict(self.rng.choice(self.events)))
            elif kind < 0.24:
                lines.append(self._bad_scan())
            else:
                scan = self._scan()
                if self.events and self.chance(0.6):
                    scan |= self._beside(self.rng.choice(self.events[-5:]))
                self.events.append(scan)
                self.instants.pool_ms.append(scan["occurred_ms"])
                lines.append(self._scan_line(scan))
        return lines

    def _scan(self) -> Event:
        return {
            "scan_id": self.rng.choice(
                [f"s{next(self.numbers)}", f"{next(self.numbers):026d}", f"{next(self.numbers)}-_"]
            ),
            "person_id": self.rng.choice(self.persons),
            "venue_id": self.rng.choice(self.names),
            "direction": self.rng.choice(["in", "in", "in", "out", "pass"]),
            "occurred_ms": self.instants.any(),
            "source": self.rng.choice(SOURCES),
        }

    def _beside(self, event: Event) -> Event:
        """What a rescan, a check-out or somebody else's scan there shares with an event, and when it happens."""
        same = {"venue_id": event["venue_id"], "occurred_ms": self.instants.beside(event["occurred_ms"])}
        return same | ({"person_id": event["person_id"]} if self.chance(0.6) else {})

    def _scan_line(self, event: Event) -> bytes:
        """The scan as a line; mostly in time, else just within or just without the bounds of §2."""
        occurred_ms = event["occurred_ms"]
        record_ms = occurred_ms + self.rng.choice([0, 0, 700, 3_600_000, -FUTURE_MS, RETENTION_MS])
        if self.chance(0.06):
            record_ms = occurred_ms + self.rng.choice([-FUTURE_MS - 1, RETENTION_MS + 1, -DAY_MS, 400 * DAY_MS])
        wire = {name: value for name, value in event.items() if name != "occurred_ms"}
        wire["occurred_at"] = time_text(self.rng, occurred_ms)
        # Now and then the record timestamp is left to its default, which is the same instant.
        return self.line(wire, None if record_ms == occurred_ms and not self.order_free else record_ms)

    def _conflict(self, event: Event) -> bytes:
        name = self.rng.choice(["venue_id", "direction", "occurred_ms", "source"])
        other = self._scan()
        if name == "occurred_ms":
            other[name] = event[name] + 1
            self.told_twice.add((event["person_id"], event[name]))
        return self._scan_line(event | {name: other[name]})

    def _bad_scan(self) -> bytes:
        event = self._scan()
        event["occurred_at"] = time_text(self.rng, event.pop("occurred_ms"))
        if self.chance(0.5):
            return hostile.bad_bytes(self.rng, event)
        return self.line(event | self.rng.choice(hostile.BAD_FIELDS), MIDNIGHT_MS)
