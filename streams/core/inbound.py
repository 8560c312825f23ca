"""The four input events as the core works with them, and the limits that make a value one of them.

Times are UTC epoch milliseconds. Nothing here checks anything: ``streams.core.decode`` makes these.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol

import msgspec

VALUE_BYTES_MAX: Final = 65_536
DEPTH_MAX: Final = 64
"""Arrays and objects open at once; the event's own object is the first."""
NAME_CHARACTERS_MAX: Final = 1_000
CODES_MAX: Final = 100
CAPACITY_MAX: Final = 2**31 - 1
LAT_MAX: Final = 90
LON_MAX: Final = 180

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
VenueStatus = Literal["active", "closed"]
CaseStatus = Literal["confirmed", "withdrawn"]


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]

if TYPE_CHECKING:
    _Instant = int
    _Codes = tuple[str, ...]
else:
    # The decoder puts the time's text here, and decode.py overwrites it with milliseconds before anyone sees the
    # event: a second object for each would cost more than all the other checks. Codes that are null it makes none.
    _Instant = str
    _Codes = Annotated[tuple[_Id, ...], msgspec.Meta(max_length=CODES_MAX)] | None


class AreaList(Protocol):
    """What decoding a venue needs of the administrative list."""

    @property
    def parents(self) -> Mapping[str, tuple[str, str]]:
        """Ward to (district, province)."""


class ScanIn(msgspec.Struct, gc=False):
    """A scan as sent; ``venue_id`` may be a venue's code."""

    scan_id: _Id
    person_id: Annotated[str, msgspec.Meta(min_length=32, max_length=32)]
    venue_id: _Id
    direction: Direction
    occurred_ms: _Instant = msgspec.field(name="occurred_at")
    source: Source

    @property
    def event_ms(self) -> int:
        """The event's own time."""
        return self.occurred_ms


class VenueIn(msgspec.Struct, gc=False):
    """One version of a venue."""

    venue_id: _Id
    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)]
    category: str
    province_code: str
    district_code: str
    ward_code: str
    lat: Annotated[float, msgspec.Meta(ge=-LAT_MAX, le=LAT_MAX)]
    lon: Annotated[float, msgspec.Meta(ge=-LON_MAX, le=LON_MAX)]
    registered_ms: _Instant = msgspec.field(name="registered_at")
    status: VenueStatus
    capacity: Annotated[int, msgspec.Meta(ge=0, le=CAPACITY_MAX)] | None = None
    dwell_minutes: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """The venue's own; None leaves it to the category."""
    codes: _Codes = ()


class CaseIn(msgspec.Struct, gc=False):
    """One report of a case. Whether its ruleset is known and its period can be told is judged later."""

    case_id: str
    person_id: str
    status: CaseStatus
    onset_ms: int | None
    sampled_ms: int | None
    infectious_from_ms: int | None
    infectious_to_ms: int | None
    isolated_ms: int | None
    reported_ms: int
    ruleset: str | None
    canonical: bytes
    """Canonical JSON of the whole report without ``_ts``: of reports at one time, the largest counts."""

    @property
    def event_ms(self) -> int:
        """The event's own time."""
        return self.reported_ms


class ErasureIn(msgspec.Struct, gc=False):
    """A request to forget a person."""

    person_id: str
    requested_ms: int

    @property
    def event_ms(self) -> int:
        """The event's own time."""
        return self.requested_ms


class BadEvent(msgspec.Struct, frozen=True):
    """Why a value is no event; ``detail`` names fields and rules, never what the value holds."""

    reason: str
    detail: str
