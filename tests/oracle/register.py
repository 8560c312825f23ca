"""Venue registers, early and late, good and bad, with codes that several venues claim."""

import random

from tests.oracle.making import MIDNIGHT_MS, Event, Maker
from tests.oracle.render import DAY_MS, time_text
from tests.oracle.wire import CATEGORIES

VENUE_IDS = ("CAFE", "cafe", "V-1", "_", "-", "0", "z" * 64, "01-7Q4ZK2")
CODES = ("OLD", "BOTH", "OLD-2", "Z" * 64)
GHOSTS = ("GHOST", "GONE", "Later_1")
WARDS = (
    ("01", "007", "00262"),
    ("01", "007", "00256"),
    ("01", "001", "00001"),
    ("46", "474", "19753"),
)


class Register(Maker):
    """The register of one input; ``events`` are the good early ones, first versions first."""

    def __init__(self, rng: random.Random, *, order_free: bool) -> None:
        super().__init__(rng, order_free=order_free)
        self.venue_ids = rng.sample(VENUE_IDS, rng.choice([1, 1, 1, 2, 2, 3, 5]))
        self.events = [self._venue(venue_id, self._codes()) for venue_id in self.venue_ids]

    def early(self) -> list[bytes]:
        """The lines of ``venues.jsonl``."""
        lines = []
        for event in self.events:
            lines += [self.line(event) for _ in range(2 if self.chance(0.2) else 1)]
        if not self.order_free:
            changed = [venue_id for venue_id in self.venue_ids if self.chance(0.3)]
            lines += [self.line(self._venue(venue_id, self._codes())) for venue_id in changed]
        if self.chance(0.4):
            lines.insert(self.rng.randint(0, len(lines)), self._bad_venue(self.rng.choice(self.venue_ids)))
        return lines

    def late(self) -> list[bytes]:
        """The lines of ``venues-late.jsonl``: each ghost once at most, by its name or as a code of a new venue."""
        lines = []
        for number, ghost in enumerate(GHOSTS):
            if self.chance(0.4):
                lines.append(self.line(self._venue(ghost, [])))
            elif self.chance(0.4):
                lines.append(self.line(self._venue(f"LATE{number}", [ghost])))
            elif self.chance(0.2):
                lines.append(self._bad_venue(ghost))
        if lines and self.chance(0.3):
            lines.append(self.rng.choice(lines))
        if not self.order_free and self.chance(0.5):
            lines.append(self.line(self._venue(self.rng.choice(self.venue_ids), [])))
        return lines

    def _codes(self) -> list[str]:
        return self.rng.sample([*CODES, *self.venue_ids], self.rng.choice([0, 0, 1, 2, 3]))

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
            if event[name] is None and self.chance(0.3):
                del event[name]
        return event

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
        return self.line(event | change)
