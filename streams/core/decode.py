"""Bytes of the four input topics to events, or to the reason why they are none.

The contract is ``schemas.models``; this is its fast reading, held to the same verdicts by a test. A plain
value, which nearly all are, goes through msgspec's typed decoders. Whatever those refuse is judged by the
slow and complete reading of ``streams.core.judge``, so a fast path only ever says yes.

Why a run of values may be read as one JSON list: each value must begin with ``{``, and all together hold no
more ``{`` than there are values. If their list then parses to as many objects, every ``{`` opens one of
them, at the start of its own value. So no value holds two objects or half of one, the commas that join
them are the only ones between objects, and a hostile value can neither shift nor change its neighbours.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from streams.core.categories import CATEGORIES
from streams.core.inbound import (
    DEPTH_MAX,
    VALUE_BYTES_MAX,
    AreaList,
    BadEvent,
    CaseIn,
    ErasureIn,
    ScanIn,
    VenueIn,
)
from streams.core.judge import (
    ID_TEXT,
    PERSON_TEXT,
    judge_case,
    judge_erasure,
    judge_scan,
    judge_venue,
    venue_contradiction,
)
from streams.core.times import MINUTES, RESTS, parse_ms

__all__ = [
    "BadEvent",
    "CaseIn",
    "ErasureIn",
    "ScanIn",
    "VenueIn",
    "decode_case",
    "decode_erasure",
    "decode_scan",
    "decode_scans",
    "decode_venue",
    "decode_venues",
]

_RUN_SCANS: Final = 256
"""Read as one list: enough to share the cost, few enough that a bad one makes little work."""
_RUN_VENUES: Final = DEPTH_MAX - 1
"""Fewer, as each may hold a list of codes, and a run no more lists than a single value."""
_PLAIN_BYTES_MAX: Final = 16_384
"""A longer value holds more than an event's own fields: it is not worth two readings."""
_BRACE: Final = ord("{")
_ID_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_PERSON_BYTES: Final = b"0123456789abcdef"


_SCANS: Final = msgspec.json.Decoder(list[ScanIn])
_SCAN: Final = msgspec.json.Decoder(ScanIn)
_VENUES: Final = msgspec.json.Decoder(list[VenueIn])
_VENUE: Final = msgspec.json.Decoder(VenueIn)


def decode_scans(values: Sequence[bytes | None]) -> list[ScanIn | BadEvent]:
    """One verdict per value, in order; each is what the value alone would get."""
    verdicts: list[ScanIn | BadEvent] = []
    for start in range(0, len(values), _RUN_SCANS):
        run = values[start : start + _RUN_SCANS]
        verdicts += _decode_run(run) or map(decode_scan, run)
    return verdicts


def decode_scan(value: bytes | None) -> ScanIn | BadEvent:
    """The verdict on one scan."""
    if value is None or not _plain(value):
        return judge_scan(value)
    try:
        scan = _SCAN.decode(value)
        scan.occurred_ms = _milliseconds(scan.occurred_ms)
    except (msgspec.DecodeError, ValueError):
        return judge_scan(value)
    if ID_TEXT.fullmatch(scan.scan_id) and ID_TEXT.fullmatch(scan.venue_id) and PERSON_TEXT.fullmatch(scan.person_id):
        return scan
    return judge_scan(value)


def decode_venues(values: Sequence[bytes | None], areas: AreaList) -> list[VenueIn | BadEvent]:
    """One verdict per value, in order; each is what the value alone would get."""
    verdicts: list[VenueIn | BadEvent] = []
    for start in range(0, len(values), _RUN_VENUES):
        run = values[start : start + _RUN_VENUES]
        verdicts += _decode_venue_run(run, areas) or [decode_venue(value, areas) for value in run]
    return verdicts


def decode_venue(value: bytes | None, areas: AreaList) -> VenueIn | BadEvent:
    """The verdict on one version of a venue; a null record is the caller's to skip."""
    if value is None or not _plain(value):
        return judge_venue(value, areas)
    try:
        venue = _VENUE.decode(value)
        venue.registered_ms = _milliseconds(venue.registered_ms)
    except (msgspec.DecodeError, ValueError):
        return judge_venue(value, areas)
    return venue if _settled([venue], areas) else judge_venue(value, areas)


def decode_case(value: bytes | None) -> CaseIn | BadEvent:
    """The verdict on one case report, as far as its structure goes."""
    return judge_case(value)


def decode_erasure(value: bytes | None) -> ErasureIn | BadEvent:
    """The verdict on one erasure."""
    return judge_erasure(value)


def _plain(value: bytes) -> bool:
    """Whether a typed decoder's yes can be trusted: it does not look into fields that it skips."""
    if len(value) > _PLAIN_BYTES_MAX or value.count(b"[") + value.count(b"{") > DEPTH_MAX:
        return False
    return value.isascii() or _is_utf8(value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _milliseconds(written: int) -> int:
    return parse_ms(written)  # type: ignore[arg-type]  # a text until now, see inbound.py


def _decode_run(run: Sequence[bytes | None]) -> list[ScanIn] | None:
    """All scans of a run, if every value is a plain and good one; else None."""
    text = _list_text(run)
    if text is None:
        return None
    try:
        scans = _SCANS.decode(text)
        for scan in scans:
            written: str = scan.occurred_ms  # type: ignore[assignment]  # a text until now, see inbound.py
            scan.occurred_ms = MINUTES[written[:16]] + RESTS[written[16:]]
    except (msgspec.DecodeError, ValueError):
        return None
    return scans if len(scans) == len(run) and _well_spelled(scans) else None


def _decode_venue_run(run: Sequence[bytes | None], areas: AreaList) -> list[VenueIn] | None:
    """All venues of a run, if every value is a plain and good one; else None."""
    text = _list_text(run)
    if text is None:
        return None
    try:
        venues = _VENUES.decode(text)
        for venue in venues:
            venue.registered_ms = _milliseconds(venue.registered_ms)
    except (msgspec.DecodeError, ValueError):
        return None
    return venues if len(venues) == len(run) and _settled(venues, areas) else None


def _settled(venues: list[VenueIn], areas: AreaList) -> bool:
    """Whether all are right in what the typed decoder cannot see; null codes become none."""
    ids = [venue.venue_id for venue in venues]
    for venue in venues:
        if venue.codes:
            ids += venue.codes
        else:
            venue.codes = ()
        # An area code that is no code at all is in no list either; only the words for it would differ.
        if venue.category not in CATEGORIES or venue_contradiction(venue, areas) is not None:
            return False
    return not "".join(ids).encode().translate(None, _ID_BYTES)


def _list_text(run: Sequence[bytes | None]) -> bytes | None:
    """The run as one JSON list, if a list of as many events can only be these, and hides nothing bad."""
    if not all(run):
        return None
    values: Sequence[bytes] = run  # type: ignore[assignment]  # none of them is None or empty
    text = b"[" + b",".join(values) + b"]"
    apart = text.count(b"{") == len(values) and {value[0] for value in values} == {_BRACE}
    shallow = text.find(b"[", 1) < 0 or text.count(b"[") <= DEPTH_MAX
    small = len(text) <= VALUE_BYTES_MAX or max(map(len, values)) <= VALUE_BYTES_MAX
    return text if apart and shallow and small and (text.isascii() or _is_utf8(text)) else None


def _well_spelled(scans: list[ScanIn]) -> bool:
    """Whether all ids hold nothing but their letters; how many, the typed decoder has seen to."""
    ids = "".join([scan.scan_id for scan in scans] + [scan.venue_id for scan in scans])
    persons = "".join([scan.person_id for scan in scans])
    return not (ids.encode().translate(None, _ID_BYTES) or persons.encode().translate(None, _PERSON_BYTES))
