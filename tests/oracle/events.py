"""Small nasty inputs, seeded: few people, few venues, and whatever SPEC has a word about.

Left out is what SPEC leaves open, so that every input has one right answer: a late venue never fights with
another late one over a waiting scan, and a venue that waiting scans need is registered late only once.
"""

import random
from dataclasses import fields
from typing import Any

from tests.oracle import hostile
from tests.oracle.files import Files
from tests.oracle.render import DAY_MS, MINUTE_MS, render, time_text
from tests.oracle.wire import CATEGORIES, FUTURE_MS, SOURCES

RETENTION_MS = 28 * DAY_MS
CASE_RETENTION_MS = 90 * DAY_MS
MIDNIGHT_MS = 1_634_144_400_000  # 2021-10-14T00:00:00+07:00
PERSONS = (*(f"{number:032x}" for number in range(0xA1, 0xA5)), "f" * 32, "9f86d081884c7d659a2feaa0c55ad015")
VENUE_IDS = ("CAFE", "cafe", "V-1", "_", "-", "0", "z" * 64, "01-7Q4ZK2")
CODES = ("OLD", "BOTH", "OLD-2", "Z" * 64)
GHOSTS = ("GHOST", "GONE", "Later_1")
WARDS = (
    ("01", "007", "00262"),
    ("01", "007", "00256"),
    ("01", "001", "00001"),
    ("46", "474", "19753"),
)
Event = dict[str, Any]


def random_input(seed: int, *, order_free: bool = False) -> Files:
    """One input. With ``order_free`` it has none of SPEC's named exceptions to law 1 (§0).

    Then every line that can carry a time of its own states it as ``_ts``, so that lines may be moved.
    """
    return _Maker(random.Random(seed), order_free=order_free).files()  # noqa: S311


def shuffled(files: Files, seed: int) -> Files:
    """The same lines, each file in another order."""
    rng = random.Random(seed)  # noqa: S311
    return Files(**{name: tuple(rng.sample(lines, len(lines))) for name, lines in _named(files)})


def tripled(files: Files) -> Files:
    """Every line three times in a row; a bad one is then three rejects."""
    return Files(**{name: tuple(line for line in lines for _ in range(3)) for name, lines in _named(files)})


def _named(files: Files) -> list[tuple[str, tuple[bytes, ...]]]:
    return [(field.name, getattr(files, field.name)) for field in fields(files)]


class _Maker:
    def __init__(self, rng: random.Random, *, order_free: bool) -> None:
        self.rng = rng
        self.order_free = order_free
        self.persons = rng.sample(PERSONS, rng.randint(1, 4))
        self.venue_ids = rng.sample(VENUE_IDS, rng.randint(1, 5))
        self.moments = [MIDNIGHT_MS + offset for offset in self._offsets()]
        self.numbers = iter(range(1_000_000))

    def _offsets(self) -> list[int]:
        """Few instants, so that ties are common: around midnight, full minutes and hours, and anywhere."""
        edges = [0, -1, 1, MINUTE_MS, MINUTE_MS - 1, 60 * MINUTE_MS, 60 * MINUTE_MS - 1, -DAY_MS, DAY_MS - 1]
        anywhere = [self.rng.randrange(-DAY_MS, DAY_MS) for _ in range(6)]
        return self.rng.sample(edges, 4) + anywhere

    def files(self) -> Files:
        files = Files(
            venues=tuple(self._venues()),
            scans=tuple(self._scans()),
            cases=tuple(self._cases()) if self.rng.random() < 0.7 else (),
            venues_late=tuple(self._late()) if self.rng.random() < 0.7 else (),
        )
        return shuffled(files, self.rng.randrange(2**32)) if self.order_free else files

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    # -- the register

    def _venue(self, venue_id: str, codes: list[str]) -> Event:
        province, district, ward = self.rng.choice(WARDS)
        category = self.rng.choice(list(CATEGORIES))
        dwell = self.rng.choice([None, None, 1, CATEGORIES[category][1], self.rng.randint(1, CATEGORIES[category][1])])
        # Few registration times: a code's claimants are often told apart by their ids alone.
        registered_ms = MIDNIGHT_MS - self.rng.choice([30, 30, 31, 400]) * DAY_MS
        event: Event = {
            "venue_id": venue_id,
            "name": self.rng.choice(["Chợ Hôm", "Cà phê “Sáng”", 'a "quoted" name', "back\\slash", "漢字 😀", "x"]),
            "category": category,
            "province_code": province,
            "district_code": district,
            "ward_code": ward,
            "lat": self.rng.choice([21, 21.018, 8.5, 21.0182345]),
            "lon": self.rng.choice([105, 105.851, 109.4]),
            "capacity": self.rng.choice([None, 1, 900]),
            "registered_at": time_text(self.rng, registered_ms),
            "status": self.rng.choice(["active", "active", "closed"]),
            "dwell_minutes": dwell,
            "codes": codes,
        }
        for name in ("capacity", "dwell_minutes"):
            if event[name] is None and self._chance(0.3):
                del event[name]
        return event

    def _codes(self) -> list[str]:
        return self.rng.sample([*CODES, *self.venue_ids], self.rng.choice([0, 0, 1, 2, 3]))

    def _venues(self) -> list[bytes]:
        lines = []
        for venue_id in self.venue_ids:
            event = self._venue(venue_id, self._codes())
            lines.append(self._line(event))
            if self._chance(0.2):
                lines.append(self._line(event))
        if not self.order_free:
            changed = [venue_id for venue_id in self.venue_ids if self._chance(0.3)]
            lines += [self._line(self._venue(venue_id, self._codes())) for venue_id in changed]
        if self._chance(0.4):
            lines.insert(self.rng.randint(0, len(lines)), self._bad_venue(self.rng.choice(self.venue_ids)))
        return lines

    def _bad_venue(self, venue_id: str) -> bytes:
        event = self._venue(venue_id, [])
        change: Event = self.rng.choice(
            [
                {"ward_code": "00002"},  # no such ward
                {"province_code": "46" if event["province_code"] == "01" else "01"},
                {"district_code": "002"},
                {"ward_code": int(event["ward_code"])},
                {"category": "bar"},
                {"category": "cafe", "dwell_minutes": 241},
                {"dwell_minutes": 0},
                {"status": "open"},
                {"codes": ["no space"]},
                {"registered_at": "2021-09-23"},
                {"lat": "21.0"},
                {"venue_id": "a b"},
                {"name": None},
            ],
        )
        return self._line(event | change)

    def _late(self) -> list[bytes]:
        """Each ghost is registered once at most, under its own name or as a code of a venue that is new."""
        lines = []
        for number, ghost in enumerate(GHOSTS):
            if self._chance(0.4):
                lines.append(self._line(self._venue(ghost, [])))
            elif self._chance(0.4):
                lines.append(self._line(self._venue(f"LATE{number}", [ghost])))
            elif self._chance(0.2):
                lines.append(self._bad_venue(ghost))
        if lines and self._chance(0.3):
            lines.append(self.rng.choice(lines))
        if not self.order_free and self._chance(0.5):
            lines.append(self._line(self._venue(self.rng.choice(self.venue_ids), [])))
        return lines

    # -- scans

    def _scans(self) -> list[bytes]:
        lines: list[bytes] = []
        events: list[Event] = []
        for _ in range(self.rng.randint(0, 40)):
            kind = self.rng.random()
            if events and kind < 0.25:
                lines.append(self._copy(self.rng.choice(events)))
            elif events and kind < 0.35 and not self.order_free:
                lines.append(self._conflict(self.rng.choice(events)))
            elif kind < 0.5:
                lines.append(self._bad_scan())
            else:
                events.append(self._scan())
                lines.append(self._scan_line(events[-1]))
        return lines

    def _scan(self) -> Event:
        names = [*self.venue_ids, *self.venue_ids, *CODES, *GHOSTS]
        return {
            "scan_id": self.rng.choice(
                [f"s{next(self.numbers)}", f"{next(self.numbers):026d}", f"{next(self.numbers)}-_"]
            ),
            "person_id": self.rng.choice(self.persons),
            "venue_id": self.rng.choice(names),
            "direction": self.rng.choice(["in", "in", "out", "pass"]),
            "occurred_ms": self.rng.choice(self.moments),
            "source": self.rng.choice(SOURCES),
        }

    def _scan_line(self, event: Event) -> bytes:
        """The scan as a line; mostly in time, else just within or just without the bounds of §2."""
        occurred_ms = event["occurred_ms"]
        record_ms = occurred_ms + self.rng.choice([0, 0, 700, 3_600_000, -FUTURE_MS, RETENTION_MS])
        if self._chance(0.1):
            record_ms = occurred_ms + self.rng.choice([-FUTURE_MS - 1, RETENTION_MS + 1, -DAY_MS, 400 * DAY_MS])
        wire = {name: value for name, value in event.items() if name != "occurred_ms"}
        wire["occurred_at"] = time_text(self.rng, occurred_ms)
        # Now and then the record timestamp is left to its default, which is the same instant.
        return self._line(wire, None if record_ms == occurred_ms and not self.order_free else record_ms)

    def _copy(self, event: Event) -> bytes:
        """The same event again, perhaps written in another way, perhaps out of bounds this time."""
        return self._scan_line(event)

    def _conflict(self, event: Event) -> bytes:
        name = self.rng.choice(["venue_id", "direction", "occurred_ms", "source"])
        other = self._scan()
        if name == "occurred_ms":
            other[name] = event[name] + 1
        return self._scan_line(event | {name: other[name]})

    def _bad_scan(self) -> bytes:
        event = self._scan()
        event["occurred_at"] = time_text(self.rng, event.pop("occurred_ms"))
        if self._chance(0.5):
            return hostile.bad_bytes(self.rng, event)
        return self._line(event | self.rng.choice(hostile.BAD_FIELDS), MIDNIGHT_MS)

    # -- cases

    def _cases(self) -> list[bytes]:
        lines = []
        for _ in range(self.rng.randint(1, 10)):
            event, reported_ms = self._case()
            offset = self.rng.choice([0, 0, 1000, -FUTURE_MS, CASE_RETENTION_MS])
            if self._chance(0.1):
                offset = self.rng.choice([-FUTURE_MS - 1, CASE_RETENTION_MS + 1])
            lines += [self._line(event, reported_ms + offset)] * self.rng.choice([1, 1, 2])
        return lines

    def _case(self) -> tuple[Event, int]:
        reported_ms = MIDNIGHT_MS + self.rng.choice([0, 0, 1, DAY_MS])
        sampled = time_text(self.rng, MIDNIGHT_MS - DAY_MS)
        event: Event = {
            "case_id": self.rng.choice(["HN-0001", "HN-0002"]),
            "person_id": self.rng.choice(self.persons),
            "status": self.rng.choice(["confirmed", "confirmed", "withdrawn"]),
            "onset_at": self.rng.choice([None, None, sampled]),
            "sampled_at": self.rng.choice([sampled, sampled, None]),
            "infectious_from": self.rng.choice([None, None, sampled]),
            "infectious_to": self.rng.choice([None, None, sampled]),
            "isolated_at": self.rng.choice([None, sampled]),
            "reported_at": time_text(self.rng, reported_ms),
            "ruleset": self.rng.choice(["vn-2021-07", "vn-2021-12"]),
        }
        if event["status"] == "confirmed" and self._chance(0.15):
            event["ruleset"] = "vn-1900-01"
        if self._chance(0.1):
            event |= self.rng.choice([{"status": "maybe"}, {"case_id": None}, {"reported_at": "today"}])
        if self._chance(0.3):
            event["ghi chú"] = self.rng.choice(["một", "hai", "\u0001", 7, {"b": 1, "a": []}])
        return {name: value for name, value in event.items() if value is not None or self._chance(0.5)}, reported_ms

    # -- lines

    def _line(self, event: Event, record_ms: int | None = None) -> bytes:
        if record_ms is None and self.order_free:
            record_ms = MIDNIGHT_MS
        return render(self.rng, event if record_ms is None else event | {"_ts": record_ms})
