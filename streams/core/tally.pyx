# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""What the accepted scans of a step add to the cells, compiled: each scan has nearly cells of its own.

Scans are noted one after another and sorted three times in the end, by ward and minute, by venue and hour, by area
and day; equal ones stand together then. That costs a third of dictionaries of what was counted.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp, memcpy

from streams.core import times
from streams.core.outbox cimport Outbox
from streams.core.raw cimport (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    TIME_BYTES,
    floor_to,
    fresh_levels,
    put,
    put_biased,
    put_day,
    put_number,
    put_time,
    with_room,
)

cdef enum:
    AREA_BYTES = 10
    WARD_BYTES = 5
    ENTRY_BYTES = 20
    ROOM_FIRST = 1024
    LEVELS = 4
    AREAS_MAX = 255  # past it an area is marked again with each step: the venue room knows it already
    OUT_BYTES = 1024
    BY_KEY = -1

cdef int64_t BUCKET_MS = times.BUCKET_MS
cdef int64_t SHIFT_MS_MAX = 4 * HOUR_MS  # an hour more than clocks were ever set at once, but for whole days


cdef class Places:
    """Local minutes, hours and days of a ``LocalClock``, with its last offset at hand."""

    def __init__(self, clock):
        self.clock = clock
        self.steady = clock.steady_ms
        self.last_bucket = -(1 << 62)
        self.last_offset = 0

    cdef int64_t offset(self, int64_t ms) except? -1:
        """Milliseconds that local time is ahead of UTC at this instant."""
        cdef int64_t bucket = floor_to(ms, BUCKET_MS)
        if bucket == self.last_bucket:
            return self.last_offset
        steady = self.steady.get(bucket // BUCKET_MS)
        if steady is None:
            steady = self.clock.steady_offset_ms(ms)
            if steady is None:
                return self.clock.offset_ms(ms)
        self.last_bucket, self.last_offset = bucket, steady
        return self.last_offset

    cdef int64_t day(self, int64_t ms) except? -1:
        """The local day of this instant, in days since 1970-01-01."""
        return floor_to(ms + self.offset(ms), DAY_MS) // DAY_MS


cdef int _by_ward(const void* one, const void* other) noexcept nogil:
    cdef Count* a = (<Count**> one)[0]
    cdef Count* b = (<Count**> other)[0]
    cdef int order
    if a.hour_ms != b.hour_ms:
        return -1 if a.hour_ms < b.hour_ms else 1
    order = memcmp(a.area, b.area, WARD_BYTES)
    if order != 0:
        return order
    return (a.minute_ms > b.minute_ms) - (a.minute_ms < b.minute_ms)


cdef int _by_venue(const void* one, const void* other) noexcept nogil:
    cdef Count* a = (<Count**> one)[0]
    cdef Count* b = (<Count**> other)[0]
    cdef int order
    if a.hour_day != b.hour_day:
        return -1 if a.hour_day < b.hour_day else 1
    order = memcmp(a.venue, b.venue, min(a.venue_bytes, b.venue_bytes))
    if order != 0:
        return order
    if a.venue_bytes != b.venue_bytes:
        return -1 if a.venue_bytes < b.venue_bytes else 1
    if a.hour_ms != b.hour_ms:
        return -1 if a.hour_ms < b.hour_ms else 1
    return memcmp(a.area, b.area, AREA_BYTES)


cdef int _by_area(const void* one, const void* other) noexcept nogil:
    cdef Count* a = (<Count**> one)[0]
    cdef Count* b = (<Count**> other)[0]
    if a.day != b.day:
        return -1 if a.day < b.day else 1
    return memcmp(a.area, b.area, AREA_BYTES)


cdef inline bint _same_venue(Count* a, Count* b) noexcept nogil:
    return a.hour_day == b.hour_day and a.venue_bytes == b.venue_bytes and memcmp(a.venue, b.venue, a.venue_bytes) == 0


cdef class Tally:
    """The accepted scans of one step, counted by what they belong to."""

    def __cinit__(self, Places places):
        self.places = places
        self.kept = []

    def __dealloc__(self):
        free(self.counts)
        free(self.order)

    def add(self, bytes venue_id, bytes area, int64_t occurred_ms, int direction, counted):
        """Counts one accepted scan; ``counted`` holds the areas (10 bytes) this person counts in on that day already.

        ``area`` begins with the 10 bytes of the scan's own.
        """
        cdef int fresh = 15
        cdef bytes other
        for other in counted:
            fresh &= fresh_levels(PyBytes_AS_STRING(area), PyBytes_AS_STRING(other))
        self.append(venue_id, PyBytes_AS_STRING(area), occurred_ms, direction, fresh)

    cdef int append(self, bytes venue_id, const char* area, int64_t occurred_ms, int direction, int fresh) except -1:
        """``fresh`` has a bit for each level, ward first, at which the person was not counted that day."""
        cdef Count* count
        cdef int64_t local_ms
        self.counts = <Count*> with_room(self.counts, &self.room, self.length + 1, ROOM_FIRST, sizeof(Count))
        count = self.counts + self.length
        self.length += 1
        self.kept.append(venue_id)
        count.venue, count.venue_bytes = PyBytes_AS_STRING(venue_id), <int> PyBytes_GET_SIZE(venue_id)
        memcpy(count.area, area, AREA_BYTES)
        local_ms = occurred_ms + self.places.offset(occurred_ms)
        count.minute_ms = occurred_ms - (local_ms - floor_to(local_ms, MINUTE_MS))
        count.hour_ms = occurred_ms - (local_ms - floor_to(local_ms, HOUR_MS))
        count.day = count.hour_day = floor_to(local_ms, DAY_MS) // DAY_MS
        if not SHIFT_MS_MAX <= local_ms - count.day * DAY_MS < DAY_MS - SHIFT_MS_MAX:
            # Clocks were set since that hour began, maybe past midnight: at one instant hours of two days may begin.
            count.hour_day = self.places.day(count.hour_ms)
        count.direction, count.fresh = direction, fresh
        return 0

    cdef sort(self, int (*compare)(const void*, const void*) noexcept nogil):
        cdef Py_ssize_t i
        if self.order is NULL:
            self.order = <Count**> malloc(max(1, self.length) * sizeof(Count*))
            if self.order is NULL:
                raise MemoryError
        for i in range(self.length):
            self.order[i] = self.counts + i
        qsort(self.order, self.length, sizeof(Count*), compare)

    def ward_minutes(self, state, dict changes, Outbox emitted, bytes part, int64_t revision):
        """Adds to the stored ward_minute cells, a state value for each ward and hour; emits those that changed."""
        cdef list keys = []
        cdef list starts = []
        cdef Py_ssize_t i, end
        cdef Count* first
        cdef Count* before = NULL
        self.sort(_by_ward)
        for i in range(self.length):
            first = self.order[i]
            if before is NULL or first.hour_ms != before.hour_ms or memcmp(first.area, before.area, WARD_BYTES) != 0:
                starts.append(i)
                keys.append(_ward_key(first))
                before = first
        starts.append(self.length)
        cdef list stored = state.get_many(keys)
        for i in range(len(keys)):
            changes[keys[i]] = self._merged(stored[i], 0, b"", starts[i], starts[i + 1], False, emitted, part, revision)

    def venue_hours(self, state, dict changes, Outbox emitted, Outbox marks, bytes part, int64_t revision):
        """The same of venue_hour cells, by venue and day; a venue new to an area on a day is told to ``marks``."""
        cdef list keys = []
        cdef list starts = []
        cdef Py_ssize_t i, split
        cdef Count* first
        cdef Count* before = NULL
        cdef bytes areas, old
        self.sort(_by_venue)
        for i in range(self.length):
            first = self.order[i]
            if before is NULL or not _same_venue(first, before):
                starts.append(i)
                keys.append(_venue_key(first))
                before = first
        starts.append(self.length)
        cdef list stored = state.get_many(keys)
        for i in range(len(keys)):
            old = stored[i] if stored[i] is not None else b"\0"
            split = 1 + AREA_BYTES * <uint8_t> PyBytes_AS_STRING(old)[0]
            areas = self._marked(old[1:split], starts[i], starts[i + 1], marks)
            head = bytes((len(areas) // AREA_BYTES,)) + areas
            changes[keys[i]] = self._merged(old, split, head, starts[i], starts[i + 1], True, emitted, part, revision)

    cdef bytes _marked(self, bytes areas, Py_ssize_t start, Py_ssize_t end, Outbox marks):
        """The areas that a venue is marked for, with those that these scans add."""
        cdef Py_ssize_t i, at
        cdef Count* count
        cdef char* known
        cdef char out[OUT_BYTES]
        cdef char* to
        cdef bint is_known
        cdef set told = None
        for i in range(start, end):
            count = self.order[i]
            known, is_known = PyBytes_AS_STRING(areas), False
            for at in range(0, PyBytes_GET_SIZE(areas) if count.day == count.hour_day else 0, AREA_BYTES):
                if memcmp(known + at, count.area, AREA_BYTES) == 0:
                    is_known = True
                    break
            if is_known:
                continue
            area = count.area[:AREA_BYTES]
            if PyBytes_GET_SIZE(areas) >= AREAS_MAX * AREA_BYTES or count.day != count.hour_day:
                if told is None:
                    told = set()
                if (count.day, area) in told:
                    continue
                told.add((count.day, area))
            else:
                areas += area
            to = put(out, b'{"venue_id":"', 13)
            to = put(to, count.venue, count.venue_bytes)
            to = put(put_day(put(to, b'","day":"', 9), count.day), b'","ward_code":"', 15)
            to = put(put(to, count.area, 5), b'","district_code":"', 19)
            to = put(put(to, count.area + 5, 3), b'","province_code":"', 19)
            to = put(put(to, count.area + 8, 2), b'"}', 2)
            marks.put(count.venue, count.venue_bytes, out, to - out, NULL, 0, BY_KEY, self.timestamp_ms)
        return areas

    cdef bytes _merged(
        self, bytes stored, Py_ssize_t skip, bytes head, Py_ssize_t start, Py_ssize_t end, bint by_venue,
        Outbox emitted, bytes part, int64_t revision,
    ):
        """``head`` and the stored entries (from ``skip`` on) with the scans of a range of the order counted in."""
        cdef Py_ssize_t old_bytes = 0 if stored is None else PyBytes_GET_SIZE(stored) - skip
        cdef char* old = NULL if stored is None else PyBytes_AS_STRING(stored) + skip
        cdef Py_ssize_t head_bytes = PyBytes_GET_SIZE(head)
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t i = start
        cdef int64_t time_ms, old_ms
        cdef uint32_t counts[3]
        cdef Count* count
        cdef char* value = <char*> malloc(head_bytes + old_bytes + (end - start) * ENTRY_BYTES)
        if value is NULL:
            raise MemoryError
        cdef char* to = put(value, PyBytes_AS_STRING(head), head_bytes)
        try:
            while i < end:
                count = self.order[i]
                time_ms = count.hour_ms if by_venue else count.minute_ms
                counts[0] = counts[1] = counts[2] = 0
                while at < old_bytes:
                    memcpy(&old_ms, old + at, 8)
                    if old_ms > time_ms:
                        break
                    if old_ms == time_ms:
                        memcpy(counts, old + at + 8, 12)
                    else:
                        to = put(to, old + at, ENTRY_BYTES)
                    at += ENTRY_BYTES
                while i < end and (self.order[i].hour_ms if by_venue else self.order[i].minute_ms) == time_ms:
                    counts[self.order[i].direction] += 1
                    i += 1
                memcpy(to, &time_ms, 8)
                memcpy(to + 8, counts, 12)
                to += ENTRY_BYTES
                self._emit(emitted, count, time_ms, counts, by_venue, part, revision)
            to = put(to, old + at, old_bytes - at) if old_bytes > at else to
            return PyBytes_FromStringAndSize(value, to - value)
        finally:
            free(value)

    cdef int _emit(
        self, Outbox emitted, Count* count, int64_t time_ms, uint32_t* counts, bint by_venue, bytes part,
        int64_t revision,
    ) except -1:
        """Adds the record of a cell."""
        cdef char key[OUT_BYTES]
        cdef char out[OUT_BYTES]
        cdef char* of = PyBytes_AS_STRING(part)
        cdef Py_ssize_t part_bytes = PyBytes_GET_SIZE(part)
        cdef const char* name = count.venue if by_venue else count.area
        cdef Py_ssize_t name_bytes = count.venue_bytes if by_venue else WARD_BYTES
        cdef char* k
        cdef char* to
        if by_venue:
            k = put(key, b"venue_hour|", 11)
            to = put(out, b'{"family":"venue_hour","hour":"', 31)
        else:
            k = put(key, b"ward_minute|", 12)
            to = put(out, b'{"family":"ward_minute","minute":"', 34)
        to = put_time(to, time_ms)
        k = put(put(k, to - TIME_BYTES, TIME_BYTES), b"|", 1)
        k = put(put(put(k, name, name_bytes), b"|", 1), of, part_bytes)
        to = put(to, b'","venue_id":"', 14) if by_venue else put(to, b'","ward_code":"', 15)
        to = put(put(put(to, name, name_bytes), b'","part":"', 10), of, part_bytes)
        to = put_number(put(to, b'","scans":', 10), <int64_t> counts[0] + counts[1] + counts[2])
        to = put_number(put(to, b',"ins":', 7), counts[0])
        to = put_number(put(to, b',"outs":', 8), counts[1])
        to = put_number(put(to, b',"passes":', 10), counts[2])
        to = put(put_number(put(to, b',"revision":', 12), revision), b"}", 1)
        emitted.put(key, k - key, out, to - out, NULL, 0, BY_KEY, self.timestamp_ms)
        return 0

    def area_days(self):
        """(day, area) to [scans, then persons new to the ward, the district, the province, the nation that day]."""
        cdef dict found = {}
        cdef Py_ssize_t i
        cdef int level
        cdef long values[1 + LEVELS]
        cdef char day[10]
        cdef Count* count
        self.sort(_by_area)
        for i in range(self.length):
            count = self.order[i]
            if i == 0 or _by_area(&self.order[i - 1], &self.order[i]) != 0:
                values[0] = values[1] = values[2] = values[3] = values[4] = 0
            values[0] += 1
            for level in range(LEVELS):
                values[1 + level] += count.fresh >> level & 1
            if i + 1 == self.length or _by_area(&self.order[i], &self.order[i + 1]) != 0:
                put_day(day, count.day)
                found[day[:10], count.area[:AREA_BYTES]] = [values[level] for level in range(1 + LEVELS)]
        return found


cdef bytes _ward_key(Count* count):
    cdef char key[14]
    key[0] = b"m"
    put(put_biased(key + 1, count.hour_ms), count.area, WARD_BYTES)
    return key[:14]


cdef bytes _venue_key(Count* count):
    cdef char key[80]
    key[0] = b"h"
    put(put_day(key + 1, count.hour_day), count.venue, count.venue_bytes)
    return key[: 11 + count.venue_bytes]
