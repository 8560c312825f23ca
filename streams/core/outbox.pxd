from libc.stdint cimport int32_t, int64_t


cdef struct Outgoing:
    int64_t timestamp
    int32_t partition  # -1: the key decides
    int32_t key_bytes  # -1: none
    int32_t value_bytes  # -1: none
    int32_t header_bytes  # 0: none


cdef struct Piece:
    Outgoing* head
    const char* key
    const char* value
    const char* headers


cdef class Outbox:
    cdef char* data
    cdef readonly Py_ssize_t size  # bytes
    cdef Py_ssize_t room
    cdef readonly Py_ssize_t count

    cdef int put(
        self, const char* key, Py_ssize_t key_bytes, const char* value, Py_ssize_t value_bytes,
        const char* headers, Py_ssize_t header_bytes, int32_t partition, int64_t timestamp_ms,
    ) except -1


    cdef Py_ssize_t take(self, Py_ssize_t at, Piece* piece) noexcept


cdef class Headed:
    cdef readonly dict topics

    cdef Outbox of(self, topic)
