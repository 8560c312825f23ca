"""A person's scans in state, short or long: what is stored under which key, and what a step changes of it.

A short timeline is one value. Above ``CHUNK_BYTES_MAX`` it becomes a long one: chunks by time, an index
entry per scan and the areas counted per day, so that a card shared by thousands costs a scan what it
touches and not what it holds, and no value outgrows what a Kafka record may carry.

Values (little-endian)::

    head:   flags u8 | erased_ms i64, if the person asked to be forgotten | then
    short:  floor_ms i64, if older visits have expired | closed_ms i64, last_ms i64, scans u32, offset of the opener u16
            | scans
    long:   where each chunk begins
    chunk:  n u16, carry before its first scan | scans

``floor_ms`` is when the last visit that expired had ended; the first chunk of a long timeline has it in its carry.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from streams.core import keys, packed
from streams.core.directory import NO_ATTRIBUTES
from streams.core.packed import WAITING, StoredScan, scans_of, unpack
from streams.core.step import StateReader
from streams.core.times import LocalClock
from streams.core.visits import NEVER_MS, START, Carry, unpack_carry

CHUNK_BYTES_MAX = 8_192

Place = tuple[int, bytes]
"""(occurred_ms, scan_id): where a scan stands in its timeline."""

_INDEX = struct.Struct("<qBB")
_PLACE = struct.Struct("<qB")
_LENGTH = struct.Struct("<H")
_TIME = struct.Struct("<q")
_SHORT = struct.Struct("<qqIH")
_NO_OPENER: Final = 0xFFFF
_IS_LONG: Final = 1
_HAS_CASES: Final = 2
_IS_ERASED: Final = 4
_HAS_FLOOR: Final = 8
FIRST: Final[Place] = (-(1 << 62), b"")
"""The start of a long timeline's first chunk: before every scan."""
LAST: Final[Place] = (1 << 62, b"")
"""After every scan."""


def pack_starts(starts: list[Place]) -> bytes:
    """Where each chunk of a long timeline begins."""
    return b"".join(_PLACE.pack(time_ms, len(scan_id)) + scan_id for time_ms, scan_id in starts)


def unpack_starts(run_of_places: bytes) -> list[Place]:
    """The inverse of ``pack_starts``."""
    starts, at = [], 0
    while at < len(run_of_places):
        time_ms, length = _PLACE.unpack_from(run_of_places, at)
        at += _PLACE.size + length
        starts.append((time_ms, run_of_places[at - length : at]))
    return starts


def erased_of(head: bytes) -> int | None:
    """Up to when the person of this head asked to be forgotten; None if never."""
    return _TIME.unpack_from(head, 1)[0] if head[0] & _IS_ERASED else None


def may_hold_older(head: bytes, than_ms: int) -> bool:
    """Whether a head may hold anything that can expire: a look at its first scan, without unpacking it."""
    flags = head[0]
    if flags & ~_HAS_FLOOR or len(head) <= 1 + _SHORT.size:
        return True
    at = 1 + (_TIME.size if flags & _HAS_FLOOR else 0) + _SHORT.size
    return bool(flags & _HAS_FLOOR) or int(_TIME.unpack_from(head, at)[0]) < than_ms


def _with_length(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _split_length(value: bytes) -> tuple[bytes, bytes]:
    """(what its first two bytes give the length of, the rest)."""
    end = _LENGTH.size + _LENGTH.unpack_from(value)[0]
    return value[_LENGTH.size : end], value[end:]


class HeldScans:
    """One person's scans during one step: reads what it needs, remembers what it changed."""

    __slots__ = (
        "_accepted", "_areas", "_blob", "_carries", "_carry", "_changes", "_chunks", "_dirty", "_in_order", "_old",
        "_old_starts", "_person", "_read", "_starts", "_touched", "caused_ms", "erased_ms", "floor_ms", "has_cases",
    )  # fmt: skip

    def __init__(self, person: bytes, head: bytes | None, read: StateReader) -> None:
        """``person`` is the 16-byte id, ``head`` the stored value of its head key."""
        self.has_cases = False
        """Whether reports of cases of this person are held."""
        self.caused_ms = 0
        """Record timestamp of the newest scan accepted in this step."""
        self.erased_ms: int | None = None
        """Up to when the person asked to be forgotten; None if never, or too long ago to matter."""
        self.floor_ms = NEVER_MS
        """When the last visit that expired had ended."""
        self._person = person
        self._read = read
        self._dirty = False
        self._changes: dict[bytes, bytes | None] = {}
        self._chunks: dict[Place, bytes] = {}
        self._carries: dict[Place, bytes] = {}
        self._touched: set[Place] = set()
        self._areas: dict[bytes, set[bytes]] = {}
        self._blob = b""
        self._starts: list[Place] | None = None
        self._carry = START
        self._accepted: list[StoredScan] = []
        self._in_order = True
        """Whether the timeline is short, and every scan of this step comes after all that it held."""
        self._old = b""
        self._old_starts: list[Place] | None = None
        if head is not None:
            self._unpack_head(head)

    def _unpack_head(self, head: bytes) -> None:
        flags, at = head[0], 1
        self.has_cases = bool(flags & _HAS_CASES)
        if flags & _IS_ERASED:
            [self.erased_ms] = _TIME.unpack_from(head, at)
            at += _TIME.size
        if flags & _HAS_FLOOR:
            [self.floor_ms] = _TIME.unpack_from(head, at)
            at += _TIME.size
        if flags & _IS_LONG:
            self._starts = unpack_starts(head[at:])
            self._old_starts = list(self._starts)
            self._in_order = False
            return
        closed_ms, last_ms, scans, opener = _SHORT.unpack_from(head, at)
        self._blob = self._old = head[at + _SHORT.size :]
        if opener != _NO_OPENER:
            self._carry = Carry(NEVER_MS, last_ms, scans, unpack(self._blob, opener)[0])
        elif closed_ms != NEVER_MS:
            self._carry = Carry(closed_ms, 0, 0, None)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held of the person, so that no key is needed."""
        return not (
            self._starts or self._blob or self.has_cases or self.erased_ms is not None or self.floor_ms > NEVER_MS
        )

    @property
    def _floor(self) -> Carry:
        """Where the pass over the visits begins."""
        return START if self.floor_ms == NEVER_MS else Carry(self.floor_ms, 0, 0, None)

    def _get(self, key: bytes) -> bytes | None:
        return self._changes[key] if key in self._changes else self._read.get(key)

    def find(self, scan_id: bytes) -> StoredScan | None:
        """What is stored under ``scan_id``; of a long timeline only what a copy is compared by."""
        if self._starts is None:
            found = packed.find(self._blob, scan_id)
            return found[0] if found else None
        entry = self._get(keys.person_scan(self._person, scan_id))
        if entry is None:
            return None
        occurred, flags, source = _INDEX.unpack_from(entry)
        code = entry[_INDEX.size :]
        return StoredScan(occurred, flags & ~WAITING, source, flags >= WAITING, scan_id, code, code, NO_ATTRIBUTES)

    def areas_of_day(self, occurred_ms: int, clock: LocalClock) -> set[bytes]:
        """Areas already counted for this person on the local day of ``occurred_ms``."""
        if self._starts is None:
            return packed.areas_of_day(self._blob, occurred_ms, clock) if self._blob else set()
        return self._areas_of(keys.person_day(self._person, clock.place(occurred_ms)[2]))

    def _areas_of(self, key: bytes) -> set[bytes]:
        """The areas of a day of a long timeline, unpacked once a step: a shared card may have thousands."""
        areas = self._areas.get(key)
        if areas is None:
            run_of_areas = self._get(key) or b""
            areas = {run_of_areas[i : i + 10] for i in range(0, len(run_of_areas), 10)}
            self._areas[key] = areas
        return areas

    def add(self, scan: StoredScan, clock: LocalClock) -> None:
        """Stores a scan whose id is not held yet."""
        self._dirty = True
        if self._starts is None:
            blob = self._blob
            at = packed.position(blob, (scan[0], scan[4])) if blob else 0
            if at == len(blob):
                self._blob = blob + scan.pack()
            else:
                self._blob = blob[:at] + scan.pack() + blob[at:]
                self._in_order = False
            if len(self._blob) > CHUNK_BYTES_MAX:
                self._lengthen(clock)
        else:
            self._index(scan, clock)
            start = self._start_of(scan.place)
            blob = self._chunk(start)
            at = packed.position(blob, scan.place)
            self._put_chunk(start, blob[:at] + scan.pack() + blob[at:])
        if not scan.waiting:
            self._accepted.append(scan)

    def accept(self, scan_id: bytes, occurred_ms: int, venue_id: bytes, attributes: bytes, clock: LocalClock) -> None:
        """Turns a waiting scan into an accepted one.

        Raises:
            KeyError: no such scan waits, which would be a bug of the rooms.
        """
        self._dirty = True
        self._in_order = False
        start = FIRST if self._starts is None else self._start_of((occurred_ms, scan_id))
        blob = self._blob if self._starts is None else self._chunk(start)
        found = packed.find(blob, scan_id)
        if found is None or not found[0].waiting:
            raise KeyError("a scan that is to be accepted does not wait")
        scan = found[0]._replace(waiting=False, venue_id=venue_id, attributes=attributes)
        blob = blob[: found[1]] + scan.pack() + blob[found[2] :]
        if self._starts is None:
            self._blob = blob
        else:
            self._index(scan, clock)
            self._put_chunk(start, blob)
        self._accepted.append(scan)

    def note_cases(self, *, held: bool) -> None:
        """Remembers whether reports of cases of this person are held."""
        self._dirty = self._dirty or self.has_cases != held
        self.has_cases = held

    def drop_mark(self) -> None:
        """Forgets that the person asked to be forgotten."""
        self._dirty = True
        self.erased_ms = None

    def changes(self) -> dict[bytes, bytes | None]:
        """State changes of this step; empty if nothing changed."""
        if not self._dirty:
            return {}
        key = keys.person_head(self._person)
        changes = dict(self._changes)
        for start in self._touched:
            changes[keys.person_chunk(self._person, *start)] = _with_length(self._carries[start]) + self._chunks[start]
        head = None if self.is_empty else self._head()
        if self._starts is None or self._read.get(key) != head:
            changes[key] = head
        return changes

    def _head(self) -> bytes:
        flags = _HAS_CASES if self.has_cases else 0
        times = b""
        if self.erased_ms is not None:
            flags |= _IS_ERASED
            times = _TIME.pack(self.erased_ms)
        if self._starts is not None:
            return b"%c%b%b" % (flags | _IS_LONG, times, pack_starts(self._starts))
        if self.floor_ms != NEVER_MS:
            flags |= _HAS_FLOOR
            times += _TIME.pack(self.floor_ms)
        closed_ms, last_ms, scans, opener = self._carry
        offset = _NO_OPENER if opener is None else packed.position(self._blob, opener.place)
        return b"%c%b%b%b" % (flags, times, _SHORT.pack(closed_ms, last_ms, scans, offset), self._blob)

    def _index(self, scan: StoredScan, clock: LocalClock) -> None:
        flags = scan.direction | (WAITING if scan.waiting else 0)
        entry = _INDEX.pack(scan.occurred_ms, flags, scan.source) + scan.code
        self._changes[keys.person_scan(self._person, scan.scan_id)] = entry
        if not scan.waiting:
            key = keys.person_day(self._person, clock.place(scan.occurred_ms)[2])
            areas, area = self._areas_of(key), scan.attributes[:10]
            if area not in areas:
                self._changes[key] = (self._get(key) or b"") + area
                areas.add(area)

    def _start_of(self, place: Place) -> Place:
        """Where the chunk that holds ``place`` begins."""
        starts = self._starts or [FIRST]
        return starts[bisect_right(starts, place) - 1]

    def _old_chunk(self, start: Place) -> tuple[Carry, bytes]:
        """(carry, scans) of a chunk as they were before this step."""
        if self._old_starts is None:
            return self._floor, self._old
        value = self._read.get(keys.person_chunk(self._person, *start))
        if value is None:
            return START, b""
        carry, blob = _split_length(value)
        return unpack_carry(carry), blob

    def _chunk(self, start: Place) -> bytes:
        """The scans of a chunk, as they are now."""
        if start not in self._chunks:
            carry, blob = self._old_chunk(start)
            self._carries[start] = carry.pack()
            self._chunks[start] = blob
        return self._chunks[start]

    def _set_carry(self, start: Place, carry: Carry) -> None:
        self._chunk(start)
        value = carry.pack()
        if self._carries[start] != value:
            self._carries[start] = value
            self._touched.add(start)

    def _put_chunk(self, start: Place, blob: bytes) -> None:
        """Changes a chunk; one that grew too long is split in two."""
        self._chunks[start] = blob
        self._touched.add(start)
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
        middle = unpack(blob, at)[0].place
        self._chunks[start], self._chunks[middle] = blob[:at], blob[at:]
        self._carries[middle] = b""
        self._touched.add(middle)
        self._starts.insert(bisect_right(self._starts, middle), middle)

    def _lengthen(self, clock: LocalClock) -> None:
        """Turns a short timeline into a long one."""
        self._in_order = False
        self._starts = [FIRST]
        for scan in scans_of(self._blob):
            self._index(scan, clock)
        blob, self._blob = self._blob, b""
        self._carries[FIRST] = self._floor.pack()
        self._put_chunk(FIRST, blob)

    def _drop_keys(self, gone: Iterable[StoredScan], starts: Iterable[Place], clock: LocalClock) -> None:
        """Deletes what a long timeline keeps of scans beside its chunks, and the chunks of these starts."""
        self._areas.clear()
        for scan in gone:
            self._changes[keys.person_scan(self._person, scan.scan_id)] = None
            self._changes[keys.person_day(self._person, clock.place(scan.occurred_ms)[2])] = None
        for start in starts:
            self._changes[keys.person_chunk(self._person, *start)] = None
            self._touched.discard(start)
            self._chunks.pop(start, None)
            self._carries.pop(start, None)

    def _count_first_day_again(self, clock: LocalClock) -> None:
        """Keeps which areas a long timeline counted on its first day, of which some scans are gone."""
        self._areas.clear()
        areas: dict[bytes, None] = {}
        first_day = None
        for scan in (scan for start in self._starts or () for scan in scans_of(self._chunk(start))):
            day = clock.place(scan.occurred_ms)[2]
            first_day = first_day or day
            if day != first_day:
                break
            if not scan.waiting:
                areas[scan.attributes[:10]] = None
        if first_day is not None:
            self._changes[keys.person_day(self._person, first_day)] = b"".join(areas) or None


def accepted_in(blob: bytes) -> Iterator[StoredScan]:
    """The scans of a packed run that do not wait."""
    return (scan for scan in scans_of(blob) if not scan.waiting)
