"""The venue room: which venues are alive, counted from the marks that the person room sends."""

import struct
from collections.abc import Sequence

import msgspec

from streams.core import keys, wire
from streams.core.cells import LEVELS, codes_of, split_areas
from streams.core.foreign import are_codes, emit_foreign, is_id, read_own
from streams.core.records import newest_ms
from streams.core.room import RoomPartition
from streams.core.step import InRecord, StateReader, Step
from streams.core.times import is_day

VENUE_MARKS = "venue-marks"
_COUNT = struct.Struct("<Q")


class Mark(msgspec.Struct):
    """A venue had an accepted scan in these areas on this local day."""

    venue_id: str
    day: str
    ward_code: str
    district_code: str
    province_code: str


_decode_marks = msgspec.json.Decoder(Mark).decode_lines


def take_marks(room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader) -> Step:
    """One step over a batch of ``venue-marks``: counts each venue once per cell, whoever marked it.

    Marks are the project's own events: one that cannot be is skipped.
    """
    step = Step(number, newest_ms(records))
    own: list[tuple[InRecord, Mark]] = []
    for record, mark in zip(records, read_own(_decode_marks, records), strict=True):
        if mark is not None and _is_own(record, mark):
            own.append((record, mark))
        else:
            emit_foreign(step, room, VENUE_MARKS, record)
    wanted = {keys.venue_marks(mark.venue_id.encode(), mark.day.encode()): b"" for _, mark in own}
    for key, packed in zip(wanted, state.get_many(list(wanted)), strict=True):
        wanted[key] = packed or b""
    added: dict[tuple[bytes, int, bytes], int] = {}
    timestamp_ms = 0
    expired = state.get(keys.EXPIRED)
    first_day = room.clock.place(keys.expired_of(expired))[2] if expired else b""
    for record, mark in own:
        day = mark.day.encode()
        if day < first_day:  # from a partition days behind; what it would be counted with is gone
            step.count("expired")
            continue
        key = keys.venue_marks(mark.venue_id.encode(), day)
        area = f"{mark.ward_code}{mark.district_code}{mark.province_code}".encode()
        seen = split_areas(wanted[key])
        if area in seen:
            step.count("duplicate")
            continue
        step.count("accepted")
        timestamp_ms = max(timestamp_ms, record.timestamp)
        known = [codes_of(other) for other in seen]
        for level, code in enumerate(codes_of(area)):
            if all(other[level] != code for other in known):
                added[day, level, code] = added.get((day, level, code), 0) + 1
        wanted[key] += area
        step.changes[key] = wanted[key]
    _store_active_venues(room, step, added, timestamp_ms, state)
    return step


def _is_own(record: InRecord, mark: Mark) -> bool:
    """Whether the pipeline may have written this mark."""
    venue = mark.venue_id.encode()
    codes = (mark.ward_code, mark.district_code, mark.province_code)
    return venue == record.key and is_id(venue) and are_codes(*codes) and is_day(mark.day)


def _store_active_venues(
    room: RoomPartition, step: Step, added: dict[tuple[bytes, int, bytes], int], timestamp_ms: int, state: StateReader
) -> None:
    state_keys = [keys.area_day(day, LEVELS[level], code) for day, level, code in added]
    for ((day, level, code), count), key, packed in zip(
        added.items(), state_keys, state.get_many(state_keys), strict=True
    ):
        active = (_COUNT.unpack(packed)[0] if packed else 0) + count
        step.changes[key] = _COUNT.pack(active)
        out_key, value = wire.area_day(day, LEVELS[level], code, room.venue_part, (0, 0, active), step.number)
        step.emit("aggregates", out_key, value, timestamp_ms)
