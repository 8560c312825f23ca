"""The checks that every event of a person passes before its room looks at it (SPEC §2), in their order.

oversized, malformed_json, schema_violation, key_mismatch, wrong partition, in_future, too_old. Each copy is
judged alone. What fails becomes a row of ``rejects`` or goes on to its own partition; nothing is dropped.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from streams.core import keys, reasons, wire
from streams.core.held_scans import erased_of
from streams.core.inbound import BadEvent
from streams.core.partition import partitions_of_persons
from streams.core.rejected import Origin, RejectEntry
from streams.core.returned import Provenance, Returned, send_back
from streams.core.room import FUTURE_MS_MAX, HOPS_MAX, TIMESTAMP_MS_MAX, RoomPartition
from streams.core.step import InRecord, StateReader, Step

SETTLED: Final = "settled when sent again"
_PERSON: Final = re.compile(rb"[0-9a-f]{32}")


class PersonEvent(Protocol):
    """A decoded event that belongs to a person, and its own time."""

    @property
    def person_id(self) -> str: ...
    @property
    def event_ms(self) -> int: ...


E = TypeVar("E", bound=PersonEvent)


class Timed(NamedTuple, Generic[E]):
    """An event that passed, its record, and where that came from."""

    event: E
    record: InRecord
    came: Provenance

    @property
    def now_ms(self) -> int:
        """The record's "now", epoch ms."""
        return self.came.now_ms


class Desk:
    """Where the records of one topic and step are judged: what fails becomes a row of ``rejects`` or goes on."""

    def __init__(self, step: Step, room: RoomPartition, topic: str, state: StateReader, epoch: int = 0) -> None:
        """``topic`` is the name without prefix of what the events are; ``epoch`` that of the input they came by."""
        self.step = step
        self.room = room
        self.topic = topic
        self.state = state
        self.epoch = epoch
        self.noted: dict[bytes, list[RejectEntry]] = defaultdict(list)
        """What this step adds to the rows remembered under a person (16 bytes)."""

    def came(self, record: InRecord) -> Provenance:
        """Where a record came from: what ``returns`` says of it, else where it lies. No other header counts."""
        if isinstance(record, Returned):
            return record.came
        now_ms = min(max(record.timestamp, 0), TIMESTAMP_MS_MAX)
        return Provenance(Origin(self.topic, self.epoch, self.room.partition, record.offset), now_ms)

    def reject(
        self,
        record: InRecord,
        *,
        reason: str,
        detail: str,
        status: str = "open",
        event: PersonEvent | None = None,
    ) -> None:
        """Writes the event's row of ``rejects``; bare where its person asked to forget what it tells of.

        The person and the time are those of the ``event``, where it could be read; else the key names the person,
        and the record timestamp is the time.
        """
        came = self.came(record)
        at_ms = came.now_ms if event is None else event.event_ms
        named = (None if event is None else event.person_id, _person_of_key(record.key))
        persons = {name for name in named if name is not None}
        bare = reason == reasons.ERASED or any(is_erased(self.state, name, at_ms) for name in persons)
        key, payload = (None, None) if bare else (record.key, record.value)
        self._row(came, key, payload, reason=reason, detail=detail, status=status, bare=bare)
        self.step.rejects[reason] = self.step.rejects.get(reason, 0) + 1
        for name in persons:
            person = bytes.fromhex(name)
            entry = RejectEntry(*came.origin, came.now_ms, at_ms, reason, detail, status, came.attempt)
            if not bare:
                self.step.changes[entry.key(person)] = entry.pack()
                self.noted[person].append(entry)
            elif came.attempt:
                self.step.changes[entry.key(person)] = None

    def settle(self, record: InRecord, event: PersonEvent | None) -> None:
        """Marks the row of a re-driven event as resolved: it was accepted, is a copy, or superseded by what is."""
        came = self.came(record)
        if came.attempt:
            reason = came.reason or reasons.FAILED
            self._row(came, None, None, reason=reason, detail=SETTLED, status="resolved", bare=True)
            if event is not None:
                topic, epoch, partition, offset = came.origin
                person = bytes.fromhex(event.person_id)
                self.step.changes[keys.person_reject(person, topic.encode(), offset, partition, epoch)] = None

    def _row(
        self,
        came: Provenance,
        key: bytes | None,
        payload: bytes | None,
        *,
        reason: str,
        detail: str,
        status: str,
        bare: bool,
    ) -> None:
        origin = came.origin._replace(topic=self.room.topic_prefix + came.origin.topic)
        value = wire.reject(
            *(origin, came.now_ms, key, payload),
            reason=reason, detail=detail, status=status, attempts=came.attempt, bare=bare,
        )  # fmt: skip
        # A key as large as a record would leave no room for the payload beside it. All rows lie where they are written.
        out_key = key[: wire.KEY_BYTES_MAX] if key else key
        self.step.emit("rejects", out_key, value, came.now_ms, self.room.partition)

    def forward(self, record: InRecord, event: PersonEvent, home: int) -> None:
        """Sends a record on to the partition of its key, or rejects it where that was tried often enough."""
        came = self.came(record)
        if came.hops >= HOPS_MAX:
            self.step.count("rejected")
            detail = f"on partition {self.room.partition} after {came.hops} hops; its key belongs to {home}"
            self.reject(record, reason=reasons.MISROUTED, detail=detail, event=event)
            return
        self.step.count("forwarded")
        send_back(self.step, record, came._replace(hops=came.hops + 1), home)

    def admit(self, records: Sequence[InRecord], decoded: Sequence[E | BadEvent]) -> Iterator[Timed[E]]:
        """The events that are whole, under their own key and on their own partition, with where they came from."""
        for timed, home in self.whole(records, decoded):
            if home != self.room.partition:
                self.forward(timed.record, timed.event, home)
            else:
                yield timed

    def whole(self, records: Sequence[InRecord], decoded: Sequence[E | BadEvent]) -> Iterator[tuple[Timed[E], int]]:
        """The events that are whole and under their own key, and the partition that each belongs to."""
        passed: list[tuple[E, InRecord, bytes]] = []
        for record, event in zip(records, decoded, strict=True):
            if record.fault is not None:
                self.step.count("rejected")
                self.reject(record, reason=record.fault.reason, detail=record.fault.detail)
                continue
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
            yield Timed(event, record, self.came(record)), home


def _person_of_key(key: bytes | None) -> str | None:
    """The person that a record's key names, if it is one's."""
    return key.decode() if key is not None and _PERSON.fullmatch(key) else None


def is_erased(state: StateReader, person: str, event_ms: int) -> bool:
    """Whether this person asked to forget what happened then."""
    head = state.get(keys.person_head(bytes.fromhex(person)))
    erased_ms = None if head is None else erased_of(head)
    return erased_ms is not None and event_ms <= erased_ms


def time_fault(event_ms: int, now_ms: int, age_ms_max: int | None) -> tuple[str, str]:
    """(reason, detail) of an event whose time lies too far ahead of or behind its record's; else two empty texts."""
    if event_ms > now_ms + FUTURE_MS_MAX:
        return reasons.IN_FUTURE, f"{(event_ms - now_ms) // 1000} s ahead of its record"
    if age_ms_max is not None and event_ms < now_ms - age_ms_max:
        return reasons.TOO_OLD, f"{(now_ms - event_ms) // 86_400_000} days before its record"
    return "", ""
