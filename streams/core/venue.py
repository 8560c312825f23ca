"""The venue room: which venues are alive, counted from the marks that the person room sends."""

import struct
from collections.abc import Sequence

import msgspec

from streams.core import keys, wire
from streams.core.cells import LEVELS, codes_of, split_areas
from streams.core.records import newest_ms
from streams.core.room import RoomPartition
from streams.core.step import InRecord, StateReader, Step

VENUE_MARKS = "venue-marks"
_COUNT = struct.Struct("<Q")


class Mark(msgspec.Struct):
    """A venue had an accepted scan in these areas on this local day."""

    venue_id: str
    day: str
    ward_code: str
    district_code: str
    province_code: str


_decode_marks = msgspec.json.Decoder(list[Mark]).decode


def take_marks(room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader) -> Step:
    """One step over a batch of ``venue-marks``: counts each venue once per cell, whoever marked it.

    Marks are the project's own events: one that does not decode is a bug of ours, and raises.
    """
    step = Step(number, newest_ms(records))
    marks = _decode_marks(b"[" + b",".join([record.value or b"" for record in records]) + b"]")
    wanted = {keys.venue_marks(mark.venue_id.encode(), mark.day.encode()): b"" for mark in marks}
    for key, packed in zip(wanted, state.get_many(list(wanted)), strict=True):
        wanted[key] = packed or b""
    added: dict[tuple[bytes, int, bytes], int] = {}
    timestamp_ms = 0
    expired = state.get(keys.EXPIRED)
    first_day = room.clock.place(keys.expired_of(expired))[2] if expired else b""
    for record, mark in zip(records, marks, strict=True):
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
