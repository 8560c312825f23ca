# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""What the venue room keeps of ``visits`` records, compiled: each is read as ``wire.py`` writes it, and in no other form.

``proximity.py`` reads whatever is written otherwise; ``tests/core/test_visit_records.py`` holds the two together.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from streams.core.crossing import OWN_MS_MAX, NotOwnError, was_of
from streams.core.directory import CATEGORY_BYTES
from streams.core.intervals import BOUNDS_MINUTES
from streams.core.raw cimport MINUTE_MS, TIME_BYTES, hex_value, parse_time, put, put_biased
from streams.core.records cimport Entry, Records
from streams.core.visits import VISIT_MS_MAX

cdef enum:
    BOUNDS_MAX = 64
    ID_BYTES_MAX = 64
    KEY_BYTES = 16
    VALUE_BYTES = 43

cdef int64_t bounds_ms[BOUNDS_MAX]
cdef int bounds = len(BOUNDS_MINUTES)
cdef int64_t LONGEST_MS = VISIT_MS_MAX
cdef int64_t FARTHEST_MS = OWN_MS_MAX
cdef tuple CATEGORY_NAMES = CATEGORY_BYTES

for _class, _minutes in enumerate(BOUNDS_MINUTES):
    bounds_ms[_class] = _minutes * MINUTE_MS


cdef struct Cursor:
    const char* at
    const char* end


cdef inline bint _past(Cursor* cursor, const char* literal, Py_ssize_t length) noexcept nogil:
    """Goes past this text, if it stands next."""
    if cursor.end - cursor.at < length or memcmp(cursor.at, literal, length) != 0:
        return False
    cursor.at += length
    return True


cdef inline const char* _text(Cursor* cursor, Py_ssize_t* length) noexcept nogil:
    """Goes past a text and the quotation mark that ends it; NULL where none does, or what is written is escaped."""
    cdef const char* start = cursor.at
    while cursor.at < cursor.end and cursor.at[0] != b'"':
        if cursor.at[0] == b"\\" or not 0x20 <= cursor.at[0] < 0x7F:
            return NULL
        cursor.at += 1
    if cursor.at == cursor.end:
        return NULL
    length[0] = cursor.at - start
    cursor.at += 1
    return start


cdef inline bint _time(Cursor* cursor, int64_t* ms) noexcept nogil:
    cdef Py_ssize_t length = 0
    cdef const char* text = _text(cursor, &length)
    return text is not NULL and length == TIME_BYTES and parse_time(text, length, ms, 1, 9999)


cdef inline bint _count(Cursor* cursor) noexcept nogil:
    """Goes past a number that is not negative."""
    cdef const char* start = cursor.at
    while cursor.at < cursor.end and b"0" <= cursor.at[0] <= b"9":
        cursor.at += 1
    return cursor.at - start == 1 or (cursor.at > start and start[0] != b"0")


cdef inline bint _end(Cursor* cursor) noexcept nogil:
    """Whether what is left is a revision and the object's end."""
    return _count(cursor) and _past(cursor, b"}", 1) and cursor.at == cursor.end


cdef inline bint _identity(Cursor* cursor, char* out) noexcept nogil:
    """Goes past 32 hex digits and their quotation mark; ``out`` gets the 16 bytes."""
    cdef Py_ssize_t length = 0
    cdef const char* text = _text(cursor, &length)
    cdef int i, high, low
    if text is NULL or length != 2 * KEY_BYTES:
        return False
    for i in range(KEY_BYTES):
        high, low = hex_value(text[2 * i]), hex_value(text[2 * i + 1])
        if high < 0 or low < 0:
            return False
        out[i] = <char> (16 * high + low)
    return True


cdef inline bint _code(Cursor* cursor, char* out, Py_ssize_t expected) noexcept nogil:
    cdef Py_ssize_t length = 0
    cdef const char* text = _text(cursor, &length)
    if text is NULL or length != expected:
        return False
    memcpy(out, text, expected)
    return True


cdef int _category(Cursor* cursor) noexcept:
    cdef Py_ssize_t length = 0
    cdef const char* text = _text(cursor, &length)
    cdef int number
    if text is NULL:
        return -1
    for number in range(len(CATEGORY_NAMES)):
        name = <bytes> CATEGORY_NAMES[number]
        if length == PyBytes_GET_SIZE(name) and memcmp(text, PyBytes_AS_STRING(name), length) == 0:
            return number
    return -1


cdef inline bint _is_venue(const char* key, Py_ssize_t length) noexcept nogil:
    """Whether a key is an id, as a venue's is."""
    cdef Py_ssize_t i
    if not 0 < length <= ID_BYTES_MAX:
        return False
    for i in range(length):
        if not (b"0" <= key[i] <= b"9" or b"A" <= key[i] <= b"Z" or b"a" <= key[i] <= b"z" or key[i] in b"_-"):
            return False
    return True


cdef inline bint _far(int64_t ms) noexcept nogil:
    """Whether no time that the pipeline writes is this one."""
    return not -FARTHEST_MS <= ms <= FARTHEST_MS


cdef struct Read:
    bint active
    const char* venue
    Py_ssize_t venue_bytes
    int64_t start_ms
    int64_t end_ms
    char visit[KEY_BYTES]
    char value[VALUE_BYTES]


cdef inline bint _venue(Cursor* cursor, Read* read) noexcept nogil:
    read.venue = _text(cursor, &read.venue_bytes)
    return read.venue is not NULL


cdef bint _read(const char* value, Py_ssize_t value_bytes, Read* read) noexcept:
    """Reads a record as ``wire.visit`` or ``wire.retracted_visit`` writes it."""
    cdef Cursor cursor
    cdef int64_t scan_ms = 0
    cdef Py_ssize_t length = 0
    cdef int category
    cdef char* areas = read.value + 8 + 16 + 8
    cursor.at = value
    cursor.end = cursor.at + value_bytes
    if not (_past(&cursor, b'{"visit_id":"', 13) and _identity(&cursor, read.visit)):
        return False
    read.active = _past(&cursor, b',"person_id":"', 14)
    if not read.active:
        return (
            _past(&cursor, b',"first_scan_at":"', 18) and _time(&cursor, &scan_ms)
            and _past(&cursor, b',"status":"retracted","revision":', 33)
            and _end(&cursor)
        )
    if not (
        _identity(&cursor, read.value + 8)
        and _past(&cursor, b',"venue_id":"', 13) and _venue(&cursor, read)
        and _past(&cursor, b',"started_at":"', 15) and _time(&cursor, &read.start_ms)
        and _past(&cursor, b',"ended_at":"', 13) and _time(&cursor, &read.end_ms)
        and _past(&cursor, b',"start_kind":"', 15) and _text(&cursor, &length) is not NULL
        and _past(&cursor, b',"end_kind":"', 13) and _text(&cursor, &length) is not NULL
        and _past(&cursor, b',"first_scan_id":"', 18) and _text(&cursor, &length) is not NULL
        and _past(&cursor, b',"first_scan_at":"', 18) and _time(&cursor, &scan_ms)
        and _past(&cursor, b',"scan_count":', 14)
    ):
        return False
    if not (_count(&cursor) and _past(&cursor, b',"category":"', 13)):
        return False
    category = _category(&cursor)
    if category < 0 or not (
        _past(&cursor, b',"province_code":"', 18) and _code(&cursor, areas + 8, 2)
        and _past(&cursor, b',"district_code":"', 18) and _code(&cursor, areas + 5, 3)
        and _past(&cursor, b',"ward_code":"', 14) and _code(&cursor, areas, 5)
        and _past(&cursor, b',"status":"active","revision":', 30) and _end(&cursor)
    ):
        return False
    if _far(read.start_ms) or _far(read.end_ms) or _far(scan_ms):
        return False
    put_biased(read.value, read.end_ms)
    put_biased(read.value + 8 + 16, scan_ms)
    read.value[24] = <char> (<uint8_t> read.value[24] ^ 0x80)  # that one is a plain i64
    areas[10] = <char> category
    return True


cdef bytes _key(const char* venue, Py_ssize_t venue_bytes, const char* visit, int64_t start_ms, int64_t end_ms):
    """``proximity.visit_key`` of a visit that has a length and is none too long."""
    cdef bytes key = PyBytes_FromStringAndSize(NULL, venue_bytes + 3 + 8 + KEY_BYTES)
    cdef char* to = PyBytes_AS_STRING(key)
    cdef int length = 0
    while length < bounds and bounds_ms[length] < end_ms - start_ms:
        length += 1
    to[0] = b"v"
    to = put(to + 1, venue, venue_bytes)
    to[0] = 0
    to[1] = <char> length
    put(put_biased(to + 2, start_ms), visit, KEY_BYTES)
    return key


def kept(Records records, cases):
    """(state changes, what is to be looked at) of a batch of ``visits``; None where one is not as this build writes it.

    What is to be looked at are the records of the venues in ``cases``: (record, visit in 16 bytes, interval it
    replaces or None, its state key or None, new state key or None, new value).
    """
    cdef dict changes = {}
    cdef list crossed = []
    cdef Read read
    cdef bytes old_key, new_key, value
    cdef int64_t start_ms, end_ms
    cdef Entry* entry
    cdef Py_ssize_t index
    for index in range(records.count):
        entry = records.entries + index
        if entry.value_bytes < 0 or not _read(entry.value, entry.value_bytes, &read):
            return None
        if not _is_venue(entry.key, entry.key_bytes):
            return None
        if read.active and not (
            read.venue_bytes == entry.key_bytes and memcmp(read.venue, entry.key, entry.key_bytes) == 0
        ):
            return None
        old_key, new_key, value = None, None, b""
        try:
            was = was_of(records.record(index).headers) if entry.header_count else None
        except NotOwnError:
            return None
        if was is not None:
            start_ms, end_ms = was
            if not 0 <= end_ms - start_ms <= LONGEST_MS:
                return None
            if start_ms != end_ms:
                old_key = _key(entry.key, entry.key_bytes, read.visit, start_ms, end_ms)
                changes[old_key] = None
        if read.active:
            if not 0 <= read.end_ms - read.start_ms <= LONGEST_MS:
                return None
            value = read.value[:VALUE_BYTES]
            if read.start_ms != read.end_ms:
                new_key = _key(entry.key, entry.key_bytes, read.visit, read.start_ms, read.end_ms)
                changes[new_key] = value
        if cases and entry.key[: entry.key_bytes] in cases:
            crossed.append((records.record(index), read.visit[:KEY_BYTES], was, old_key, new_key, value))
    return changes, crossed
