"""A person's timeline in state: the scans (``packed.py``) and where the pass over their visits stands (``visits.py``).

A short timeline is one value. Above ``CHUNK_BYTES_MAX`` it becomes a long one: chunks by time, an index
entry per scan and the areas counted per day, so that a card shared by thousands costs a scan what it
touches and not what it holds, and no value outgrows what a Kafka record may carry.

Values (little-endian)::

    head, short:  flags u8 | closed_ms i64, last_ms i64, scans u32, offset of the opener u16 | scans
    head, long:   flags u8 | where each chunk begins
    chunk:        n u16, carry before its first scan | scans
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

from streams.core import keys, packed
from streams.core.directory import NO_ATTRIBUTES
from streams.core.packed import WAITING, StoredScan, scans_of, unpack
from streams.core.step import StateReader
from streams.core.times import LocalClock
from streams.core.visits import NEVER_MS, START, VISIT_MS_MAX, Carry, Visit, all_of, run, unpack_carry

CHUNK_BYTES_MAX = 8_192

Place = tuple[int, bytes]
"""(occurred_ms, scan_id): where a scan stands in its timeline."""

_INDEX = struct.Struct("<qBB")
_PLACE = struct.Struct("<qB")
_LENGTH = struct.Struct("<H")
_SHORT = struct.Struct("<BqqIH")
_NO_OPENER: Final = 0xFFFF
_IS_LONG: Final = 1
_HAS_CASES: Final = 2
_FIRST: Final[Place] = (-(1 << 62), b"")
"""The start of a long timeline's first chunk: before every scan."""
_LAST: Final[Place] = (1 << 62, b"")


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


def _with_length(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _split_length(value: bytes) -> tuple[bytes, bytes]:
    """(what its first two bytes give the length of, the rest)."""
    end = _LENGTH.size + _LENGTH.unpack_from(value)[0]
    return value[_LENGTH.size : end], value[end:]


class Timeline:
    """One person's scans during one step: reads what it needs, remembers what it changed."""

    __slots__ = (
        "_accepted", "_blob", "_carries", "_carry", "_changes", "_chunks", "_dirty", "_in_order", "_old", "_old_starts",
        "_person", "_read", "_starts", "_touched", "caused_ms", "has_cases",
    )  # fmt: skip

    def __init__(self, person: bytes, head: bytes | None, read: StateReader) -> None:
        """``person`` is the 16-byte id, ``head`` the stored value of its head key."""
        self.has_cases = False
        """Whether reports of cases of this person are held."""
        self.caused_ms = 0
        """Record timestamp of the newest scan accepted in this step."""
        self._person = person
        self._read = read
        self._dirty = False
        self._changes: dict[bytes, bytes | None] = {}
        self._chunks: dict[Place, bytes] = {}
        self._carries: dict[Place, bytes] = {}
        self._touched: set[Place] = set()
        self._blob = b""
        self._starts: list[Place] | None = None
        self._carry = START
        self._accepted: list[StoredScan] = []
        self._in_order = True
        """Whether the timeline is short, and every scan of this step comes after all that it held."""
        if head is not None:
            self.has_cases = bool(head[0] & _HAS_CASES)
            if head[0] & _IS_LONG:
                self._starts = unpack_starts(head[1:])
                self._in_order = False
            else:
                _, closed_ms, last_ms, scans, opener = _SHORT.unpack_from(head)
                self._blob = head[_SHORT.size :]
                if opener != _NO_OPENER:
                    self._carry = Carry(NEVER_MS, last_ms, scans, unpack(self._blob, opener)[0])
                elif closed_ms != NEVER_MS:
                    self._carry = Carry(closed_ms, 0, 0, None)
        self._old = self._blob
        self._old_starts = None if self._starts is None else list(self._starts)

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
        areas = self._get(keys.person_day(self._person, clock.place(occurred_ms)[2])) or b""
        return {areas[i : i + 10] for i in range(0, len(areas), 10)}

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
        start = _FIRST if self._starts is None else self._start_of((occurred_ms, scan_id))
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

    def note_case(self) -> None:
        """Remembers that a report of a case of this person is held."""
        self._dirty = self._dirty or not self.has_cases
        self.has_cases = True

    # Visits.

    def settle(self) -> tuple[list[Visit], list[Visit]]:
        """Brings the pass over the visits up to date: (visits that were, visits that are) where they may differ.

        To be called once, after everything was added, before ``changes`` and ``visits_between``.
        """
        if self._in_order:
            before = self._carry.open_visit()
            visits, self._carry = run(self._carry, self._accepted)
            last = self._carry.open_visit()
            return [before] if before else [], visits if last is None else [*visits, last]
        if self._starts is not None:
            return self._settle_chunks(self._starts)
        first = min([scan.place for scan in self._accepted], default=_LAST)
        was_at, at = packed.position(self._old, first), packed.position(self._blob, first)
        _, carry = run(START, _accepted_in(self._blob[:at]))
        were = all_of(carry, _accepted_in(self._old[was_at:]))
        visits, self._carry = run(carry, _accepted_in(self._blob[at:]))
        last = self._carry.open_visit()
        return were, visits if last is None else [*visits, last]

    def _settle_chunks(self, starts: list[Place]) -> tuple[list[Visit], list[Visit]]:
        """``settle`` from the first chunk that changed to where the passes over old and new scans agree again."""
        old_starts = self._old_starts or [_FIRST]
        changed = {bisect_right(old_starts, start) - 1 for start in self._touched}
        were: list[Visit] = []
        are: list[Visit] = []
        if not changed:
            return were, are
        at = min(changed)
        old = new = self._old_chunk(old_starts[at])[0]
        while True:
            stop = old_starts[at + 1] if at + 1 < len(old_starts) else _LAST
            closed, old = run(old, _accepted_in(self._old_chunk(old_starts[at])[1]))
            were += closed
            for start in starts[bisect_left(starts, old_starts[at]) : bisect_left(starts, stop)]:
                self._set_carry(start, new)
                closed, new = run(new, _accepted_in(self._chunk(start)))
                are += closed
            changed.discard(at)
            if stop == _LAST:
                were += [visit for visit in (old.open_visit(),) if visit]
                are += [visit for visit in (new.open_visit(),) if visit]
                return were, are
            if old != new:
                at += 1
            elif changed:
                at = min(changed)
                old = new = self._old_chunk(old_starts[at])[0]
            else:
                return were, are

    def visits_between(self, from_ms: int, to_ms: int) -> list[Visit]:
        """At least the visits that intersect [from_ms, to_ms), in order."""
        if to_ms <= from_ms:
            return []
        if self._starts is None:
            return all_of(START, _accepted_in(self._blob))
        # A visit closed before the chunk of from_ms had ended by then; one that begins later than to_ms may
        # have its opening scan, a check-out, up to a longest stay after that.
        first = self._start_of((from_ms, b""))
        blobs = [self._chunk(start) for start in self._starts if first <= start and start[0] <= to_ms + VISIT_MS_MAX]
        return all_of(unpack_carry(self._carries[first]), (scan for blob in blobs for scan in _accepted_in(blob)))

    # State.

    def changes(self) -> dict[bytes, bytes | None]:
        """State changes of this step; empty if nothing changed."""
        if not self._dirty:
            return {}
        flags = _HAS_CASES if self.has_cases else 0
        key = keys.person_head(self._person)
        closed_ms, last_ms, scans, opener = self._carry
        if self._starts is None:
            offset = _NO_OPENER
            if opener is not None:
                offset = packed.position(self._blob, opener.place)
            return {key: _SHORT.pack(flags, closed_ms, last_ms, scans, offset) + self._blob}
        changes = dict(self._changes)
        for start in self._touched:
            changes[keys.person_chunk(self._person, *start)] = _with_length(self._carries[start]) + self._chunks[start]
        head = b"%c%b" % (flags | _IS_LONG, pack_starts(self._starts))
        if self._read.get(key) != head:
            changes[key] = head
        return changes

    def _index(self, scan: StoredScan, clock: LocalClock) -> None:
        flags = scan.direction | (WAITING if scan.waiting else 0)
        entry = _INDEX.pack(scan.occurred_ms, flags, scan.source) + scan.code
        self._changes[keys.person_scan(self._person, scan.scan_id)] = entry
        if not scan.waiting:
            key = keys.person_day(self._person, clock.place(scan.occurred_ms)[2])
            areas = self._get(key) or b""
            area = scan.attributes[:10]
            if all(areas[i : i + 10] != area for i in range(0, len(areas), 10)):
                self._changes[key] = areas + area

    def _start_of(self, place: Place) -> Place:
        """Where the chunk that holds ``place`` begins."""
        starts = self._starts or [_FIRST]
        return starts[bisect_right(starts, place) - 1]

    def _old_chunk(self, start: Place) -> tuple[Carry, bytes]:
        """(carry, scans) of a chunk as they were before this step."""
        if self._old_starts is None:
            return START, self._old
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
        self._starts = [_FIRST]
        for scan in scans_of(self._blob):
            self._index(scan, clock)
        blob, self._blob = self._blob, b""
        self._carries[_FIRST] = START.pack()
        self._put_chunk(_FIRST, blob)


def _accepted_in(blob: bytes) -> Iterator[StoredScan]:
    return (scan for scan in scans_of(blob) if not scan.waiting)
