"""Columns as lines of JSON, by templates: a line takes about a microsecond, ``json.dumps`` would take five."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from producers.simulate.arrays import (
    CROCKFORD,
    DAY_MS,
    LOCAL_OFFSET_MS,
    SECOND_MS,
    Ints,
    base32,
    scattered,
    stream,
    texts,
)
from producers.simulate.day import DIRECTIONS, Scans
from producers.simulate.mixing import Arrivals
from producers.simulate.people import SOURCE_NAMES, People
from producers.simulate.register import CATEGORY_NAMES, Register
from producers.simulate.venue_names import VenueNames
from schemas.areas import Areas

LINES_PER_CHUNK: Final = 50_000
OLD_CODE_SCAN_SHARE: Final = 0.3
"""Of the scans at a venue whose poster was replaced, so many still show an old code."""
# How apps write times: local to the second, local to the millisecond, or UTC.
LOCAL_SECONDS, LOCAL_MILLISECONDS, UTC_MILLISECONDS = range(3)
TIME_STYLES: Final = {"ncovi": LOCAL_MILLISECONDS, "vneid": LOCAL_MILLISECONDS, "national_qr": UTC_MILLISECONDS}
STYLE_BY_SOURCE: Final = np.array([TIME_STYLES.get(name, LOCAL_SECONDS) for name in SOURCE_NAMES])
_SUFFIXES: Final = (
    "+07:00",
    *(f".{number:03d}+07:00" for number in range(1000)),
    *(f".{number:03d}Z" for number in range(1000)),
)
_CLOCK: Final = [
    f"{hour:02d}:{minute:02d}:{second:02d}" for hour in range(24) for minute in range(60) for second in range(60)
]


def cut_to_style(scans: Scans) -> None:
    """Cuts the times of those sources that write no milliseconds, so that a time means what its text says."""
    whole = STYLE_BY_SOURCE[scans.source] == LOCAL_SECONDS
    np.copyto(scans.occurred_ms, scans.occurred_ms // SECOND_MS * SECOND_MS, where=whole)


def time_texts(instants_ms: Ints, style: Ints) -> list[str]:
    """Each instant (epoch milliseconds) in its style."""
    local = instants_ms + np.where(style == UTC_MILLISECONDS, 0, LOCAL_OFFSET_MS)
    days = local // DAY_MS
    first = int(days.min()) if len(days) else 0
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    last = int(days.max()) if len(days) else 0
    dates = [(epoch + timedelta(days=number)).strftime("%Y-%m-%dT") for number in range(first, last + 1)]
    suffix = np.where(style == LOCAL_SECONDS, 0, local % SECOND_MS + 1 + 1000 * (style == UTC_MILLISECONDS))
    parts = zip(
        *((days - first).tolist(), (local % DAY_MS // SECOND_MS).tolist(), suffix.tolist()),
        strict=True,
    )
    return [dates[day] + _CLOCK[second] + _SUFFIXES[ending] for day, second, ending in parts]


class ScanLines:
    """The lines of scans, also of any single one."""

    def __init__(self, scans: Scans, register: Register, people: People, seed: int) -> None:
        self.scans = scans
        self.register = register
        self.people = people
        self._salt = np.uint64(int(stream(seed, "scan ids").integers(2**63)))
        rng = stream(seed, "old codes")
        rotated = np.zeros(len(register.ids), dtype=np.bool_)
        rotated[list(register.old_codes)] = True
        candidates = np.flatnonzero(rotated[scans.venue])
        shown = candidates[rng.random(len(candidates)) < OLD_CODE_SCAN_SHARE]
        self.shown_codes = {
            row: register.old_codes[venue][row % len(register.old_codes[venue])]
            for row, venue in zip(shown.tolist(), scans.venue[shown].tolist(), strict=True)
        }
        """The identity on the poster of those scans where it is not the venue's own."""

    def chunk(self, row: Ints, record_ms: Ints) -> list[str]:
        """The lines of some rows, each with its record timestamp, without newlines."""
        names = self.register.ids
        venue = [names[index] for index in self.scans.venue[row].tolist()]
        for position, number in enumerate(row.tolist()):
            if number in self.shown_codes:
                venue[position] = self.shown_codes[number]
        source = self.scans.source[row]
        parts = zip(
            self.scan_ids(row),
            [self.people.ids[index] for index in self.scans.person[row].tolist()],
            venue,
            [DIRECTIONS[index] for index in self.scans.direction[row].tolist()],
            time_texts(self.scans.occurred_ms[row], STYLE_BY_SOURCE[source]),
            [SOURCE_NAMES[index] for index in source.tolist()],
            record_ms.tolist(),
            strict=True,
        )
        return [
            f'{{"scan_id":"{scan}","person_id":"{person}","venue_id":"{place}","direction":"{direction}",'
            f'"occurred_at":"{occurred}","source":"{how}","_ts":{record}}}'
            for scan, person, place, direction, occurred, how, record in parts
        ]

    def scan_ids(self, row: Ints) -> list[str]:
        """As a ULID looks: the time in ten digits, then sixteen that are different for each scan."""
        numbers = row.astype(np.uint64)
        lower = scattered(numbers ^ self._salt)
        upper = scattered(lower ^ self._salt) & np.uint64(0x7FFF)
        digits: npt.NDArray[np.uint8] = np.concatenate(
            [
                base32(self.scans.occurred_ms[row].astype(np.uint64), 10),
                base32(upper, 3),
                CROCKFORD[(lower >> np.uint64(60)).astype(np.intp)][:, None],
                base32(lower, 12),
            ],
            axis=1,
        )
        return texts(digits)


def scan_chunks(lines: ScanLines, arrivals: Arrivals, bad_lines: dict[int, str]) -> Iterator[tuple[int, str]]:
    """The scan file in pieces: how many lines, and their text. ``bad_lines`` by position in ``arrivals``."""
    for start in range(0, len(arrivals.row), LINES_PER_CHUNK):
        piece = slice(start, start + LINES_PER_CHUNK)
        made = lines.chunk(arrivals.row[piece], arrivals.record_ms[piece])
        for position in (np.flatnonzero(arrivals.fault[piece] >= 0) + start).tolist():
            made[position - start] = bad_lines[position]
        yield len(made), "\n".join(made) + "\n"


def venue_chunks(register: Register, areas: Areas, seed: int) -> Iterator[tuple[int, str]]:
    """The register file in pieces, in order of registration."""
    names = VenueNames([areas.names[code] for code in register.wards], seed)
    in_ward = [
        f'"province_code":"{register.province}","district_code":"{areas.parents[code][0]}","ward_code":"{code}"'
        for code in register.wards
    ]
    for start in range(0, len(register.ids), LINES_PER_CHUNK):
        piece = slice(start, start + LINES_PER_CHUNK)
        categories, wards = register.category[piece].tolist(), register.ward[piece].tolist()
        parts = zip(
            register.ids[piece],
            names.draw(start, categories, wards),
            [CATEGORY_NAMES[index] for index in categories],
            [in_ward[index] for index in wards],
            register.lat[piece].tolist(),
            register.lon[piece].tolist(),
            ["null" if value == 0 else str(value) for value in register.capacity[piece].tolist()],
            time_texts(register.registered_ms[piece], np.zeros(len(categories), dtype=np.int64)),
            ["closed" if closed else "active" for closed in register.closed[piece].tolist()],
            ["null" if value == 0 else str(value) for value in register.own_dwell_minutes[piece].tolist()],
            strict=True,
        )
        made = [
            f'{{"venue_id":"{venue}","name":"{name}","category":"{category}",{codes},"lat":{lat:.6f},"lon":{lon:.6f},'
            f'"capacity":{capacity},"registered_at":"{registered}","status":"{status}","dwell_minutes":{dwell},'
            f'"codes":{json.dumps(register.old_codes.get(number, []))}}}'
            if number in register.old_codes
            else f'{{"venue_id":"{venue}","name":"{name}","category":"{category}",{codes},"lat":{lat:.6f},'
            f'"lon":{lon:.6f},"capacity":{capacity},"registered_at":"{registered}","status":"{status}",'
            f'"dwell_minutes":{dwell},"codes":[]}}'
            for number, (venue, name, category, codes, lat, lon, capacity, registered, status, dwell) in enumerate(
                parts,
                start,
            )
        ]
        yield len(made), "\n".join(made) + "\n"
