"""Aggregate cells: what a step adds to them, and how they are kept in state.

Cells of one ward and hour share a state value, and so do those of one venue and day: a step rewrites few
values for many cells. A value is a run of entries ``time i64 | ins u32 | outs u32 | passes u32``; scans are
always their sum. A venue's value begins with the areas it was marked for: ``count u8 | 10 bytes each``.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

from streams.core import keys, wire
from streams.core.step import BY_KEY, KAFKA_TIMESTAMP_MIN_MS, StateReader, Step
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
    """(ward, district, province, nation) of 10 packed bytes, as in ``LEVELS``; no code is one of two levels."""
    return area[0:5], area[5:8], area[8:10], NATION


_COUNT_BITS: Final = 20
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1
_ONE: Final = (1, 1 << _COUNT_BITS, 1 << 2 * _COUNT_BITS)
"""One scan of each direction, in a number that holds the three counts of a step: half the cost of a list."""
STEP_RECORDS_MAX: Final = _COUNT_MASK


@dataclass(slots=True)
class Tally:
    """What the accepted scans of one step (at most ``STEP_RECORDS_MAX``) add to the cells."""

    ward_hours: dict[tuple[bytes, int], dict[int, int]] = field(default_factory=dict)
    venue_days: dict[tuple[bytes, bytes], dict[int, int]] = field(default_factory=dict)
    venue_areas: dict[tuple[bytes, bytes], list[bytes]] = field(default_factory=dict)
    area_days: dict[tuple[bytes, bytes], list[int]] = field(default_factory=dict)
    timestamp_ms: int = 0

    def add(
        self, venue_id: bytes, area: bytes, occurred_ms: int, direction: int, counted: set[bytes], clock: LocalClock
    ) -> None:
        """Counts one accepted scan; ``counted`` holds the areas this person already counts in on that day."""
        minute_ms, hour_ms, day = clock.place(occurred_ms)
        one = _ONE[direction]
        minutes = self.ward_hours.get((area[0:5], hour_ms))
        if minutes is None:
            self.ward_hours[area[0:5], hour_ms] = {minute_ms: one}
        else:
            minutes[minute_ms] = minutes.get(minute_ms, 0) + one
        hours = self.venue_days.get((venue_id, day))
        if hours is None:
            self.venue_days[venue_id, day] = {hour_ms: one}
            self.venue_areas[venue_id, day] = [area]
        else:
            hours[hour_ms] = hours.get(hour_ms, 0) + one
            areas = self.venue_areas[venue_id, day]
            if area not in areas:
                areas.append(area)
        values = self.area_days.get((day, area))
        if values is None:
            values = self.area_days[day, area] = [0, 0, 0, 0, 0]
        values[0] += 1
        if not counted:
            values[1] += 1
            values[2] += 1
            values[3] += 1
            values[4] += 1
        elif area not in counted:
            known = {code for other in counted for code in codes_of(other)}
            for level, code in enumerate(codes_of(area), 1):
                values[level] += code not in known


def _merge(packed: bytes, added: dict[int, int]) -> tuple[bytes, dict[int, tuple[int, int, int]]]:
    """The value with ``added`` counted in, and the cells that changed."""
    changed = {
        time_ms: (counts & _COUNT_MASK, counts >> _COUNT_BITS & _COUNT_MASK, counts >> 2 * _COUNT_BITS)
        for time_ms, counts in added.items()
    }
    if not packed:
        if len(changed) == 1:
            [(time_ms, counts)] = changed.items()
            return _ENTRY.pack(time_ms, *counts), changed
        return b"".join([_ENTRY.pack(time_ms, *changed[time_ms]) for time_ms in sorted(changed)]), changed
    entries = {time_ms: (ins, outs, passes) for time_ms, ins, outs, passes in _ENTRY.iter_unpack(packed)}
    for time_ms, (ins, outs, passes) in changed.items():
        old = entries.get(time_ms, (0, 0, 0))
        changed[time_ms] = (old[0] + ins, old[1] + outs, old[2] + passes)
    entries |= changed
    return b"".join([_ENTRY.pack(time_ms, *entries[time_ms]) for time_ms in sorted(entries)]), changed


def store(tally: Tally, step: Step, state: StateReader, part: bytes) -> None:
    """Adds a tally to the stored cells and emits every changed cell, full value, and new venue marks."""
    tally.timestamp_ms = max(tally.timestamp_ms, KAFKA_TIMESTAMP_MIN_MS)
    _store_ward_minutes(tally, step, state, part)
    _store_venue_hours(tally, step, state, part)
    _store_area_days(tally, step, state, part)


def _store_ward_minutes(tally: Tally, step: Step, state: StateReader, part: bytes) -> None:
    emit, changes, number, timestamp_ms = step.to("aggregates").append, step.changes, step.number, tally.timestamp_ms
    ward_minute = wire.ward_minute
    state_keys = [keys.ward_hour(ward, hour_ms) for ward, hour_ms in tally.ward_hours]
    stored = state.get_many(state_keys)
    for ((ward, _), added), key, packed in zip(tally.ward_hours.items(), state_keys, stored, strict=True):
        changes[key], changed = _merge(packed or b"", added)
        for minute_ms, counts in changed.items():
            emit((*ward_minute(minute_ms, ward, part, counts, number), BY_KEY, timestamp_ms))


def _store_venue_hours(tally: Tally, step: Step, state: StateReader, part: bytes) -> None:
    emit, changes, number, timestamp_ms = step.to("aggregates").append, step.changes, step.number, tally.timestamp_ms
    mark, venue_hour = step.to("venue-marks").append, wire.venue_hour
    state_keys = [keys.venue_day(venue_id, day) for venue_id, day in tally.venue_days]
    stored = state.get_many(state_keys)
    for ((venue_id, day), added), key, packed in zip(tally.venue_days.items(), state_keys, stored, strict=True):
        old = packed or b"\0"
        split = 1 + old[0] * AREA_BYTES
        areas = old[1:split]
        marked = split_areas(areas)
        for area in tally.venue_areas[venue_id, day]:
            if area not in marked:
                mark((venue_id, wire.venue_mark(venue_id, day, area), BY_KEY, timestamp_ms))
                # Past the limit an area is marked again with each step: the venue room knows it already.
                if len(areas) < AREAS_PER_VENUE_DAY_MAX * AREA_BYTES:
                    areas += area
        entries, changed = _merge(old[split:], added)
        changes[key] = b"%c%b%b" % (len(areas) // AREA_BYTES, areas, entries)
        for hour_ms, counts in changed.items():
            emit((*venue_hour(hour_ms, venue_id, part, counts, number), BY_KEY, timestamp_ms))


def _store_area_days(tally: Tally, step: Step, state: StateReader, part: bytes) -> None:
    cells: dict[tuple[bytes, int, bytes], tuple[int, int]] = {}
    for (day, area), values in tally.area_days.items():
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
