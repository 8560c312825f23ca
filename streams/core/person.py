"""The person room: one module that says in which order things happen to a scan, and holds no other logic.

decode → admit (checks, own partition) → dedupe → enrich or wait → count → visits → which of them are a case's.
A step reads a batch, the state and the register; it returns what to emit and what to change.
"""

from collections.abc import Sequence
from typing import Final

from streams.core import cases, cells, intake, reasons, wire
from streams.core.decode import decode_scans
from streams.core.directory import CATEGORY_BYTES, KEPT_BYTES, NO_ATTRIBUTES, Directory, unpack_attributes
from streams.core.in_order import InOrder, places_of
from streams.core.inbound import AreaList, BadEvent, ScanIn
from streams.core.keys import EXPIRED, expired_of, person_head
from streams.core.packed import DIRECTION_CODE, DIRECTIONS, SOURCE_CODE, SOURCES, StoredScan
from streams.core.records import Records, newest_ms
from streams.core.rejected import RejectEntry
from streams.core.room import FUTURE_MS_MAX, RoomPartition
from streams.core.step import (
    KAFKA_TIMESTAMP_MIN_MS,
    InRecord,
    StateReader,
    Step,
)
from streams.core.tally import Tally
from streams.core.timeline import Timeline
from streams.core.versions import Elsewhere, Nothing, judge_versions
from streams.core.visit_changes import VisitChanges
from streams.core.waiting import WaitingScan

SCANS = "scans"
VENUES = "venues"
_DIRECTION_BYTES = tuple(name.encode() for name in DIRECTIONS)
_SOURCE_BYTES = tuple(name.encode() for name in SOURCES)
_ACCEPTED_LATE: Final = "accepted once its venue was registered"


class _Batch:
    """What one step holds in its hands: the timelines it opened and the cells it adds to."""

    def __init__(self, room: RoomPartition, step: Step, state: StateReader) -> None:
        self.room = room
        self.step = step
        self.state = state
        self.desk = intake.Desk(step, room, SCANS, state)
        self.expired_ms = expired_of(state.get(EXPIRED))
        self.timelines: dict[str, Timeline] = {}
        self.tally = Tally(places_of(room.clock))
        self.emit_enriched = step.to("enriched").append

    def take_in_order(self, records: Records, venues: Directory) -> dict[int, ScanIn | BadEvent]:
        """Deals with the persons of whom the batch holds nothing unusual; returns the other records, by index, read."""
        plain = InOrder(records, self.room, self.expired_ms)
        unread = plain.unread
        events = dict(zip(unread, decode_scans([records[index].value for index in unread]), strict=True))
        # A person's scans go one way, in their order.
        plain.leave({event.person_id.encode() for event in events.values() if not isinstance(event, BadEvent)})
        accepted, copies, left = plain.take(self.step, self.state, venues, self.tally)
        for outcome, amount in ("accepted", accepted), ("duplicate", copies):
            if amount:
                self.step.count(outcome, amount)
        events |= zip(left, decode_scans([records[index].value for index in left]), strict=True)
        return dict(sorted(events.items()))

    def open(self, persons: Sequence[str]) -> None:
        """Reads the heads of these persons' timelines at once."""
        wanted = list(dict.fromkeys(persons))
        ids = [bytes.fromhex(person) for person in wanted]
        heads = self.state.get_many([person_head(person) for person in ids])
        for name, person, head in zip(wanted, ids, heads, strict=True):
            self.timelines[name] = Timeline(person, head, self.state)

    def close(self) -> None:
        """Hands every change to the step."""
        for person, timeline in self.timelines.items():
            were, are = timeline.settle()
            if were != are and not self.room.counts_only:
                changes = VisitChanges(self.step, person, timeline.caused_ms, were, are)
                changes.emit()
                if timeline.has_cases:
                    changes.emit_for(cases.held(bytes.fromhex(person), self.state))
            self.step.changes |= timeline.changes()
        cells.store(self.tally, self.step, self.state, self.room)

    def reject(self, timed: intake.Timed[ScanIn], reason: str, detail: str, status: str = "open") -> None:
        """Writes the row of ``rejects`` of a scan that could be read."""
        self.desk.reject(timed.record, reason=reason, detail=detail, status=status, event=timed.event)

    def accept(self, person: str, scan: StoredScan, attributes: bytes, areas: set[bytes], now_ms: int) -> None:
        """Emits an accepted scan and counts it.

        ``attributes`` are all of its venue's, ``areas`` those its person counted in on that day before.
        """
        ward, district, province, category, _, lat, lon = unpack_attributes(attributes)
        key = person.encode()
        value = wire.enriched(
            (scan.scan_id, key, scan.venue_id, scan.code),
            _DIRECTION_BYTES[scan.direction],
            scan.occurred_ms,
            _SOURCE_BYTES[scan.source],
            (CATEGORY_BYTES[category], province, district, ward, lat, lon),
            self.step.number,
        )
        self.emit_enriched((key, value, self.room.partition, max(now_ms, KAFKA_TIMESTAMP_MIN_MS)))
        timeline = self.timelines[person]
        timeline.caused_ms = max(timeline.caused_ms, now_ms)
        self.tally.timestamp_ms = max(self.tally.timestamp_ms, now_ms)
        self.tally.add(scan.venue_id, attributes, scan.occurred_ms, scan.direction, areas)


def take_scans(
    room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader, venues: Directory
) -> Step:
    """One step over a batch of the ``scans`` topic. Every record ends as exactly one outcome of ``counts``."""
    run = Records.of(records)
    step = Step(number, newest_ms(run))
    batch = _Batch(room, step, state)
    left = batch.take_in_order(run, venues)
    unusual = [run[index] for index in left]
    admitted = list(batch.desk.admit(unusual, list(left.values())))
    batch.open([timed.event.person_id for timed in admitted])
    outcomes = [_take_scan(batch, timed, venues) for timed in admitted]
    batch.close()
    for outcome in set(outcomes):
        step.count(outcome, outcomes.count(outcome))
    if sum(step.counts.values()) != len(run):
        raise AssertionError(f"{len(run)} records, but outcomes {step.counts}")
    return step


def _take_scan(batch: _Batch, timed: intake.Timed[ScanIn], venues: Directory) -> str:
    """Takes one admitted scan; returns its outcome."""
    room, step = batch.room, batch.step
    event, record, now_ms = timed
    occurred_ms = event.occurred_ms
    timeline = batch.timelines[event.person_id]
    if not now_ms - room.retention_ms <= occurred_ms <= now_ms + FUTURE_MS_MAX or occurred_ms < batch.expired_ms:
        reason, detail = intake.time_fault(occurred_ms, now_ms, room.retention_ms)
        # Sent again long after: what it would be compared with is gone.
        batch.reject(timed, reason or reasons.TOO_OLD, detail or "what was held of its day has expired")
        return "rejected"
    if timeline.erased_ms is not None and occurred_ms <= timeline.erased_ms:
        batch.reject(timed, reasons.ERASED, reasons.REASONS[reasons.ERASED])
        return "rejected"
    scan_id, code = event.scan_id.encode(), event.venue_id.encode()
    direction, source = DIRECTION_CODE[event.direction], SOURCE_CODE[event.source]
    held = timeline.find(scan_id)
    if held is not None:
        if held.same_event(occurred_ms, direction, source, code):
            return "duplicate"
        detail = "the scan processed first under this scan_id says otherwise"
        batch.reject(timed, reasons.CONFLICTING_DUPLICATE, detail)
        return "rejected"
    found = venues.resolve(code)
    if found is None:
        scan = StoredScan(occurred_ms, direction, source, True, scan_id, code, code, NO_ATTRIBUTES)  # noqa: FBT003 - by position: half the time
        _wait(batch, timed, scan)
        timeline.add(scan, room.clock)
        return "waiting"
    venue_id, attributes = found
    scan = StoredScan(occurred_ms, direction, source, False, scan_id, code, venue_id, attributes[:KEPT_BYTES])  # noqa: FBT003 - same
    batch.accept(event.person_id, scan, attributes, timeline.areas_of_day(occurred_ms, room.clock), now_ms)
    timeline.add(scan, room.clock)
    if record.headers:
        intake.resolve_origin(step, intake.origin_of(record), room.partition, now_ms)
    return "accepted"


def _wait(batch: _Batch, timed: intake.Timed[ScanIn], scan: StoredScan) -> None:
    event, record, now_ms = timed
    origin, payload = intake.origin_of(record), record.value or b""
    person = bytes.fromhex(event.person_id)
    waiting = WaitingScan(scan.code, person, scan.scan_id, record.offset, now_ms, origin, payload)
    batch.step.changes[waiting.key] = waiting.pack()
    batch.step.waiting_more += 1
    batch.reject(timed, reasons.UNKNOWN_VENUE, "waits for its venue to be registered", status="waiting")


def take_waiting(
    room: RoomPartition, number: int, waiting: Sequence[WaitingScan], now_ms: int, state: StateReader, venues: Directory
) -> Step:
    """One step that accepts, of these waiting scans, those whose code the register now resolves.

    ``now_ms`` is the newest record timestamp of the register: the record that caused this.
    """
    step = Step(number, now_ms)
    batch = _Batch(room, step, state)
    ready = [(scan, found) for scan in waiting if (found := venues.resolve(scan.code)) is not None]
    batch.open([scan.person.hex() for scan, _ in ready])
    events = decode_scans([scan.payload for scan, _ in ready])
    for (scan, (venue_id, attributes)), event in zip(ready, events, strict=True):
        if isinstance(event, BadEvent):
            raise AssertionError(f"a waiting scan no longer decodes: {event.reason}")  # noqa: TRY004 - a bug, no wrong type
        step.count("resolved")
        timeline = batch.timelines[event.person_id]
        direction, source = DIRECTION_CODE[event.direction], SOURCE_CODE[event.source]
        stored = StoredScan(
            *(event.occurred_ms, direction, source),
            waiting=False,
            scan_id=scan.scan_id,
            code=scan.code,
            venue_id=venue_id,
            attributes=attributes[:KEPT_BYTES],
        )
        at_ms = max(now_ms, scan.record_ms)
        batch.accept(event.person_id, stored, attributes, timeline.areas_of_day(event.occurred_ms, room.clock), at_ms)
        timeline.accept(scan.scan_id, event.occurred_ms, venue_id, stored.attributes, room.clock)
        step.changes[scan.key] = None
        step.waiting_more -= 1
        key = event.person_id.encode()
        row = wire.reject(
            room.topic_prefix + SCANS,
            room.partition,
            scan.offset,
            scan.record_ms,
            key,
            scan.payload,
            reason=reasons.UNKNOWN_VENUE,
            detail=_ACCEPTED_LATE,
            status="resolved",
        )
        step.emit("rejects", key, row, at_ms)
        entry = RejectEntry(
            *(SCANS, scan.offset, scan.record_ms, event.occurred_ms, reasons.UNKNOWN_VENUE, _ACCEPTED_LATE, "resolved")
        )
        step.changes[entry.key(scan.person)] = entry.pack()
        intake.resolve_origin(step, scan.origin, room.partition, at_ms)
    batch.close()
    return step


def take_venues(
    room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader, areas: AreaList
) -> Step:
    """One step over a batch of the ``venues`` topic: rejects what is bad, and sends on what lies elsewhere.

    What counts leaves no trace here; the register itself is read by the directory of every worker
    (``shell/register.py``). What is sent on lies right then, so it is sent once.
    """
    step = Step(number, newest_ms(records))
    desk = intake.Desk(step, room, VENUES, state)
    verdicts = judge_versions(records, room.partition, room.partitions, areas)
    for record, verdict in zip(records, verdicts, strict=True):
        if isinstance(verdict, BadEvent):
            step.count("rejected")
            desk.reject(record, reason=verdict.reason, detail=verdict.detail)
        elif isinstance(verdict, Elsewhere):
            step.count("forwarded")
            at_ms = max(record.timestamp, KAFKA_TIMESTAMP_MIN_MS)
            step.to(VENUES).append((record.key, record.value, verdict.home, at_ms))
        else:
            step.count("ignored" if isinstance(verdict, Nothing) else "accepted")
    return step
