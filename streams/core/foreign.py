"""Records on the pipeline's own topics that the pipeline cannot have written: every reader skips them.

Their rows of ``rejects`` are functions of the record alone, so whoever reads one, and however often, writes the same.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from streams.core import reasons, wire
from streams.core.records import newest_ms
from streams.core.rejected import Origin
from streams.core.room import TIMESTAMP_MS_MAX, RoomPartition
from streams.core.step import InRecord, Step

DETAIL: Final = "not a record that the pipeline writes"

_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_HEX: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_CODE_CHARACTERS: Final = (5, 3, 2)

E = TypeVar("E")


def read_own(decode_lines: Callable[[bytes], Sequence[E]], records: Sequence[InRecord]) -> list[E | None]:
    """The events of records of which each is one line of JSON; None for each that is none.

    All are read at once where all are; no record can be taken for a part of the next one, since none has a line break.
    """
    values = [record.value or b"" for record in records]
    events = _read_lines(decode_lines, values)
    if events is not None:
        return list(events)
    alone = [_read_lines(decode_lines, [value]) for value in values]
    return [None if found is None else found[0] for found in alone]


def _read_lines(decode_lines: Callable[[bytes], Sequence[E]], values: Sequence[bytes]) -> Sequence[E] | None:
    lines = b"\n".join(values)
    try:
        events = decode_lines(lines)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return events if len(events) == len(values) and lines.count(b"\n") == len(values) - 1 else None


def is_id(text: bytes) -> bool:
    """Whether this may be the id of a venue or a case."""
    return _ID.fullmatch(text) is not None


def is_hex(text: str) -> bool:
    """Whether this may be the id of a person or a visit."""
    return _HEX.fullmatch(text) is not None


def are_codes(*codes: str) -> bool:
    """Whether these may be the codes of a ward, its district and its province."""
    return tuple(map(len, codes)) == _CODE_CHARACTERS and all(map(str.isascii, codes))


def row_of(
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    reason: str = reasons.FOREIGN_RECORD,
    detail: str = DETAIL,
) -> bytes:
    """The value of the rejects record of a record on an own topic (full name); without key and payload."""
    at_ms = min(max(timestamp_ms, 0), TIMESTAMP_MS_MAX)
    origin = Origin(topic, 0, partition, offset)
    return wire.reject(origin, at_ms, None, None, reason=reason, detail=detail, status="open")


def emit_foreign(step: Step, room: RoomPartition, topic: str, record: InRecord) -> None:
    """Skips a record of ``topic`` (without prefix): its row, and its place for the log."""
    place = (room.topic_prefix + topic, room.partition, record.offset)
    value = row_of(*place, record.timestamp)
    step.emit("rejects", None, value, min(max(record.timestamp, 0), TIMESTAMP_MS_MAX), room.partition)
    step.rejects[reasons.FOREIGN_RECORD] = step.rejects.get(reasons.FOREIGN_RECORD, 0) + 1
    step.count("foreign")
    step.foreign.append(place)


def take_foreign(room: RoomPartition, number: int, topic: str, records: Sequence[InRecord]) -> Step:
    """One step over records of which none is the pipeline's own."""
    step = Step(number, newest_ms(records))
    for record in records:
        emit_foreign(step, room, topic, record)
    return step
