"""Case reports in the person room (SPEC §6): which report of a case counts, and which visits are a case's.

A case is (case_id, person_id). Of its reports the one with the largest (reported_at, canonical JSON) counts,
in whatever order they come; so the state keeps both, and with them the infectious period as the ruleset
told it when the report was accepted. A value is::

    reported_ms i64 | n u32, JSON of Infectious (n = 0: withdrawn) | canonical JSON
"""

import struct
from collections.abc import Mapping, Sequence

import msgspec

from streams.core import intake, keys, reasons, wire
from streams.core.case_visits import Case, Infectious, Sender
from streams.core.decode import decode_case
from streams.core.inbound import CaseIn
from streams.core.records import newest_ms
from streams.core.room import CASE_AGE_MS_MAX, RoomPartition
from streams.core.step import InRecord, StateReader, Step
from streams.core.timeline import Timeline

CASES = "cases"
_FIXED = struct.Struct("<qI")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Infectious).decode


class Report(msgspec.Struct, frozen=True):
    """What state keeps of a report that counts."""

    reported_ms: int
    canonical: bytes
    infectious: Infectious | None

    @property
    def order(self) -> tuple[int, bytes]:
        """Of two reports the one with the larger order counts."""
        return self.reported_ms, self.canonical

    def pack(self) -> bytes:
        """The state value."""
        period = b"" if self.infectious is None else _encode(self.infectious)
        return _FIXED.pack(self.reported_ms, len(period)) + period + self.canonical


def unpack(packed: bytes) -> Report:
    """The report of a state value."""
    reported_ms, length = _FIXED.unpack_from(packed)
    period, canonical = packed[_FIXED.size : _FIXED.size + length], packed[_FIXED.size + length :]
    return Report(reported_ms, canonical, _decode(period) if period else None)


def reports(person: bytes, state: StateReader) -> dict[str, Report]:
    """The reports that count of a person (16 bytes), by case_id, as state holds them."""
    prefix = keys.case_reports(person)
    pairs = state.between(prefix, prefix + b"\xff")
    return {key[len(prefix) :].decode(): unpack(value) for key, value in pairs}


def held(person: bytes, state: StateReader) -> list[Case]:
    """The cases of a person (16 bytes) as state holds them."""
    return [Case(case_id, report.infectious) for case_id, report in reports(person, state).items()]


def take_cases(
    room: RoomPartition,
    number: int,
    records: Sequence[InRecord],
    state: StateReader,
    *,
    epoch: int = 0,  # noqa: ARG001 - of the input partition
) -> Step:
    """One step over a batch of the ``cases`` topic."""
    step = Step(number, newest_ms(records))
    decoded = [decode_case(record.value) for record in records]
    before: dict[tuple[str, str], Report | None] = {}
    counting: dict[tuple[str, str], tuple[Report, intake.Timed[CaseIn]]] = {}
    desk = intake.Desk(step, room, CASES, state)
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
        known = counting[identity][0] if identity in counting else before[identity]
        if known is not None and known.order >= judged.order:
            step.count("duplicate" if known.order == judged.order else "superseded")
        else:
            step.count("accepted")
            counting[identity] = (judged, timed)
    _store(step, room.partition, state, before, counting)
    if sum(step.counts.values()) != len(records):
        raise AssertionError(f"{len(records)} records, but outcomes {step.counts}")
    return step


def _store(
    step: Step,
    partition: int,
    state: StateReader,
    before: Mapping[tuple[str, str], Report | None],
    counting: Mapping[tuple[str, str], tuple[Report, intake.Timed[CaseIn]]],
) -> None:
    """Keeps the reports that count now, says so, and sends what changes of their persons' case visits."""
    timelines: dict[str, Timeline] = {}
    for (person_id, case_id), (report, timed) in counting.items():
        person = bytes.fromhex(person_id)
        step.changes[keys.case_report(person, case_id.encode())] = report.pack()
        value = wire.case_state(timed.event, step.number)
        step.emit("case-states", person_id.encode(), value, timed.now_ms, partition)
        if person_id not in timelines:
            timelines[person_id] = Timeline(person, state.get(keys.person_head(person)), state)
            timelines[person_id].note_cases(held=True)
        old = before[person_id, case_id]
        was = None if old is None else old.infectious
        periods = [period for period in (was, report.infectious) if period is not None]
        if periods:
            visits = timelines[person_id].visits_between(
                min(period.from_ms for period in periods), max(period.to_ms for period in periods)
            )
            Sender(step, person_id, timed.now_ms, "case").case_changed(case_id, was, report.infectious, visits)
    for timeline in timelines.values():
        step.changes |= timeline.changes()


def _judge(room: RoomPartition, timed: intake.Timed[CaseIn], state: StateReader) -> Report | tuple[str, str]:
    """The report as it would count, or (reason, detail) of one that cannot, in SPEC's order."""
    event = timed.event
    fault = intake.time_fault(event.reported_ms, timed.now_ms, CASE_AGE_MS_MAX)
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
