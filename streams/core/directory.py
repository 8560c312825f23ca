"""The venue directory: the register in memory, and which venue a scanned code means.

Each worker holds the whole register, so an entry is small: the venue's attributes packed in 29 bytes, of which a
stored scan keeps the first 13: where a venue lies is told when a scan is accepted, and never asked again.
Little-endian::

    ward_code 5s | district_code 3s | province_code 2s | category u8 | dwell_minutes u16 | lat f64 | lon f64

``dwell_minutes`` is the venue's own, or its category's.
"""

import struct
from typing import Final, Protocol

from streams.core.categories import CATEGORIES
from streams.core.packed_table import Packed, PackedTable

_ATTRIBUTES = struct.Struct("<5s3s2sBHdd")
_KEPT = struct.Struct("<5s3s2sBH")
KEPT_BYTES: Final = _KEPT.size
NO_ATTRIBUTES: Final = bytes(KEPT_BYTES)
"""What a scan keeps that waits for its venue."""
CATEGORY_NAMES: Final = tuple(CATEGORIES)
CATEGORY_BYTES: Final = tuple(name.encode() for name in CATEGORY_NAMES)
_RESOLVED_MAX: Final = 50_000
_CATEGORY_CODE: Final = {name: code for code, name in enumerate(CATEGORY_NAMES)}


class VenueEvent(Protocol):
    """What the directory needs of a valid venue event (``decode.VenueIn``)."""

    @property
    def venue_id(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def province_code(self) -> str: ...
    @property
    def district_code(self) -> str: ...
    @property
    def ward_code(self) -> str: ...
    @property
    def lat(self) -> float: ...
    @property
    def lon(self) -> float: ...
    @property
    def dwell_minutes(self) -> int | None: ...
    @property
    def registered_ms(self) -> int: ...
    @property
    def codes(self) -> tuple[str, ...]: ...


def pack_attributes(venue: VenueEvent) -> bytes:
    """The venue's attributes as the directory holds them."""
    dwell = venue.dwell_minutes if venue.dwell_minutes is not None else CATEGORIES[venue.category][0]
    return _ATTRIBUTES.pack(
        venue.ward_code.encode(),
        venue.district_code.encode(),
        venue.province_code.encode(),
        _CATEGORY_CODE[venue.category],
        dwell,
        venue.lat,
        venue.lon,
    )


unpack_attributes = _ATTRIBUTES.unpack
"""(ward, district, province, category code, dwell_minutes, lat, lon) of 29 packed bytes; codes as bytes."""

unpack_kept = _KEPT.unpack_from
"""(ward, district, province, category code, dwell_minutes) of what a stored scan keeps."""

Contents = tuple[Packed, dict[bytes, tuple[tuple[int, bytes], ...]], dict[bytes, tuple[bytes, ...]]]
"""All that a directory holds, for keeping and taking up again; its inner layout is nobody else's matter."""


class Directory:
    """The newest version of every venue, and who claims which code.

    One thread may put while others resolve: every value is replaced whole, never changed in place.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self._venues = PackedTable(_ATTRIBUTES.size)
        self._claims: dict[bytes, tuple[tuple[int, bytes], ...]] = {}
        self._codes: dict[bytes, tuple[bytes, ...]] = {}
        self._resolved: dict[bytes, tuple[bytes, bytes]] = {}
        """What codes were found to mean since the last change: most scans are of few venues."""

    def __len__(self) -> int:
        """How many venues are registered."""
        return len(self._venues)

    @property
    def contents(self) -> Contents:
        """Everything it holds, not copied."""
        return self._venues.packed, self._claims, self._codes

    def take_up(self, contents: Contents) -> None:
        """Holds what another one held, and nothing else."""
        venues, self._claims, self._codes = contents
        self._venues.take_up(venues)
        self._resolved = {}

    def put(self, venue: VenueEvent) -> set[bytes]:
        """Takes a new version of a venue; returns the codes that may now mean something else."""
        venue_id = venue.venue_id.encode()
        touched = {venue_id} if venue_id not in self._venues else set()
        self._venues[venue_id] = pack_attributes(venue)
        for code in self._codes.pop(venue_id, ()):
            self._claims[code] = tuple(claim for claim in self._claims[code] if claim[1] != venue_id)
            touched.add(code)
        if venue.codes:
            self._codes[venue_id] = codes = tuple({code.encode(): None for code in venue.codes})
            for code in codes:
                self._claims[code] = (*self._claims.get(code, ()), (venue.registered_ms, venue_id))
                touched.add(code)
        if self._resolved:
            # Another one, after the change: who is resolving now may still write what was true before into the old one.
            self._resolved = {}
        return touched

    def resolve(self, code: bytes) -> tuple[bytes, bytes] | None:
        """(venue_id, attributes) that ``code`` means, or None where nobody registered it.

        A venue_id names its own venue; else the smallest (registered_at, venue_id) that claims the code.
        """
        resolved = self._resolved
        found = resolved.get(code)
        if found is None:
            found = self._look_up(code)
            if found is not None:
                if len(resolved) >= _RESOLVED_MAX:
                    resolved.clear()
                resolved[code] = found
        return found

    def _look_up(self, code: bytes) -> tuple[bytes, bytes] | None:
        attributes = self._venues.get(code)
        if attributes is not None:
            return code, attributes
        claims = self._claims.get(code)
        if not claims:
            return None
        venue_id = min(claims)[1]
        return venue_id, self._venues[venue_id]
