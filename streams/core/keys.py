"""State keys of both rooms: one letter says what follows. The layout is part of the state's version.

===== ============================================ ==================================================
tag   key after the tag                            value
===== ============================================ ==================================================
``p`` person (16 bytes)                            head of a timeline (``timeline.py``)
``c`` person, (time, scan_id) where it begins      a chunk of a long timeline
``i`` person, scan_id                              what a scan of a long timeline says
``d`` person, local day                            areas a long timeline counted on that day
``w`` venue code, NUL, person (16), scan_id        a scan that waits for its venue (``waiting.py``)
``m`` hour, ward                                   ward_minute cells of one hour (``cells.py``)
``h`` local day, venue_id                          venue_hour cells and marked areas of one day
``a`` local day, level, code                       area_day cell
``k`` local day, venue_id                          areas marked for a venue (venue room)
``s`` person (16), case_id                         the report that counts of a case (``cases.py``)
``n`` venue code, NUL, person (16)                 how many scans of the person wait for the code (``waiting.py``)
``r`` person (16), topic, NUL, offset (8),         a row of rejects that names the person (``rejected.py``)
      partition (4), epoch (4)
``v`` venue_id, NUL, length class, start, visit    a visit at a venue (``proximity.py``; venue room)
``x`` venue_id, NUL, length class, start, visit,   a case visit at a venue (``proximity.py``; venue room)
      case_id
``j`` step, number (4)                             work that a step left for portions (``pending.py``)
``y`` venue_id                                     how many case visits of each class a venue holds
``!`` name                                         the room's own records: input offsets, version
===== ============================================ ==================================================
What counts a day begins with it, so that an expired day is a range of keys.
"""

import struct

STATE_VERSION = 4
"""Raised with every change of a value's or key's layout, together with a migration to it (``migrate.py``)."""

META = b"!meta"
"""Input offsets, step number and version: written by every step, in the same transaction."""

EXPIRED = b"!expired"
"""Up to when (epoch ms, i64) the partition has let go of what it held; nothing from before that is taken any more."""

SWEPT = b"!swept"
"""The same of the last expiry that was carried to its end: what begins with a day has nothing left before it."""

_BIASED = struct.Struct(">Q")
_PIECE = struct.Struct(">QI")
_ORIGIN = struct.Struct(">QII")
_SIGN = 1 << 63
TIME_KEY_BYTES = _BIASED.size


def time_key(time_ms: int) -> bytes:
    """A signed time as 8 bytes that sort as the time does."""
    return _BIASED.pack(time_ms + _SIGN)


def time_of_key(key: bytes) -> int:
    """The inverse of ``time_key``."""
    biased: int = _BIASED.unpack(key)[0]
    return biased - _SIGN


pack_expired = struct.Struct("<q").pack
_unpack_expired = struct.Struct("<q").unpack


def expired_of(packed: bytes | None) -> int:
    """The value under ``EXPIRED``; before everything where there is none."""
    return -_SIGN if packed is None else int(_unpack_expired(packed)[0])


def person_head(person: bytes) -> bytes:
    """Key of a timeline's head."""
    return b"p" + person


def person_chunk(person: bytes, start_ms: int, start_scan_id: bytes) -> bytes:
    """Key of a chunk that begins at (start_ms, start_scan_id)."""
    return b"c" + person + time_key(start_ms) + start_scan_id


def person_scan(person: bytes, scan_id: bytes) -> bytes:
    """Key of a long timeline's index entry."""
    return b"i" + person + scan_id


def person_day(person: bytes, day: bytes) -> bytes:
    """Key of the areas that a long timeline counted on a local day."""
    return b"d" + person + day


def waiting_code(code: bytes) -> bytes:
    """Prefix of all scans that wait for ``code``."""
    return b"w" + code + b"\0"


def waiting_scan(code: bytes, person: bytes, scan_id: bytes) -> bytes:
    """Key of one waiting scan."""
    return waiting_code(code) + person + scan_id


def waiting_count(code: bytes, person: bytes) -> bytes:
    """Key of how many scans of a person wait for ``code``."""
    return b"n" + code + b"\0" + person


WAITING = b"w"


def split_waiting(key: bytes) -> tuple[bytes, bytes, bytes]:
    """(code, person, scan_id) of a waiting scan's key."""
    code, _, rest = key[1:].partition(b"\0")
    return code, rest[:16], rest[16:]


def ward_hour(ward: bytes, hour_ms: int) -> bytes:
    """Key of a ward's minutes within one local hour."""
    return b"m" + time_key(hour_ms) + ward


def area_day(day: bytes, level: bytes, code: bytes) -> bytes:
    """Key of an area_day cell."""
    return b"a" + day + level[:1] + code


def venue_marks(venue: bytes, day: bytes) -> bytes:
    """Key of the areas marked for a venue on a local day, in the venue room."""
    return b"k" + day + venue


def person_rejects(person: bytes) -> bytes:
    """Prefix of the rows of rejects that name a person."""
    return b"r" + person


def person_reject(person: bytes, topic: bytes, offset: int, partition: int, epoch: int) -> bytes:
    """Key of one row of rejects that names a person; the last three say where its event was first written."""
    return b"r" + person + topic + b"\0" + _ORIGIN.pack(offset, partition, epoch)


def case_reports(person: bytes) -> bytes:
    """Prefix of the reports that count of all cases of a person."""
    return b"s" + person


def case_report(person: bytes, case_id: bytes) -> bytes:
    """Key of the report that counts for (case_id, person)."""
    return b"s" + person + case_id


def venue_visits(venue: bytes) -> bytes:
    """Prefix of a venue's visits, in the venue room."""
    return b"v" + venue + b"\0"


def venue_visit(venue: bytes, length_class: int, start_ms: int, visit: bytes) -> bytes:
    """Key of one visit; ``visit`` is its id in 16 bytes."""
    return b"v%b\0%c%b%b" % (venue, length_class, time_key(start_ms), visit)


def venue_case_visits(venue: bytes) -> bytes:
    """Prefix of a venue's case visits."""
    return b"x" + venue + b"\0"


def venue_case_visit(venue: bytes, length_class: int, start_ms: int, visit: bytes, case_id: bytes) -> bytes:
    """Key of one visit of one case; ``visit`` is its id in 16 bytes."""
    return b"x%b\0%c%b%b%b" % (venue, length_class, time_key(start_ms), visit, case_id)


def venue_case_count(venue: bytes) -> bytes:
    """Key of how many case visits a venue holds."""
    return b"y" + venue


PENDING = b"j"
PENDING_END = b"k"


def pending_work(step: int, number: int) -> bytes:
    """Key of one piece of the work that a step left: in the order of the steps, and of the pieces of each."""
    return PENDING + _PIECE.pack(step, number)


def split_venue_visit(key: bytes) -> tuple[int, bytes]:
    """(start_ms, visit id in 16 bytes) of the key of a visit."""
    at = key.index(b"\0") + 2
    return time_of_key(key[at : at + TIME_KEY_BYTES]), key[at + TIME_KEY_BYTES :]


def split_case_visit(key: bytes) -> tuple[bytes, int, int]:
    """(venue_id, length class, start_ms) of the key of a case visit."""
    end = key.index(b"\0", 1)
    return key[1:end], key[end + 1], time_of_key(key[end + 2 : end + 2 + TIME_KEY_BYTES])


def after_class(key: bytes) -> bytes:
    """After all keys of the venue and class of a visit's key."""
    at = key.index(b"\0") + 2
    return key[:at] + b"\xff" * (TIME_KEY_BYTES + 1)
