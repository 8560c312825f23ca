# cython: cdivision=True
# Bytes and times in C for the compiled modules of the core: what ``times.py``, ``partition.py`` and ``wire.py`` do.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcmp, memcpy

cdef enum:
    TIME_BYTES = 24
    MINUTE_MS = 60_000
    HOUR_MS = 3_600_000
    DAY_MS = 86_400_000


cdef inline int64_t floor_to(int64_t ms, int64_t unit) noexcept nogil:
    """The multiple of ``unit`` at or before ``ms``, which may be negative."""
    cdef int64_t rest = ms % unit
    return ms - rest - (unit if rest < 0 else 0)


cdef inline void* with_room(void* data, Py_ssize_t* room, Py_ssize_t needed, Py_ssize_t first, Py_ssize_t size) except NULL:
    """``data`` with room for so many items of ``size`` bytes: doubled as often as it takes, from ``first`` on."""
    cdef Py_ssize_t grown = max(room[0], first)
    while grown < needed:
        grown *= 2
    if grown > room[0]:
        data = realloc(data, grown * size)
        if data is NULL:
            raise MemoryError
        room[0] = grown
    return data


cdef inline char* put(char* out, const char* text, Py_ssize_t length) noexcept nogil:
    memcpy(out, text, length)
    return out + length


cdef inline char* put_two(char* out, int64_t number) noexcept nogil:
    out[0] = <char> (48 + number // 10)
    out[1] = <char> (48 + number % 10)
    return out + 2


cdef inline char* put_number(char* out, int64_t number) noexcept nogil:
    """A number that is not negative, in decimal."""
    cdef char digits[20]
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = <char> (48 + number % 10)
        number //= 10
        if number == 0:
            return put(out, digits + at, 20 - at)


cdef inline void civil(int64_t days, int64_t* year, int64_t* month, int64_t* day) noexcept nogil:
    """The date so many days after 1970-01-01 in the proleptic Gregorian calendar."""
    cdef int64_t z = days + 719468
    cdef int64_t era = (z if z >= 0 else z - 146096) // 146097
    cdef int64_t of_era = z - era * 146097
    cdef int64_t year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    cdef int64_t of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    cdef int64_t shifted = (5 * of_year + 2) // 153
    day[0] = of_year - (153 * shifted + 2) // 5 + 1
    month[0] = shifted + 3 if shifted < 10 else shifted - 9
    year[0] = year_of_era + era * 400 + (1 if month[0] <= 2 else 0)


cdef inline int64_t days_of(int64_t year, int64_t month, int64_t day) noexcept nogil:
    """The inverse of ``civil``, for years from 1 on."""
    cdef int64_t shifted_year = year - 1 if month <= 2 else year
    cdef int64_t era = shifted_year // 400
    cdef int64_t year_of_era = shifted_year - era * 400
    cdef int64_t of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + of_year - 719468


cdef inline char* put_day(char* out, int64_t days) noexcept nogil:
    """``2021-10-14`` of days since the epoch."""
    cdef int64_t year, month, day
    civil(days, &year, &month, &day)
    out = put_two(put_two(out, year // 100), year % 100)
    out[0] = b"-"
    out = put_two(out + 1, month)
    out[0] = b"-"
    return put_two(out + 1, day)


cdef inline char* put_time(char* out, int64_t ms) noexcept nogil:
    """``times.format_bytes``: 24 bytes."""
    ms = min(max(ms, <int64_t> -62_135_510_400_000), <int64_t> 253_402_300_799_999)
    cdef int64_t midnight = floor_to(ms, DAY_MS)
    cdef int64_t rest = ms - midnight
    out = put_day(out, midnight // DAY_MS)
    out[0] = b"T"
    out = put_two(out + 1, rest // HOUR_MS)
    out[0] = b":"
    out = put_two(out + 1, rest // MINUTE_MS % 60)
    out[0] = b":"
    out = put_two(out + 1, rest // 1000 % 60)
    out[0] = b"."
    out[1] = <char> (48 + rest // 100 % 10)
    out = put_two(out + 2, rest % 100)
    out[0] = b"Z"
    return out + 1


cdef inline int two(const char* text) noexcept nogil:
    """The number that two digits make; -1 if they are none."""
    cdef int tens = text[0] - 48
    cdef int ones = text[1] - 48
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -1


cdef inline bint parse_time(
    const char* text, Py_ssize_t length, int64_t* ms, int first_year, int last_year
) noexcept nogil:
    """``times.parse_ms``; False where the text is no time as that module's head describes, or not of these years."""
    if length < 20 or text[4] != b"-" or text[7] != b"-" or text[10] != b"T" or text[13] != b":" or text[16] != b":":
        return False
    cdef int century = two(text)
    cdef int of_century = two(text + 2)
    cdef int year = century * 100 + of_century
    cdef int month = two(text + 5)
    cdef int day = two(text + 8)
    cdef int hour = two(text + 11)
    cdef int minute = two(text + 14)
    cdef int second = two(text + 17)
    if century < 0 or of_century < 0 or not first_year <= year <= last_year or not 1 <= month <= 12 or day < 1:
        return False
    cdef int longest = 30 if month in (4, 6, 9, 11) else 31
    if month == 2:
        longest = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    if day > longest or not 0 <= hour <= 23 or not 0 <= minute <= 59 or not 0 <= second <= 59:
        return False
    cdef int64_t result = days_of(year, month, day) * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS + second * 1000
    cdef Py_ssize_t at = 19
    cdef int64_t unit = 100
    if text[at] == b".":
        at += 1
        if at == length or not b"0" <= text[at] <= b"9":
            return False
        while at < length and b"0" <= text[at] <= b"9":
            result += (text[at] - 48) * unit  # digits beyond the millisecond are cut
            unit //= 10
            at += 1
    if at + 1 == length and text[at] == b"Z":
        ms[0] = result
        return True
    if at + 6 != length or text[at + 3] != b":" or (text[at] != b"+" and text[at] != b"-"):
        return False
    hour, minute = two(text + at + 1), two(text + at + 4)
    if not 0 <= hour <= 23 or not 0 <= minute <= 59:
        return False
    cdef int64_t offset = hour * HOUR_MS + minute * MINUTE_MS
    ms[0] = result + offset if text[at] == b"-" else result - offset
    return True


cdef inline uint32_t murmur2(const char* key, Py_ssize_t length) noexcept nogil:
    """``partition.murmur2``."""
    cdef uint32_t m = 0x5BD1E995
    cdef uint32_t h = 0x9747B28C
    cdef uint32_t k
    cdef Py_ssize_t i
    h ^= <uint32_t> length
    for i in range(0, length - 3, 4):
        memcpy(&k, key + i, 4)
        k *= m
        k ^= k >> 24
        k *= m
        h = (h * m) ^ k
    if length & 3:
        k = 0
        memcpy(&k, key + (length & ~3), length & 3)
        h = (h ^ k) * m
    h ^= h >> 13
    h *= m
    return h ^ (h >> 15)


cdef inline int fresh_levels(const char* area, const char* other) noexcept nogil:
    """A bit for each level, ward first, at which two areas have different codes; the nation's never has."""
    return (
        (memcmp(area, other, 5) != 0)
        | (memcmp(area + 5, other + 5, 3) != 0) << 1
        | (memcmp(area + 8, other + 8, 2) != 0) << 2
    )


cdef inline char* put_biased(char* out, int64_t number) noexcept nogil:
    """``keys.time_key``: 8 bytes that sort as the number does."""
    cdef uint64_t biased = <uint64_t> number ^ (<uint64_t> 1 << 63)
    cdef int i
    for i in range(8):
        out[i] = <char> (biased >> (56 - 8 * i) & 0xFF)
    return out + 8


cdef inline char* put_hex(char* out, const char* text, Py_ssize_t length) noexcept nogil:
    """Two hex digits in lower case for each byte."""
    cdef const char* digits = b"0123456789abcdef"
    cdef Py_ssize_t i
    for i in range(length):
        out[2 * i] = digits[<uint8_t> text[i] >> 4]
        out[2 * i + 1] = digits[<uint8_t> text[i] & 15]
    return out + 2 * length


cdef inline int hex_value(char digit) noexcept nogil:
    """What a hex digit in lower case counts; -1 of any other character."""
    if b"0" <= digit <= b"9":
        return digit - 48
    return digit - 87 if b"a" <= digit <= b"f" else -1
