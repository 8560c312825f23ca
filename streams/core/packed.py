"""A person's scans as bytes: packed one after another by (occurred_at, scan_id), never decoded as a whole.

One packed scan (little-endian)::

    occurred_ms i64 | flags u8 | source u8 | len(scan_id) u8 | len(code) u8 | len(venue_id) u8
    | attributes (``directory.py``), the 13 bytes that are kept | scan_id | code as sent
    | venue_id, empty where it equals the code | total length u16

The trailing length lets a reader walk back from the newest scan, which is where nearly all looks end.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, get_args

from streams.core.directory import KEPT_BYTES, NO_ATTRIBUTES
from streams.core.inbound import Direction, Source
from streams.core.times import LocalClock

DIRECTIONS: Final = get_args(Direction)
SOURCES: Final = get_args(Source)
DIRECTION_CODE: Final = {name: code for code, name in enumerate(DIRECTIONS)}
SOURCE_CODE: Final = {name: code for code, name in enumerate(SOURCES)}
WAITING: Final = 0x80
"""Flag of a scan whose venue is not registered yet."""

LOCAL_DAY_MS_MAX = 26 * 3_600_000
"""No local day is longer, whatever the time zone does in it."""

_HEAD = struct.Struct("<qBBBBB")
_TAIL = struct.Struct("<H")
_FIXED_BYTES = _HEAD.size + KEPT_BYTES


class StoredScan(NamedTuple):
    """One scan of a timeline, unpacked. ``attributes`` are those given at acceptance, as far as they are kept."""

    occurred_ms: int
    direction: int
    source: int
    waiting: bool
    scan_id: bytes
    code: bytes
    venue_id: bytes
    attributes: bytes

    def same_event(self, occurred_ms: int, direction: int, source: int, code: bytes) -> bool:
        """Whether a copy says the same (SPEC §2: venue_id as sent, direction, instant and source)."""
        return (self.occurred_ms, self.direction, self.source, self.code) == (occurred_ms, direction, source, code)

    @property
    def place(self) -> tuple[int, bytes]:
        """Where the scan stands in its timeline (SPEC §3: occurred_at, then scan_id)."""
        return self.occurred_ms, self.scan_id

    def pack(self) -> bytes:
        """The packed form, as the module's head describes it."""
        venue = b"" if self.venue_id == self.code else self.venue_id
        body = self.scan_id + self.code + venue
        return b"%b%b%b%b" % (
            _HEAD.pack(
                self.occurred_ms,
                self.direction | (WAITING if self.waiting else 0),
                self.source,
                len(self.scan_id),
                len(self.code),
                len(venue),
            ),
            NO_ATTRIBUTES if self.waiting else self.attributes,
            body,
            _TAIL.pack(_FIXED_BYTES + len(body) + _TAIL.size),
        )


def unpack(blob: bytes, start: int) -> tuple[StoredScan, int]:
    """The scan that begins at ``start`` and where the next one begins."""
    occurred, flags, source, n_scan, n_code, n_venue = _HEAD.unpack_from(blob, start)
    a = start + _HEAD.size
    b = a + KEPT_BYTES
    c = b + n_scan
    d = c + n_code
    e = d + n_venue
    code = blob[c:d]
    scan = StoredScan(
        occurred, flags & 0x7F, source, flags >= WAITING, blob[b:c], code, blob[d:e] if n_venue else code, blob[a:b]
    )
    return scan, e + _TAIL.size


def scans_of(blob: bytes) -> Iterator[StoredScan]:
    """All scans of a packed run, oldest first."""
    at = 0
    while at < len(blob):
        scan, at = unpack(blob, at)
        yield scan


def older_than(blob: bytes, than_ms: int) -> tuple[list[StoredScan], int]:
    """The scans of a packed run from before an instant, read from the front, and where the others begin."""
    older: list[StoredScan] = []
    at = 0
    while at < len(blob):
        scan, end = unpack(blob, at)
        if scan.occurred_ms >= than_ms:
            break
        older.append(scan)
        at = end
    return older, at


def find(blob: bytes, scan_id: bytes) -> tuple[StoredScan, int, int] | None:
    """(scan, start, end) of ``scan_id`` in a packed run, or None."""
    if scan_id not in blob:  # the common case, at memory speed
        return None
    at = 0
    while at < len(blob):
        scan, end = unpack(blob, at)
        if scan.scan_id == scan_id:
            return scan, at, end
        at = end
    return None


def _start_of(blob: bytes, end: int) -> int:
    """Where in a packed run the scan begins that ends there.

    Raises:
        ValueError: what says so is no length of a scan, as in a head that a stray record left.
    """
    length = int.from_bytes(blob[end - _TAIL.size : end], "little")
    if not _FIXED_BYTES + _TAIL.size <= length <= end:
        raise ValueError("the packed scans are damaged")
    return end - length


def position(blob: bytes, place: tuple[int, bytes]) -> int:
    """Where in a packed run a scan of that place belongs; at its end is the common case."""
    end = len(blob)
    while end:
        start = _start_of(blob, end)
        occurred, _, _, n_scan, _, _ = _HEAD.unpack_from(blob, start)
        if (occurred, blob[start + _FIXED_BYTES : start + _FIXED_BYTES + n_scan]) < place:
            break
        end = start
    return end


def areas_of_day(blob: bytes, occurred_ms: int, clock: LocalClock) -> set[bytes]:
    """Areas (10 bytes each) of the accepted scans on the local day of ``occurred_ms``."""
    day = clock.place(occurred_ms)[2]
    areas: set[bytes] = set()
    end = len(blob)
    while end:
        start = _start_of(blob, end)
        occurred, flags, _, _, _, _ = _HEAD.unpack_from(blob, start)
        if occurred < occurred_ms - LOCAL_DAY_MS_MAX:
            break
        if flags < WAITING and clock.place(occurred)[2] == day:
            areas.add(blob[start + _HEAD.size : start + _HEAD.size + 10])
        end = start
    return areas
