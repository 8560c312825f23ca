"""The checks that every event of a person passes before its room looks at it (SPEC §2), in their order.

oversized, malformed_json, schema_violation, key_mismatch, wrong partition, in_future, too_old. Each copy is
judged alone. What fails becomes a row of ``rejects`` or goes on to its own partition; nothing is dropped.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from streams.core import reasons, wire
from streams.core.held_scans import erased_of
from streams.core.inbound import BadEvent
from streams.core.keys import person_head
from streams.core.partition import partitions_of_persons
from streams.core.rejected import RejectEntry
from streams.core.room import FUTURE_MS_MAX, HOPS_MAX, RoomPartition
from streams.core.step import BY_KEY, HeadedMessage, InRecord, StateReader, Step, header

HEADER_FIRST_TS = "first-ts"
HEADER_HOPS = "hops"
HEADER_ORIGIN = "origin"
_DIGITS_MAX = 15
_PERSON: Final = re.compile(rb"[0-9a-f]{32}")
ORIGIN_BYTES_MAX = 1024
"""A longer ``origin`` names no row: state and outputs must stay within what a record may hold."""


class PersonEvent(Protocol):
    """A decoded event that belongs to a person, and its own time."""

    @property
    def person_id(self) -> str: ...
    @property
    def event_ms(self) -> int: ...


E = TypeVar("E", bound=PersonEvent)


class Timed(NamedTuple, Generic[E]):
    """An event that passed, its record and the record's "now" (epoch ms)."""

    event: E
    record: InRecord
    now_ms: int


def _number(value: bytes | None) -> int | None:
    """A header's number; None where it is absent or no plain number."""
    if value is None or not value.isdigit() or len(value) > _DIGITS_MAX:
        return None
    return int(value)


def now_of(record: InRecord) -> int:
    """The "now" of a record, in epoch ms: its own timestamp, or the first one that it ever had (SPEC §1)."""
    timestamp = max(record.timestamp, 0)
    if record.headers:
        first = _number(header(record.headers, HEADER_FIRST_TS))
        if first is not None and first <= timestamp:
            return first
    return timestamp


class Desk:
    """Where the records of one topic and step are judged: what fails becomes a row of ``rejects`` or goes on."""

    def __init__(self, step: Step, room: RoomPartition, topic: str, state: StateReader) -> None:
        """``topic`` is the name without prefix."""
        self.step = step
        self.room = room
        self.topic = topic
        self.state = state
        self.noted: dict[bytes, list[RejectEntry]] = defaultdict(list)
        """What this step adds to the rows remembered under a person (16 bytes)."""

    def reject(
        self,
        record: InRecord,
        *,
        reason: str,
        detail: str,
        status: str = "open",
        event: PersonEvent | None = None,
    ) -> None:
        """Writes the record's row of ``rejects``; bare where its person asked to forget what it tells of.

        The person and the time are those of the ``event``, where it could be read; else the key names the person,
        and the record timestamp is the time.
        """
        now_ms = now_of(record)
        at_ms = now_ms if event is None else event.event_ms
        named = (None if event is None else event.person_id, _person_of_key(record.key))
        persons = {name for name in named if name is not None}
        bare = reason == reasons.ERASED or any(is_erased(self.state, name, at_ms) for name in persons)
        where = (self.room.topic_prefix + self.topic, self.room.partition, record.offset, now_ms)
        key, payload = (None, None) if bare else (record.key, record.value)
        value = wire.reject(*where, key, payload, reason=reason, detail=detail, status=status)
        # A key as large as a record would leave no room for the payload beside it. A null key stays with this
        # partition: by_key would be random.
        out_key = key[: wire.KEY_BYTES_MAX] if key else key
        self.step.emit("rejects", out_key, value, now_ms, BY_KEY if out_key else self.room.partition)
        self.step.rejects[reason] = self.step.rejects.get(reason, 0) + 1
        if not bare:
            for name in persons:
                entry = RejectEntry(self.topic, record.offset, now_ms, at_ms, reason, detail, status)
                self.step.changes[entry.key(bytes.fromhex(name))] = entry.pack()
                self.noted[bytes.fromhex(name)].append(entry)

    def forward(self, record: InRecord, event: PersonEvent, home: int) -> None:
        """Sends a record on to the partition of its key, or rejects it where that was tried often enough."""
        step = self.step
        hops = _number(header(record.headers, HEADER_HOPS)) or 0
        if hops >= HOPS_MAX:
            step.count("rejected")
            detail = f"on partition {self.room.partition} after {hops} hops; its key belongs to {home}"
            self.reject(record, reason=reasons.MISROUTED, detail=detail, event=event)
            return
        step.count("forwarded")
        headers = [(HEADER_HOPS, b"%d" % (hops + 1)), (HEADER_FIRST_TS, b"%d" % now_of(record))]
        origin = origin_of(record)
        if origin:
            headers.append((HEADER_ORIGIN, origin))
        step.headed.append(HeadedMessage(self.topic, home, record.key, record.value, max(record.timestamp, 1), headers))

    def admit(self, records: Sequence[InRecord], decoded: Sequence[E | BadEvent]) -> Iterator[Timed[E]]:
        """The events that are whole, under their own key and on their own partition, with their "now"."""
        passed: list[tuple[E, InRecord, bytes]] = []
        for record, event in zip(records, decoded, strict=True):
            if isinstance(event, BadEvent):
                self.step.count("rejected")
                self.reject(record, reason=event.reason, detail=event.detail)
                continue
            key = event.person_id.encode()
            if record.key != key:
                self.step.count("rejected")
                detail = "the record has no key" if record.key is None else "the record's key is not its person_id"
                self.reject(record, reason=reasons.KEY_MISMATCH, detail=detail, event=event)
                continue
            passed.append((event, record, key))
        homes = partitions_of_persons([key for _, _, key in passed], self.room.partitions).tolist() if passed else []
        for (event, record, _), home in zip(passed, homes, strict=True):
            if home != self.room.partition:
                self.forward(record, event, home)
            else:
                yield Timed(event, record, now_of(record))


def _person_of_key(key: bytes | None) -> str | None:
    """The person that a record's key names, if it is one's."""
    return key.decode() if key is not None and _PERSON.fullmatch(key) else None


def is_erased(state: StateReader, person: str, event_ms: int) -> bool:
    """Whether this person asked to forget what happened then."""
    head = state.get(person_head(bytes.fromhex(person)))
    erased_ms = None if head is None else erased_of(head)
    return erased_ms is not None and event_ms <= erased_ms


def origin_of(record: InRecord) -> bytes:
    """The header that names the reject of a re-driven record; empty where there is none, or none that can be one."""
    origin = header(record.headers, HEADER_ORIGIN) if record.headers else None
    return origin if origin is not None and len(origin) <= ORIGIN_BYTES_MAX else b""


def time_fault(event_ms: int, now_ms: int, age_ms_max: int | None) -> tuple[str, str]:
    """(reason, detail) of an event whose time lies too far ahead of or behind its record's; else two empty texts."""
    if event_ms > now_ms + FUTURE_MS_MAX:
        return reasons.IN_FUTURE, f"{(event_ms - now_ms) // 1000} s ahead of its record"
    if age_ms_max is not None and event_ms < now_ms - age_ms_max:
        return reasons.TOO_OLD, f"{(now_ms - event_ms) // 86_400_000} days before its record"
    return "", ""


def resolve_origin(step: Step, origin: bytes, partition: int, timestamp_ms: int) -> None:
    """Marks the reject that a re-driven record names as resolved, now that the record is accepted.

    ``origin`` is the header's JSON: topic, partition, offset, record_at (epoch ms), reason. One that is no
    such object names no row, and nothing is written.
    """
    if not origin:
        return
    try:
        row = json.loads(origin)
        topic, at, offset, record_ms, reason = (
            row[name] for name in ("topic", "partition", "offset", "record_at", "reason")
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    numbers = (at, offset, record_ms)
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
        return
    if not isinstance(topic, str) or reason not in reasons.REASONS:
        return
    detail = "accepted when sent again"
    where = (topic, at, offset, record_ms)
    value = wire.reject(*where, None, None, reason=reason, detail=detail, status="resolved", sent_again=True)
    step.emit("rejects", None, value, timestamp_ms, partition)
