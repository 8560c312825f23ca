"""Proximity: who met whom at a venue, joined in the venue room as visits and case visits come (SPEC §7).

It is symmetric: a visit that comes finds the case visits it overlaps, a case visit finds the visits. What a change
means is the difference of two joins, with the version that is replaced and with the new one; exposures themselves
are not stored. Where nobody's case has been, a visit is only put where a case visit will find it: no look-up but
one per venue of a batch, of how many case visits it holds.

Both kinds of record are the project's own: one that does not decode, or that replaces what is not there, is a bug
of ours, and raises; without a word of whose it was. One topic's batch changes one side of the join only, and all
changes of one visit in it are taken as one; so a step emits an exposure at most once.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from streams.core import keys
from streams.core.crossing import CaseVisit, Cause, Interval, decode_case_visits, was_of
from streams.core.directory import CATEGORY_NAMES
from streams.core.exposures import CaseStay, Contact, Exposure, contact_of, emit_change, exposure_of, pack_visit
from streams.core.intervals import CLASSES, length_class, overlapping
from streams.core.keys import TIME_KEY_BYTES, time_key
from streams.core.room import RoomPartition
from streams.core.step import InRecord, StateReader, Step, newest_ms
from streams.core.times import MINUTES, parse_ms
from streams.core.visits import VISIT_MS_MAX

_CATEGORY_CODE: Final = {name: code for code, name in enumerate(CATEGORY_NAMES)}
_VISIT_CLASSES: Final = range(length_class(Interval(0, VISIT_MS_MAX)) + 1)
_COUNTS = struct.Struct(f"<{CLASSES}I")
_NO_COUNTS: Final = bytes(_COUNTS.size)

Held = TypeVar("Held", Contact, CaseStay)
Other = TypeVar("Other", Contact, CaseStay)


class _Visit(msgspec.Struct, gc=False):
    """What the join needs of a record of ``visits``; a retraction has the first two fields only."""

    visit_id: str
    status: str
    person_id: str = ""
    started_at: str = ""
    ended_at: str = ""
    first_scan_at: str = ""
    category: str = ""
    province_code: str = ""
    district_code: str = ""
    ward_code: str = ""


_decode_visits = msgspec.json.Decoder(list[_Visit]).decode
_encode_stay = msgspec.msgpack.Encoder().encode
_decode_stay = msgspec.msgpack.Decoder(CaseStay).decode


class _Rests(dict[str, int]):
    """``:30.000Z`` to milliseconds. Our own times always have three digits and Z: at most 60,000 texts."""

    def __missing__(self, text: str) -> int:
        self[text] = result = parse_ms("1970-01-01T00:00" + text)
        return result


_RESTS: Final = _Rests()


@dataclass(frozen=True, slots=True)
class _Net(Generic[Held]):
    """What a batch makes of one visit, or of one case visit: from the version before it to the last one in it."""

    old: Held | None
    new: Held | None
    cause: Cause
    timestamp_ms: int

    def hull(self) -> Interval:
        """The time within which anything it may meet, or may have met, is."""
        versions = [version for version in (self.old, self.new) if version is not None]
        if not versions:
            return Interval(0, 0)
        return Interval(min([one.start_ms for one in versions]), max([one.end_ms for one in versions]))


def take_visits(room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader) -> Step:
    """One step over a batch of ``visits``: keeps them, and says which exposures they begin, change or end."""
    step = Step(number, newest_ms(records))
    visits = _decode_visits(b"[" + b",".join([record.value or b"" for record in records]) + b"]")
    cases = _case_counts(records, state)
    nets: dict[bytes, dict[bytes, _Net[Contact]]] = {venue: {} for venue, counts in cases.items() if any(counts)}
    changes = step.changes
    for record, visit in zip(records, visits, strict=True):
        venue, visit_key = record.key or b"", bytes.fromhex(visit.visit_id)
        was = was_of(record.headers)
        old_key = None if was is None else _visit_key(venue, was, visit_key)
        new_key, value = _stored(venue, visit, visit_key)
        if old_key is not None and old_key != new_key:
            changes[old_key] = None
        if new_key is not None:
            changes[new_key] = value
        if venue in nets:
            known = nets[venue].get(visit_key)
            old = known.old if known else None if old_key is None else contact_of(old_key, _held(state, old_key))
            new = None if new_key is None else contact_of(new_key, value)
            nets[venue][visit_key] = _Net(old, new, "visit", record.timestamp)
    step.count("accepted", len(records))
    for venue, changed in nets.items():
        _settle_visits(room, step, venue, changed.values(), cases[venue], state)
    return step


def _case_counts(records: Iterable[InRecord], state: StateReader) -> dict[bytes, list[int]]:
    """For each venue of a batch, how many case visits of each class it holds."""
    venues = list({record.key or b"": None for record in records})
    counts = state.get_many([keys.venue_case_count(venue) for venue in venues])
    return {venue: list(_COUNTS.unpack(packed or _NO_COUNTS)) for venue, packed in zip(venues, counts, strict=True)}


def _visit_key(venue: bytes, interval: Interval, visit: bytes) -> bytes | None:
    """Where a visit is kept; None for one of no length, which meets nobody and is not kept."""
    if interval.start_ms == interval.end_ms:
        return None
    length = length_class(interval)
    assert length in _VISIT_CLASSES, "no visit is longer than its category's most"
    return keys.venue_visit(venue, length, interval.start_ms, visit)


def _stored(venue: bytes, visit: _Visit, visit_key: bytes) -> tuple[bytes | None, bytes]:
    """State key and value of a visit's new version; no key where it is retracted or of no length."""
    if visit.status != "active":
        return None, b""
    start_at, end_at, scan_at = visit.started_at, visit.ended_at, visit.first_scan_at
    start_ms = MINUTES[start_at[:16]] + _RESTS[start_at[16:]]
    end_ms = MINUTES[end_at[:16]] + _RESTS[end_at[16:]]
    scan_ms = start_ms if scan_at == start_at else MINUTES[scan_at[:16]] + _RESTS[scan_at[16:]]
    return _visit_key(venue, Interval(start_ms, end_ms), visit_key), pack_visit(
        time_key(end_ms),
        bytes.fromhex(visit.person_id),
        scan_ms,
        (visit.ward_code + visit.district_code + visit.province_code).encode(),
        _CATEGORY_CODE[visit.category],
    )


def _held(state: StateReader, key: bytes) -> bytes:
    """The version that a record replaces."""
    value = state.get(key)
    assert value is not None, "a record replaces what is not there"
    return value


def _settle_visits(
    room: RoomPartition, step: Step, venue: bytes, nets: Iterable[_Net[Contact]], counts: list[int], state: StateReader
) -> None:
    prefix = keys.venue_case_visits(venue)
    classes = [length for length, count in enumerate(counts) if count]

    def cases(sought: Interval) -> list[CaseStay]:
        pairs = overlapping(state, prefix, classes, sought)
        return [_decode_stay(value[TIME_KEY_BYTES:]) for _, value in pairs]

    _settle(step, nets, cases, lambda visit, case: exposure_of(venue, case, visit, room.clock))


def take_case_visits(room: RoomPartition, number: int, records: Sequence[InRecord], state: StateReader) -> Step:
    """One step over a batch of ``case-visits``: keeps them, and says which exposures they begin, change or end."""
    step = Step(number, newest_ms(records))
    events = decode_case_visits(b"[" + b",".join([record.value or b"" for record in records]) + b"]")
    counts = _case_counts(records, state)
    nets: dict[bytes, dict[tuple[str, str], _Net[CaseStay]]] = {venue: {} for venue in counts}
    for record, event in zip(records, events, strict=True):
        venue = record.key or b""
        known = nets[venue].get((event.case_id, event.visit_id))
        old, new = known.old if known else None, _stay(event)
        if event.was is not None:
            length, key = _case_key(venue, event.was, event)
            counts[venue][length] -= 1
            step.changes[key] = None
            if known is None:
                old = _decode_stay(_held(state, key)[TIME_KEY_BYTES:])
        if new is not None:
            length, key = _case_key(venue, Interval(new.start_ms, new.end_ms), event)
            counts[venue][length] += 1
            step.changes[key] = time_key(new.end_ms) + _encode_stay(new)
        nets[venue][event.case_id, event.visit_id] = _Net(old, new, event.cause, record.timestamp)
    step.count("accepted", len(records))
    for venue, changed in nets.items():
        step.changes[keys.venue_case_count(venue)] = _COUNTS.pack(*counts[venue]) if any(counts[venue]) else None
        _settle_case_visits(room, step, venue, changed.values(), state)
    return step


def _stay(event: CaseVisit) -> CaseStay | None:
    """What is kept of a case visit; None for a retraction."""
    if event.status != "active":
        return None
    assert event.rule is not None, "a case visit carries its ruleset"
    return CaseStay(
        event.case_id, event.visit_id, event.person_id, event.from_ms, event.until_ms, event.anchor_ms, event.rule
    )


def _case_key(venue: bytes, interval: Interval, event: CaseVisit) -> tuple[int, bytes]:
    """(class, state key) of the version of a case visit that had this interval."""
    length, visit = length_class(interval), bytes.fromhex(event.visit_id)
    return length, keys.venue_case_visit(venue, length, interval.start_ms, visit, event.case_id.encode())


def _settle_case_visits(
    room: RoomPartition, step: Step, venue: bytes, nets: Iterable[_Net[CaseStay]], state: StateReader
) -> None:
    prefix = keys.venue_visits(venue)

    def visits(sought: Interval) -> list[Contact]:
        return [contact_of(key, value) for key, value in overlapping(state, prefix, _VISIT_CLASSES, sought)]

    _settle(step, nets, visits, lambda case, visit: exposure_of(venue, case, visit, room.clock))


def _settle(
    step: Step,
    nets: Iterable[_Net[Held]],
    others_within: Callable[[Interval], list[Other]],
    exposure: Callable[[Held, Other], Exposure | None],
) -> None:
    """Emits the difference between the join of the old versions and that of the new ones."""
    for span, members in _spans(nets):
        others = others_within(span)
        for net in members:
            first_ms, stop_ms = net.hull()
            for other in others:
                if other.start_ms < stop_ms and other.end_ms > first_ms:
                    before = None if net.old is None else exposure(net.old, other)
                    after = None if net.new is None else exposure(net.new, other)
                    emit_change(step, before, after, net.cause, net.timestamp_ms)


def _spans(nets: Iterable[_Net[Held]]) -> Iterator[tuple[Interval, list[_Net[Held]]]]:
    """Groups what overlaps, so that a crowd is one look-up; with the time that each group covers."""
    members: list[_Net[Held]] = []
    span = Interval(0, 0)
    for hull, net in sorted([(net.hull(), net) for net in nets], key=lambda pair: pair[0]):
        if hull.start_ms == hull.end_ms:  # came and went within the batch
            continue
        if members and hull.start_ms < span.end_ms:
            span = Interval(span.start_ms, max(span.end_ms, hull.end_ms))
        else:
            if members:
                yield span, members
            span, members = hull, []
        members.append(net)
    if members:
        yield span, members
