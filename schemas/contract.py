"""The slow reference: a value of an input topic, read by the rules one after another, against the models.

Nobody's hot path. ``streams.core.decode`` must give the same verdicts; a test holds it to that, so nothing
here may share code with it but the table of categories and the administrative list, which are data.
"""

import json
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from pydantic import ValidationError

from schemas.models import Case, Erasure, Event, Scan, Venue

VALUE_BYTES_MAX = 64 * 1024
DEPTH_MAX = 64
INTEGER_CHARACTERS_MAX = 4300

Model = TypeVar("Model", bound=Event)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reject code of a value that is no event, and what exactly is wrong."""

    reason: str
    detail: str


def check_scan(value: bytes | None) -> Scan | Refusal:
    """A scan, or why it is none."""
    return _check(value, Scan)


def check_venue(value: bytes | None) -> Venue | Refusal:
    """A venue, or why it is none."""
    return _check(value, Venue)


def check_case(value: bytes | None) -> Case | Refusal:
    """A case report, or why it is none."""
    return _check(value, Case)


def check_erasure(value: bytes | None) -> Erasure | Refusal:
    """An erasure, or why it is none."""
    return _check(value, Erasure)


def _check(value: bytes | None, model: type[Model]) -> Model | Refusal:
    if value is not None and len(value) > VALUE_BYTES_MAX:
        return Refusal("oversized", f"{len(value)} bytes")
    try:
        found = parse_json(value)
    except ValueError as error:
        return Refusal("malformed_json", str(error))
    try:
        return model.model_validate(found)
    except ValidationError as error:
        return Refusal("schema_violation", str(error))


class _Pairs(list[tuple[str, object]]):
    """An object as written, repeated keys and all."""


def parse_json(value: bytes | None) -> object:
    """A JSON value; of a repeated key the last counts. Integers of thousands of digits come out infinite.

    Raises:
        ValueError: it is no JSON by the rules of this pipeline.
    """
    if value is None:
        raise ValueError("there is no value")
    text = value.decode("utf-8")
    if nesting(text) > DEPTH_MAX:
        raise ValueError("nested too deep")
    written = json.loads(text, parse_constant=_refuse, parse_int=_integer, object_pairs_hook=_Pairs)
    return _settle(written)


def nesting(text: str) -> int:
    """How many arrays and objects are open at once, at most."""
    deepest = depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = not escaped and character == "\\"
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= INTEGER_CHARACTERS_MAX else float(text)


def _settle(written: object) -> object:
    """Plain values of what was written, after a look at every string of it for lone surrogates."""
    if isinstance(written, _Pairs):
        return {_settle_text(key): _settle(value) for key, value in written}
    if isinstance(written, list):
        return [_settle(value) for value in written]
    return _settle_text(written) if isinstance(written, str) else written


def _settle_text(text: str) -> str:
    text.encode("utf-8")  # raises UnicodeEncodeError, a ValueError, for a lone surrogate
    return text
