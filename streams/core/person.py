"""The person room: one module that says in which order things happen to a scan, and holds no other logic.

decode → admit (checks, own partition) → dedupe → enrich or wait → count → visits → which of them are a case's.
A step reads a batch, the state and the register; it returns what to emit and what to change.
"""

from collections.abc import Sequence
from typing import Final

from streams.core import cells, intake, keys, pending, reasons, waiting, wire
from streams.core.case_changes import CasesOfVisits
from streams.core.decode import decode_scans
from streams.core.directory import CATEGORY_BYTES, KEPT_BYTES, NO_ATTRIBUTES, Directory, unpack_attributes
from streams.core.in_order import InOrder, places_of
from streams.core.inbound import AreaList, BadEvent, ScanIn
from streams.core.keys import EXPIRED, expired_of, person_head
from streams.core.packed import DIRECTION_CODE, DIRECTIONS, SOURCE_CODE, SOURCES, StoredScan
from streams.core.partition import partition_of
from streams.core.records import Records, newest_ms
from streams.core.rejected import RejectEntry
from streams.core.returned import Returned
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

    def __init__(self, room: RoomPartition, step: Step, state: StateReader, epoch: int = 0) -> None:
        self.room = room
        self.step = step
        self.state = state
        self.desk = intake.Desk(step, room, SCANS, state, epoch)
        self.expired_ms = expired_of(state.get(EXPIRED))
        self.timelines: dict[str, Timeline] = {}
        self.tally = Tally(places_of(room.clock))
        self.emit_enriched = step.to("enriched").append

    def take_in_order(self, records: Records, venues: Directory) -> dict[int, ScanIn | BadEvent]:
        """Deals with the persons of whom the batch holds nothing unusual; returns the other records, by index, read."""
        if len(records) and isinstance(records[0], Returned):
            return dict(enumerate(decode_scans([record.value for record in records])))
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
        works: list[CasesOfVisits] = []
        for person, timeline in self.timelines.items():
            were, are = timeline.settle()
            if were != are and not self.room.counts_only:
                changes = VisitChanges(self.step, person, timeline.caused_ms, were, are)
                changes.emit()
                if timeline.has_cases:
                    works += changes.for_cases()
            self.step.changes |= timeline.changes()
        cells.store(self.tally, self.step, self.state, self.room)
        pending.begin(self.room, self.step, self.state, works)

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
    room: RoomPartition,
    number: int,
    records: Sequence[InRecord],
    state: StateReader,
    venues: Directory,
    *,
    epoch: int = 0,
) -> Step:
    """One step over a batch of the ``scans`` topic, or of scans that came back; ``epoch`` is the input's.

    Every record ends as exactly one outcome of ``counts``.
    """
    run = Records.of(records)
    step = Step(number, newest_ms(run))
    batch = _Batch(room, step, state, epoch)
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
    room, event, now_ms = batch.room, timed.event, timed.now_ms
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
            # Of a scan that waits and was sent again twice, the row goes with what waits.
            if not held.waiting or not _waits_itself(batch, timed, code, scan_id):
                batch.desk.settle(timed.record, event)
            return "duplicate"
        detail = "the scan processed first under this scan_id says otherwise"
        batch.reject(timed, reasons.CONFLICTING_DUPLICATE, detail)
        return "rejected"
    found = venues.resolve(code)
    if found is None:
        return _wait(batch, timed, StoredScan(occurred_ms, direction, source, True, scan_id, code, code, NO_ATTRIBUTES))  # noqa: FBT003 - by position: half the time
    venue_id, attributes = found
    scan = StoredScan(occurred_ms, direction, source, False, scan_id, code, venue_id, attributes[:KEPT_BYTES])  # noqa: FBT003 - same
    batch.accept(event.person_id, scan, attributes, timeline.areas_of_day(occurred_ms, room.clock), now_ms)
    timeline.add(scan, room.clock)
    batch.desk.settle(timed.record, event)
    return "accepted"


def _waits_itself(batch: _Batch, timed: intake.Timed[ScanIn], code: bytes, scan_id: bytes) -> bool:
    key = keys.waiting_scan(code, bytes.fromhex(timed.event.person_id), scan_id)
    packed = batch.step.changes.get(key) or batch.state.get(key)
    return packed is not None and waiting.unpack(key, packed).origin == timed.came.origin


def _wait(batch: _Batch, timed: intake.Timed[ScanIn], scan: StoredScan) -> str:
    """Has a scan wait for its venue, unless too many do already; returns its outcome."""
    came, person = timed.came, bytes.fromhex(timed.event.person_id)
    if waiting.count_of(batch.step, batch.state, scan.code, person) >= waiting.WAITING_MAX:
        batch.reject(timed, reasons.TOO_MANY_WAITING, reasons.REASONS[reasons.TOO_MANY_WAITING])
        return "rejected"
    waits = WaitingScan(
        *(scan.code, person, scan.scan_id, came.origin, came.now_ms, scan.occurred_ms, came.attempt),
        direction=scan.direction,
        source=scan.source,
    )
    waiting.keep(batch.step, batch.state, waits)
    batch.reject(timed, reasons.UNKNOWN_VENUE, "waits for its venue to be registered", status="waiting")
    batch.timelines[timed.event.person_id].add(scan, batch.room.clock)
    return "waiting"


def take_waiting(
    room: RoomPartition, number: int, ready: Sequence[WaitingScan], now_ms: int, state: StateReader, venues: Directory
) -> Step:
    """One step that accepts, of these waiting scans, those whose code the register now resolves.

    ``now_ms`` is the newest record timestamp of the register: the record that caused this.
    """
    step = Step(number, now_ms)
    batch = _Batch(room, step, state)
    resolved = [(scan, found) for scan in ready if (found := venues.resolve(scan.code)) is not None]
    batch.open([scan.person.hex() for scan, _ in resolved])
    for scan, (venue_id, attributes) in resolved:
        step.count("resolved")
        person_id = scan.person.hex()
        timeline = batch.timelines[person_id]
        stored = StoredScan(
            *(scan.occurred_ms, scan.direction, scan.source),
            waiting=False,
            scan_id=scan.scan_id,
            code=scan.code,
            venue_id=venue_id,
            attributes=attributes[:KEPT_BYTES],
        )
        at_ms = max(now_ms, scan.record_ms)
        batch.accept(person_id, stored, attributes, timeline.areas_of_day(scan.occurred_ms, room.clock), at_ms)
        timeline.accept(scan.scan_id, scan.occurred_ms, venue_id, stored.attributes, room.clock)
        waiting.drop(step, state, scan.code, scan.person, scan.scan_id)
        _resolve(batch, scan, at_ms)
    batch.close()
    return step


def _resolve(batch: _Batch, scan: WaitingScan, at_ms: int) -> None:
    """The row of a scan that waited, now that it is accepted; without payload."""
    key, origin = scan.person.hex().encode(), scan.origin
    row = wire.reject(
        *(origin._replace(topic=batch.room.topic_prefix + origin.topic), scan.record_ms, key, None),
        reason=reasons.UNKNOWN_VENUE, detail=_ACCEPTED_LATE, status="resolved", attempts=scan.attempts,
    )  # fmt: skip
    batch.step.emit("rejects", key, row, at_ms, batch.room.partition)
    entry = RejectEntry(
        *(*origin, scan.record_ms, scan.occurred_ms, reasons.UNKNOWN_VENUE, _ACCEPTED_LATE, "resolved", scan.attempts)
    )
    batch.step.changes[entry.key(scan.person)] = entry.pack()


def take_venues(
    room: RoomPartition,
    number: int,
    records: Sequence[InRecord],
    state: StateReader,
    areas: AreaList,
    *,
    venues: Directory | None = None,
    epoch: int = 0,
) -> Step:
    """One step over a batch of ``venues``, or of versions sent again: rejects, and sends on what lies elsewhere.

    What counts leaves no trace here; the register itself is read by the directory of every worker
    (``shell/register.py``), and ``venues`` is what it holds. What is sent on lies right then, so it is sent once.
    """
    step = Step(number, newest_ms(records))
    desk = intake.Desk(step, room, VENUES, state, epoch)
    judged = [one._replace(timestamp=one.came.now_ms) if isinstance(one, Returned) else one for one in records]
    verdicts = judge_versions(judged, room.partition, room.partitions, areas)
    for record, verdict in zip(records, verdicts, strict=True):
        if isinstance(verdict, BadEvent):
            step.count("rejected")
            desk.reject(record, reason=verdict.reason, detail=verdict.detail)
        elif isinstance(record, Returned):
            step.count("accepted" if _register_again(desk, record, venues) else "superseded")
        elif isinstance(verdict, Elsewhere):
            step.count("forwarded")
            at_ms = max(record.timestamp, KAFKA_TIMESTAMP_MIN_MS)
            step.to(VENUES).append((record.key, record.value, verdict.home, at_ms))
        else:
            step.count("ignored" if isinstance(verdict, Nothing) else "accepted")
    return step


def _register_again(desk: intake.Desk, record: Returned, venues: Directory | None) -> bool:
    """Produces a version that was sent again to ``venues``, unless its venue is registered by now; whether it did."""
    key = record.key or b""
    found = None if venues is None else venues.resolve(key)
    known = found is not None and found[0] == key
    if not known:
        home = partition_of(key, desk.room.partitions)
        desk.step.emit(VENUES, key, record.value or b"", max(record.timestamp, 1), home)
    desk.settle(record, None)
    return not known
