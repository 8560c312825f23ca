"""Aggregate cells: what a step adds to them (``tally.pyx``), and how they are kept in state.

Cells of one ward and hour share a state value, and so do those of one venue and day: a step rewrites few
values for many cells. A value is a run of entries ``time i64 | ins u32 | outs u32 | passes u32``; scans are
always their sum. A venue's value begins with the areas it was marked for: ``count u8 | 10 bytes each``.
"""

import struct
from typing import Final

from streams.core import keys, wire
from streams.core.room import RoomPartition
from streams.core.step import KAFKA_TIMESTAMP_MIN_MS, StateReader, Step
from streams.core.tally import Tally

_AREA_DAY = struct.Struct("<QQ")
AREA_BYTES: Final = 10
LEVELS: Final = (b"ward", b"district", b"province", b"nation")
NATION: Final = b"VN"


def split_areas(packed: bytes) -> list[bytes]:
    """The areas (10 bytes each) of a packed run."""
    return [packed[i : i + AREA_BYTES] for i in range(0, len(packed), AREA_BYTES)]


def codes_of(area: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """(ward, district, province, nation) of 10 packed bytes, as in ``LEVELS``; no code is one of two levels."""
    return area[0:5], area[5:8], area[8:10], NATION


def store(tally: Tally, step: Step, state: StateReader, room: RoomPartition) -> None:
    """Adds a tally to the stored cells and emits every changed cell, full value, and new venue marks."""
    part = room.person_part
    tally.timestamp_ms = max(tally.timestamp_ms, KAFKA_TIMESTAMP_MIN_MS)
    emitted = step.to("aggregates")
    tally.ward_minutes(state, step.changes, emitted, part, step.number)
    if room.counts_only:
        return
    tally.venue_hours(state, step.changes, emitted, step.to("venue-marks"), part, step.number)
    _store_area_days(tally, step, state, part)


def _store_area_days(tally: Tally, step: Step, state: StateReader, part: bytes) -> None:
    cells: dict[tuple[bytes, int, bytes], tuple[int, int]] = {}
    for (day, area), values in tally.area_days().items():
        for level, code in enumerate(codes_of(area)):
            scans, persons = cells.get((day, level, code), (0, 0))
            cells[day, level, code] = (scans + values[0], persons + values[level + 1])
    state_keys = [keys.area_day(day, LEVELS[level], code) for day, level, code in cells]
    stored = state.get_many(state_keys)
    for ((day, level, code), (scans, persons)), key, packed in zip(cells.items(), state_keys, stored, strict=True):
        old_scans, old_persons = _AREA_DAY.unpack(packed) if packed else (0, 0)
        totals = (old_scans + scans, old_persons + persons)
        if totals[1] > totals[0]:
            raise AssertionError(f"area_day {day!r} {code!r}: {totals[1]} persons in {totals[0]} scans")
        step.changes[key] = _AREA_DAY.pack(*totals)
        out_key, value = wire.area_day(day, LEVELS[level], code, part, (*totals, 0), step.number)
        step.emit("aggregates", out_key, value, tally.timestamp_ms)
