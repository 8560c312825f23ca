"""The kinds of field that events are made of, each with the rule that the JSON Schemas show."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

_TIME_TEXT: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS: Final = range(1970, 2100)
_MINUTES_PER_HOUR: Final = 60


def instant_ms(text: str) -> int:
    """Epoch milliseconds of a time as events write it; further digits are cut.

    Raises:
        ValueError: the text is no such time.
    """
    match = _TIME_TEXT.fullmatch(text)
    if match is None:
        raise ValueError("is no RFC 3339 time with capital T and Z, or an offset")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, zone = match[7] or "", match[8]
    if year not in _YEARS:
        raise ValueError("is not of the years 1970 to 2099")
    offset = timedelta(0)
    if zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[4:6])
        if minutes >= _MINUTES_PER_HOUR:
            raise ValueError("has an offset of more than 59 minutes past the hour")
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
    written = datetime(year, month, day, hour, minute, second, tzinfo=timezone(offset))
    return (written - _EPOCH) // timedelta(milliseconds=1) + int(fraction[:3].ljust(3, "0"))


def _real_instant(text: str) -> str:
    instant_ms(text)
    return text


Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""An identifier made outside the pipeline."""
PersonId = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{32}$"), Field(description="A keyed pseudonym, never a raw identifier.")
]
Instant = Annotated[
    str,
    StringConstraints(
        pattern=r"^(19[7-9][0-9]|20[0-9]{2})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]+)?(Z|[+-][0-9]{2}:[0-5][0-9])$"
    ),
    AfterValidator(_real_instant),
    Field(json_schema_extra={"format": "date-time"}),
]
"""A time as producers write it: RFC 3339 with an offset, of the years 1970 to 2099, cut to the millisecond."""
UtcInstant = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"),
    Field(json_schema_extra={"format": "date-time"}),
]
"""A time as the pipeline writes it: UTC, to the millisecond."""
LocalDay = Annotated[
    str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), Field(json_schema_extra={"format": "date"})
]
"""A day of the reporting time zone."""

ProvinceCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{2}$")]
DistrictCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{3}$")]
WardCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{5}$")]
Lat = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False, description="Degrees, WGS 84.")]
Lon = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False, description="Degrees, WGS 84.")]
Count = Annotated[int, Field(ge=0)]
Revision = Annotated[int, Field(ge=0, description="Grows strictly per key; of two rows the larger counts.")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""32 hex digits of BLAKE2b-128."""
Part = Annotated[
    str,
    StringConstraints(pattern=r"^(person|venue)-[0-9]+$"),
    Field(description="The emitting room and partition; readers sum over it."),
]

Direction = Literal["in", "out", "pass"]
Source = Literal[
    "pc_covid",
    "bluezone",
    "ncovi",
    "vhd",
    "vneid",
    "hue_s",
    "national_qr",
    "cccd",
    "bhyt",
    "checkpoint",
    "paper",
    "other",
]
CategoryName = Literal[
    "restaurant",
    "cafe",
    "supermarket",
    "market",
    "mall",
    "transport",
    "checkpoint",
    "hotel",
    "hospital",
    "pharmacy",
    "school",
    "office",
    "factory",
    "worship",
    "residence",
    "other",
]
