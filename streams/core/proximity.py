"""Proximity: who met whom at a venue, joined in the venue room as visits and case visits come (SPEC §7).

It is symmetric: a visit that comes finds the case visits it overlaps, a case visit finds the visits. What a change
means is the difference of two joins, with the version that is replaced and with the new one; exposures themselves
are not stored. Where nobody's case has been, a visit is only put where a case visit will find it: no look-up but
one per venue of a batch, of how many case visits it holds.

Both kinds of record are the project's own: one that cannot be is skipped (``foreign.py``), and one that replaces what
is not there is a bug of ours, and raises; without a word of whose it was. One topic's batch changes one side of the
join only, and all changes of one visit in it are taken as one; so a step emits an exposure at most once. The join
itself may take several portions (``joins.py``).
"""

import struct
from collections.abc import Container, Mapping, Sequence
from typing import Final

import msgspec

from streams.core import keys, pending, visit_records
from streams.core.crossing import (
    CASE_VISITS,
    VISITS,
    CaseVisit,
    Crossed,
    Interval,
    NotOwnError,
    decode_case_visits,
    is_interval,
    was_of,
)
from streams.core.directory import CATEGORY_NAMES
from streams.core.exposures import CaseStay, contact_of, pack_visit
from streams.core.foreign import are_codes, emit_foreign, is_hex, is_id, read_own
from streams.core.intervals import CLASSES, length_class
from streams.core.joins import VISIT_CLASSES, CaseNet, VisitNet, of_case_visits, of_visits
from streams.core.keys import TIME_KEY_BYTES, time_key
from streams.core.records import Records, newest_ms
from streams.core.room import RoomPartition
from streams.core.ruleset import is_rule
from streams.core.step import InRecord, StateReader, Step
from streams.core.times import own_ms
from streams.core.visits import VISIT_MS_MAX

_CATEGORY_CODE: Final = {name: code for code, name in enumerate(CATEGORY_NAMES)}
_COUNTS = struct.Struct(f"<{CLASSES}I")


class _Visit(msgspec.Struct, gc=False):
    """What the join needs of a record of ``visits``; a retraction has the first two fields only."""

    visit_id: str
    status: str
    person_id: str = ""
    venue_id: str = ""
    started_at: str = ""
    ended_at: str = ""
    first_scan_at: str = ""
    category: str = ""
    province_code: str = ""
    district_code: str = ""
    ward_code: str = ""


_decode_visits = msgspec.json.Decoder(_Visit).decode_lines
_encode_stay = msgspec.msgpack.Encoder().encode
_decode_stay = msgspec.msgpack.Decoder(CaseStay).decode


def take_visits(room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader) -> Step:
    """One step over a batch of ``visits``: keeps them, and says which exposures they begin, change or end."""
    run = Records.of(records)
    step = Step(number, newest_ms(run))
    cases = _case_counts(run, state)
    foreign: list[InRecord] = []
    step.changes, crossed = visit_records.kept(run, cases) or kept(run, cases, foreign)
    nets: dict[bytes, dict[bytes, VisitNet]] = {venue: {} for venue in cases}
    for record, visit, was, old_key, new_key, value in crossed:
        net = nets[record.key or b""]
        known = net.get(visit)
        if known is not None:
            old = known.old
        else:
            held = None if old_key is None or was is None else _held(state, old_key, was)
            old = None if old_key is None or held is None else contact_of(old_key, held)
        new = None if new_key is None else contact_of(new_key, value)
        net[visit] = VisitNet(old, new, "visit", record.timestamp)
    for record in foreign:
        emit_foreign(step, room, VISITS, record)
    step.count("accepted", len(run) - len(foreign))
    pending.begin(
        room,
        step,
        state,
        [join for venue, net in nets.items() for join in of_visits(venue, cases[venue], net.values())],
    )
    return step


def kept(
    records: Sequence[InRecord], cases: Container[bytes], foreign: list[InRecord] | None = None
) -> tuple[dict[bytes, bytes | None], list[Crossed]]:
    """The same as ``visit_records.kept``, of records in any form; those that cannot be ours go to ``foreign``."""
    changes: dict[bytes, bytes | None] = {}
    crossed: list[Crossed] = []
    for record, read in zip(records, read_own(_decode_visits, records), strict=True):
        venue = record.key or b""
        try:
            visit = _own(venue, read)
            identity = bytes.fromhex(visit.visit_id)
            was = was_of(record.headers)
            old_key = None if was is None else _visit_key(venue, identity, *was)
            new_key, value = _stored(venue, visit, identity)
        except NotOwnError:
            if foreign is not None:
                foreign.append(record)
            continue
        if old_key is not None:
            changes[old_key] = None
        if new_key is not None:
            changes[new_key] = value
        if venue in cases:
            crossed.append((record, identity, was, old_key, new_key, value))
    return changes, crossed


def _case_counts(records: Records, state: StateReader) -> dict[bytes, list[int]]:
    """How many case visits of each class they hold: the venues of a batch that hold any."""
    venues = records.distinct_keys()
    counts = state.get_many([keys.venue_case_count(venue) for venue in venues])
    return {venue: list(_COUNTS.unpack(packed)) for venue, packed in zip(venues, counts, strict=True) if packed}


def _visit_key(venue: bytes, visit: bytes, start_ms: int, end_ms: int) -> bytes | None:
    """Where a visit is kept; None for one of no length, which meets nobody and is not kept."""
    if start_ms == end_ms:
        return None
    length = length_class(end_ms - start_ms)
    if length not in VISIT_CLASSES or end_ms - start_ms > VISIT_MS_MAX:
        raise NotOwnError("no visit is longer than its category's most")
    return keys.venue_visit(venue, length, start_ms, visit)


def _stored(venue: bytes, visit: _Visit, visit_key: bytes) -> tuple[bytes | None, bytes]:
    """State key and value of a visit's new version; no key where it is retracted or of no length."""
    if visit.status == "retracted":
        return None, b""
    areas = (visit.ward_code, visit.district_code, visit.province_code)
    start_ms, end_ms, scan_ms = map(_own_ms, (visit.started_at, visit.ended_at, visit.first_scan_at))
    if (
        visit.status != "active"
        or visit.venue_id.encode() != venue
        or not (is_hex(visit.person_id) and are_codes(*areas) and visit.category in _CATEGORY_CODE)
        or not (is_interval(start_ms, end_ms) and is_interval(scan_ms, scan_ms))
    ):
        raise NotOwnError
    return _visit_key(venue, visit_key, start_ms, end_ms), pack_visit(
        time_key(end_ms),
        bytes.fromhex(visit.person_id),
        scan_ms,
        "".join(areas).encode(),
        _CATEGORY_CODE[visit.category],
    )


def _own(venue: bytes, visit: _Visit | None) -> _Visit:
    """The visit, if its id and its record's key may be the pipeline's own."""
    if visit is None or not is_hex(visit.visit_id) or not is_id(venue):
        raise NotOwnError
    return visit


def _own_ms(text: str) -> int:
    try:
        return own_ms(text)
    except ValueError:
        raise NotOwnError from None


def _held(state: StateReader, key: bytes, was: Interval) -> bytes | None:
    """The version that a record replaces; None if it has expired here, before its person's partition let go of it.

    A timeline keeps a short visit as long as a longer one before it, so only the cutoff itself is a bound.
    """
    value = state.get(key)
    if value is None and was.start_ms >= keys.expired_of(state.get(keys.EXPIRED)):
        raise AssertionError("a record replaces what is not there")
    return value


def take_case_visits(room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader) -> Step:
    """One step over a batch of ``case-visits``: keeps them, and says which exposures they begin, change or end."""
    step = Step(number, newest_ms(records))
    counts = _case_counts(Records.of(records), state)
    nets: dict[bytes, dict[tuple[str, str], CaseNet]] = {}
    for record, event in zip(records, read_own(decode_case_visits, records), strict=True):
        venue = record.key or b""
        if event is None or not (is_id(venue) and _is_own(event)):
            emit_foreign(step, room, CASE_VISITS, record)
            continue
        step.count("accepted")
        held = counts.setdefault(venue, [0] * CLASSES)
        changed = nets.setdefault(venue, {})
        known = changed.get((event.case_id, event.visit_id))
        old, new = known.old if known else None, _stay(event)
        if event.was is not None:
            length, key = _case_key(venue, event, *event.was)
            before = None if known else _held(state, key, event.was)
            if known or before is not None:
                held[length] -= 1
                step.changes[key] = None
            if before is not None:
                old = _decode_stay(before[TIME_KEY_BYTES:])
        if new is not None:
            length, key = _case_key(venue, event, new.start_ms, new.end_ms)
            held[length] += 1
            step.changes[key] = time_key(new.end_ms) + _encode_stay(new)
        changed[event.case_id, event.visit_id] = CaseNet(old, new, event.cause, record.timestamp)
    for venue in nets:
        step.changes[keys.venue_case_count(venue)] = _COUNTS.pack(*counts[venue]) if any(counts[venue]) else None
    pending.begin(
        room, step, state, [join for venue, net in nets.items() for join in of_case_visits(venue, net.values())]
    )
    return step


def fewer_cases(packed: bytes | None, fewer: Mapping[int, int]) -> bytes | None:
    """A venue's count of case visits by class, lowered; None where none is left."""
    counts = list(_COUNTS.unpack(packed)) if packed else [0] * CLASSES
    for length, count in fewer.items():
        counts[length] -= count
    return _COUNTS.pack(*counts) if any(counts) else None


def _is_own(event: CaseVisit) -> bool:
    """Whether the pipeline may have written this case visit, and an exposure of it can be told."""
    if not (
        is_id(event.case_id.encode()) and is_hex(event.visit_id) and (event.was is None or is_interval(*event.was))
    ):
        return False
    if event.status != "active":
        return True
    anchor_ms = event.from_ms if event.anchor_ms is None else event.anchor_ms
    return (
        is_hex(event.person_id)
        and is_interval(event.from_ms, event.until_ms)
        and is_interval(anchor_ms, anchor_ms)
        and event.rule is not None
        and is_rule(event.rule)
    )


def _stay(event: CaseVisit) -> CaseStay | None:
    """What is kept of a case visit; None for a retraction."""
    if event.status != "active":
        return None
    assert event.rule is not None, "a case visit carries its ruleset"
    return CaseStay(
        event.case_id, event.visit_id, event.person_id, event.from_ms, event.until_ms, event.anchor_ms, event.rule
    )


def _case_key(venue: bytes, event: CaseVisit, start_ms: int, end_ms: int) -> tuple[int, bytes]:
    """(class, state key) of the version of a case visit that had this interval."""
    length, visit = length_class(end_ms - start_ms), bytes.fromhex(event.visit_id)
    return length, keys.venue_case_visit(venue, length, start_ms, visit, event.case_id.encode())
