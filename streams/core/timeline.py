"""A person's scans in state: packed, ordered by (occurred_at, scan_id), never decoded as a whole.

A short timeline is one value. Above ``CHUNK_BYTES_MAX`` it becomes a long one: chunks by time, an index
entry per scan and the areas counted per day, so that a card shared by thousands costs a scan what it
touches and not what it holds, and no value outgrows what a Kafka record may carry.

One packed scan (little-endian)::

    occurred_ms i64 | flags u8 | source u8 | len(scan_id) u8 | len(code) u8 | len(venue_id) u8
    | attributes (``directory.py``) | scan_id | code as sent | venue_id, empty where it equals the code
    | total length u16

The trailing length lets a reader walk back from the newest scan, which is where nearly all looks end.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple, get_args

from streams.core import keys
from streams.core.directory import ATTRIBUTES_BYTES, NO_ATTRIBUTES
from streams.core.inbound import Direction, Source
from streams.core.step import StateReader
from streams.core.times import LocalClock

DIRECTIONS: Final = get_args(Direction)
SOURCES: Final = get_args(Source)
DIRECTION_CODE: Final = {name: code for code, name in enumerate(DIRECTIONS)}
SOURCE_CODE: Final = {name: code for code, name in enumerate(SOURCES)}

CHUNK_BYTES_MAX = 8_192
LOCAL_DAY_MS_MAX = 26 * 3_600_000
"""No local day is longer, whatever the time zone does in it."""

_HEAD = struct.Struct("<qBBBBB")
_TAIL = struct.Struct("<H")
_INDEX = struct.Struct("<qBB")
_START = struct.Struct("<qB")
_FIXED_BYTES = _HEAD.size + ATTRIBUTES_BYTES
_WAITING = 0x80
_SHORT = b"\0"
_LONG = b"\1"
_FIRST: Final = (-(1 << 62), b"")
"""The start of a long timeline's first chunk: before every scan."""


class StoredScan(NamedTuple):
    """One scan of a timeline, unpacked. ``attributes`` are those given at acceptance."""

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
                self.direction | (_WAITING if self.waiting else 0),
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
    b = a + ATTRIBUTES_BYTES
    c = b + n_scan
    d = c + n_code
    e = d + n_venue
    code = blob[c:d]
    scan = StoredScan(
        occurred, flags & 0x7F, source, flags >= _WAITING, blob[b:c], code, blob[d:e] if n_venue else code, blob[a:b]
    )
    return scan, e + _TAIL.size


def scans_of(blob: bytes) -> Iterator[StoredScan]:
    """All scans of a packed run, oldest first."""
    at = 0
    while at < len(blob):
        scan, at = unpack(blob, at)
        yield scan


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


def insert(blob: bytes, scan: StoredScan) -> bytes:
    """The run with ``scan`` at its place; appending is the common case."""
    place = scan.place
    end = len(blob)
    while end:
        start = end - int.from_bytes(blob[end - 2 : end], "little")
        occurred, _, _, n_scan, _, _ = _HEAD.unpack_from(blob, start)
        if (occurred, blob[start + _FIXED_BYTES : start + _FIXED_BYTES + n_scan]) < place:
            break
        end = start
    return blob[:end] + scan.pack() + blob[end:] if end < len(blob) else blob + scan.pack()


def areas_of_day(blob: bytes, occurred_ms: int, clock: LocalClock) -> set[bytes]:
    """Areas (10 bytes each) of the accepted scans on the local day of ``occurred_ms``."""
    day = clock.place(occurred_ms)[2]
    areas: set[bytes] = set()
    end = len(blob)
    while end:
        start = end - int.from_bytes(blob[end - 2 : end], "little")
        occurred, flags, _, _, _, _ = _HEAD.unpack_from(blob, start)
        if occurred < occurred_ms - LOCAL_DAY_MS_MAX:
            break
        if flags < _WAITING and clock.place(occurred)[2] == day:
            areas.add(blob[start + _HEAD.size : start + _HEAD.size + 10])
        end = start
    return areas


def pack_starts(starts: list[tuple[int, bytes]]) -> bytes:
    """Head of a long timeline: where each of its chunks begins."""
    return _LONG + b"".join(_START.pack(time_ms, len(scan_id)) + scan_id for time_ms, scan_id in starts)


def unpack_starts(head: bytes) -> list[tuple[int, bytes]]:
    """The inverse of ``pack_starts``."""
    starts, at = [], len(_LONG)
    while at < len(head):
        time_ms, length = _START.unpack_from(head, at)
        at += _START.size + length
        starts.append((time_ms, head[at - length : at]))
    return starts


class Timeline:
    """One person's scans during one step: reads what it needs, remembers what it changed."""

    __slots__ = ("_blob", "_changes", "_chunks", "_dirty", "_person", "_read", "_starts")

    def __init__(self, person: bytes, head: bytes | None, read: StateReader) -> None:
        """``person`` is the 16-byte id, ``head`` the stored value of its head key."""
        self._person = person
        self._read = read
        self._dirty = False
        self._changes: dict[bytes, bytes | None] = {}
        self._chunks: dict[tuple[int, bytes], bytes] = {}
        self._blob = b""
        self._starts: list[tuple[int, bytes]] | None = None
        if head is not None:
            if head[:1] == _SHORT:
                self._blob = head[1:]
            else:
                self._starts = unpack_starts(head)

    def _get(self, key: bytes) -> bytes | None:
        return self._changes[key] if key in self._changes else self._read.get(key)

    def find(self, scan_id: bytes) -> StoredScan | None:
        """What is stored under ``scan_id``; of a long timeline only what a copy is compared by."""
        if self._starts is None:
            found = find(self._blob, scan_id)
            return found[0] if found else None
        entry = self._get(keys.person_scan(self._person, scan_id))
        if entry is None:
            return None
        occurred, flags, source = _INDEX.unpack_from(entry)
        code = entry[_INDEX.size :]
        return StoredScan(occurred, flags & 0x7F, source, flags >= _WAITING, scan_id, code, code, NO_ATTRIBUTES)

    def areas_of_day(self, occurred_ms: int, clock: LocalClock) -> set[bytes]:
        """Areas already counted for this person on the local day of ``occurred_ms``."""
        if self._starts is None:
            return areas_of_day(self._blob, occurred_ms, clock) if self._blob else set()
        packed = self._get(keys.person_day(self._person, clock.place(occurred_ms)[2])) or b""
        return {packed[i : i + 10] for i in range(0, len(packed), 10)}

    def add(self, scan: StoredScan, clock: LocalClock) -> None:
        """Stores a scan whose id is not held yet."""
        self._dirty = True
        if self._starts is None:
            self._blob = insert(self._blob, scan)
            if len(self._blob) > CHUNK_BYTES_MAX:
                self._lengthen(clock)
            return
        self._index(scan, clock)
        start, blob = self._chunk(scan.place)
        self._put_chunk(start, insert(blob, scan))

    def accept(self, scan_id: bytes, occurred_ms: int, venue_id: bytes, attributes: bytes, clock: LocalClock) -> None:
        """Turns a waiting scan into an accepted one.

        Raises:
            KeyError: no such scan waits, which would be a bug of the rooms.
        """
        self._dirty = True
        if self._starts is None:
            start, blob = _FIRST, self._blob
        else:
            start, blob = self._chunk((occurred_ms, scan_id))
        found = find(blob, scan_id)
        if found is None or not found[0].waiting:
            raise KeyError("a scan that is to be accepted does not wait")
        scan = found[0]._replace(waiting=False, venue_id=venue_id, attributes=attributes)
        blob = blob[: found[1]] + scan.pack() + blob[found[2] :]
        if self._starts is None:
            self._blob = blob
        else:
            self._index(scan, clock)
            self._put_chunk(start, blob)

    def changes(self) -> dict[bytes, bytes | None]:
        """State changes of this step; empty if nothing changed."""
        if not self._dirty:
            return {}
        if self._starts is None:
            return {keys.person_head(self._person): _SHORT + self._blob}
        changes = dict(self._changes)
        changes |= {keys.person_chunk(self._person, *start): blob for start, blob in self._chunks.items()}
        head = pack_starts(self._starts)
        if self._read.get(keys.person_head(self._person)) != head:
            changes[keys.person_head(self._person)] = head
        return changes

    def _index(self, scan: StoredScan, clock: LocalClock) -> None:
        flags = scan.direction | (_WAITING if scan.waiting else 0)
        entry = _INDEX.pack(scan.occurred_ms, flags, scan.source) + scan.code
        self._changes[keys.person_scan(self._person, scan.scan_id)] = entry
        if not scan.waiting:
            key = keys.person_day(self._person, clock.place(scan.occurred_ms)[2])
            areas = self._get(key) or b""
            area = scan.attributes[:10]
            if all(areas[i : i + 10] != area for i in range(0, len(areas), 10)):
                self._changes[key] = areas + area

    def _chunk(self, place: tuple[int, bytes]) -> tuple[tuple[int, bytes], bytes]:
        starts = self._starts or [_FIRST]
        start = starts[bisect_right(starts, place) - 1]
        if start not in self._chunks:
            self._chunks[start] = self._read.get(keys.person_chunk(self._person, *start)) or b""
        return start, self._chunks[start]

    def _put_chunk(self, start: tuple[int, bytes], blob: bytes) -> None:
        """Stores a chunk, split in two where it grew too long."""
        self._chunks[start] = blob
        if len(blob) <= CHUNK_BYTES_MAX or self._starts is None:
            return
        before, at = 0, 0
        while at < len(blob) // 2:
            before = at
            _, at = unpack(blob, at)
        if at == len(blob):
            at = before
        if at == 0:
            return  # a single scan
        middle, _ = unpack(blob, at)
        self._chunks[start], self._chunks[middle.place] = blob[:at], blob[at:]
        self._starts.insert(bisect_right(self._starts, middle.place), middle.place)

    def _lengthen(self, clock: LocalClock) -> None:
        """Turns a short timeline into a long one."""
        self._starts = [_FIRST]
        for scan in scans_of(self._blob):
            self._index(scan, clock)
        blob, self._blob = self._blob, b""
        self._put_chunk(_FIRST, blob)
