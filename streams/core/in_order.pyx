# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The common case of the person room, compiled: plain scans that come after all that their person's timeline holds.

``person.py`` says what happens to a scan; this does the same for persons of whom a batch holds nothing unusual. Their
records came by ``scans`` itself, on their own partition, under their own key, not too old and not ahead; each scan names a
registered venue, and is a copy or comes last in a short timeline. Whoever is not such a person is left, with all of
his records, to the plain form (``held_scans.py``, ``timeline.py``, ``visits.py``, ``wire.py``), which knows every case.
``tests/core/test_in_order.py`` holds the two together.
"""

from hashlib import blake2b

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from streams.core import held_scans
from streams.core.categories import CATEGORIES
from streams.core.crossing import VISITS
from streams.core.directory import CATEGORY_BYTES, unpack_attributes
from streams.core.outbox cimport Headed, Outbox
from streams.core.packed import DIRECTIONS, SOURCES
from streams.core.raw cimport MINUTE_MS, fresh_levels, hex_value, murmur2, parse_time, put, put_hex, put_number, put_time
from streams.core.records cimport Entry as Fetched
from streams.core.records cimport Records
from streams.core.room import FUTURE_MS_MAX, TIMESTAMP_MS_MAX
from streams.core.tally cimport Places, Tally

cdef enum:
    VALUE_BYTES_MAX = 2048  # a longer one holds more than a scan's own fields
    PERSON_BYTES = 32
    ID_BYTES_MAX = 64
    KEPT_BYTES = 13
    HEAD_BYTES = 13
    FIXED_BYTES = HEAD_BYTES + KEPT_BYTES
    SHORT_BYTES = 22
    HAS_FLOOR = 8
    WAITING = 0x80
    NO_OPENER = 0xFFFF
    OUT = 1
    YEAR_FIRST = 1970
    YEAR_LAST = 2099
    CATEGORIES_MAX = 32
    OUT_BYTES = 1024
    WAS_BYTES = 22
    IDENTITY_BYTES = 16
    BY_KEY = -1
    BLOB_BYTES = 8192
    ENTRY_BYTES_MAX = FIXED_BYTES + 3 * ID_BYTES_MAX + 2
    LOCAL_DAY_HOURS_MAX = 26
    FLOATS_KEPT_MAX = 65_536
    PROBES_MAX = 64

cdef int64_t NEVER_MS = -(<int64_t> 1 << 62)
cdef int64_t FUTURE_MS = FUTURE_MS_MAX
cdef int64_t TIMESTAMP_MS = TIMESTAMP_MS_MAX
cdef int64_t max_ms[CATEGORIES_MAX]
cdef tuple CATEGORY_NAMES = CATEGORY_BYTES
cdef int categories = len(CATEGORY_BYTES)
cdef tuple DIRECTION_NAMES = tuple([name.encode() for name in DIRECTIONS])
cdef tuple SOURCE_NAMES = tuple([name.encode() for name in SOURCES])
cdef bytes SCANNED = b"scanned"
cdef bytes MOVED = b"moved"
cdef bytes ESTIMATED = b"estimated"
cdef bint is_id[256]
cdef dict _places = {}
cdef object BLANK_HASH = blake2b(digest_size=IDENTITY_BYTES).copy  # ``wire.digest``: half the cost of a new one


def _fill_tables():
    for number, category in enumerate(CATEGORIES.values()):
        max_ms[number] = category.dwell_minutes_max * MINUTE_MS
    for number in range(256):
        is_id[number] = chr(number).isascii() and (chr(number).isalnum() or chr(number) in "_-")
    if held_scans.CHUNK_BYTES_MAX != BLOB_BYTES or DIRECTIONS[OUT] != "out":
        raise AssertionError("what is compiled here is no longer what the plain modules say")


_fill_tables()


def places_of(clock):
    """The ``Places`` of a clock, the same for all partitions of a process."""
    if clock not in _places:
        _places[clock] = Places(clock)
    return _places[clock]


cdef struct Scan:
    const char* person
    const char* scan_id
    const char* venue
    int64_t occurred_ms
    int64_t now_ms
    int32_t scan_bytes
    int32_t venue_bytes
    int32_t next  # of the same person, or -1
    int32_t record
    uint8_t direction
    uint8_t source


cdef struct Stay:
    int32_t opener  # where its opening scan stands in the timeline
    int32_t scans
    int64_t start_ms
    int64_t end_ms
    uint8_t start_kind
    uint8_t end_kind


cdef enum:
    KIND_SCANNED
    KIND_MOVED
    KIND_ESTIMATED

cdef tuple KINDS = (SCANNED, MOVED, ESTIMATED)


cdef inline const char* _skip(const char* at, const char* end) noexcept nogil:
    while at < end and (at[0] == b" " or at[0] == b"\n" or at[0] == b"\r" or at[0] == b"\t"):
        at += 1
    return at


cdef inline const char* _text(const char* at, const char* end, const char** text, Py_ssize_t* length) noexcept nogil:
    """Reads a text up to the next quotation mark; returns what follows it, or NULL where there is none.

    Escapes and what JSON forbids in texts are not looked for: no field's name or value may hold them.
    """
    if at >= end or at[0] != b'"':
        return NULL
    at += 1
    text[0] = at
    while at < end and at[0] != b'"':
        at += 1
    length[0] = at - text[0]
    return at + 1 if at < end else NULL


cdef inline bint _is(const char* text, Py_ssize_t length, bytes other) noexcept:
    return length == PyBytes_GET_SIZE(other) and memcmp(text, PyBytes_AS_STRING(other), length) == 0


cdef inline int _code(const char* text, Py_ssize_t length, tuple names) noexcept:
    """Which of ``names`` it is; -1 if none."""
    cdef int i
    for i in range(len(names)):
        if _is(text, length, <bytes> names[i]):
            return i
    return -1


cdef inline bint _spelled(const char* text, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t i
    if not 1 <= length <= ID_BYTES_MAX:
        return False
    for i in range(length):
        if not is_id[<uint8_t> text[i]]:
            return False
    return True


cdef enum:
    SCAN_ID = 1
    PERSON_ID = 2
    VENUE_ID = 4
    DIRECTION = 8
    OCCURRED_AT = 16
    SOURCE = 32
    ALL_FIELDS = 63


cdef int _field(const char* name, Py_ssize_t length) noexcept nogil:
    if length == 7 and memcmp(name, b"scan_id", 7) == 0:
        return SCAN_ID
    if length == 9 and memcmp(name, b"person_id", 9) == 0:
        return PERSON_ID
    if length == 8 and memcmp(name, b"venue_id", 8) == 0:
        return VENUE_ID
    if length == 9 and memcmp(name, b"direction", 9) == 0:
        return DIRECTION
    if length == 11 and memcmp(name, b"occurred_at", 11) == 0:
        return OCCURRED_AT
    if length == 6 and memcmp(name, b"source", 6) == 0:
        return SOURCE
    return 0


cdef bint _read_field(Scan* scan, int field, const char* text, Py_ssize_t length) noexcept:
    """Puts a field's value into ``scan``; False where it is not plainly right."""
    cdef int code
    cdef Py_ssize_t i
    if field == SCAN_ID:
        scan.scan_id, scan.scan_bytes = text, <int32_t> length
        return _spelled(text, length)
    if field == VENUE_ID:
        scan.venue, scan.venue_bytes = text, <int32_t> length
        return _spelled(text, length)
    if field == PERSON_ID:
        scan.person = text
        if length != PERSON_BYTES:
            return False
        for i in range(PERSON_BYTES):
            if hex_value(text[i]) < 0:
                return False
        return True
    if field == OCCURRED_AT:
        return parse_time(text, length, &scan.occurred_ms, YEAR_FIRST, YEAR_LAST)
    code = _code(text, length, DIRECTION_NAMES if field == DIRECTION else SOURCE_NAMES)
    if code < 0:
        return False
    if field == DIRECTION:
        scan.direction = code
    else:
        scan.source = code
    return True


cdef bint _read(Scan* scan, const char* at, Py_ssize_t value_bytes) noexcept:
    """Reads a scan that is one flat object of its six fields, each once, without escapes; False for any other."""
    cdef const char* end = at + value_bytes
    cdef const char* text = NULL
    cdef Py_ssize_t length = 0
    cdef int seen = 0
    cdef int field
    if end - at > VALUE_BYTES_MAX:
        return False
    at = _skip(at, end)
    if at == end or at[0] != b"{":
        return False
    while True:
        at = _text(_skip(at + 1, end), end, &text, &length)
        if at is NULL:
            return False
        field = _field(text, length)
        at = _skip(at, end)
        if field == 0 or seen & field or at == end or at[0] != b":":
            return False
        seen |= field
        at = _text(_skip(at + 1, end), end, &text, &length)
        if at is NULL or not _read_field(scan, field, text, length):
            return False
        at = _skip(at, end)
        if at == end:
            return False
        if at[0] == b"}":
            return seen == ALL_FIELDS and _skip(at + 1, end) == end
        if at[0] != b",":
            return False


cdef struct Timeline:
    char* blob
    int32_t size
    int32_t opener  # where the open visit's opening scan stands, or -1
    int64_t closed_ms
    int64_t last_ms
    int64_t floor_ms
    uint32_t scans
    bint has_floor


cdef struct Entry:
    int64_t occurred_ms
    const char* attributes
    const char* scan_id
    const char* code
    const char* venue
    int32_t scan_bytes
    int32_t code_bytes
    int32_t venue_bytes
    int32_t end
    uint8_t flags
    uint8_t source


cdef void _unpack(const char* blob, int32_t start, Entry* entry) noexcept nogil:
    """``packed.unpack``: the scan that begins at ``start``."""
    cdef const char* at = blob + start
    cdef const uint8_t* head = <const uint8_t*> at
    memcpy(&entry.occurred_ms, at, 8)
    entry.flags, entry.source = head[8], head[9]
    entry.scan_bytes, entry.code_bytes, entry.venue_bytes = head[10], head[11], head[12]
    entry.attributes = at + HEAD_BYTES
    entry.scan_id = at + FIXED_BYTES
    entry.code = entry.scan_id + entry.scan_bytes
    entry.venue = entry.code + entry.code_bytes
    entry.end = start + FIXED_BYTES + entry.scan_bytes + entry.code_bytes + entry.venue_bytes + 2
    if entry.venue_bytes == 0:
        entry.venue, entry.venue_bytes = entry.code, entry.code_bytes


cdef int32_t _last(Timeline* timeline) noexcept nogil:
    """Where the last scan of a timeline that has any begins."""
    cdef uint16_t length
    memcpy(&length, timeline.blob + timeline.size - 2, 2)
    return timeline.size - length


cdef bint _whole(Timeline* timeline) noexcept nogil:
    """Whether the blob is packed scans from its first byte to its last, and the opening one among them.

    A stray record on the state's topic may be anything; lengths that lead out of the blob are read nowhere else.
    """
    cdef const uint8_t* head
    cdef int32_t at = 0
    cdef int32_t length
    cdef uint16_t said
    cdef bint opened = timeline.opener < 0
    while timeline.size - at >= FIXED_BYTES + 2:
        head = <const uint8_t*> timeline.blob + at
        length = FIXED_BYTES + head[10] + head[11] + head[12] + 2
        if length > timeline.size - at or head[HEAD_BYTES + 10] >= categories:
            return False
        memcpy(&said, timeline.blob + at + length - 2, 2)
        if said != length:
            return False
        opened |= at == timeline.opener
        at += length
    return opened and at == timeline.size


cdef bint _open(Timeline* timeline, bytes head) noexcept:
    """``HeldScans._unpack_head``; False for a head that is not a plain short one."""
    cdef const char* at
    cdef Py_ssize_t length
    cdef uint16_t opener
    timeline.size, timeline.opener, timeline.scans, timeline.has_floor = 0, -1, 0, False
    timeline.closed_ms, timeline.last_ms, timeline.floor_ms = NEVER_MS, 0, NEVER_MS
    if head is None:
        return True
    at, length = PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head)
    if length < 1 + SHORT_BYTES or (<uint8_t> at[0]) & ~HAS_FLOOR:
        return False
    timeline.has_floor = ((<uint8_t> at[0]) & HAS_FLOOR) != 0
    at += 1
    length -= 1
    if timeline.has_floor:
        memcpy(&timeline.floor_ms, at, 8)
        at += 8
        length -= 8
    if not 0 <= length - SHORT_BYTES <= BLOB_BYTES:
        return False
    memcpy(&timeline.closed_ms, at, 8)
    memcpy(&timeline.last_ms, at + 8, 8)
    memcpy(&timeline.scans, at + 16, 4)
    memcpy(&opener, at + 20, 2)
    timeline.opener = -1 if opener == NO_OPENER else opener
    timeline.size = <int32_t> (length - SHORT_BYTES)
    memcpy(timeline.blob, at + SHORT_BYTES, timeline.size)
    return _whole(timeline)


cdef bytes _head(Timeline* timeline):
    """``HeldScans._head``."""
    cdef bytes head = PyBytes_FromStringAndSize(NULL, 1 + 8 * timeline.has_floor + SHORT_BYTES + timeline.size)
    cdef char* to = PyBytes_AS_STRING(head)
    cdef uint16_t opener = NO_OPENER if timeline.opener < 0 else timeline.opener
    to[0] = HAS_FLOOR if timeline.has_floor else 0
    to += 1
    if timeline.has_floor:
        to = put(to, <char*> &timeline.floor_ms, 8)
    to = put(to, <char*> &timeline.closed_ms, 8)
    to = put(to, <char*> &timeline.last_ms, 8)
    to = put(to, <char*> &timeline.scans, 4)
    to = put(to, <char*> &opener, 2)
    memcpy(to, timeline.blob, timeline.size)
    return head


cdef int _find(Timeline* timeline, Scan* scan, Entry* entry) noexcept nogil:
    """1 where the timeline holds an equal scan of that id, -1 where it holds another one, 0 if none."""
    cdef int32_t at = 0
    while at < timeline.size:
        _unpack(timeline.blob, at, entry)
        if entry.scan_bytes == scan.scan_bytes and memcmp(entry.scan_id, scan.scan_id, scan.scan_bytes) == 0:
            if (
                entry.occurred_ms == scan.occurred_ms
                and entry.flags & 0x7F == scan.direction
                and entry.source == scan.source
                and entry.code_bytes == scan.venue_bytes
                and memcmp(entry.code, scan.venue, scan.venue_bytes) == 0
            ):
                return 1
            return -1
        at = entry.end
    return 0


cdef bint _comes_last(Timeline* timeline, Scan* scan, Entry* entry) noexcept nogil:
    """Whether a scan comes after all that a timeline holds, by (occurred_at, scan_id)."""
    cdef int order
    if timeline.size == 0:
        return True
    _unpack(timeline.blob, _last(timeline), entry)
    if entry.occurred_ms != scan.occurred_ms:
        return entry.occurred_ms < scan.occurred_ms
    order = memcmp(entry.scan_id, scan.scan_id, min(entry.scan_bytes, scan.scan_bytes))
    return order < 0 or (order == 0 and entry.scan_bytes < scan.scan_bytes)


cdef int _fresh(Timeline* timeline, Scan* scan, const char* area, Places places, Entry* entry) except -1:
    """A bit for each level, ward first, at which the person was not counted on the scan's local day."""
    cdef int64_t day = places.day(scan.occurred_ms)
    cdef int32_t at = timeline.size
    cdef uint16_t length
    cdef int fresh = 15
    while at > 0:
        memcpy(&length, timeline.blob + at - 2, 2)
        at -= length
        _unpack(timeline.blob, at, entry)
        if entry.occurred_ms < scan.occurred_ms - LOCAL_DAY_HOURS_MAX * <int64_t> 3_600_000:
            break
        if entry.flags < WAITING and places.day(entry.occurred_ms) == day:
            fresh &= fresh_levels(area, entry.attributes)
    return fresh


cdef void _append(Timeline* timeline, Scan* scan, bytes venue_id, const char* attributes) noexcept:
    """``StoredScan.pack`` at the end of the timeline."""
    cdef char* start = timeline.blob + timeline.size
    cdef char* to = start
    cdef uint16_t length
    cdef int32_t venue_bytes = <int32_t> PyBytes_GET_SIZE(venue_id)
    if venue_bytes == scan.venue_bytes and memcmp(PyBytes_AS_STRING(venue_id), scan.venue, venue_bytes) == 0:
        venue_bytes = 0
    to = put(to, <char*> &scan.occurred_ms, 8)
    to[0] = scan.direction
    to[1] = scan.source
    to[2] = <char> scan.scan_bytes
    to[3] = <char> scan.venue_bytes
    to[4] = <char> venue_bytes
    to = put(to + 5, attributes, KEPT_BYTES)
    to = put(put(to, scan.scan_id, scan.scan_bytes), scan.venue, scan.venue_bytes)
    to = put(to, PyBytes_AS_STRING(venue_id), venue_bytes)
    length = <uint16_t> (to - start + 2)
    to = put(to, <char*> &length, 2)
    timeline.size += length


cdef inline int64_t _dwell_ms(Entry* entry) noexcept nogil:
    cdef uint16_t minutes
    memcpy(&minutes, entry.attributes + 11, 2)
    return minutes * <int64_t> MINUTE_MS


cdef inline int64_t _max_ms(Entry* entry) noexcept nogil:
    return max_ms[<uint8_t> entry.attributes[10]]


cdef inline void _stay(
    Stay* stay, int32_t opener, int64_t start_ms, int64_t end_ms, int start_kind, int end_kind, int32_t scans
) noexcept nogil:
    stay.opener, stay.start_ms, stay.end_ms, stay.scans = opener, start_ms, end_ms, scans
    stay.start_kind, stay.end_kind = start_kind, end_kind


cdef int _step(Timeline* timeline, int32_t at, Stay* stays, int count) noexcept nogil:
    """One scan of ``visits.run``; returns how many visits are closed now."""
    cdef Entry scan
    cdef Entry opener
    cdef int64_t start_ms, estimated_ms, time_ms, dwell_ms, longest_ms
    _unpack(timeline.blob, at, &scan)
    time_ms = scan.occurred_ms
    if timeline.opener >= 0:
        _unpack(timeline.blob, timeline.opener, &opener)
        start_ms, dwell_ms, longest_ms = opener.occurred_ms, _dwell_ms(&opener), _max_ms(&opener)
        if (
            scan.venue_bytes == opener.venue_bytes
            and memcmp(scan.venue, opener.venue, scan.venue_bytes) == 0
            and time_ms - start_ms <= longest_ms
        ):
            if scan.flags == OUT:
                _stay(stays + count, timeline.opener, start_ms, time_ms, KIND_SCANNED, KIND_SCANNED, timeline.scans + 1)
                timeline.closed_ms, timeline.opener = time_ms, -1
                return count + 1
            if time_ms <= timeline.last_ms + dwell_ms:
                timeline.last_ms = time_ms
                timeline.scans += 1
                return count
            timeline.closed_ms = timeline.last_ms + dwell_ms
            _stay(
                stays + count, timeline.opener, start_ms, timeline.closed_ms, KIND_SCANNED, KIND_ESTIMATED, timeline.scans
            )
        else:
            estimated_ms = min(timeline.last_ms + dwell_ms, start_ms + longest_ms)
            timeline.closed_ms = min(estimated_ms, time_ms)
            _stay(
                stays + count, timeline.opener, start_ms, timeline.closed_ms, KIND_SCANNED,
                KIND_MOVED if time_ms < estimated_ms else KIND_ESTIMATED, timeline.scans,
            )
        count += 1
    if scan.flags == OUT:
        _stay(
            stays + count, at, max(time_ms - _dwell_ms(&scan), timeline.closed_ms), time_ms,
            KIND_ESTIMATED, KIND_SCANNED, 1,
        )
        timeline.closed_ms, timeline.opener = time_ms, -1
        return count + 1
    timeline.opener, timeline.last_ms, timeline.scans = at, time_ms, 1
    return count


cdef int _open_stay(Timeline* timeline, Stay* stay) noexcept nogil:
    """``Carry.open_visit``: 1 if a visit is open, 0 if none."""
    cdef Entry opener
    if timeline.opener < 0:
        return 0
    _unpack(timeline.blob, timeline.opener, &opener)
    _stay(
        stay, timeline.opener, opener.occurred_ms,
        min(timeline.last_ms + _dwell_ms(&opener), opener.occurred_ms + _max_ms(&opener)),
        KIND_SCANNED, KIND_ESTIMATED, timeline.scans,
    )
    return 1


cdef void _rest(Timeline* timeline) noexcept nogil:
    """Keeps of the pass what the next scan can depend on, as ``visits.run`` does."""
    if timeline.opener < 0:
        timeline.last_ms, timeline.scans = 0, 0
    else:
        timeline.closed_ms = NEVER_MS


cdef dict _positions = {}


cdef bytes _position(bytes attributes):
    """``"lat":21.018,"lon":105.851`` of a venue's attributes."""
    cdef bytes text = <bytes> _positions.get(attributes)
    if text is None:
        lat, lon = unpack_attributes(attributes)[5:]
        text = b'"lat":%b,"lon":%b' % (repr(lat).encode(), repr(lon).encode())
        if len(_positions) >= FLOATS_KEPT_MAX:
            _positions.clear()
        _positions[attributes] = text
    return text


cdef inline char* _put_bytes(char* to, bytes text) noexcept:
    return put(to, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef char* _put_areas(char* to, const char* attributes) noexcept:
    to = put(to, b',"category":"', 13)
    to = _put_bytes(to, <bytes> CATEGORY_NAMES[<uint8_t> attributes[10]])
    to = put(put(to, b'","province_code":"', 19), attributes + 8, 2)
    to = put(put(to, b'","district_code":"', 19), attributes + 5, 3)
    return put(put(to, b'","ward_code":"', 15), attributes, 5)


cdef char* _put_end(char* to, int64_t revision) noexcept:
    return put(put_number(put(to, b',"status":"active","revision":', 30), revision), b"}", 1)


cdef Py_ssize_t _enriched(char* out, Scan* scan, bytes venue_id, bytes attributes, int64_t revision) except -1:
    """``wire.enriched``; how many bytes it takes."""
    cdef char* to = put(out, b'{"scan_id":"', 12)
    to = put(to, scan.scan_id, scan.scan_bytes)
    to = put(put(to, b'","person_id":"', 15), scan.person, PERSON_BYTES)
    to = _put_bytes(put(to, b'","venue_id":"', 14), venue_id)
    to = put(put(to, b'","venue_code":"', 16), scan.venue, scan.venue_bytes)
    to = _put_bytes(put(to, b'","direction":"', 15), <bytes> DIRECTION_NAMES[scan.direction])
    to = put_time(put(to, b'","occurred_at":"', 17), scan.occurred_ms)
    to = _put_bytes(put(to, b'","source":"', 12), <bytes> SOURCE_NAMES[scan.source])
    to = put(_put_areas(put(to, b'"', 1), PyBytes_AS_STRING(attributes)), b'",', 2)
    return _put_end(_put_bytes(to, _position(attributes)), revision) - out


cdef Py_ssize_t _visit(char* out, const char* person, Entry* opener, Stay* stay, int64_t revision) except -1:
    """``wire.visit`` with its ``wire.visit_id``; how many bytes it takes."""
    cdef char* to = put(put(out, person, PERSON_BYTES), b"|", 1)
    to = put(put(to, opener.venue, opener.venue_bytes), b"|", 1)
    to = put(to, opener.scan_id, opener.scan_bytes)
    hashed = BLANK_HASH()
    hashed.update(out[: to - out])
    cdef bytes identity = hashed.digest()
    to = put_hex(put(out, b'{"visit_id":"', 13), PyBytes_AS_STRING(identity), IDENTITY_BYTES)
    to = put(put(to, b'","person_id":"', 15), person, PERSON_BYTES)
    to = put(put(to, b'","venue_id":"', 14), opener.venue, opener.venue_bytes)
    to = put_time(put(to, b'","started_at":"', 16), stay.start_ms)
    to = put_time(put(to, b'","ended_at":"', 14), stay.end_ms)
    to = _put_bytes(put(to, b'","start_kind":"', 16), <bytes> KINDS[stay.start_kind])
    to = _put_bytes(put(to, b'","end_kind":"', 14), <bytes> KINDS[stay.end_kind])
    to = put(put(to, b'","first_scan_id":"', 19), opener.scan_id, opener.scan_bytes)
    to = put_time(put(to, b'","first_scan_at":"', 19), opener.occurred_ms)
    to = put_number(put(to, b'","scan_count":', 15), stay.scans)
    to = put(_put_areas(to, opener.attributes), b'"', 1)
    return _put_end(to, revision) - out


cdef class InOrder:
    """The plain scans of one batch, by person, until ``take`` has dealt with those persons that it can.

    Args:
        records: The batch.
        room: Whose partition it is.
        expired_ms: Up to when that partition has let go of what it held (epoch ms).
    """

    cdef Scan* scans
    cdef int32_t* first
    cdef int32_t* last
    cdef uint8_t* left
    cdef Stay* stays
    cdef int32_t* accepted
    cdef uint8_t* fresh
    cdef char* blob
    cdef Py_ssize_t count
    cdef Py_ssize_t blob_bytes_max
    cdef Records records
    cdef list persons
    cdef dict crowded  # persons to their numbers, who found no place
    cdef int32_t* places
    cdef uint32_t places_mask
    cdef object room
    cdef bint counts_only
    cdef int copies
    cdef readonly list unread
    """The records that ``take`` will not look at, since they are not plain ones, by their index in the batch."""

    def __cinit__(self, records, room, expired_ms):
        cdef Py_ssize_t length = len(records)
        self.scans = <Scan*> calloc(length + 1, sizeof(Scan))
        self.first = <int32_t*> calloc(length + 1, sizeof(int32_t))
        self.last = <int32_t*> calloc(length + 1, sizeof(int32_t))
        self.left = <uint8_t*> calloc(length + 1, 1)
        self.stays = <Stay*> calloc(2 * length + 3, sizeof(Stay))
        self.accepted = <int32_t*> calloc(length + 1, sizeof(int32_t))
        self.fresh = <uint8_t*> calloc(length + 1, 1)
        self.blob = <char*> calloc(1, BLOB_BYTES + ENTRY_BYTES_MAX)
        self.places_mask = 1
        while self.places_mask < 2 * length:
            self.places_mask = 2 * self.places_mask + 1
        self.places = <int32_t*> calloc(self.places_mask + 1, sizeof(int32_t))
        if not (
            self.scans and self.first and self.last and self.left and self.stays and self.accepted and self.fresh
            and self.blob and self.places
        ):
            raise MemoryError

    def __dealloc__(self):
        free(self.scans)
        free(self.first)
        free(self.last)
        free(self.left)
        free(self.stays)
        free(self.accepted)
        free(self.fresh)
        free(self.blob)
        free(self.places)

    def __init__(self, Records records, room, int64_t expired_ms):
        cdef int64_t retention_ms = room.retention_ms
        cdef uint32_t partitions = room.partitions
        cdef uint32_t partition = room.partition
        cdef Scan* scan
        cdef int32_t number
        cdef Py_ssize_t index
        cdef int32_t* place
        cdef int32_t person
        cdef bytes name
        cdef Fetched* record
        cdef uint32_t hashed
        self.room, self.count, self.counts_only, self.records = room, 0, room.counts_only, records
        self.blob_bytes_max = min(BLOB_BYTES, held_scans.CHUNK_BYTES_MAX)
        self.persons, self.crowded, self.unread = [], {}, []
        for index in range(records.count):
            record = records.entries + index
            scan = self.scans + self.count
            if (
                record.key_bytes != PERSON_BYTES
                or record.value_bytes < 0
                or not _read(scan, record.value, record.value_bytes)
                or memcmp(scan.person, record.key, PERSON_BYTES) != 0
            ):
                self.unread.append(index)
                continue
            hashed = murmur2(scan.person, PERSON_BYTES)
            if (hashed & 0x7FFFFFFF) % partitions != partition:
                self.unread.append(index)
                continue
            scan.now_ms = min(max(record.timestamp, <int64_t> 0), TIMESTAMP_MS)
            scan.record, scan.next = <int32_t> index, -1
            number = <int32_t> self.count
            self.count += 1
            place = self._place(scan.person, hashed)
            person = place[0] - 1 if place is not NULL else self._crowded(scan.person)
            if person < 0:
                person = <int32_t> len(self.persons)
                name = scan.person[:PERSON_BYTES]
                if place is not NULL:
                    place[0] = person + 1
                else:
                    self.crowded[name] = person
                self.persons.append(name)
                self.first[person] = number
            else:
                self.scans[self.last[person]].next = number
            self.last[person] = number
            if (
                not scan.now_ms - retention_ms <= scan.occurred_ms <= scan.now_ms + FUTURE_MS
                or scan.occurred_ms < expired_ms
            ):
                self.left[person] = 1

    cdef int32_t* _place(self, const char* person, uint32_t hashed) noexcept:
        """Where the number of a person stands, plus one; 0 where he is to be put; NULL if he is among the crowded."""
        # A partition's persons agree in the lowest bits of what chose it.
        cdef uint32_t at = (hashed * <uint32_t> 0x9E3779B1) >> 8 & self.places_mask
        cdef int probes_left = PROBES_MAX
        while self.places[at] and memcmp(
            self.scans[self.first[self.places[at] - 1]].person, person, PERSON_BYTES
        ) != 0:
            probes_left -= 1
            if probes_left == 0:
                return NULL
            at = at + 1 & self.places_mask
        return self.places + at

    cdef int32_t _crowded(self, const char* person) except? -1:
        """The number of a person who found no place; -1 if he has none yet.

        Ids can be made up so that all of them belong into one place; nobody can foresee the hashes of a dictionary.
        """
        return self.crowded.get(person[:PERSON_BYTES], -1)

    def leave(self, persons):
        """Leaves these persons (32 hex as bytes) with all of their scans: others of their records are not plain."""
        cdef int32_t number
        cdef int32_t* place
        cdef bytes key
        for key in persons:
            if PyBytes_GET_SIZE(key) == PERSON_BYTES:
                place = self._place(PyBytes_AS_STRING(key), murmur2(PyBytes_AS_STRING(key), PERSON_BYTES))
                number = place[0] - 1 if place is not NULL else self._crowded(PyBytes_AS_STRING(key))
                if number >= 0:
                    self.left[number] = 1

    def take(self, step, state, venues, Tally tally):
        """Does with the scans what the room does with a scan; (accepted, copies, indices of the records it left)."""
        cdef Py_ssize_t person
        cdef int32_t at
        cdef Py_ssize_t i
        cdef char key[17]
        cdef list keys = []
        cdef list wanted = []
        cdef list left = []
        cdef Outbox enriched = step.to("enriched")
        cdef Outbox visits = step.to(VISITS)
        cdef bytes name
        cdef int taken = 0
        cdef Py_ssize_t emitted = enriched.count
        self.copies = 0
        key[0] = b"p"
        for person in range(len(self.persons)):
            if not self.left[person]:
                name = <bytes> self.persons[person]
                for i in range(16):
                    key[1 + i] = <char> (
                        16 * hex_value(PyBytes_AS_STRING(name)[2 * i]) + hex_value(PyBytes_AS_STRING(name)[2 * i + 1])
                    )
                keys.append(key[:17])
                wanted.append(person)
        cdef list heads = state.get_many(keys)
        for i in range(len(keys)):
            person = wanted[i]
            self.left[person] = not self._take_person(person, keys[i], heads[i], step, venues, tally, enriched, visits)
        for person in range(len(self.persons)):
            if self.left[person]:
                at = self.first[person]
                while at >= 0:
                    left.append(self.scans[at].record)
                    at = self.scans[at].next
        return enriched.count - emitted, self.copies, left

    cdef bint _take_person(
        self, Py_ssize_t person, bytes key, bytes head, step, venues, Tally tally, Outbox enriched, Outbox visits
    ) except -1:
        """Deals with one person's scans; False, with nothing changed, where one of them is unusual."""
        cdef Timeline timeline
        cdef Entry entry
        cdef Stay before
        cdef Scan* scan
        cdef int32_t number = self.first[person]
        cdef int32_t at
        cdef int had, found_as
        cdef int closed = 0
        cdef int count = 0
        cdef int copies = 0
        cdef list found = []
        cdef bytes attributes
        timeline.blob = self.blob
        if not _open(&timeline, head):
            return False
        had = _open_stay(&timeline, &before)
        while number >= 0:
            scan = self.scans + number
            found_as = _find(&timeline, scan, &entry)
            if found_as < 0:
                return False
            if found_as > 0:
                copies += 1
                number = scan.next
                continue
            if not _comes_last(&timeline, scan, &entry):
                return False
            venue = venues.resolve(scan.venue[: scan.venue_bytes])
            if venue is None:
                return False
            attributes = <bytes> venue[1]
            found.append(venue)
            self.accepted[count] = number
            self.fresh[count] = _fresh(&timeline, scan, PyBytes_AS_STRING(attributes), tally.places, &entry)
            count += 1
            at = timeline.size
            _append(&timeline, scan, <bytes> venue[0], PyBytes_AS_STRING(attributes))
            if timeline.size > self.blob_bytes_max:
                return False
            closed = _step(&timeline, at, self.stays, closed)
            number = scan.next
        self.copies += copies
        if count == 0:
            return True
        _rest(&timeline)
        closed += _open_stay(&timeline, self.stays + closed)
        self._emit_scans(<bytes> self.persons[person], count, found, step, tally, enriched)
        if not self.counts_only:
            self._emit_visits(
                <bytes> self.persons[person], &timeline, &before if had else NULL, closed, step, visits, count
            )
        step.changes[key] = _head(&timeline)
        return True

    cdef int _emit_scans(self, bytes person, int count, list found, step, Tally tally, Outbox enriched) except -1:
        cdef int i
        cdef Scan* scan
        cdef bytes venue_id, attributes
        cdef int64_t revision = step.number
        cdef int32_t partition = self.room.partition
        cdef char out[OUT_BYTES]
        cdef Py_ssize_t length
        for i in range(count):
            scan = self.scans + self.accepted[i]
            venue_id, attributes = <bytes> found[i][0], <bytes> found[i][1]
            length = _enriched(out, scan, venue_id, attributes, revision)
            enriched.put(
                PyBytes_AS_STRING(person), PERSON_BYTES, out, length, NULL, 0, partition, max(scan.now_ms, <int64_t> 1)
            )
            tally.timestamp_ms = max(tally.timestamp_ms, scan.now_ms)
            tally.append(venue_id, PyBytes_AS_STRING(attributes), scan.occurred_ms, scan.direction, self.fresh[i])
        return 0

    cdef int _emit_visits(
        self, bytes person, Timeline* timeline, Stay* before, int closed, step, Outbox visits, int count
    ) except -1:
        """``VisitChanges.emit``: of the visits that were, only an open one can be among those that are."""
        cdef int i
        cdef Stay* stay
        cdef Entry opener
        cdef int64_t caused_ms = 1
        cdef int64_t revision = step.number
        cdef char out[OUT_BYTES]
        cdef char was[WAS_BYTES]  # ``crossing.was_header`` as a record holds it
        cdef Py_ssize_t length, header_bytes
        cdef Outbox box
        for i in range(count):
            caused_ms = max(caused_ms, self.scans[self.accepted[i]].now_ms)
        for i in range(closed):
            stay = self.stays + i
            if before is not NULL and stay.opener == before.opener:
                if stay.end_ms == before.end_ms and stay.end_kind == before.end_kind and stay.scans == before.scans:
                    continue
                box, header_bytes = <Outbox> (<Headed> step.headed).of(VISITS), WAS_BYTES
                put(put(put(was, b"\x02\x06was\x20", 6), <char*> &before.start_ms, 8), <char*> &before.end_ms, 8)
            else:
                box, header_bytes = visits, 0
            _unpack(timeline.blob, stay.opener, &opener)
            length = _visit(out, PyBytes_AS_STRING(person), &opener, stay, revision)
            box.put(opener.venue, opener.venue_bytes, out, length, was, header_bytes, BY_KEY, caused_ms)
        return 0
