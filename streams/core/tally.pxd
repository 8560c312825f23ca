from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from streams.core.outbox cimport Outbox


cdef class Places:
    cdef readonly object clock
    cdef dict steady
    cdef int64_t last_bucket
    cdef int64_t last_offset
    cdef int64_t offset(self, int64_t ms) except? -1
    cdef int64_t day(self, int64_t ms) except? -1


cdef struct Count:
    int64_t minute_ms
    int64_t hour_ms
    int64_t day  # of the scan
    int64_t hour_day  # on which its hour begins
    const char* venue
    int32_t venue_bytes
    uint8_t direction
    uint8_t fresh
    char area[10]


cdef class Tally:
    cdef readonly Places places
    cdef public int64_t timestamp_ms
    cdef Count* counts
    cdef Count** order
    cdef Py_ssize_t length
    cdef Py_ssize_t room
    cdef list kept
    cdef int append(self, bytes venue_id, const char* area, int64_t occurred_ms, int direction, int fresh) except -1
    cdef sort(self, int (*compare)(const void*, const void*) noexcept nogil)
    cdef bytes _marked(self, bytes areas, Py_ssize_t start, Py_ssize_t end, Outbox marks)
    cdef bytes _merged(
        self, bytes stored, Py_ssize_t skip, bytes head, Py_ssize_t start, Py_ssize_t end, bint by_venue,
        Outbox emitted, bytes part, int64_t revision,
    )
    cdef int _emit(
        self, Outbox emitted, Count* count, int64_t time_ms, uint32_t* counts, bint by_venue, bytes part,
        int64_t revision,
    ) except -1
