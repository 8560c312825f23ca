# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Records of one form to columns in one pass, compiled: each is compared and cut up where it lies.

What is taken here is what JSON would have read, or it is not taken at all: a record that is not its form's pieces and
values to the last byte; a text with a backslash, a control character or a byte beyond ASCII; a number, time or day that
is not written as the pipeline writes it. Whatever is not taken is read as JSON (``sinks.columns``), which alone judges;
``tests/sinks/test_shapes.py`` holds the two together.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from streams.core.raw cimport TIME_BYTES, parse_time, two

cdef extern from "Python.h":
    double PyOS_string_to_double(const char* text, char** end, object overflow) except? -1.0

cdef extern from *:
    int __builtin_ctzll(unsigned long long word) nogil


cpdef enum Kind:
    TEXT
    TIME
    DAY
    COUNT
    NUMBER


cdef enum:
    FIELDS_BOUND = 32
    SAMPLES_MAX = 16  # so many records of a run are looked at for their form, where no known form fits
    WORD_BYTES = 8
    DAY_BYTES = 10
    DIGITS_MAX = 18  # more may be too large for 64 bits
    NUMBER_BYTES_MAX = 40
    YEAR_MIN = 1970  # times that are far from these are left to JSON: not every one of them has a local day
    YEAR_MAX = 2099

FIELDS_MAX = FIELDS_BOUND

cdef uint64_t ONES = 0x0101010101010101
cdef uint64_t HIGHS = 0x8080808080808080
cdef uint64_t QUOTES = 0x2222222222222222
cdef uint64_t BACKSLASHES = 0x5C5C5C5C5C5C5C5C
cdef uint64_t SPACES = 0x2020202020202020

cdef int64_t EXACT_MAX = 1 << 53
cdef double POWERS[DIGITS_MAX + 1]
for _exponent in range(DIGITS_MAX + 1):
    POWERS[_exponent] = 10.0**_exponent


cdef struct Field:
    Kind kind
    const char* piece  # what stands before the value
    Py_ssize_t piece_bytes
    char* values
    Py_ssize_t room  # of ``values``, in bytes
    int32_t* ends  # of texts: where each ends in ``values``, a zero before the first


cdef inline const char* _text(const char* at, const char* end, char* out) noexcept nogil:
    """Copies up to the next quotation mark; NULL where none follows, or what is written is better read as JSON.

    ``out`` has room for all up to ``end`` and a word more.
    """
    cdef uint64_t word, odd
    cdef int plain
    while end - at >= WORD_BYTES:
        memcpy(&word, at, WORD_BYTES)
        memcpy(out, &word, WORD_BYTES)
        # The high bit of each byte that ends the text; above the lowest there may be some that do not.
        odd = word | ((word - SPACES) & ~word)
        odd |= ((word ^ QUOTES) - ONES) & ~(word ^ QUOTES)
        odd |= ((word ^ BACKSLASHES) - ONES) & ~(word ^ BACKSLASHES)
        odd &= HIGHS
        if odd:
            at += __builtin_ctzll(odd) >> 3
            return at if at[0] == b'"' else NULL
        at += WORD_BYTES
        out += WORD_BYTES
    while at < end and at[0] != b'"':
        if at[0] == b"\\" or not 0x20 <= at[0] <= 0x7F:
            return NULL
        out[0] = at[0]
        at += 1
        out += 1
    return at if at < end else NULL


cdef inline const char* _digits(const char* at, const char* end, int64_t* number) noexcept nogil:
    """Goes past digits, and appends them to the number; there must be room for as many as there are up to ``end``."""
    while at < end and b"0" <= at[0] <= b"9":
        number[0] = number[0] * 10 + (at[0] - 48)
        at += 1
    return at


cdef inline const char* _count(const char* at, const char* end, int64_t* number) noexcept nogil:
    """Goes past a whole number of up to 18 digits; NULL where JSON has none."""
    cdef const char* start = at
    number[0] = 0
    at = _digits(at, at + DIGITS_MAX if end - at > DIGITS_MAX else end, number)
    return at if at - start == 1 or (at > start and start[0] != b"0") else NULL


cdef const char* _number(const char* at, const char* end, double* number) except? NULL:
    """Goes past a number that is digits, or digits with a point between them; NULL where there is none."""
    cdef const char* start = at
    cdef const char* last = at + DIGITS_MAX + 1 if end - at > DIGITS_MAX + 1 else end
    cdef const char* point
    cdef int64_t digits = 0
    cdef char copy[NUMBER_BYTES_MAX + 1]
    at = _count(at, end, &digits)
    if at is NULL:
        return NULL
    if at < end and at[0] == b".":
        point = at
        at = _digits(at + 1, last, &digits)
        if at > point + 1 and digits <= EXACT_MAX and (at == end or not b"0" <= at[0] <= b"9"):
            # Both are exact, so the quotient is the nearest number there is.
            number[0] = digits / POWERS[at - point - 1]
            return at
        while at < end and b"0" <= at[0] <= b"9":
            at += 1
        if at == point + 1:
            return NULL
    elif digits <= EXACT_MAX:
        number[0] = digits
        return at
    if at - start > NUMBER_BYTES_MAX:
        return NULL
    memcpy(copy, start, at - start)
    copy[at - start] = 0
    number[0] = PyOS_string_to_double(copy, NULL, None)
    return at


cdef inline bint _day(const char* at, uint32_t* day) noexcept nogil:
    """The number yyyymmdd of ``yyyy-mm-dd``; any month and day, as when it is read as JSON."""
    cdef int century = two(at)
    cdef int year = two(at + 2)
    cdef int month = two(at + 5)
    cdef int of_month = two(at + 8)
    if century < 0 or year < 0 or month < 0 or of_month < 0 or at[4] != b"-" or at[7] != b"-":
        return False
    day[0] = <uint32_t> (century * 1_000_000 + year * 10_000 + month * 100 + of_month)
    return True


cdef class Cutter:
    """Columns of the records of one form, in the order in which they are taken.

    Args:
        pieces: What stands before each value, and behind the last.
        kinds: What each value is; the quotation marks of texts, times and days are in the pieces.
        rows_max: How many records may come.
    """

    cdef Field fields[FIELDS_BOUND]
    cdef int count
    cdef const char* tail
    cdef Py_ssize_t tail_bytes
    cdef Py_ssize_t rows_max
    cdef readonly Py_ssize_t rows
    cdef tuple pieces
    cdef list values, ends

    def __init__(self, tuple pieces, kinds, Py_ssize_t rows_max):
        cdef Field* field
        cdef bytes piece
        cdef bytearray values, ends
        cdef int number
        if not 0 < len(kinds) <= FIELDS_BOUND or len(pieces) != len(kinds) + 1 or rows_max < 1:
            raise ValueError("a form has up to 32 fields, and a piece more")
        self.pieces, self.values, self.ends = pieces, [], []
        self.count, self.rows, self.rows_max = len(kinds), 0, rows_max
        for number, kind in enumerate(kinds):
            field, piece, values, ends = &self.fields[number], pieces[number], bytearray(), bytearray()
            field.kind = kind
            field.piece, field.piece_bytes = PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece)
            field.room = rows_max * (4 if field.kind == DAY else 8)
            PyByteArray_Resize(values, field.room)
            field.values, field.ends = PyByteArray_AS_STRING(values), NULL
            if field.kind == TEXT:
                PyByteArray_Resize(ends, (rows_max + 1) * sizeof(int32_t))
                field.ends = <int32_t*> PyByteArray_AS_STRING(ends)
                field.ends[0] = 0
            self.values.append(values)
            self.ends.append(ends)
        piece = pieces[self.count]
        self.tail, self.tail_bytes = PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece)

    def column(self, int number):
        """The values of a field as they lie in memory, and of texts their ends; no record is taken any more.

        Returns:
            Values and ends: of texts their bytes, and their offsets (int32, one more than rows); else int64 ms
            since the epoch, uint32 yyyymmdd, uint64 or float64, and nothing.
        """
        if not 0 <= number < self.count:
            raise IndexError(number)
        self.rows_max = self.rows
        cdef Field* field = &self.fields[number]
        cdef bytearray values = self.values[number]
        cdef bytearray ends = self.ends[number]
        if field.kind == TEXT:
            PyByteArray_Resize(values, field.ends[self.rows])
            PyByteArray_Resize(ends, (self.rows + 1) * sizeof(int32_t))
            field.ends = <int32_t*> PyByteArray_AS_STRING(ends)
        else:
            PyByteArray_Resize(values, self.rows * (4 if field.kind == DAY else 8))
        field.values = PyByteArray_AS_STRING(values)
        return values, ends

    cdef int _grow(self, int number, Py_ssize_t room) except -1:
        cdef Field* field = &self.fields[number]
        cdef bytearray values = self.values[number]
        field.room = 2 * room
        PyByteArray_Resize(values, field.room)
        field.values = PyByteArray_AS_STRING(values)
        return 0

    cdef bint take(self, const char* at, Py_ssize_t length) except -1:
        """Adds a record's values; False, and nothing is added, where it is none that is taken here."""
        cdef const char* end = at + length
        cdef const char* start
        cdef Field* field
        cdef Py_ssize_t row = self.rows
        cdef int64_t whole
        cdef int number
        if row == self.rows_max:
            return False
        for number in range(self.count):
            field = &self.fields[number]
            if end - at < field.piece_bytes or memcmp(at, field.piece, field.piece_bytes) != 0:
                return False
            at += field.piece_bytes
            if field.kind == TEXT:
                if field.room - field.ends[row] < end - at + WORD_BYTES:
                    if field.ends[row] + (end - at) > INT32_MAX:
                        return False
                    self._grow(number, field.ends[row] + (end - at) + WORD_BYTES)
                start = at
                at = _text(at, end, field.values + field.ends[row])
                if at is NULL:
                    return False
                field.ends[row + 1] = field.ends[row] + <int32_t> (at - start)
            elif field.kind == COUNT:
                at = _count(at, end, &whole)
                if at is NULL:
                    return False
                (<uint64_t*> field.values)[row] = <uint64_t> whole
            elif field.kind == TIME:
                if end - at < TIME_BYTES or not parse_time(
                    at, TIME_BYTES, &(<int64_t*> field.values)[row], YEAR_MIN, YEAR_MAX
                ):
                    return False
                at += TIME_BYTES
            elif field.kind == NUMBER:
                at = _number(at, end, &(<double*> field.values)[row])
                if at is NULL:
                    return False
            else:
                if end - at < DAY_BYTES or not _day(at, &(<uint32_t*> field.values)[row]):
                    return False
                at += DAY_BYTES
        if end - at != self.tail_bytes or memcmp(at, self.tail, self.tail_bytes) != 0:
            return False
        self.rows = row + 1
        return True


def cut(list values, cutter_of):
    """Columns of those records that have one of a few forms, and the other records.

    Args:
        values: Records; None is passed over.
        cutter_of: Makes what takes records of the form of the one given, as many as the number given; None where its
            form is none that can be taken.

    Returns:
        What has taken any records, and those that were not taken, in order.
    """
    cdef list cutters = []
    cdef list left = []
    cdef Cutter usual = None
    cdef Cutter other
    cdef Py_ssize_t rows_left = len(values)
    cdef int samples = 0
    cdef bint taken
    cdef bytes record
    for value in values:
        rows_left -= 1
        if value is None:
            continue
        taken = False
        if PyBytes_CheckExact(value):
            record = <bytes> value
            if usual is not None and usual.take(PyBytes_AS_STRING(record), PyBytes_GET_SIZE(record)):
                continue
            for found in cutters:
                other = <Cutter> found
                if other is not usual and other.take(PyBytes_AS_STRING(record), PyBytes_GET_SIZE(record)):
                    usual, taken = other, True
                    break
            if not taken and samples < SAMPLES_MAX:
                samples += 1
                other = cutter_of(record, rows_left + 1)
                if other is not None:
                    cutters.append(other)
                    taken = other.take(PyBytes_AS_STRING(record), PyBytes_GET_SIZE(record))
        if not taken:
            left.append(value)
    return [found for found in cutters if (<Cutter> found).rows], left
