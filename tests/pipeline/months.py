"""Scans of as many days as one likes, seeded by day: few venues, people some of whom come every day."""

import json
from collections.abc import Iterator

import numpy as np

from producers.lines import Line
from streams.core.times import DAY_MS, format_ms

FIRST_MS = 1_630_429_200_000  # 2021-09-01T00:00:00+07:00
PERSONS = 300_000
VENUE_COUNT = 20_000
CATEGORIES = ("market", "cafe", "office", "restaurant", "pharmacy", "mall")


def venues() -> Iterator[Line]:
    """The register."""
    for number in range(VENUE_COUNT):
        venue_id = f"V{number:05d}"
        event: dict[str, object] = {"venue_id": venue_id, "category": CATEGORIES[number % len(CATEGORIES)]}
        event |= {"province_code": "01", "district_code": "007", "ward_code": "00262", "lat": 21.0, "lon": 105.8}
        event |= {"name": "Điểm", "registered_at": "2021-08-01T08:00:00+07:00", "status": "active"}
        yield Line(key=venue_id.encode(), value=json.dumps(event).encode(), timestamp_ms=FIRST_MS)


def scans(day: int, count: int) -> Iterator[Line]:
    """A day's scans in the order of their time, of people some of whom come every day."""
    rng = np.random.default_rng([7, day])
    times = np.sort(rng.integers(6 * 3_600_000, 22 * 3_600_000, count)) + FIRST_MS + day * DAY_MS
    people = (rng.beta(1, 3, count) * PERSONS).astype(int)
    places = (rng.beta(1, 4, count) * VENUE_COUNT).astype(int)
    outs = rng.random(count) < 0.3
    for number, (at_ms, person, place, out) in enumerate(
        zip(times.tolist(), people.tolist(), places.tolist(), outs.tolist(), strict=True)
    ):
        key = b"%032x" % (person * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128))
        value = (
            b'{"scan_id":"d%d-%d","person_id":"%b","venue_id":"V%05d","direction":"%b","occurred_at":"%b","source":"vhd"}'
            % (day, number, key, place, b"out" if out else b"in", format_ms(at_ms).encode())
        )
        yield Line(key=key, value=value, timestamp_ms=at_ms)
