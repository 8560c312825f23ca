"""What an exposure is (SPEC §7): one visit of a case and one visit of another person that overlaps it.

Nothing here keeps exposures: each is a function of its two visits, so what a change of one of them means is the
difference of two calls. No exposure names the case's person, and none is made of one person's own visits.
"""

import struct
from typing import Final, NamedTuple

import msgspec

from streams.core.crossing import Cause
from streams.core.directory import CATEGORY_NAMES
from streams.core.keys import split_venue_visit, time_of_key
from streams.core.ruleset import Ruleset
from streams.core.step import BY_KEY, KAFKA_TIMESTAMP_MIN_MS, Step
from streams.core.times import MINUTE_MS, LocalClock, format_ms
from streams.core.wire import digest

EXPOSURES: Final = "exposures"
_VISIT = struct.Struct(">8s16sq10sB")
pack_visit = _VISIT.pack
"""The stored value of a visit, of: its end as ``keys.time_key``, person (16 bytes), first scan's time (epoch ms),
ward, district and province code as in ``directory.py``, category code. It begins as ``intervals.py`` asks."""


class Contact(NamedTuple):
    """A visit as the venue room holds it; times in epoch ms, ``areas`` as in ``pack_visit``."""

    visit: bytes
    start_ms: int
    end_ms: int
    person: bytes
    first_scan_ms: int
    areas: bytes
    category: int


def contact_of(key: bytes, value: bytes) -> Contact:
    """A visit from its state key and value."""
    start_ms, visit = split_venue_visit(key)
    end, person, first_scan_ms, areas, category = _VISIT.unpack(value)
    return Contact(visit, start_ms, time_of_key(end), person, first_scan_ms, areas, category)


class CaseStay(msgspec.Struct, frozen=True, array_like=True):
    """A case visit as the venue room holds it: cut to the infectious period, its tail added; epoch ms."""

    case_id: str
    visit_id: str
    person_id: str
    start_ms: int
    end_ms: int
    anchor_ms: int | None
    rule: Ruleset


class Exposure(msgspec.Struct):
    """A row of ``exposures``. The last three fields belong to its emission, and are left out of comparisons."""

    exposure_id: str
    case_id: str
    person_id: str
    venue_id: str
    category: str
    province_code: str
    district_code: str
    ward_code: str
    overlap_from: str
    overlap_to: str
    overlap_minutes: int
    score: float
    level: str
    ruleset: str
    ruleset_version: int
    contact_scan_at: str
    status: str = "active"
    reason: str = ""
    detected_at: str = ""
    revision: int = 0


class RetractedExposure(msgspec.Struct):
    """Takes an exposure back."""

    exposure_id: str
    person_id: str
    contact_scan_at: str
    status: str
    revision: int


_encode = msgspec.json.Encoder().encode


def exposure_of(venue: bytes, case: CaseStay, contact: Contact, clock: LocalClock) -> Exposure | None:
    """The exposure that these two visits to one venue give, or None."""
    from_ms = max(contact.start_ms, case.start_ms)
    to_ms = min(contact.end_ms, case.end_ms)
    overlap_ms = to_ms - from_ms
    rule = case.rule
    if overlap_ms <= 0 or overlap_ms < rule.min_overlap_minutes * MINUTE_MS:
        return None
    person_id = contact.person.hex()
    if person_id == case.person_id:
        return None
    minutes = overlap_ms // MINUTE_MS
    score = rule.weight(case.anchor_ms, from_ms, clock) * minutes
    named = (case.case_id.encode(), case.visit_id.encode(), contact.visit.hex().encode())
    areas = contact.areas.decode()
    return Exposure(
        exposure_id=digest(*named).decode(),
        case_id=case.case_id,
        person_id=person_id,
        venue_id=venue.decode(),
        category=CATEGORY_NAMES[contact.category],
        province_code=areas[8:10],
        district_code=areas[5:8],
        ward_code=areas[0:5],
        overlap_from=format_ms(from_ms),
        overlap_to=format_ms(to_ms),
        overlap_minutes=minutes,
        score=score,
        level=rule.level(score),
        ruleset=rule.name,
        ruleset_version=rule.version,
        contact_scan_at=format_ms(contact.first_scan_ms),
    )


def emit_change(step: Step, before: Exposure | None, after: Exposure | None, cause: Cause, timestamp_ms: int) -> None:
    """Emits what turns one version of an exposure into the next: its new row, its retraction, or nothing."""
    if before == after:
        return
    row: Exposure | RetractedExposure
    if after is not None:
        after.reason, after.detected_at, after.revision = cause, format_ms(timestamp_ms), step.number
        row = after
    else:
        assert before is not None, "equal ones are silent"
        row = RetractedExposure(
            before.exposure_id, before.person_id, before.contact_scan_at, status="retracted", revision=step.number
        )
    kafka_ms = max(timestamp_ms, KAFKA_TIMESTAMP_MIN_MS)
    step.to(EXPOSURES).append((row.person_id.encode(), _encode(row), BY_KEY, kafka_ms))
