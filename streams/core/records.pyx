# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Records that follow each other in one partition, read where they lie: a step makes objects of the few it asks for.

A record batch (Kafka's message format 2) holds thousands of records in one piece of memory. Four objects for each of
them cost as much as all that a room does with a plain scan. Compiled code takes ``Entry`` by ``Entry``; to everybody
else this is a sequence of ``step.Record``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from streams.core import reasons, step
from streams.core.raw cimport with_room
from streams.core.varints cimport Cursor, read_headers, read_sized, read_varint, text_or_none

cdef enum:
    ROOM_FIRST = 16
    PIECE_RECORDS_MAX = 65_536  # an entry takes nine times the memory of the smallest record
    VALUE_BYTES_MAX = 64 * 1024
    KEY_BYTES_MAX = 1024
    HEADERS_MAX = 64
    HEADER_BYTES_MAX = 4096
    RECORD_BYTES_MIN = 7

cdef enum:
    NO_FAULT
    VALUE
    KEY
    HEADERS
    HEADER_BYTES
    OF_OBJECT  # it has its own
    BATCH_INFLATED
    BATCH_HEAD
    BATCH_SUM
    BATCH_FORMAT
    BATCH_COMPRESSION
    BATCH_FRAME
    BATCH_COUNT
    BATCH_OFFSETS
    BATCH_RECORD
    BATCH_REST

INFLATED, HEAD, SUM, FORMAT = BATCH_INFLATED, BATCH_HEAD, BATCH_SUM, BATCH_FORMAT
COMPRESSION, FRAME = BATCH_COMPRESSION, BATCH_FRAME
"""What may be wrong with a batch before its records are looked at; ``Records.refused`` takes them."""

cdef dict DETAILS = {
    VALUE: f"the value has {{}} bytes, more than {VALUE_BYTES_MAX}",
    KEY: f"the key has {{}} bytes, more than {KEY_BYTES_MAX}",
    HEADERS: f"there are {{}} headers, more than {HEADERS_MAX}",
    HEADER_BYTES: f"the headers have {{}} bytes, more than {HEADER_BYTES_MAX}",
    BATCH_INFLATED: "it inflates to more than 64 MiB",
    BATCH_HEAD: "its head is damaged",
    BATCH_SUM: "its checksum is wrong",
    BATCH_FORMAT: "its format is older than Kafka 0.11",
    BATCH_COMPRESSION: "its compression is unknown",
    BATCH_FRAME: "it cannot be inflated",
    BATCH_COUNT: "it cannot hold so many",
    BATCH_OFFSETS: "the offsets of its records do not rise within what its head says",
    BATCH_RECORD: "one of its records is damaged",
    BATCH_REST: "it goes on after its last record",
}

TIMESTAMP_MIN_MS = 0
TIMESTAMP_MAX_MS = 4_102_444_799_999
"""The years 1970 to 2099: a timestamp outside counts as the nearest within."""
cdef int64_t FIRST_MS = TIMESTAMP_MIN_MS
cdef int64_t LAST_MS = TIMESTAMP_MAX_MS

cdef object Record = step.Record


class CorruptBatchError(ValueError):
    """What a record batch says of itself is not so; ``fault`` is for ``Records.refused``."""

    def __init__(self, int fault):
        super().__init__(f"a record batch is not what it says it is: {DETAILS[fault]}")
        self.fault = fault


cdef struct Frame:
    # What a record's numbers are counted from, and what bounds them.
    int64_t first_offset
    int64_t first_ms
    int64_t append_ms
    int64_t last_delta
    int64_t delta  # of the record before
    bint bounded  # whether a key or value that is too large is refused; headers always are


cdef inline int64_t _within(int64_t ms) noexcept nogil:
    return min(max(ms, FIRST_MS), LAST_MS)


cdef inline int64_t _moment(int64_t first_ms, int64_t delta) noexcept nogil:
    """Their sum, within the years that there are; it may be none that 64 bits hold."""
    if delta > 0 and first_ms > INT64_MAX - delta:
        return LAST_MS
    if delta < 0 and first_ms < INT64_MIN - delta:
        return FIRST_MS
    return _within(first_ms + delta)


cdef inline int64_t _skip(Cursor* cursor) noexcept nogil:
    """Goes past a length and as many bytes; the length, -1 for none at all."""
    cdef int64_t length = read_varint(cursor)
    if length < -1 or length > cursor.end - cursor.at:
        cursor.damaged = True
        return -1
    cursor.at += max(length, <int64_t> 0)
    return length


cdef inline bint _headers_read(Cursor* cursor, Entry* entry) noexcept nogil:
    """Goes past a record's headers; whether they are whole."""
    cdef int64_t count = read_varint(cursor)
    cdef int64_t size = 0
    cdef int64_t i
    cdef int64_t length
    entry.header_count = 0
    entry.headers = cursor.at
    if count == 0 or cursor.damaged:
        return not cursor.damaged
    if count < 0 or count > cursor.end - cursor.at:
        return False
    for i in range(count):
        length = _skip(cursor)
        if length < 0:
            return False
        size += length + max(_skip(cursor), <int64_t> 0)
        if cursor.damaged:
            return False
    entry.header_count = <int32_t> min(count, <int64_t> HEADERS_MAX)
    if entry.fault == NO_FAULT and count > HEADERS_MAX:
        entry.fault, entry.size = HEADERS, count
    elif entry.fault == NO_FAULT and size > HEADER_BYTES_MAX:
        entry.fault, entry.size = HEADER_BYTES, size
    return True


cdef int _read(Cursor* batch, Entry* entry, Frame* frame) noexcept nogil:
    """Reads a record, and judges its size before anything is made of it; what is wrong with the batch, or NO_FAULT."""
    cdef int64_t inside = read_varint(batch)
    cdef Cursor cursor
    cdef int64_t delta
    cdef int64_t key_bytes
    cdef int64_t value_bytes
    if batch.damaged or inside < RECORD_BYTES_MIN - 1 or inside > batch.end - batch.at:
        return BATCH_RECORD
    cursor.at, cursor.end, cursor.damaged = batch.at + 1, batch.at + inside, False  # attributes: there are none yet
    batch.at = cursor.end
    entry.timestamp = _moment(frame.first_ms, read_varint(&cursor))
    if frame.append_ms >= 0:
        entry.timestamp = frame.append_ms
    delta = read_varint(&cursor)
    entry.fault, entry.size = NO_FAULT, inside
    key_bytes = _skip(&cursor)
    entry.key = cursor.at - max(key_bytes, <int64_t> 0)
    value_bytes = _skip(&cursor)
    entry.value = cursor.at - max(value_bytes, <int64_t> 0)
    if frame.bounded and value_bytes > VALUE_BYTES_MAX:
        entry.fault, entry.size = VALUE, value_bytes
    elif frame.bounded and key_bytes > KEY_BYTES_MAX:
        entry.fault, entry.size = KEY, key_bytes
    if not _headers_read(&cursor, entry) or cursor.damaged or cursor.at != cursor.end:
        return BATCH_RECORD
    if delta <= frame.delta or delta > frame.last_delta:
        return BATCH_OFFSETS
    frame.delta = delta
    entry.offset = frame.first_offset + delta
    entry.key_bytes, entry.value_bytes = <int32_t> key_bytes, <int32_t> value_bytes
    if entry.fault != NO_FAULT:
        entry.key_bytes = -1 if key_bytes > KEY_BYTES_MAX else <int32_t> key_bytes
        entry.value, entry.value_bytes = NULL, -1
        entry.headers, entry.header_count = NULL, 0
    return NO_FAULT


cdef class Batch:
    """The records of a batch, judged whole when this is made; gone through, it gives them in pieces.

    Each piece is of 65,536 records at most: what is kept of a record takes more memory than the smallest one.
    """

    cdef bytes data
    cdef Cursor cursor
    cdef Frame frame
    cdef Py_ssize_t left
    cdef Records first

    def __init__(
        self, bytes data, Py_ssize_t count, int64_t first_offset, int64_t last_delta, int64_t first_ms,
        int64_t append_ms=-1, bint bounded=True,
    ):
        """``data`` is what follows the batch's head, not compressed any more.

        Args:
            data: The records.
            count: How many.
            first_offset: Of the batch.
            last_delta: The last offset that the batch has, less the first.
            first_ms: Epoch ms, what timestamps are counted from.
            append_ms: Epoch ms, the timestamp of all of them where the broker's clock gives it; -1 where it does not.
            bounded: Whether records of larger keys and values than inputs may have are refused; headers always are.

        Raises:
            CorruptBatchError: it holds not so many whole records, or more; or their offsets are not within.
        """
        if first_offset < 0 or last_delta < 0 or first_offset > INT64_MAX - 1 - last_delta:
            raise CorruptBatchError(BATCH_HEAD)
        if not 0 <= count <= min(PyBytes_GET_SIZE(data) // RECORD_BYTES_MIN, <int64_t> last_delta + 1):
            raise CorruptBatchError(BATCH_COUNT)
        self.data, self.left, self.frame.bounded = data, count, bounded
        self._rewind(first_offset, last_delta, first_ms, _within(append_ms) if append_ms >= 0 else -1)
        if count <= PIECE_RECORDS_MAX:
            self.first = self._piece()
        else:
            self._judge()
            self._rewind(first_offset, last_delta, first_ms, self.frame.append_ms)

    cdef void _rewind(self, int64_t first_offset, int64_t last_delta, int64_t first_ms, int64_t append_ms) noexcept:
        self.cursor.at, self.cursor.damaged = PyBytes_AS_STRING(self.data), False
        self.cursor.end = self.cursor.at + PyBytes_GET_SIZE(self.data)
        self.frame.first_offset, self.frame.last_delta, self.frame.delta = first_offset, last_delta, -1
        self.frame.first_ms, self.frame.append_ms = first_ms, append_ms

    cdef int _judge(self) except -1:
        cdef Entry entry
        cdef int fault = NO_FAULT
        cdef Py_ssize_t i
        with nogil:
            for i in range(self.left):
                fault = _read(&self.cursor, &entry, &self.frame)
                if fault != NO_FAULT:
                    break
        if fault == NO_FAULT and self.cursor.at != self.cursor.end:
            fault = BATCH_REST
        if fault != NO_FAULT:
            raise CorruptBatchError(fault)
        return 0

    cdef Records _piece(self):
        cdef Records records = Records()
        cdef Py_ssize_t count = min(self.left, <Py_ssize_t> PIECE_RECORDS_MAX)
        cdef Py_ssize_t i
        cdef int fault
        cdef bint refused = False
        records.make_room(count)
        for i in range(count):
            fault = _read(&self.cursor, records.entries + i, &self.frame)
            if fault != NO_FAULT:
                raise CorruptBatchError(fault)
            refused |= records.entries[i].fault != NO_FAULT
        self.left -= count
        if self.left == 0 and self.cursor.at != self.cursor.end:
            raise CorruptBatchError(BATCH_REST)
        records.count = count
        records.owners.append(self.data)
        if refused:
            records.let_go()
        return records

    def __iter__(self):
        return self

    def __next__(self):
        cdef Records piece = self.first
        self.first = None
        if piece is None and self.left:
            piece = self._piece()
        if piece is None or not piece.count:
            raise StopIteration
        return piece


cdef class Records:
    """A sequence of records; made by ``Batch``, ``parsed``, ``refused`` or ``of``."""

    def __cinit__(self):
        self.owners = []

    def __dealloc__(self):
        free(self.entries)

    cdef int make_room(self, Py_ssize_t more) except -1:
        self.entries = <Entry*> with_room(self.entries, &self.room, self.count + more, ROOM_FIRST, sizeof(Entry))
        return 0

    cdef int let_go(self) except -1:
        """Keeps of the memory below only what the records still have of it: what was refused may be all of it."""
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t i
        cdef bytes kept
        cdef char* to
        for i in range(self.count):
            size += _kept_bytes(self.entries + i)
        kept = PyBytes_FromStringAndSize(NULL, size)
        to = PyBytes_AS_STRING(kept)
        for i in range(self.count):
            to = _move(self.entries + i, to)
        self.owners = [kept]
        return 0

    @staticmethod
    def parsed(bytes data, Py_ssize_t count, int64_t first_offset, int64_t first_ms, int64_t append_ms=-1):
        """The records of a batch that has an offset for each and no more; for the rest as ``Batch``.

        Raises:
            CorruptBatchError: it holds not so many whole records, or more.
        """
        cdef Records records = Records()
        for piece in Batch(data, count, first_offset, max(count - 1, 0), first_ms, append_ms):
            records.extend(piece)
        return records

    @staticmethod
    def refused(int64_t offset, int64_t timestamp_ms, int fault, int64_t count):
        """One entry instead of the records of a batch.

        Args:
            offset: The batch's first one.
            timestamp_ms: Epoch ms.
            fault: What is wrong with it.
            count: How many records it says that it holds.
        """
        cdef Records records = Records()
        if fault not in DETAILS:
            raise ValueError(fault)
        records.make_room(1)
        cdef Entry* entry = records.entries
        entry.offset, entry.timestamp = offset, _within(timestamp_ms)
        entry.key, entry.value, entry.headers = NULL, NULL, NULL
        entry.key_bytes, entry.value_bytes, entry.header_count = -1, -1, 0
        entry.fault, entry.size = fault, count
        records.count = 1
        return records

    @staticmethod
    def of(given):
        """The same records, read where they lie where they are objects yet."""
        cdef Records records
        cdef Entry* entry
        if isinstance(given, Records):
            return given
        records = Records()
        records.objects = list(given)
        records.make_room(len(records.objects))
        for record in records.objects:
            key, value = record.key, record.value
            if not (key is None or PyBytes_CheckExact(key)) or not (value is None or PyBytes_CheckExact(value)):
                raise TypeError("keys and values of records are bytes")
            entry = records.entries + records.count
            entry.offset, entry.timestamp = record.offset, record.timestamp
            entry.key = NULL if key is None else PyBytes_AS_STRING(key)
            entry.key_bytes = -1 if key is None else <int32_t> PyBytes_GET_SIZE(key)
            entry.value = NULL if value is None else PyBytes_AS_STRING(value)
            entry.value_bytes = -1 if value is None else <int32_t> PyBytes_GET_SIZE(value)
            entry.headers, entry.header_count = NULL, <int32_t> len(record.headers)
            entry.size = max(entry.key_bytes, 0) + max(entry.value_bytes, 0)
            entry.fault = NO_FAULT if record.fault is None else OF_OBJECT
            records.owners.append((key, value))  # an object may make them anew each time it is asked
            records.count += 1
        return records

    def __len__(self):
        return self.count

    def __getitem__(self, Py_ssize_t index):
        if index < 0:
            index += self.count
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.record(index)

    cdef object record(self, Py_ssize_t index):
        cdef Entry* entry = self.entries + index
        if self.objects is not None:
            return self.objects[index]
        return Record(
            entry.offset, entry.timestamp, text_or_none(entry.key, entry.key_bytes),
            text_or_none(entry.value, entry.value_bytes), _headers(entry), _fault(entry),
        )

    def part(self, Py_ssize_t start, Py_ssize_t stop):
        """The records from ``start`` on, before ``stop``."""
        cdef Records records = Records()
        start, stop = min(max(start, 0), self.count), min(max(stop, 0), self.count)
        stop = max(start, stop)
        records.make_room(stop - start)
        memcpy(records.entries, self.entries + start, (stop - start) * sizeof(Entry))
        records.count, records.owners = stop - start, list(self.owners)
        if self.objects is not None:
            records.objects = self.objects[start:stop]
        return records

    def extend(self, Records others):
        """Adds the records that follow."""
        if (self.objects is None) != (others.objects is None):
            raise TypeError("records that were fetched and records that were made of objects")
        self.make_room(others.count)
        memcpy(self.entries + self.count, others.entries, others.count * sizeof(Entry))
        self.count += others.count
        cdef object last = self.owners[len(self.owners) - 1] if self.owners else None
        for owner in others.owners:
            if owner is not last:
                self.owners.append(owner)
        if self.objects is not None:
            self.objects.extend(others.objects)

    def fitting(self, Py_ssize_t start, Py_ssize_t records_max, Py_ssize_t bytes_max):
        """Where a part that begins at ``start`` ends, and how many bytes its records take.

        It ends with the record that makes it ``records_max`` records or ``bytes_max`` bytes, or with the last one.
        """
        cdef Py_ssize_t stop = start
        cdef Py_ssize_t size = 0
        while stop < self.count and stop - start < records_max and size < bytes_max:
            if self.entries[stop].fault == NO_FAULT:
                size += self.entries[stop].size
            stop += 1
        return stop, size

    def distinct_keys(self):
        """The keys that there are, each once, in the order in which they first come; no key is an empty one."""
        cdef Py_ssize_t i
        cdef dict found = {}
        for i in range(self.count):
            found[self.entries[i].key[: max(self.entries[i].key_bytes, 0)]] = None
        return list(found)


def newest_ms(given):
    """The newest timestamp of a batch, epoch ms; ``KAFKA_TIMESTAMP_MIN_MS`` where there is no record."""
    cdef Records records = Records.of(given)
    cdef int64_t newest = records.entries[0].timestamp if records.count else step.KAFKA_TIMESTAMP_MIN_MS
    cdef Py_ssize_t i
    for i in range(records.count):
        newest = max(newest, records.entries[i].timestamp)
    return newest


cdef _fault(Entry* entry):
    if entry.fault == NO_FAULT:
        return None
    detail = (<str> DETAILS[entry.fault]).format(entry.size)
    if entry.fault <= HEADER_BYTES:
        return step.Fault(reasons.OVERSIZED, detail)
    reason = reasons.OVERSIZED if entry.fault == BATCH_INFLATED else reasons.CORRUPT_BATCH
    return step.Fault(reason, f"the record batch at offset {entry.offset} of {entry.size} records, as it says: {detail}")


cdef inline Py_ssize_t _header_bytes(Entry* entry) noexcept:
    """How much memory the headers take as they are written."""
    cdef Cursor cursor
    cdef int32_t i
    cursor.at, cursor.damaged = entry.headers, False
    cursor.end = cursor.at + PIECE_RECORDS_MAX
    for i in range(2 * entry.header_count):
        _skip(&cursor)
    return cursor.at - entry.headers


cdef inline Py_ssize_t _kept_bytes(Entry* entry) noexcept:
    return max(entry.key_bytes, 0) + max(entry.value_bytes, 0) + (_header_bytes(entry) if entry.header_count else 0)


cdef inline char* _move(Entry* entry, char* to) noexcept:
    """Writes what an entry has to ``to``, and has it there; returns where that ends."""
    cdef Py_ssize_t length
    if entry.key_bytes > 0:
        memcpy(to, entry.key, entry.key_bytes)
    entry.key = to
    to += max(entry.key_bytes, 0)
    if entry.value_bytes > 0:
        memcpy(to, entry.value, entry.value_bytes)
    entry.value = to
    to += max(entry.value_bytes, 0)
    length = _header_bytes(entry) if entry.header_count else 0
    if length:
        memcpy(to, entry.headers, length)
    entry.headers = to
    return to + length


cdef _headers(Entry* entry):
    cdef Cursor cursor
    cursor.at, cursor.damaged = entry.headers, False
    cursor.end = cursor.at + (<size_t> 1 << 40)  # they were read once: they end where they did then
    return read_headers(&cursor, entry.header_count) if entry.header_count else ()
