"""Case reports in the person room (SPEC §6): which report of a case counts, and what is no report.

A case is (case_id, person_id). Of its reports the one with the largest (reported_at, canonical JSON) counts,
in whatever order they come; so the state keeps both. A value is ``reported_ms i64 | canonical JSON``.
"""

import struct
from collections.abc import Sequence

from streams.core import intake, keys, reasons, wire
from streams.core.decode import decode_case
from streams.core.inbound import CaseIn
from streams.core.room import CASE_AGE_MS_MAX, RoomPartition
from streams.core.step import InRecord, StateReader, Step, newest_ms

CASES = "cases"
_REPORTED = struct.Struct("<q")


def take_cases(room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader) -> Step:
    """One step over a batch of the ``cases`` topic."""
    step = Step(number, newest_ms(records))
    decoded = [decode_case(record.value) for record in records]
    counting: dict[bytes, intake.Timed[CaseIn]] = {}
    for timed in intake.admit(step, room, CASES, records, decoded):
        reason, detail = _fault(room, timed)
        if reason:
            step.count("rejected")
            intake.reject(step, room, CASES, timed.record, reason=reason, detail=detail)
            continue
        event = timed.event
        key = keys.case_report(bytes.fromhex(event.person_id), event.case_id.encode())
        held = counting[key].event if key in counting else None
        known = _order(held) if held else _unpack(state.get(key))
        if known is not None and known >= _order(event):
            step.count("duplicate" if known == _order(event) else "superseded")
        else:
            step.count("accepted")
            counting[key] = timed
    for key, timed in counting.items():
        event = timed.event
        step.changes[key] = _REPORTED.pack(event.reported_ms) + event.canonical
        person = event.person_id.encode()
        step.emit("case-states", person, wire.case_state(event, number), timed.now_ms, room.partition)
    if sum(step.counts.values()) != len(records):
        raise AssertionError(f"{len(records)} records, but outcomes {step.counts}")
    return step


def _order(event: CaseIn) -> tuple[int, bytes]:
    return event.reported_ms, event.canonical


def _unpack(packed: bytes | None) -> tuple[int, bytes] | None:
    if packed is None:
        return None
    return _REPORTED.unpack_from(packed)[0], packed[_REPORTED.size :]


def _fault(room: RoomPartition, timed: intake.Timed[CaseIn]) -> tuple[str, str]:
    """(reason, detail) of a report that cannot count, in SPEC's order; two empty texts if it can."""
    event = timed.event
    fault = intake.time_fault(event.reported_ms, timed.now_ms, CASE_AGE_MS_MAX)
    if fault[0] or event.status == "withdrawn":
        return fault
    if event.ruleset not in room.rulesets:
        return reasons.UNKNOWN_RULESET, f"known are {', '.join(sorted(room.rulesets))}"
    anchored = event.onset_ms is not None or event.sampled_ms is not None
    begins = anchored or event.infectious_from_ms is not None
    ends = anchored or event.infectious_to_ms is not None or event.isolated_ms is not None
    if not (begins and ends):
        return reasons.SCHEMA_VIOLATION, "onset_at or sampled_at is needed, or the infectious period itself"
    return "", ""
