"""The canonical workload: one seeded day of scans, and what any correct contender makes of it.

Scans are valid and name registered venues, so nothing is rejected; some are sent twice. People and venues are drawn by
rank (the one of rank r has about r to the minus ``*_exponent`` as many scans), times follow the hours of a day, and
records come nearly in order of what happened: each a few seconds after its scan, one in a hundred up to ten minutes.
A copy is byte for byte the same scan, sent again between a second and six hours later.

The expected result is computed from the lines themselves, naively and with nothing of the pipeline's own code.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

import numpy as np

from producers.lines import Line
from producers.simulate.arrays import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    Floats,
    Generator,
    Ints,
    base32,
    day_start_ms,
    scattered,
    stream,
    texts,
)
from producers.simulate.lines import LOCAL_MILLISECONDS, LOCAL_SECONDS, UTC_MILLISECONDS, time_texts
from producers.simulate.register import CATEGORY_MIX, CATEGORY_NAMES
from schemas.areas import load_areas

DAY: Final = date(2021, 10, 14)
PROVINCE: Final = "01"
LINES_PER_CHUNK: Final = 50_000
DIRECTION_MIX: Final = {"in": 0.70, "out": 0.25, "pass": 0.05}
SOURCE_MIX: Final = {"pc_covid": 0.5, "vneid": 0.2, "bluezone": 0.2, "national_qr": 0.1}
STYLE_BY_SOURCE: Final = np.array([LOCAL_SECONDS, LOCAL_MILLISECONDS, LOCAL_SECONDS, UTC_MILLISECONDS])
"""How the apps write times, in the order of ``SOURCE_MIX``."""
HOUR_WEIGHTS: Final = (1, 1, 1, 1, 2, 6, 12, 18, 16, 12, 10, 12, 11, 9, 9, 10, 13, 17, 15, 11, 8, 5, 3, 2)
DELAY_MEAN_MS: Final = 2.0 * SECOND_MS
LATE_SHARE: Final = 0.01
LATE_MS_MAX: Final = 10 * MINUTE_MS
COPY_MS_MIN: Final = SECOND_MS
COPY_MS_MAX: Final = 6 * HOUR_MS

Identity = tuple[str, str]
"""person_id and scan_id: what makes two scans the same."""
Cell = tuple[str, str]
"""Minute (UTC, as the pipeline writes times) and ward_code."""
Counts = tuple[int, int, int]
"""Scans that went in, out, past."""


@dataclass(frozen=True)
class Shape:
    """How large a workload is and from which seed; the defaults are the canonical one."""

    scans: int = 1_000_000
    """Records, copies included."""
    people: int = 100_000
    venues: int = 20_000
    copy_share: float = 0.03
    people_exponent: float = 0.3
    """The busiest person has about two hundred scans a day."""
    venues_exponent: float = 0.7
    """The busiest venue has one scan in seventy."""
    seed: int = 7


@dataclass(frozen=True)
class Expected:
    """What is right: the accepted scans, their venues' attributes, and how many there were by minute and ward."""

    venue_of: dict[Identity, str]
    venues: dict[str, tuple[str, str, str, str]]
    """venue_id to ward, district, province, category."""
    counts: dict[Cell, Counts]


@dataclass(frozen=True)
class _Columns:
    """The scans, copies apart; row by row in the order in which they happened."""

    person: Ints
    venue: Ints
    direction: Ints
    source: Ints
    occurred_ms: Ints
    record_ms: Ints


def venue_lines(shape: Shape) -> Iterator[Line]:
    """The register, one version of each venue."""
    areas = load_areas()
    rng = stream(shape.seed, "bench venues")
    wards = sorted(code for code, (_, province) in areas.parents.items() if province == PROVINCE)
    weights = rng.lognormal(0, 0.7, len(wards))
    ward = rng.choice(len(wards), shape.venues, p=weights / weights.sum()).tolist()
    shares = np.array([share for share, _ in CATEGORY_MIX.values()])
    category = rng.choice(len(shares), shape.venues, p=shares / shares.sum()).tolist()
    for number, venue_id in enumerate(venue_ids(shape)):
        code = wards[ward[number]]
        district, province = areas.parents[code]
        lat, lon = areas.centres[code]
        event = {
            "venue_id": venue_id,
            "name": f"Địa điểm {number + 1}",
            "category": CATEGORY_NAMES[category[number]],
            "province_code": province,
            "district_code": district,
            "ward_code": code,
            "lat": round(lat, 6),
            "lon": round(lon, 6),
            "capacity": None,
            "registered_at": "2021-09-01T08:00:00+07:00",
            "status": "active",
            "dwell_minutes": None,
            "codes": [],
        }
        value = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        yield Line(venue_id.encode(), value, day_start_ms(DAY) - number % HOUR_MS)


def scan_lines(shape: Shape) -> Iterator[Line]:
    """The scans in the order in which they are sent, each with its record timestamp."""
    columns = _columns(shape)
    row, record_ms = _with_copies(shape, columns)
    people, venues = person_ids(shape), venue_ids(shape)
    for start in range(0, len(row), LINES_PER_CHUNK):
        piece = row[start : start + LINES_PER_CHUNK]
        sent_ms = record_ms[start : start + LINES_PER_CHUNK].tolist()
        yield from _lines(columns, piece, sent_ms, people, venues)


def history_lines(shape: Shape, scans: int, days: int) -> Iterator[Line]:
    """So many scans by the shape's people at its venues in the days before, in order of time, none of them twice."""
    rng = stream(shape.seed, "bench history")
    source = drawn(rng, SOURCE_MIX, scans)
    occurred_ms = np.sort(_times(rng, scans) - DAY_MS * rng.integers(1, days + 1, scans)) // SECOND_MS * SECOND_MS
    columns = _Columns(
        person=by_rank(rng, shape.people, shape.people_exponent, scans),
        venue=by_rank(rng, shape.venues, shape.venues_exponent, scans),
        direction=drawn(rng, DIRECTION_MIX, scans),
        source=source,
        occurred_ms=occurred_ms,
        record_ms=occurred_ms + round(DELAY_MEAN_MS),
    )
    yield from _lines(columns, np.arange(scans), columns.record_ms.tolist(), person_ids(shape), venue_ids(shape))


def expected_of(venues: Iterable[Line], scans: Iterable[Line]) -> Expected:
    """What the lines come to: read one by one, each scan once, by (person_id, scan_id)."""
    register: dict[str, tuple[str, str, str, str]] = {}
    for line in venues:
        event = json.loads(line.value or b"")
        register[event["venue_id"]] = (
            event["ward_code"],
            event["district_code"],
            event["province_code"],
            event["category"],
        )
    venue_of: dict[Identity, str] = {}
    counts: dict[Cell, Counts] = {}
    for line in scans:
        event = json.loads(line.value or b"")
        identity = event["person_id"], event["scan_id"]
        if identity in venue_of:
            continue
        venue_of[identity] = event["venue_id"]
        cell = minute_text(event["occurred_at"]), register[event["venue_id"]][0]
        ins, outs, passes = counts.get(cell, (0, 0, 0))
        way = event["direction"]
        counts[cell] = (ins + (way == "in"), outs + (way == "out"), passes + (way == "pass"))
    return Expected(venue_of, register, counts)


def minute_text(occurred_at: str) -> str:
    """The beginning of the minute in which something happened, in UTC."""
    moment = datetime.fromisoformat(occurred_at).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:00.000Z")


def _columns(shape: Shape) -> _Columns:
    originals = shape.scans - round(shape.scans * shape.copy_share)
    rng = stream(shape.seed, "bench scans")
    source = drawn(rng, SOURCE_MIX, originals)
    occurred_ms = _times(rng, originals)
    whole = STYLE_BY_SOURCE[source] == LOCAL_SECONDS
    occurred_ms = np.where(whole, occurred_ms // SECOND_MS * SECOND_MS, occurred_ms)
    delay_ms = rng.exponential(DELAY_MEAN_MS, originals)
    late = rng.random(originals) < LATE_SHARE
    delay_ms = np.where(late, rng.uniform(0, LATE_MS_MAX, originals), delay_ms)
    return _Columns(
        person=by_rank(rng, shape.people, shape.people_exponent, originals),
        venue=by_rank(rng, shape.venues, shape.venues_exponent, originals),
        direction=drawn(rng, DIRECTION_MIX, originals),
        source=source,
        occurred_ms=occurred_ms,
        record_ms=occurred_ms + delay_ms.astype(np.int64) + 1,
    )


def _with_copies(shape: Shape, columns: _Columns) -> tuple[Ints, Ints]:
    """Row and record timestamp of every record, in the order of sending."""
    rng = stream(shape.seed, "bench copies")
    originals = len(columns.person)
    copied = rng.integers(0, originals, shape.scans - originals) if originals else np.zeros(0, dtype=np.int64)
    low, high = np.log(COPY_MS_MIN), np.log(COPY_MS_MAX)
    later_ms = np.exp(rng.uniform(low, high, len(copied))).astype(np.int64)
    row = np.concatenate([np.arange(originals), copied])
    record_ms = np.concatenate([columns.record_ms, columns.record_ms[copied] + later_ms])
    order = np.argsort(record_ms, kind="stable")
    return row[order], record_ms[order]


def _lines(columns: _Columns, row: Ints, sent_ms: list[int], people: list[str], venues: list[str]) -> Iterator[Line]:
    directions, sources = tuple(DIRECTION_MIX), tuple(SOURCE_MIX)
    parts = zip(
        _scan_ids(columns, row),
        [people[index] for index in columns.person[row].tolist()],
        [venues[index] for index in columns.venue[row].tolist()],
        [directions[index] for index in columns.direction[row].tolist()],
        time_texts(columns.occurred_ms[row], STYLE_BY_SOURCE[columns.source[row]]),
        [sources[index] for index in columns.source[row].tolist()],
        sent_ms,
        strict=True,
    )
    for scan, person, venue, direction, occurred, source, timestamp_ms in parts:
        value = (
            f'{{"scan_id":"{scan}","person_id":"{person}","venue_id":"{venue}","direction":"{direction}",'
            f'"occurred_at":"{occurred}","source":"{source}"}}'
        )
        yield Line(person.encode(), value.encode(), timestamp_ms)


def drawn(rng: Generator, mix: dict[str, float], count: int) -> Ints:
    """``count`` draws of the mix's entries, by their places in it."""
    shares = np.array(list(mix.values()))
    return rng.choice(len(shares), count, p=shares / shares.sum())


def by_rank(rng: Generator, many: int, exponent: float, count: int) -> Ints:
    """``count`` draws of ``many`` things, whose ranks are scattered over their numbers."""
    weights: Floats = np.arange(1, many + 1, dtype=np.float64) ** -exponent
    ranks = np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(count))
    return rng.permutation(many)[np.minimum(ranks, many - 1)]


def _times(rng: Generator, count: int) -> Ints:
    """Times of one local day, sorted, more of them in its busy hours; epoch milliseconds."""
    weights = np.array(HOUR_WEIGHTS, dtype=np.float64)
    hour = rng.choice(len(weights), count, p=weights / weights.sum())
    return np.sort(day_start_ms(DAY) + hour * HOUR_MS + rng.integers(0, HOUR_MS, count))


def _scan_ids(columns: _Columns, row: Ints) -> list[str]:
    """As a ULID looks: ten digits of time, then sixteen that are different for each scan."""
    lower = scattered(row.astype(np.uint64))
    digits = [
        base32(columns.occurred_ms[row].astype(np.uint64), 10),
        base32(scattered(lower) & np.uint64(0xFFFFF), 4),
        base32(lower, 12),
    ]
    return texts(np.concatenate(digits, axis=1))


def person_ids(shape: Shape) -> list[str]:
    """Everybody's person_id; the first ones are the same however many there are."""
    drawn = stream(shape.seed, "bench people").bytes(16 * shape.people).hex()
    return [drawn[start : start + 32] for start in range(0, len(drawn), 32)]


def venue_ids(shape: Shape) -> list[str]:
    """Everywhere's venue_id, such as ``01-7Q4ZK2``: an odd multiplier permutes the numbers below 2^30."""
    numbers = np.arange(shape.venues, dtype=np.uint64) * np.uint64(0x2545F491) & np.uint64(2**30 - 1)
    return [f"{PROVINCE}-{text}" for text in texts(base32(numbers, 6))]
