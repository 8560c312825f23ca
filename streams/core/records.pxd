from libc.stdint cimport int32_t, int64_t


cdef struct Entry:
    int64_t offset
    int64_t timestamp
    const char* key  # of the others only where there is one
    const char* value
    const char* headers  # where the first one begins; NULL in records that were made of objects
    int64_t size  # bytes of the record; of what is refused, the number that its fault tells
    int32_t key_bytes  # -1: none
    int32_t value_bytes
    int32_t header_count
    int32_t fault  # 0: none; else there is neither value nor header, and a row of ``rejects`` says why


cdef class Records:
    cdef Entry* entries
    cdef Py_ssize_t count
    cdef Py_ssize_t room
    cdef list owners
    cdef list objects

    cdef int make_room(self, Py_ssize_t more) except -1
    cdef int let_go(self) except -1
    cdef object record(self, Py_ssize_t index)
