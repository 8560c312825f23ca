"""Aggregate cells: what a step adds to them, and how they are kept in state.

Cells of one ward and hour share a state value, and so do those of one venue and day: a step rewrites few
values for many cells. A value is a run of entries ``time i64 | ins u32 | outs u32 | passes u32``; scans are
always their sum. A venue's value begins with the areas it was marked for: ``count u8 | 10 bytes each``.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

from streams.core import keys, wire
from streams.core.step import StateReader, Step
from streams.core.times import LocalClock

_ENTRY = struct.Struct("<qIII")
_AREA_DAY = struct.Struct("<QQ")
AREA_BYTES: Final = 10
LEVELS: Final = (b"ward", b"district", b"province", b"nation")
NATION: Final = b"VN"
AREAS_PER_VENUE_DAY_MAX = 255


def split_areas(packed: bytes) -> list[bytes]:
    """The areas (10 bytes each) of a packed run."""
    return [packed[i : i + AREA_BYTES] for i in range(0, len(packed), AREA_BYTES)]


def codes_of(area: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """(ward, district, province, nation) of 10 packed bytes, as in ``LEVELS``."""
    return area[0:5], area[5:8], area[8:10], NATION


@dataclass(slots=True)
class VenueDay:
    """What a step adds to one venue on one local day: counts by hour, and in which areas it lay."""

    hours: dict[int, list[int]] = field(default_factory=dict)
    areas: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class Tally:
    """What the accepted scans of one step add to the cells."""

    ward_minutes: dict[tuple[bytes, int], list[int]] = field(default_factory=dict)
    venue_days: dict[tuple[bytes, bytes], VenueDay] = field(default_factory=dict)
    area_days: dict[tuple[bytes, int, bytes], list[int]] = field(default_factory=dict)
    timestamp_ms: int = 0

    def add(
        self, venue_id: bytes, area: bytes, occurred_ms: int, direction: int, counted: set[bytes], clock: LocalClock
    ) -> None:
        """Counts one accepted scan; ``counted`` holds the areas this person already counts in on that day."""
        minute = (area[0:5], clock.minute_start(occurred_ms))
        cell = self.ward_minutes.get(minute)
        if cell is None:
            cell = self.ward_minutes[minute] = [0, 0, 0]
        cell[direction] += 1
        day = clock.day_text(occurred_ms).encode()
        venue_day = self.venue_days.get((venue_id, day))
        if venue_day is None:
            venue_day = self.venue_days[venue_id, day] = VenueDay()
        venue_day.areas.add(area)
        venue_day.hours.setdefault(clock.hour_start(occurred_ms), [0, 0, 0])[direction] += 1
        known = [codes_of(other) for other in counted]
        for level, code in enumerate(codes_of(area)):
            place = (day, level, code)
            values = self.area_days.get(place)
            if values is None:
                values = self.area_days[place] = [0, 0]
            values[0] += 1
            if all(other[level] != code for other in known):
                values[1] += 1


def _entries(packed: bytes) -> dict[int, tuple[int, int, int]]:
    return {time_ms: (ins, outs, passes) for time_ms, ins, outs, passes in _ENTRY.iter_unpack(packed)}


def _merge(packed: bytes, added: dict[int, list[int]]) -> tuple[bytes, dict[int, tuple[int, int, int]]]:
    """The value with ``added`` counted in, and the cells that changed."""
    entries = _entries(packed)
    changed = {}
    for time_ms, (ins, outs, passes) in added.items():
        old = entries.get(time_ms, (0, 0, 0))
        changed[time_ms] = (old[0] + ins, old[1] + outs, old[2] + passes)
    entries |= changed
    return b"".join([_ENTRY.pack(time_ms, *entries[time_ms]) for time_ms in sorted(entries)]), changed


def store(tally: Tally, step: Step, state: StateReader, clock: LocalClock, part: bytes) -> None:
    """Adds a tally to the stored cells and emits every changed cell, full value, and new venue marks."""
    _store_ward_minutes(tally, step, state, clock, part)
    _store_venue_hours(tally, step, state, part)
    _store_area_days(tally, step, state, part)


def _store_ward_minutes(tally: Tally, step: Step, state: StateReader, clock: LocalClock, part: bytes) -> None:
    groups: dict[tuple[bytes, int], dict[int, list[int]]] = {}
    for (ward, minute_ms), added_counts in tally.ward_minutes.items():
        groups.setdefault((ward, clock.hour_start(minute_ms)), {})[minute_ms] = added_counts
    state_keys = [keys.ward_hour(ward, hour_ms) for ward, hour_ms in groups]
    stored = state.get_many(state_keys)
    for ((ward, _), added), key, packed in zip(groups.items(), state_keys, stored, strict=True):
        step.changes[key], changed = _merge(packed or b"", added)
        for minute_ms, counts in changed.items():
            out_key, value = wire.ward_minute(minute_ms, ward, part, counts, step.number)
            step.emit("aggregates", out_key, value, tally.timestamp_ms)


def _store_venue_hours(tally: Tally, step: Step, state: StateReader, part: bytes) -> None:
    state_keys = [keys.venue_day(venue_id, day) for venue_id, day in tally.venue_days]
    stored = state.get_many(state_keys)
    for ((venue_id, day), added), key, packed in zip(tally.venue_days.items(), state_keys, stored, strict=True):
        old = packed or b"\0"
        split = 1 + old[0] * AREA_BYTES
        fresh = [area for area in sorted(added.areas) if area not in split_areas(old[1:split])]
        for area in fresh:
            step.emit("venue-marks", venue_id, wire.venue_mark(venue_id, day, area), tally.timestamp_ms)
        # Past the limit an area is marked again with each step: the venue room knows it already.
        areas = (old[1:split] + b"".join(fresh))[: AREAS_PER_VENUE_DAY_MAX * AREA_BYTES]
        entries, changed = _merge(old[split:], added.hours)
        step.changes[key] = bytes([len(areas) // AREA_BYTES]) + areas + entries
        for hour_ms, counts in changed.items():
            out_key, value = wire.venue_hour(hour_ms, venue_id, part, counts, step.number)
            step.emit("aggregates", out_key, value, tally.timestamp_ms)


def _store_area_days(tally: Tally, step: Step, state: StateReader, part: bytes) -> None:
    places = list(tally.area_days)
    state_keys = [keys.area_day(day, LEVELS[level], code) for day, level, code in places]
    for (day, level, code), key, packed in zip(places, state_keys, state.get_many(state_keys), strict=True):
        scans, persons = _AREA_DAY.unpack(packed) if packed else (0, 0)
        added_scans, added_persons = tally.area_days[day, level, code]
        scans, persons = scans + added_scans, persons + added_persons
        if persons > scans:
            raise AssertionError(f"area_day {day!r} {code!r}: {persons} persons in {scans} scans")
        step.changes[key] = _AREA_DAY.pack(scans, persons)
        out_key, value = wire.area_day(day, LEVELS[level], code, part, (scans, persons, 0), step.number)
        step.emit("aggregates", out_key, value, tally.timestamp_ms)
