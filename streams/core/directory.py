"""The venue directory: the register in memory, and which venue a scanned code means.

Each worker holds the whole register, so an entry is small: the venue's attributes packed in 29 bytes, of which a
stored scan keeps the first 13: where a venue lies is told when a scan is accepted, and never asked again.
Little-endian::

    ward_code 5s | district_code 3s | province_code 2s | category u8 | dwell_minutes u16 | lat f64 | lon f64

``dwell_minutes`` is the venue's own, or its category's.
"""

import struct
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

from streams.core.categories import CATEGORIES
from streams.core.hashing import SECRET_BYTES
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

_Claim = tuple[int, bytes, bytes]
"""(registered_ms, venue_id, its codes, one a line) of a venue's newest version that has any."""

Contents = tuple[Packed, list[_Claim]]
"""All that a directory holds, for keeping and taking up again; its inner layout is nobody else's matter."""

_WITHDRAWN_KEPT_MAX: Final = 16
"""So many withdrawn claims of a code, beside as many as are in force, may wait for being left out."""


class _Rivals:
    """All claims of one code that several venues claim: a heap, in which those that were withdrawn stay for a while."""

    __slots__ = ("heap", "in_force")

    def __init__(self, first: _Claim) -> None:
        self.heap = [first]
        self.in_force = 1


class Directory:
    """The newest version of every venue, and who claims which code.

    One thread may put and remove while others resolve: every value that these read is replaced whole, never changed in
    place, and a code goes from one claimant to the next without meaning nothing in between. What a change costs grows
    with its own codes alone, whoever else claims them.
    """

    def __init__(self, secret: bytes = bytes(SECRET_BYTES)) -> None:
        """Starts empty; ``secret`` (16 bytes) is what ``PackedTable`` wants it for."""
        self._venues = PackedTable(_ATTRIBUTES.size, secret)
        self._of_venue: dict[bytes, _Claim] = {}
        """By venue_id; a claim that is not this very object was withdrawn."""
        self._of_code: dict[bytes, _Claim] = {}
        """By code, the claim that counts."""
        self._rivals: dict[bytes, _Rivals] = {}
        self._resolved: dict[bytes, tuple[bytes, bytes]] = {}
        """What codes were found to mean since the last change: most scans are of few venues."""

    def __len__(self) -> int:
        """How many venues are registered."""
        return len(self._venues)

    @property
    def contested(self) -> int:
        """How many codes more than one venue claims."""
        return len(self._rivals)

    @property
    def contents(self) -> Contents:
        """Everything it holds, not copied."""
        return self._venues.packed, list(self._of_venue.values())

    def take_up(self, contents: Contents) -> None:
        """Holds what another one held, and nothing else; not while others resolve."""
        venues, claims = contents
        self._venues.take_up(venues)
        self._of_venue, self._of_code, self._rivals, self._resolved = {}, {}, {}, {}
        for claim in claims:
            self._claim(claim[1], claim)

    def put(self, venue: VenueEvent) -> set[bytes]:
        """Takes a new version of a venue; returns the codes that may mean something now and did not before."""
        venue_id = venue.venue_id.encode()
        touched = {venue_id} if venue_id not in self._venues else set()
        self._venues[venue_id] = pack_attributes(venue)
        codes = "\n".join(dict.fromkeys(venue.codes)).encode()
        touched |= self._claim(venue_id, (venue.registered_ms, venue_id, codes) if codes else None)
        if self._resolved:
            # Another one, after the change: who is resolving now may still write what was true before into the old one.
            self._resolved = {}
        return touched

    def remove(self, venue_id: bytes) -> bool:
        """Takes a venue out: its id and codes mean what others claim them for, or nothing. Whether it was there."""
        if venue_id not in self._venues:
            return False
        self._claim(venue_id, None)  # first: what counts for a code is always there
        del self._venues[venue_id]
        self._resolved = {}
        return True

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
        while (claim := self._of_code.get(code)) is not None:
            attributes = self._venues.get(claim[1])
            if attributes is not None:
                return claim[1], attributes
            # It was taken out just now, and the code given to another before that.
        return None

    def _claim(self, venue_id: bytes, claim: _Claim | None) -> set[bytes]:
        """Replaces what a venue claims; returns the codes that it claims now and did not before."""
        was = self._of_venue.get(venue_id)
        if was == claim:
            return set()
        before, now = _codes_of(was), _codes_of(claim)
        if claim is None:
            del self._of_venue[venue_id]
        else:
            self._of_venue[venue_id] = claim
            for code in now:
                self._enter(code, claim, anew=code not in before)
        for code in before:
            if code not in now:
                self._withdraw(code)
        return {code for code in now if code not in before}

    def _enter(self, code: bytes, claim: _Claim, *, anew: bool) -> None:
        rivals = self._rivals.get(code)
        if rivals is None:
            alone = self._of_code.get(code)
            if alone is None or alone[1] == claim[1]:
                self._of_code[code] = claim
                return
            rivals = self._rivals[code] = _Rivals(alone)
        heappush(rivals.heap, claim)
        rivals.in_force += anew
        self._settle(code, rivals)

    def _withdraw(self, code: bytes) -> None:
        rivals = self._rivals.get(code)
        if rivals is None:
            del self._of_code[code]
            return
        rivals.in_force -= 1
        self._settle(code, rivals)
        if rivals.in_force == 1:
            del self._rivals[code]

    def _settle(self, code: bytes, rivals: _Rivals) -> None:
        """Says which claim counts."""
        heap = rivals.heap
        if len(heap) > 2 * rivals.in_force + _WITHDRAWN_KEPT_MAX:
            heap[:] = filter(self._in_force, heap)
            heapify(heap)
        while not self._in_force(heap[0]):
            heappop(heap)
        self._of_code[code] = heap[0]

    def _in_force(self, claim: _Claim) -> bool:
        return self._of_venue.get(claim[1]) is claim


def _codes_of(claim: _Claim | None) -> dict[bytes, None]:
    """The codes of a claim, in their order."""
    return {} if claim is None else dict.fromkeys(claim[2].split(b"\n"))
