"""Bytes of the events that the rooms emit (SPEC §1, §9): one JSON object a record.

Every text in them is an id, a code or a fixed word, made of characters that JSON writes as they are; so a
template serves, and it is several times as fast as an encoder. Only rejects carry free text and use one.

``tally.pyx`` writes the cells by minute and hour and the marks, ``in_order.pyx`` what is written here most.
"""

import base64
from hashlib import blake2b
from typing import Final

import msgspec

from streams.core.directory import CATEGORY_BYTES, unpack_kept
from streams.core.inbound import CaseIn
from streams.core.rejected import Origin
from streams.core.times import format_bytes, format_ms
from streams.core.visits import Visit

_ENRICHED: Final = (
    b'{"scan_id":"%b","person_id":"%b","venue_id":"%b","venue_code":"%b","direction":"%b","occurred_at":"%b",'
    b'"source":"%b","category":"%b","province_code":"%b","district_code":"%b","ward_code":"%b",'
    b'"lat":%b,"lon":%b,"status":"active","revision":%d}'
)
_ERASED_SCAN: Final = b'{"scan_id":"%b","person_id":"%b","occurred_at":"%b","status":"erased","revision":%d}'
_AREA_DAY: Final = (
    b'{"family":"area_day","day":"%b","level":"%b","code":"%b","part":"%b",'
    b'"scans":%d,"persons":%d,"active_venues":%d,"revision":%d}'
)
_VISIT: Final = (
    b'{"visit_id":"%b","person_id":"%b","venue_id":"%b","started_at":"%b","ended_at":"%b","start_kind":"%b",'
    b'"end_kind":"%b","first_scan_id":"%b","first_scan_at":"%b","scan_count":%d,"category":"%b",'
    b'"province_code":"%b","district_code":"%b","ward_code":"%b","status":"active","revision":%d}'
)
_RETRACTED_VISIT: Final = b'{"visit_id":"%b","first_scan_at":"%b","status":"retracted","revision":%d}'

PAYLOAD_BYTES_MAX = 2 * 1024 * 1024
"""A longer payload is kept up to here, and the detail says so: a reject must itself fit a record."""
KEY_BYTES_MAX: Final = 4 * 1024
"""The same for a key, which may be written as six characters a byte."""


def enriched(
    ids: tuple[bytes, bytes, bytes, bytes],
    direction: bytes,
    occurred_ms: int,
    source: bytes,
    venue: tuple[bytes, bytes, bytes, bytes, float, float],
    revision: int,
) -> bytes:
    """An accepted scan. ``ids``: scan, person, venue, code; ``venue``: category, province, district, ward, lat, lon."""
    category, province, district, ward, lat, lon = venue
    return _ENRICHED % (
        *ids,
        direction,
        format_bytes(occurred_ms),
        source,
        category,
        province,
        district,
        ward,
        repr(lat).encode(),
        repr(lon).encode(),
        revision,
    )


def erased_scan(scan_id: bytes, person: bytes, occurred_ms: int, revision: int) -> bytes:
    """An accepted scan that its person's erasure takes back."""
    return _ERASED_SCAN % (scan_id, person, format_bytes(occurred_ms), revision)


def area_day(
    day: bytes, level: bytes, code: bytes, part: bytes, values: tuple[int, int, int], revision: int
) -> tuple[bytes, bytes]:
    """(key, value) of an area_day cell; ``values`` are scans, persons, active_venues."""
    return (
        b"area_day|%b|%b|%b|%b" % (day, level, code, part),
        _AREA_DAY % (day, level, code, part, *values, revision),
    )


def digest(first: bytes, second: bytes, third: bytes) -> bytes:
    """32 hex of BLAKE2b-128 over ``first|second|third``: the identity of a visit or an exposure (SPEC §3, §7)."""
    return blake2b(b"%b|%b|%b" % (first, second, third), digest_size=16).hexdigest().encode()


def visit_id(person: bytes, venue_id: bytes, first_scan_id: bytes) -> bytes:
    """The visit's identity; ``person`` is the 32 hex of the person_id."""
    return digest(person, venue_id, first_scan_id)


def visit(person: bytes, identity: bytes, stay: Visit, revision: int) -> bytes:
    """The value of a visits record; ``identity`` is its ``visit_id``."""
    ward, district, province, category, _ = unpack_kept(stay.attributes)
    return _VISIT % (
        identity,
        person,
        stay.venue_id,
        format_bytes(stay.start_ms),
        format_bytes(stay.end_ms),
        stay.start_kind,
        stay.end_kind,
        stay.scan_id,
        format_bytes(stay.scan_ms),
        stay.scans,
        CATEGORY_BYTES[category],
        province,
        district,
        ward,
        revision,
    )


def retracted_visit(identity: bytes, stay: Visit, revision: int) -> bytes:
    """The value of a visits record that takes the visit back."""
    return _RETRACTED_VISIT % (identity, format_bytes(stay.scan_ms), revision)


class Reject(msgspec.Struct):
    """A row of ``rejects``; ``revision`` says which version of it counts, whoever wrote it."""

    topic: str
    epoch: int
    partition: int
    offset: int
    record_at: str
    key: str | None
    reason: str
    detail: str
    payload: str | None
    attempts: int
    status: str
    revision: int


_encode = msgspec.json.Encoder().encode
_BARE: Final = 1 << 40
_STATUS_BITS: Final = 2
_RANK: Final = {"open": 1, "waiting": 2, "resolved": 3}


def reject_revision(status: str, attempts: int, *, bare: bool) -> int:
    """The revision of a row of ``rejects``: its order, and no step's number, since any partition may write the row.

    A bare one, erased or resolved by sending it again, counts before any other; then attempts; then the status.
    """
    return _BARE * bare | attempts << _STATUS_BITS | _RANK[status]


def reject(  # noqa: PLR0913 - a row has that many columns
    origin: Origin,
    record_ms: int,
    key: bytes | None,
    payload: bytes | None,
    *,
    reason: str,
    detail: str,
    status: str,
    attempts: int = 0,
    bare: bool = False,
) -> bytes:
    """The value of a rejects record: ``origin`` with the topic's full name, ``payload`` the value as it came."""
    if payload is not None and len(payload) > PAYLOAD_BYTES_MAX:
        detail = f"{detail}; payload cut from {len(payload)} to {PAYLOAD_BYTES_MAX} bytes"
        payload = payload[:PAYLOAD_BYTES_MAX]
    if key is not None and len(key) > KEY_BYTES_MAX:
        detail = f"{detail}; key cut from {len(key)} to {KEY_BYTES_MAX} bytes"
        key = key[:KEY_BYTES_MAX]
    return _encode(
        Reject(
            topic=origin.topic,
            epoch=origin.epoch,
            partition=origin.partition,
            offset=origin.offset,
            record_at=format_ms(record_ms),
            key=None if key is None else key.decode("utf-8", "backslashreplace"),
            reason=reason,
            detail=detail,
            payload=None if payload is None else base64.b64encode(payload).decode(),
            attempts=attempts,
            status=status,
            revision=reject_revision(status, attempts, bare=bare),
        )
    )


class _CaseState(msgspec.Struct):
    case_id: str
    person_id: str
    status: str
    onset_at: str | None
    sampled_at: str | None
    infectious_from: str | None
    infectious_to: str | None
    isolated_at: str | None
    reported_at: str
    ruleset: str | None
    revision: int


def _optional(time_ms: int | None) -> str | None:
    return None if time_ms is None else format_ms(time_ms)


def erased_case(case_id: str, person_id: str, revision: int) -> bytes:
    """The value of a case-states record of which an erasure leaves only the identity."""
    return _encode({"case_id": case_id, "person_id": person_id, "status": "erased", "revision": revision})


def case_state(event: CaseIn, revision: int) -> bytes:
    """The value of a case-states record: the report that counts, times in UTC."""
    return _encode(
        _CaseState(
            case_id=event.case_id,
            person_id=event.person_id,
            status=event.status,
            onset_at=_optional(event.onset_ms),
            sampled_at=_optional(event.sampled_ms),
            infectious_from=_optional(event.infectious_from_ms),
            infectious_to=_optional(event.infectious_to_ms),
            isolated_at=_optional(event.isolated_ms),
            reported_at=format_ms(event.reported_ms),
            ruleset=event.ruleset,
            revision=revision,
        )
    )
