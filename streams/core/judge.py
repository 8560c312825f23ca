"""The slow and complete reading of one value: which event it is, or why it is none, in words.

``streams.core.decode`` comes here with whatever its typed decoders do not take. JSON is read in two goes:
msgspec checks the syntax (it knows no NaN and no lone surrogate, and does not mind how large a number is) and finds
the event's own fields, the last of a repeated key; then the standard library gives their values. Whatever else an
object holds is never made: of 64 KiB, the most a value may have, that alone would be 30,000 objects.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

import msgspec

from streams.core.categories import CATEGORIES
from streams.core.inbound import (
    CAPACITY_MAX,
    CODES_MAX,
    DEPTH_MAX,
    LAT_MAX,
    LON_MAX,
    NAME_CHARACTERS_MAX,
    VALUE_BYTES_MAX,
    AreaList,
    BadEvent,
    CaseIn,
    CaseStatus,
    Direction,
    ErasureIn,
    ScanIn,
    Source,
    VenueIn,
    VenueStatus,
)
from streams.core.nesting import is_deeper
from streams.core.reasons import MALFORMED_JSON, OVERSIZED, SCHEMA_VIOLATION
from streams.core.times import parse_ms

ID_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
PERSON_TEXT: Final = re.compile(r"[0-9a-f]{32}")

_SYNTAX: Final = msgspec.json.Decoder(msgspec.Raw)
_ANYTHING: Final = msgspec.json.Decoder()
_DIGITS_MAX: Final = 4_300
"""Python refuses to read longer integers; here they are as good as infinite."""

Check = Callable[[object], Any]
"""Gives a field's value as the core keeps it; raises ValueError with the rule it breaks."""


class _BadEventError(Exception):
    """Carries a verdict out of the reading of a value."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.verdict = BadEvent(reason, detail)


def judge_scan(value: bytes | None) -> ScanIn | BadEvent:
    """A scan, or why it is none."""
    try:
        return ScanIn(**_fields(value, _SCAN))
    except _BadEventError as error:
        return error.verdict


def judge_venue(value: bytes | None, areas: AreaList) -> VenueIn | BadEvent:
    """A venue, or why it is none."""
    try:
        venue = VenueIn(**_fields(value, _VENUE))
    except _BadEventError as error:
        return error.verdict
    detail = venue_contradiction(venue, areas)
    return venue if detail is None else BadEvent(SCHEMA_VIOLATION, detail)


def judge_case(value: bytes | None) -> CaseIn | BadEvent:
    """A case report, or why it is none."""
    try:
        return CaseIn(**_fields(value, _CASE), canonical=_canonical(value or b""))
    except _BadEventError as error:
        return error.verdict


def judge_erasure(value: bytes | None) -> ErasureIn | BadEvent:
    """An erasure, or why it is none."""
    try:
        return ErasureIn(**_fields(value, _ERASURE))
    except _BadEventError as error:
        return error.verdict


def venue_contradiction(venue: VenueIn, areas: AreaList) -> str | None:
    """What is wrong between the fields of a venue, each of which is right by itself; None if nothing."""
    if venue.dwell_minutes is not None and venue.dwell_minutes > CATEGORIES[venue.category].dwell_minutes_max:
        return "dwell_minutes: must be at most the category's maximum"
    parents = areas.parents.get(venue.ward_code)
    if parents is None:
        return "ward_code: is not in the administrative list"
    if parents != (venue.district_code, venue.province_code):
        return "ward_code: is not in this district of this province"
    return None


class _Form:
    """The fields of an event: which they are, how each is checked, and what the core calls it."""

    def __init__(self, name: str, checks: Mapping[str, tuple[str, Check]]) -> None:
        self.checks: Final = checks
        fields = [(field, msgspec.Raw, msgspec.Raw()) for field in checks]
        self.decode: Final = msgspec.json.Decoder(msgspec.defstruct(name, fields, gc=False)).decode


def _fields(value: bytes | None, form: _Form) -> dict[str, Any]:
    """The event's fields by the core's names; a field that is absent is looked at as null."""
    if value is None:
        raise _BadEventError(MALFORMED_JSON, "the record has no value")
    if len(value) > VALUE_BYTES_MAX:
        raise _BadEventError(OVERSIZED, f"the value has {len(value)} bytes; at most {VALUE_BYTES_MAX} are taken")
    if is_deeper(value, DEPTH_MAX):
        raise _BadEventError(MALFORMED_JSON, f"nested deeper than {DEPTH_MAX}")
    try:
        value.decode("utf-8")
        found = _read(value, form)
    except UnicodeDecodeError:
        raise _BadEventError(MALFORMED_JSON, "is no UTF-8") from None
    except msgspec.DecodeError:
        raise _BadEventError(MALFORMED_JSON, "is no JSON") from None
    if found is None:
        raise _BadEventError(SCHEMA_VIOLATION, "must be a JSON object")
    fields = {}
    for name, (kept_as, check) in form.checks.items():
        raw: msgspec.Raw = getattr(found, name)
        try:
            fields[kept_as] = check(_value(raw))
        except ValueError as error:
            rule = str(error) if raw else "is missing"
            raise _BadEventError(SCHEMA_VIOLATION, f"{name}: {rule}") from None
    return fields


def _read(value: bytes, form: _Form) -> msgspec.Struct | None:
    """The raw fields of an object; None of another JSON value, where msgspec stops before it has read all of it."""
    try:
        return form.decode(value)
    except msgspec.ValidationError:
        _SYNTAX.decode(value)
        return None


def _value(raw: msgspec.Raw) -> object:
    """What a field holds, None where it is absent; of what only a list of codes may be, all else is not made."""
    if not raw:
        return None
    text = str(raw, "utf-8")
    if text[0] == "[":
        return _ANYTHING.decode(raw)
    return {} if text[0] == "{" else json.loads(text, parse_int=_integer)


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _DIGITS_MAX else float(text)


class _Integers(dict[str, int | float]):
    """Texts to their numbers: numbers repeat, and to call Python for each of 30,000 takes longer than to read them."""

    def __missing__(self, text: str) -> int | float:
        self[text] = number = _integer(text)
        return number


def _canonical(value: bytes) -> bytes:
    try:
        found = json.loads(value)
    except ValueError:  # it is JSON, so the only reason is an integer that Python refuses to read
        found = json.loads(value, parse_int=_Integers().__getitem__)
    found.pop("_ts", None)
    return json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _matching(pattern: re.Pattern[str], rule: str) -> Check:
    def check(value: object) -> str:
        if type(value) is not str or pattern.fullmatch(value) is None:
            raise ValueError(rule)
        return value

    return check


def _one_of(names: tuple[str, ...]) -> Check:
    known = frozenset(names)

    def check(value: object) -> str:
        if type(value) is not str or value not in known:
            raise ValueError("must be one of " + " ".join(names))
        return value

    return check


def _text(characters_max: int) -> Check:
    def check(value: object) -> str:
        if type(value) is not str or len(value) > characters_max:
            raise ValueError(f"must be a string of at most {characters_max} characters")
        return value

    return check


def _whole_number(least: int, most: int) -> Check:
    def check(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be an integer of {least} to {most}")
        return value

    return check


def _degrees(most: int) -> Check:
    def check(value: object) -> float:
        if (type(value) is not int and type(value) is not float) or not -most <= value <= most:
            raise ValueError(f"must be a number of -{most} to {most}")
        return float(value)

    return check


def _instant(value: object) -> int:
    if type(value) is not str:
        raise ValueError("must be a string")
    return parse_ms(value)


def _venue_codes(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if type(value) is not list or len(value) > CODES_MAX:
        raise ValueError(f"must be a list of at most {CODES_MAX} codes")
    return tuple(_ID(code) for code in value)


def _nullable(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


_ID: Final = _matching(ID_TEXT, "must be 1 to 64 of A-Z a-z 0-9 _ -")
_PERSON: Final = _matching(PERSON_TEXT, "must be 32 lower-case hexadecimal digits")


def _area_code(digits: int) -> Check:
    return _matching(re.compile(f"[0-9]{{{digits}}}"), f"must be a string of {digits} digits")


_SCAN: Final = _Form(
    "Scan",
    {
        "scan_id": ("scan_id", _ID),
        "person_id": ("person_id", _PERSON),
        "venue_id": ("venue_id", _ID),
        "direction": ("direction", _one_of(get_args(Direction))),
        "occurred_at": ("occurred_ms", _instant),
        "source": ("source", _one_of(get_args(Source))),
    },
)
_VENUE: Final = _Form(
    "Venue",
    {
        "venue_id": ("venue_id", _ID),
        "name": ("name", _text(NAME_CHARACTERS_MAX)),
        "category": ("category", _one_of(tuple(CATEGORIES))),
        "province_code": ("province_code", _area_code(2)),
        "district_code": ("district_code", _area_code(3)),
        "ward_code": ("ward_code", _area_code(5)),
        "lat": ("lat", _degrees(LAT_MAX)),
        "lon": ("lon", _degrees(LON_MAX)),
        "capacity": ("capacity", _nullable(_whole_number(0, CAPACITY_MAX))),
        "registered_at": ("registered_ms", _instant),
        "status": ("status", _one_of(get_args(VenueStatus))),
        "dwell_minutes": ("dwell_minutes", _nullable(_whole_number(1, 1440))),
        "codes": ("codes", _venue_codes),
    },
)
_CASE: Final = _Form(
    "Case",
    {
        "case_id": ("case_id", _ID),
        "person_id": ("person_id", _PERSON),
        "status": ("status", _one_of(get_args(CaseStatus))),
        "onset_at": ("onset_ms", _nullable(_instant)),
        "sampled_at": ("sampled_ms", _nullable(_instant)),
        "infectious_from": ("infectious_from_ms", _nullable(_instant)),
        "infectious_to": ("infectious_to_ms", _nullable(_instant)),
        "isolated_at": ("isolated_ms", _nullable(_instant)),
        "reported_at": ("reported_ms", _instant),
        "ruleset": ("ruleset", _nullable(_text(VALUE_BYTES_MAX))),
    },
)
_ERASURE: Final = _Form(
    "Erasure",
    {
        "person_id": ("person_id", _PERSON),
        "requested_at": ("requested_ms", _instant),
    },
)
