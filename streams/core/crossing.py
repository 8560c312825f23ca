"""What crosses from the person room to the venue room, beside the public ``visits``: the ``case-visits`` records.

And the header ``was`` of a visit that replaces an earlier version of itself: the interval that the venue room
holds it under, so that it finds it without an index by id.
"""

import struct
from typing import Final, Literal, NamedTuple

import msgspec

from streams.core.ruleset import Ruleset
from streams.core.step import Headers, InRecord, header

VISITS: Final = "visits"
CASE_VISITS: Final = "case-visits"
HEADER_WAS: Final = "was"
_INTERVAL = struct.Struct("<qq")
OWN_MS_MAX: Final = 1 << 43
"""No time that the pipeline writes lies as far from 1970, before or after."""


class NotOwnError(ValueError):
    """A record that the pipeline cannot have written."""


class Interval(NamedTuple):
    """Half-open, epoch milliseconds."""

    start_ms: int
    end_ms: int


Crossed = tuple[InRecord, bytes, Interval | None, bytes | None, bytes | None, bytes]
"""A visit at a venue of case visits: its record, its id in 16 bytes, the interval that it replaces, if any, under which
state key; its new state key, unless it is gone or has no length, and value."""

Cause = Literal["case", "visit"]
"""What changed a case visit: a report of the case, or the visit itself."""


class CaseVisit(msgspec.Struct, frozen=True):
    """A visit of a case's person, cut to the infectious period; or its retraction (``until_ms`` 0, no rule).

    ``was`` is the interval [from_ms, until_ms) that this record replaces, if any.
    """

    case_id: str
    visit_id: str
    cause: Cause
    was: Interval | None
    status: Literal["active", "retracted"]
    person_id: str = ""
    from_ms: int = 0
    to_ms: int = 0
    """End of the cut stay."""
    until_ms: int = 0
    """``to_ms`` and the ruleset's tail."""
    anchor_ms: int | None = None
    rule: Ruleset | None = None


encode_case_visit = msgspec.json.Encoder().encode
decode_case_visits = msgspec.json.Decoder(CaseVisit).decode_lines
"""Of many records, each a line."""


def was_header(was: Interval) -> list[tuple[str, bytes]]:
    """The headers of a visit that replaces the version of itself with this interval."""
    return [(HEADER_WAS, _INTERVAL.pack(*was))]


def was_of(headers: Headers) -> Interval | None:
    """The interval that a visit record replaces; None if the visit was not there before.

    Raises:
        NotOwnError: the header holds no interval.
    """
    packed = header(headers, HEADER_WAS) if headers else None
    if packed is None:
        return None
    if len(packed) != _INTERVAL.size:
        raise NotOwnError
    was = Interval(*_INTERVAL.unpack(packed))
    if not is_interval(*was):
        raise NotOwnError
    return was


def is_interval(start_ms: int, end_ms: int) -> bool:
    """Whether the pipeline may have written this interval."""
    return -OWN_MS_MAX <= start_ms <= end_ms <= OWN_MS_MAX
