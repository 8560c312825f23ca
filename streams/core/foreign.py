"""Records on the pipeline's own topics that the pipeline cannot have written: every reader skips them.

Their rows of ``rejects`` are functions of the record alone, so whoever reads one, and however often, writes the same.
"""

from collections.abc import Sequence
from typing import Final

from streams.core import reasons, wire
from streams.core.records import newest_ms
from streams.core.rejected import Origin
from streams.core.room import TIMESTAMP_MS_MAX, RoomPartition
from streams.core.step import InRecord, Step

DETAIL: Final = "not a record that the pipeline writes"


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
    value = row_of(room.topic_prefix + topic, room.partition, record.offset, record.timestamp)
    step.emit("rejects", None, value, min(max(record.timestamp, 0), TIMESTAMP_MS_MAX), room.partition)
    step.rejects[reasons.FOREIGN_RECORD] = step.rejects.get(reasons.FOREIGN_RECORD, 0) + 1
    step.count("foreign")
    step.foreign.append((topic, record.offset))


def take_foreign(room: RoomPartition, number: int, topic: str, records: Sequence[InRecord]) -> Step:
    """One step over records of which none is the pipeline's own."""
    step = Step(number, newest_ms(records))
    for record in records:
        emit_foreign(step, room, topic, record)
    return step
