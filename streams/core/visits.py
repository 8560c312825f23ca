"""Visits (SPEC §3): one pass over a person's accepted scans, which can be stopped and taken up anywhere.

What the pass knows after a scan is a ``Carry``: state keeps it, so that a scan that comes last costs a step
of the pass, and one that comes late the pass from its chunk on.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from streams.core.categories import CATEGORIES
from streams.core.packed import DIRECTION_CODE, StoredScan, unpack
from streams.core.times import MINUTE_MS

SCANNED: Final = b"scanned"
MOVED: Final = b"moved"
ESTIMATED: Final = b"estimated"
NEVER_MS: Final = -(1 << 62)
"""Before every visit: where no visit was closed yet."""
VISIT_MS_MAX: Final = max(category.dwell_minutes_max for category in CATEGORIES.values()) * MINUTE_MS

_OUT: Final = DIRECTION_CODE["out"]
_MINUTES = struct.Struct("<10xBH")
_MAX_MS: Final = tuple(category.dwell_minutes_max * MINUTE_MS for category in CATEGORIES.values())
_CARRY = struct.Struct("<qqI")


class Visit(NamedTuple):
    """One stay. Its opening scan gives its identity, its place and how long it may last."""

    scan_id: bytes
    scan_ms: int
    venue_id: bytes
    attributes: bytes
    start_ms: int
    end_ms: int
    start_kind: bytes
    end_kind: bytes
    scans: int


class Carry(NamedTuple):
    """Where the pass stands after a scan: the visit that is open, and when the one closed last had ended."""

    closed_ms: int
    last_ms: int
    """The last scan of the open visit."""
    scans: int
    opener: StoredScan | None

    def pack(self) -> bytes:
        """The packed form; ``unpack_carry`` reads it."""
        opener = b"" if self.opener is None else self.opener.pack()
        return _CARRY.pack(self.closed_ms, self.last_ms, self.scans) + opener

    def open_visit(self) -> Visit | None:
        """The visit that is open, with the end it has if no further scan comes."""
        opener = self.opener
        if opener is None:
            return None
        dwell_ms, max_ms = _limits(opener.attributes)
        start_ms = opener.occurred_ms
        end_ms = min(self.last_ms + dwell_ms, start_ms + max_ms)
        return _opened(opener, end_ms, ESTIMATED, self.scans)


START: Final = Carry(NEVER_MS, 0, 0, None)
"""Before the first scan."""


def unpack_carry(packed: bytes) -> Carry:
    """The inverse of ``Carry.pack``."""
    closed_ms, last_ms, scans = _CARRY.unpack_from(packed)
    return Carry(closed_ms, last_ms, scans, unpack(packed, _CARRY.size)[0] if len(packed) > _CARRY.size else None)


def _limits(attributes: bytes) -> tuple[int, int]:
    """(dwell, longest stay) in milliseconds of a scan's venue."""
    category, dwell_minutes = _MINUTES.unpack_from(attributes)
    return dwell_minutes * MINUTE_MS, _MAX_MS[category]


def longest_ms(attributes: bytes) -> int:
    """How long a visit may last at most, in milliseconds, that a scan with these attributes opened."""
    return _limits(attributes)[1]


def longest_of_category(code: int) -> int:
    """The same by the category's code."""
    return _MAX_MS[code]


def _opened(opener: StoredScan, end_ms: int, end_kind: bytes, scans: int) -> Visit:
    start_ms = opener.occurred_ms
    return Visit(
        *(opener.scan_id, start_ms, opener.venue_id, opener.attributes, start_ms, end_ms, SCANNED, end_kind, scans)
    )


def run(carry: Carry, scans: Iterable[StoredScan]) -> tuple[list[Visit], Carry]:
    """The visits that these scans close, in order, and where the pass stands after them.

    ``scans`` are accepted ones, by (occurred_at, scan_id), none before those that led to ``carry``.
    """
    visits: list[Visit] = []
    closed_ms, last_ms, count, opener = carry
    dwell_ms, max_ms = (0, 0) if opener is None else _limits(opener.attributes)
    for scan in scans:
        time_ms = scan.occurred_ms
        if opener is not None:
            start_ms = opener.occurred_ms
            if scan.venue_id == opener.venue_id and time_ms - start_ms <= max_ms:
                if scan.direction == _OUT:
                    visits.append(_opened(opener, time_ms, SCANNED, count + 1))
                    closed_ms, opener = time_ms, None
                    continue
                if time_ms <= last_ms + dwell_ms:
                    last_ms = time_ms
                    count += 1
                    continue
                closed_ms = last_ms + dwell_ms
                visits.append(_opened(opener, closed_ms, ESTIMATED, count))
            else:
                estimated_ms = min(last_ms + dwell_ms, start_ms + max_ms)
                closed_ms = min(estimated_ms, time_ms)
                visits.append(_opened(opener, closed_ms, MOVED if time_ms < estimated_ms else ESTIMATED, count))
        if scan.direction == _OUT:
            left_ms = max(time_ms - _limits(scan.attributes)[0], closed_ms)
            visits.append(
                Visit(*(scan.scan_id, time_ms, scan.venue_id, scan.attributes, left_ms, time_ms, ESTIMATED, SCANNED, 1))
            )
            closed_ms, opener = time_ms, None
        else:
            opener, last_ms, count = scan, time_ms, 1
            dwell_ms, max_ms = _limits(scan.attributes)
    # Only what the rest of the pass can depend on: two passes that agree from here on are then equal.
    return visits, Carry(closed_ms, 0, 0, None) if opener is None else Carry(NEVER_MS, last_ms, count, opener)


def all_of(carry: Carry, scans: Iterable[StoredScan]) -> list[Visit]:
    """The visits that these scans close, and the one that is still open after them."""
    visits, after = run(carry, scans)
    last = after.open_visit()
    return visits if last is None else [*visits, last]
