"""One event, written in the many ways that JSON and RFC 3339 allow."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

MINUTE_MS = 60_000
DAY_MS = 86_400_000
OFFSETS_MINUTES = (0, 420, 420, 420, 330, -570, 845, 1439, -1439)
NESTING_ALLOWED = 64


def time_text(rng: random.Random, instant_ms: int) -> str:
    """An RFC 3339 text of the instant: any offset, with the milliseconds cut, padded or followed by more digits."""
    offset_minutes = rng.choice(OFFSETS_MINUTES)
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant_ms, minutes=offset_minutes)
    milliseconds = f"{local.microsecond // 1000:03d}"
    fractions = [f".{milliseconds}", f".{milliseconds}000000", f".{milliseconds}999"]
    if milliseconds == "000":
        fractions += ["", "", "", ".0"]
    if milliseconds.endswith("0"):
        fractions.append(f".{milliseconds[:2]}")
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    zones = [f"{sign}{hours:02d}:{minutes:02d}"] + (["Z", "-00:00"] if offset_minutes == 0 else [])
    return local.strftime("%Y-%m-%dT%H:%M:%S") + rng.choice(fractions) + rng.choice(zones)


def render(rng: random.Random, event: dict[str, Any]) -> bytes:
    """The event as one line: keys in any order, any spacing and escaping, unknown fields, repeated keys."""
    pairs = list(event.items())
    if rng.random() < 0.2:
        rng.shuffle(pairs)
    if rng.random() < 0.15:
        pairs.insert(rng.randint(0, len(pairs)), rng.choice(_extras()))
    if rng.random() < 0.1:
        pairs = _with_repeated_key(rng, pairs)
    ascii_only = rng.random() < 0.5
    colon, comma = rng.choice([(":", ","), (": ", ", "), (" : ", " ,\t")])
    parts = [
        json.dumps(name, ensure_ascii=ascii_only) + colon + _value(rng, value, ascii_only=ascii_only)
        for name, value in pairs
    ]
    padding = rng.choice(["", "", "", " ", "\t"])
    return (padding + "{" + comma.join(parts) + "}" + padding).encode()


def _value(rng: random.Random, value: object, *, ascii_only: bool) -> str:
    text = json.dumps(value, ensure_ascii=ascii_only)
    if isinstance(value, str) and value and rng.random() < 0.03:
        first = value[0].encode("utf-16-be")  # an escape where none is needed, also as a surrogate pair
        return (
            '"' + "".join(f"\\u{first[i : i + 2].hex()}" for i in range(0, len(first), 2)) + json.dumps(value[1:])[1:]
        )
    return text


def _with_repeated_key(rng: random.Random, pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """A key twice, first with a value that must not count."""
    position = rng.randrange(len(pairs))
    name = pairs[position][0]
    return [*pairs[:position], (name, rng.choice(["?", None, 5, [], "CAFE"])), *pairs[position:]]


def _extras() -> list[tuple[str, Any]]:
    deepest: object = 1
    for _ in range(NESTING_ALLOWED - 1):
        deepest = [deepest]
    return [
        ("note", "chú thích"),
        ("x", {"scan_id": "other", "person_id": "0" * 32}),
        ("", None),
        ("deep", deepest),
        ("\\", '"],[{'),
        ("emoji", "😀"),
        ("large", 12345678901234567890),
        ("small", -1.5e-7),
        ("long", "x" * 5000),
    ]
