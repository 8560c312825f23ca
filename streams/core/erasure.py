"""Erasures in the person room (SPEC §8): in one step, all that is a person's of before an instant and what follows.

Those are scans, waiting ones too, cases and dead letters; visits, case visits and exposures follow. What stays is
the instant itself, in the head of the timeline, by which later arrivals from before it are known. Dead letters may
stand on any partition, for what is malformed or misrouted stays where it came: so the person's own partition tells
all others, with a copy of the request under the header ``echo``.
"""

from collections.abc import Sequence
from typing import Final

from streams.core import cases, intake, keys, rejected, wire
from streams.core.case_visits import Case
from streams.core.decode import decode_erasure
from streams.core.inbound import BadEvent, ErasureIn
from streams.core.partition import partition_of
from streams.core.records import newest_ms
from streams.core.room import RoomPartition
from streams.core.step import HeadedMessage, InRecord, StateReader, Step, header
from streams.core.timeline import Timeline
from streams.core.visit_changes import VisitChanges

ERASURES: Final = "erasures"
HEADER_ECHO: Final = "echo"


def take_erasures(
    room: RoomPartition,
    number: int,
    records: Sequence[InRecord],
    state: StateReader,
    *,
    epoch: int = 0,  # noqa: ARG001 - of the input partition
) -> Step:
    """One step over a batch of the ``erasures`` topic."""
    step = Step(number, newest_ms(records))
    desk = intake.Desk(step, room, ERASURES, state)
    echoes = [_echo(room, record) for record in records]
    own = [record for record, echo in zip(records, echoes, strict=True) if echo is None]
    requests: dict[str, tuple[ErasureIn, int, bool]] = {}
    for timed in desk.admit(own, [decode_erasure(record.value) for record in own]):
        event = timed.event
        reason, detail = intake.time_fault(event.requested_ms, timed.now_ms, None)
        if reason:
            step.count("rejected")
            desk.reject(timed.record, reason=reason, detail=detail, event=event)
            continue
        if _count(step, requests, event, timed.now_ms, state, own=True):
            _tell_others(step, room, timed.record)
    for record, echo in zip(records, echoes, strict=True):
        if echo is not None:
            _count(step, requests, echo, intake.now_of(record), state, own=False)
    for person_id, (event, now_ms, is_own) in requests.items():
        _Forgetting(desk, person_id, now_ms).carry_out(event.requested_ms, own=is_own)
    if sum(step.counts.values()) != len(records):
        raise AssertionError(f"{len(records)} records, but outcomes {step.counts}")
    return step


def _echo(room: RoomPartition, record: InRecord) -> ErasureIn | None:
    """The request that the person's own partition passes on; None for one that comes from outside."""
    if not record.headers or header(record.headers, HEADER_ECHO) is None:
        return None
    event = decode_erasure(record.value)
    if isinstance(event, BadEvent) or partition_of(event.person_id.encode(), room.partitions) == room.partition:
        return None
    return event


def _count(
    step: Step,
    requests: dict[str, tuple[ErasureIn, int, bool]],
    event: ErasureIn,
    now_ms: int,
    state: StateReader,
    *,
    own: bool,
) -> bool:
    """Notes a request, if none as late as it is known; whether it did."""
    known = requests.get(event.person_id)
    later = known is not None and known[0].requested_ms >= event.requested_ms
    if later or intake.is_erased(state, event.person_id, event.requested_ms):
        step.count("superseded")
        return False
    step.count("accepted")
    requests[event.person_id] = (event, now_ms, own)
    return True


def _tell_others(step: Step, room: RoomPartition, record: InRecord) -> None:
    timestamp_ms = max(record.timestamp, 1)
    for partition in range(room.partitions):
        if partition != room.partition:
            message = HeadedMessage(ERASURES, partition, record.key, record.value, timestamp_ms, [(HEADER_ECHO, b"1")])
            step.headed.append(message)


class _Forgetting:
    """One person's erasure in one partition."""

    def __init__(self, desk: intake.Desk, person_id: str, now_ms: int) -> None:
        self._desk = desk
        self._step = desk.step
        self._room = desk.room
        self._state = desk.state
        self._person_id = person_id
        self._person = bytes.fromhex(person_id)
        self._now_ms = now_ms

    def carry_out(self, until_ms: int, *, own: bool) -> None:
        """Forgets what is from up to and including ``until_ms``; another partition's person has dead letters only."""
        state = self._state
        timeline = Timeline(self._person, state.get(keys.person_head(self._person)), state)
        gone, were, are = timeline.erase(until_ms, self._room.clock)
        if own:
            key, number = self._person_id.encode(), self._step.number
            for scan in gone:
                if scan.waiting:
                    self._step.changes[keys.waiting_scan(scan.code, self._person, scan.scan_id)] = None
                    self._step.waiting_more -= 1
                else:
                    value = wire.erased_scan(scan.scan_id, key, scan.occurred_ms, number)
                    self._step.emit("enriched", key, value, self._now_ms, self._room.partition)
            changes = VisitChanges(self._step, self._person_id, self._now_ms, were, are)
            changes.emit()
            if timeline.has_cases:
                kept, dropped = self._erase_cases(until_ms)
                changes.emit_for(kept, dropped)
                timeline.note_cases(held=bool(kept))
        self._erase_rejects(until_ms)
        self._step.changes |= timeline.changes()

    def _erase_cases(self, until_ms: int) -> tuple[list[Case], list[Case]]:
        """(the cases that stay, those that are forgotten)."""
        kept, dropped = [], []
        for case_id, report in cases.reports(self._person, self._state).items():
            case = Case(case_id, report.infectious)
            if report.reported_ms > until_ms:
                kept.append(case)
                continue
            dropped.append(case)
            self._step.changes[keys.case_report(self._person, case_id.encode())] = None
            value = wire.erased_case(case_id, self._person_id, self._step.number)
            self._step.emit("case-states", self._person_id.encode(), value, self._now_ms, self._room.partition)
        return kept, dropped

    def _erase_rejects(self, until_ms: int) -> None:
        """Writes the person's rows of ``rejects`` again, without key and payload."""
        prefix = keys.person_rejects(self._person)
        held = [rejected.unpack(value) for _, value in self._state.between(prefix, prefix + b"\xff")]
        for entry in (*held, *self._desk.noted[self._person]):
            if entry.event_ms > until_ms:
                continue
            status = "resolved" if entry.status == "waiting" else entry.status
            where = (self._room.topic_prefix + entry.topic, self._room.partition, entry.offset, entry.record_ms)
            row = wire.reject(*where, None, None, reason=entry.reason, detail=entry.detail, status=status, erased=True)
            self._step.emit("rejects", None, row, self._now_ms, self._room.partition)
            self._step.changes[entry.key(self._person)] = None
