"""Single events, judged as SPEC §2, §4, §6 and §8 say: one bad line at a time, with ``json`` and ``datetime``."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

VALUE_BYTES_MAX = 64 * 1024
NESTING_MAX = 64
DAY_MS = 86_400_000
FUTURE_MS = 5 * 60_000

# category -> (dwell, max), both in minutes (SPEC §3)
CATEGORIES = {
    "restaurant": (60, 240),
    "cafe": (60, 240),
    "supermarket": (45, 180),
    "market": (45, 240),
    "mall": (90, 360),
    "transport": (60, 720),
    "checkpoint": (2, 10),
    "hotel": (720, 1440),
    "hospital": (120, 1440),
    "pharmacy": (15, 60),
    "school": (240, 720),
    "office": (480, 720),
    "factory": (480, 720),
    "worship": (90, 360),
    "residence": (720, 1440),
    "other": (60, 720),
}
SOURCES = [
    *("pc_covid", "bluezone", "ncovi", "vhd", "vneid", "hue_s", "national_qr", "cccd", "bhyt"),
    *("checkpoint", "paper", "other"),
]
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
PERSON = re.compile(r"[0-9a-f]{32}\Z")
TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})\Z",
)

Object = dict[str, Any]


class BadEventError(Exception):
    """An event is rejected; ``reason`` is SPEC's code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def instant(text: object) -> int:
    """Epoch milliseconds of an RFC 3339 time; raises ValueError for everything else."""
    if not isinstance(text, str):
        raise ValueError("no time")  # noqa: TRY004 - a fault of the event, as all others
    return _instant(text)


@lru_cache(1 << 14)
def _instant(text: str) -> int:
    found = TIME.match(text)
    if found is None:
        raise ValueError("no time")
    year, month, day, hour, minute, second = (int(found[group]) for group in range(1, 7))
    if not 1970 <= year <= 2099:
        raise ValueError("year")
    milliseconds = int(((found[7] or "") + "000")[:3])
    offset = timedelta(0)
    if found[8] != "Z":
        hours, minutes = int(found[8][1:3]), int(found[8][4:6])
        if hours > 23 or minutes > 59:
            raise ValueError("offset")
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if found[8][0] == "-" else 1)
    moment = datetime(year, month, day, hour, minute, second, milliseconds * 1000, tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC) - offset) // timedelta(milliseconds=1)


@lru_cache(1 << 14)
def instant_text(milliseconds: int) -> str:
    """The same instant as ``truyvet replay`` writes it."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parse(raw: bytes, *, bytes_max: float = VALUE_BYTES_MAX) -> object:
    """The JSON value of a record's bytes; raises BadEventError ``oversized`` or ``malformed_json``."""
    if len(raw) > bytes_max:
        raise BadEventError("oversized")
    try:
        text = raw.decode("utf-8", errors="strict")
        # What has no more brackets cannot be deeper.
        if raw.count(b"[") + raw.count(b"{") > NESTING_MAX and _nesting(text) > NESTING_MAX:
            raise BadEventError("malformed_json")
        return _clean(json.loads(text, parse_constant=_no_constant, parse_int=_integer, object_pairs_hook=_pairs))
    except ValueError as error:  # also UnicodeDecodeError, UnicodeEncodeError, JSONDecodeError
        raise BadEventError("malformed_json") from error


def _nesting(text: str) -> int:
    deepest = depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _integer(text: str) -> int | float:
    # Python refuses to read integers of more than 4,300 digits; no field of any event may be as large.
    return int(text) if len(text) < 4000 else float(text[:300])


def _pairs(pairs: list[tuple[str, Any]]) -> Object:
    for name, value in pairs:  # here, since of a repeated key the values before the last are lost afterwards
        name.encode("utf-8")
        _clean(value)
    return dict(pairs)


def _clean(value: object) -> object:
    """The value itself; raises UnicodeEncodeError if it holds a lone surrogate."""
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, list):
        for item in value:
            _clean(item)
    return value


def _require(condition: object) -> None:
    if not condition:
        raise BadEventError("schema_violation")


def _object(value: object) -> Object:
    if not isinstance(value, dict):
        raise BadEventError("schema_violation")
    return value


def _text(event: Object, name: str, allowed: re.Pattern[str] | list[str] | Mapping[str, object]) -> str:
    value = event.get(name)
    if not isinstance(value, str):
        raise BadEventError("schema_violation")
    _require(allowed.match(value) if isinstance(allowed, re.Pattern) else value in allowed)
    return value


def _time(event: Object, name: str) -> int:
    try:
        return instant(event.get(name))
    except ValueError as error:
        raise BadEventError("schema_violation") from error


def _optional_time(event: Object, name: str) -> int | None:
    return None if event.get(name) is None else _time(event, name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def scan(whole: object) -> Object:
    """A scan event's fields, with ``t`` in epoch ms; raises BadEventError."""
    value = _object(whole)
    return {
        "scan_id": _text(value, "scan_id", NAME),
        "person_id": _text(value, "person_id", PERSON),
        "venue_id": _text(value, "venue_id", NAME),
        "direction": _text(value, "direction", ["in", "out", "pass"]),
        "source": _text(value, "source", SOURCES),
        "t": _time(value, "occurred_at"),
    }


def venue(whole: object, parents: Mapping[str, tuple[str, str]]) -> Object:
    """A venue event's fields, with ``t`` (registered_at) in epoch ms; raises BadEventError."""
    value = _object(whole)
    found: Object = {
        "venue_id": _text(value, "venue_id", NAME),
        "category": _text(value, "category", CATEGORIES),
        "status": _text(value, "status", ["active", "closed"]),
        "t": _time(value, "registered_at"),
    }
    for name in ("name", "province_code", "district_code", "ward_code"):
        _require(isinstance(value.get(name), str))
        found[name] = value[name]
    _require(parents.get(found["ward_code"]) == (found["district_code"], found["province_code"]))
    for name in ("lat", "lon"):
        _require(_is_number(value.get(name)))
        found[name] = value[name]
    capacity, dwell, codes = value.get("capacity"), value.get("dwell_minutes"), value.get("codes")
    _require(capacity is None or _is_integer(capacity))
    _require(dwell is None or (_is_integer(dwell) and 1 <= dwell <= CATEGORIES[found["category"]][1]))
    _require(isinstance(codes, list) and all(isinstance(code, str) and NAME.match(code) for code in codes))
    return found | {"capacity": capacity, "dwell_minutes": dwell, "codes": codes}


CASE_TIMES = ("onset_at", "sampled_at", "infectious_from", "infectious_to", "isolated_at")


def case(whole: object) -> Object:
    """A case event's fields, with ``t`` (reported_at) in epoch ms; raises BadEventError."""
    value = _object(whole)
    _require(value.get("ruleset") is None or isinstance(value["ruleset"], str))
    found: Object = {
        "case_id": _text(value, "case_id", NAME),
        "person_id": _text(value, "person_id", PERSON),
        "status": _text(value, "status", ["confirmed", "withdrawn"]),
        "ruleset": value.get("ruleset"),
        "t": _time(value, "reported_at"),
    }
    return found | {name: _optional_time(value, name) for name in CASE_TIMES}


def erasure(whole: object) -> Object:
    """An erasure's fields, with ``t`` (requested_at) in epoch ms; raises BadEventError."""
    value = _object(whole)
    return {"person_id": _text(value, "person_id", PERSON), "t": _time(value, "requested_at")}
