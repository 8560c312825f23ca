"""Case reports in the person room (SPEC §6): which report of a case counts, and which visits are a case's.

A case is (case_id, person_id). Of its reports the one with the largest (reported_at, canonical JSON) counts,
in whatever order they come (``reports.py``). What follows for the person's visits may take several portions
(``case_changes.py``).
"""

from collections.abc import Mapping, Sequence

from streams.core import intake, keys, pending, reasons, wire
from streams.core.case_changes import CaseChange
from streams.core.case_visits import Infectious
from streams.core.decode import decode_case
from streams.core.inbound import CaseIn
from streams.core.records import newest_ms
from streams.core.reports import Report, unpack
from streams.core.room import CASE_AGE_MS_MAX, RoomPartition
from streams.core.step import InRecord, StateReader, Step
from streams.core.timeline import Timeline

CASES = "cases"


def take_cases(
    room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader, *, epoch: int = 0
) -> Step:
    """One step over a batch of the ``cases`` topic, or of reports that came back; ``epoch`` is the input's."""
    step = Step(number, newest_ms(records))
    decoded = [decode_case(record.value) for record in records]
    before: dict[tuple[str, str], Report | None] = {}
    counting: dict[tuple[str, str], tuple[Report, intake.Timed[CaseIn]]] = {}
    desk = intake.Desk(step, room, CASES, state, epoch)
    for timed in desk.admit(records, decoded):
        event = timed.event
        judged = _judge(room, timed, state)
        if isinstance(judged, tuple):
            reason, detail = judged
            step.count("rejected")
            desk.reject(timed.record, reason=reason, detail=detail, event=event)
            continue
        identity = (event.person_id, event.case_id)
        if identity not in before:
            packed = state.get(keys.case_report(bytes.fromhex(event.person_id), event.case_id.encode()))
            before[identity] = unpack(packed) if packed else None
        desk.settle(timed.record, event)
        known = counting[identity][0] if identity in counting else before[identity]
        if known is not None and known.order >= judged.order:
            step.count("duplicate" if known.order == judged.order else "superseded")
        else:
            step.count("accepted")
            counting[identity] = (judged, timed)
    _store(room, step, state, before, counting)
    if sum(step.counts.values()) != len(records):
        raise AssertionError(f"{len(records)} records, but outcomes {step.counts}")
    return step


def _store(
    room: RoomPartition,
    step: Step,
    state: StateReader,
    before: Mapping[tuple[str, str], Report | None],
    counting: Mapping[tuple[str, str], tuple[Report, intake.Timed[CaseIn]]],
) -> None:
    """Keeps the reports that count now, says so, and sends what changes of their persons' case visits."""
    timelines: dict[str, Timeline] = {}
    changes: list[CaseChange] = []
    for (person_id, case_id), (report, timed) in counting.items():
        person = bytes.fromhex(person_id)
        step.changes[keys.case_report(person, case_id.encode())] = report.pack()
        value = wire.case_state(timed.event, step.number)
        step.emit("case-states", person_id.encode(), value, timed.now_ms, room.partition)
        if person_id not in timelines:
            timelines[person_id] = Timeline(person, state.get(keys.person_head(person)), state)
            timelines[person_id].note_cases(held=True)
        old = before[person_id, case_id]
        was = None if old is None else old.infectious
        if was is not None or report.infectious is not None:
            changes.append(CaseChange(person_id, case_id, was, timed.now_ms))
    for timeline in timelines.values():
        step.changes |= timeline.changes()
    pending.begin(room, step, state, changes)


def cases_expired_ms(room: RoomPartition, state: StateReader) -> int:
    """Up to when (epoch ms) a partition has let go of case reports: an event sent again long after may be older."""
    packed = state.get(keys.EXPIRED)
    scans_ms = keys.expired_of(packed)
    return scans_ms if packed is None else scans_ms + room.retention_ms - CASE_AGE_MS_MAX


def _judge(room: RoomPartition, timed: intake.Timed[CaseIn], state: StateReader) -> Report | tuple[str, str]:
    """The report as it would count, or (reason, detail) of one that cannot, in SPEC's order."""
    event = timed.event
    fault = intake.time_fault(event.reported_ms, timed.now_ms, CASE_AGE_MS_MAX)
    if not fault[0] and event.reported_ms < cases_expired_ms(room, state):
        fault = reasons.TOO_OLD, "what was held of its day has expired"
    if fault[0]:
        return fault
    if intake.is_erased(state, event.person_id, event.reported_ms):
        return reasons.ERASED, reasons.REASONS[reasons.ERASED]
    if event.status == "withdrawn":
        return Report(event.reported_ms, event.canonical, None)
    rule = room.rulesets.get(event.ruleset) if event.ruleset is not None else None
    if rule is None:
        return reasons.UNKNOWN_RULESET, f"known are {', '.join(sorted(room.rulesets))}"
    try:
        period = rule.period(
            *(event.onset_ms, event.sampled_ms, event.infectious_from_ms, event.infectious_to_ms, event.isolated_ms)
        )
    except ValueError as error:
        return reasons.SCHEMA_VIOLATION, str(error)
    return Report(event.reported_ms, event.canonical, Infectious(*period, rule))
