"""Erasures in the person room (SPEC §8): all that is a person's of before an instant and what follows, at once.

That may take several portions, between which no other record is taken (``pending.py``).

Those are scans, waiting ones too, cases and dead letters; visits, case visits and exposures follow. What stays is
the instant itself, in the head of the timeline, by which later arrivals from before it are known. Dead letters may
stand on any partition, for what is malformed or misrouted stays where it came: so the person's own partition tells
all others, with a copy of the request under the header ``echo``.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Self, TypeVar

import msgspec
from msgspec.structs import replace

from streams.core import intake, keys, pending, rejected, waiting, wire
from streams.core.case_changes import tell_case
from streams.core.case_visits import Sender
from streams.core.decode import decode_erasure
from streams.core.held_scans import Place
from streams.core.inbound import ErasureIn
from streams.core.pending import Turn
from streams.core.records import newest_ms
from streams.core.rejected import RejectEntry
from streams.core.reports import case_id_of, reports
from streams.core.returned import send_back
from streams.core.room import RoomPartition
from streams.core.step import InRecord, StateReader, Step
from streams.core.timeline import Timeline
from streams.core.visit_changes import VisitChanges

ERASURES: Final = "erasures"
_RECORDS_PER_SCAN: Final = 3
"""Of a step for each scan that goes, about: two in topics, one in state."""


def take_erasures(
    room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader, *, epoch: int = 0
) -> Step:
    """One step over a batch of the ``erasures`` topic, or of erasures that came back; ``epoch`` is the input's."""
    step = Step(number, newest_ms(records))
    desk = intake.Desk(step, room, ERASURES, state, epoch)
    requests: dict[str, _Request] = {}
    for timed, home in desk.whole(records, [decode_erasure(record.value) for record in records]):
        event, came = timed.event, timed.came
        reason, detail = intake.time_fault(event.requested_ms, timed.now_ms, None)
        if reason:
            step.count("rejected")
            desk.reject(timed.record, reason=reason, detail=detail, event=event)
            continue
        own = home == room.partition
        later = _note(requests, event, timed.now_ms, state, own=own)
        if not own and not came.echo:
            # One on a wrong partition is carried out there too: an older release told erasures to others so.
            desk.forward(timed.record, event, home)
            continue
        step.count("accepted" if later else "superseded")
        desk.settle(timed.record, event)
        if later and own:
            _tell_others(step, room, timed)
    works: list[Forget] = []
    for person_id, request in requests.items():
        person = bytes.fromhex(person_id)
        for entry in desk.noted[person]:  # by this very step: what state holds is the work's
            if entry.event_ms <= request.until_ms:
                _bare(step, room, person, entry, request.now_ms)
        works.append(Forget(person_id, request.until_ms, request.now_ms, "cases" if request.own else "rejects"))
    pending.begin(room, step, state, works)
    if sum(step.counts.values()) != len(records):
        raise AssertionError(f"{len(records)} records, but outcomes {step.counts}")
    return step


class _Request(NamedTuple):
    """What a person asked to forget: all up to ``until_ms``, asked at ``now_ms``; whether this is the own partition."""

    until_ms: int
    now_ms: int
    own: bool


def _note(requests: dict[str, _Request], event: ErasureIn, now_ms: int, state: StateReader, *, own: bool) -> bool:
    """Notes a request, if none as late as it is known; whether it did."""
    known = requests.get(event.person_id)
    if known is not None and known.until_ms >= event.requested_ms:
        return False
    if intake.is_erased(state, event.person_id, event.requested_ms):
        return False
    requests[event.person_id] = _Request(event.requested_ms, now_ms, own)
    return True


def _tell_others(step: Step, room: RoomPartition, timed: intake.Timed[ErasureIn]) -> None:
    for partition in range(room.partitions):
        if partition != room.partition:
            send_back(step, timed.record, timed.came._replace(echo=True, hops=0, attempt=0, reason=""), partition)


class Forget(msgspec.Struct, frozen=True, array_like=True, tag="forget"):
    """One person's erasure in one partition, as work: cases first, by the visits as they were; scans; dead letters."""

    person_id: str
    until_ms: int
    """What is from up to and including this goes."""
    now_ms: int
    """Record timestamp of the request."""
    stage: Literal["cases", "scans", "rejects"]
    """What is to go next; of another partition's person there are only dead letters here."""
    after: bytes = b""
    """The key of the report, or row, that was dealt with last."""
    start: Place | None = None
    """Of the case after that: where the chunk of the timeline begins to go on with."""
    keeps_cases: bool = False
    """Whether a case was seen that stays."""
    floor_ms: int | None = None
    """Of a timeline that is erased in part: ``Erased.floor_ms``."""

    def advance(self, turn: Turn) -> Self | None:
        """See ``pending.Work``."""
        person, state = bytes.fromhex(self.person_id), turn.state
        timeline = Timeline(person, state.get(keys.person_head(person)), state)
        timeline.note_erased(self.until_ms)
        rest = self
        if rest.stage == "cases":
            rest = _erase_cases(rest, turn, timeline)
        if rest.stage == "scans" and (self.stage == "scans" or not turn.is_full):
            rest = _erase_scans(rest, turn, timeline)
        turn.step.changes |= timeline.changes()
        # The mark alone may fill a small portion: each turn gets on all the same.
        if rest.stage == "rejects" and (self.stage == "rejects" or not turn.is_full):
            return _erase_rejects(rest, turn)
        return rest


F = TypeVar("F", bound=Forget)


def _erase_cases(forget: F, turn: Turn, timeline: Timeline) -> F:
    """Takes back the cases from before; those that stay are told of the scans that go."""
    person_id, step = forget.person_id, turn.step
    if not timeline.has_cases:
        return replace(forget, stage="scans")
    sender = Sender(step, person_id, forget.now_ms, "visit")
    after, start, keeps = forget.after, forget.start, forget.keeps_cases
    for key, report in reports(bytes.fromhex(person_id), turn.state, after):
        if report.reported_ms > forget.until_ms:
            keeps = True
        else:
            case_id = case_id_of(key)
            start = tell_case(turn, sender, timeline, (case_id, report.infectious, None), start)
            if start is not None:
                return replace(forget, after=after, start=start, keeps_cases=keeps)
            step.changes[key] = None
            value = wire.erased_case(case_id, person_id, step.number)
            step.emit("case-states", person_id.encode(), value, forget.now_ms, turn.room.partition)
        after = key
        turn.look_at(1)
        if turn.is_full:
            return replace(forget, after=after, start=None, keeps_cases=keeps)
    timeline.note_cases(held=keeps)
    return replace(forget, stage="scans", after=b"", start=None, keeps_cases=keeps)


def _erase_scans(forget: F, turn: Turn, timeline: Timeline) -> F:
    """Takes back the scans from before, and the visits that followed from them."""
    person_id, now_ms, step = forget.person_id, forget.now_ms, turn.step
    person, key = bytes.fromhex(person_id), person_id.encode()
    scans_max = max(1, turn.records_left // _RECORDS_PER_SCAN)
    erased = timeline.erase(forget.until_ms, turn.room.clock, scans_max, forget.floor_ms)
    for scan in erased.gone:
        if scan.waiting:
            waiting.drop(step, turn.state, scan.code, person, scan.scan_id)
        else:
            value = wire.erased_scan(scan.scan_id, key, scan.occurred_ms, step.number)
            step.emit("enriched", key, value, now_ms, turn.room.partition)
    changes = VisitChanges(step, person_id, now_ms, erased.were, erased.are)
    changes.emit()
    if forget.keeps_cases:
        turn.further += changes.for_cases()
    return replace(forget, stage="scans" if erased.more else "rejects", floor_ms=erased.floor_ms)


def _erase_rejects(forget: F, turn: Turn) -> F | None:
    """Writes the person's rows of ``rejects`` again, without key and payload."""
    person = bytes.fromhex(forget.person_id)
    prefix = keys.person_rejects(person)
    first = forget.after + b"\0" if forget.after else prefix
    while True:
        most = turn.records_left
        pairs = turn.state.between(first, prefix + b"\xff", most)
        for key, value in pairs:
            entry = rejected.unpack(value)
            if entry.event_ms <= forget.until_ms and key not in turn.step.changes:
                _bare(turn.step, turn.room, person, entry, forget.now_ms)
        turn.look_at(len(pairs))
        if len(pairs) < most:
            return None
        if turn.is_full:
            return replace(forget, after=pairs[-1][0])
        first = pairs[-1][0] + b"\0"


def _bare(step: Step, room: RoomPartition, person: bytes, entry: RejectEntry, now_ms: int) -> None:
    """Writes a row that is remembered under a person again, without key and payload, and forgets it."""
    status = "resolved" if entry.status == "waiting" else entry.status
    origin = entry.origin._replace(topic=room.topic_prefix + entry.topic)
    row = wire.reject(
        *(origin, entry.record_ms, None, None),
        reason=entry.reason, detail=entry.detail, status=status, attempts=entry.attempts, bare=True,
    )  # fmt: skip
    step.emit("rejects", None, row, now_ms, room.partition)
    step.changes[entry.key(person)] = None
