# Numbers as Kafka's records hold them: seven bits a byte, the lowest first, the sign in the lowest bit of all.

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    VARINT_BYTES_MAX = 10


cdef struct Cursor:
    const char* at
    const char* end
    bint damaged


cdef inline uint64_t zigzag(int64_t number) noexcept nogil:
    return (<uint64_t> number << 1) ^ <uint64_t> (number >> 63)


cdef inline int varint_bytes(int64_t number) noexcept nogil:
    """How many bytes a number takes."""
    cdef uint64_t rest = zigzag(number)
    cdef int count = 1
    while rest > 0x7F:
        rest >>= 7
        count += 1
    return count


cdef inline char* put_varint(char* to, int64_t number) noexcept nogil:
    cdef uint64_t rest = zigzag(number)
    while rest > 0x7F:
        to[0] = <char> (rest & 0x7F | 0x80)
        rest >>= 7
        to += 1
    to[0] = <char> rest
    return to + 1


cdef inline char* put_sized(char* to, const char* text, Py_ssize_t length) noexcept nogil:
    """Length, then the bytes; a length of -1 stands for none at all."""
    to = put_varint(to, length)
    if length > 0:
        memcpy(to, text, length)
        to += length
    return to


cdef inline int64_t read_varint(Cursor* cursor) noexcept nogil:
    """The next number; where none is written out, the cursor is marked."""
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef uint64_t byte
    if cursor.at < cursor.end:
        value = <unsigned char> cursor.at[0]
        if value < 0x80:  # most of them
            cursor.at += 1
            return <int64_t> (value >> 1) ^ -<int64_t> (value & 1)
        value = 0
    while cursor.at < cursor.end and shift <= 63:
        byte = <unsigned char> cursor.at[0]
        cursor.at += 1
        if shift == 63 and byte > 1:
            break  # more than 64 bits
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return <int64_t> (value >> 1) ^ -<int64_t> (value & 1)
        shift += 7
    cursor.damaged = True
    return 0


cdef inline const char* read_sized(Cursor* cursor, int32_t* length) noexcept nogil:
    """The next length and as many bytes; a length of -1 for none at all."""
    cdef int64_t found = read_varint(cursor)
    cdef const char* start = cursor.at
    if found < -1 or found > cursor.end - cursor.at:
        cursor.damaged = True
        found = 0
    length[0] = <int32_t> found
    cursor.at += max(found, <int64_t> 0)
    return start


cdef inline bytes text_or_none(const char* start, Py_ssize_t length):
    return None if length < 0 else start[:length]


cdef inline list read_headers(Cursor* cursor, int64_t count):
    """So many headers, name and value each; what is written was looked through before."""
    cdef list found = []
    cdef int32_t length = 0
    cdef const char* text
    for _ in range(count):
        text = read_sized(cursor, &length)
        name = text[:length].decode("utf-8", "replace")  # a producer may write whatever it likes
        text = read_sized(cursor, &length)
        found.append((name, text_or_none(text, length)))
    return found
