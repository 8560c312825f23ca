# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Records that follow each other in one partition, read where they lie: a step makes objects of the few it asks for.

A record batch (Kafka's message format 2) holds thousands of records in one piece of memory. Four objects for each of
them cost as much as all that a room does with a plain scan. Compiled code takes ``Entry`` by ``Entry``; to everybody
else this is a sequence of ``step.Record``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from streams.core import step
from streams.core.raw cimport with_room
from streams.core.varints cimport Cursor, read_headers, read_sized, read_varint, text_or_none

cdef enum:
    ROOM_FIRST = 16

cdef object Record = step.Record


cdef bint _read(Cursor* cursor, Entry* entry, int64_t first_offset, int64_t first_ms) noexcept nogil:
    """Reads a record; False where it is damaged."""
    cdef int64_t inside = read_varint(cursor)
    cdef const char* end = cursor.at + inside
    cdef int32_t length
    cdef int32_t i
    if cursor.damaged or inside < 1 or inside > cursor.end - cursor.at:
        return False
    cursor.at += 1  # attributes, of which there are none yet
    entry.timestamp = first_ms + read_varint(cursor)
    entry.offset = first_offset + read_varint(cursor)
    entry.key = read_sized(cursor, &entry.key_bytes)
    entry.value = read_sized(cursor, &entry.value_bytes)
    entry.header_count = <int32_t> read_varint(cursor)
    entry.headers = cursor.at
    for i in range(entry.header_count):
        read_sized(cursor, &length)
        if length < 0 or cursor.damaged:
            return False
        read_sized(cursor, &length)
    return not cursor.damaged and entry.header_count >= 0 and cursor.at == end


cdef class Records:
    """A sequence of records; made by ``parsed`` or ``of``."""

    def __cinit__(self):
        self.owners = []

    def __dealloc__(self):
        free(self.entries)

    cdef int make_room(self, Py_ssize_t more) except -1:
        self.entries = <Entry*> with_room(self.entries, &self.room, self.count + more, ROOM_FIRST, sizeof(Entry))
        return 0

    @staticmethod
    def parsed(bytes data, Py_ssize_t count, int64_t first_offset, int64_t first_ms, int64_t append_ms=-1):
        """The records of a batch: ``data`` is what follows its head, not compressed any more.

        Args:
            data: The records.
            count: How many.
            first_offset: Of the batch.
            first_ms: Epoch ms, what timestamps are counted from.
            append_ms: Epoch ms, the timestamp of all of them where the broker's clock gives it; -1 where it does not.

        Raises:
            ValueError: it holds not so many whole records, or more.
        """
        cdef Records records = Records()
        cdef Cursor cursor
        cdef Py_ssize_t i
        cursor.at, cursor.damaged = PyBytes_AS_STRING(data), False
        cursor.end = cursor.at + PyBytes_GET_SIZE(data)
        if not 0 <= count <= PyBytes_GET_SIZE(data):
            raise ValueError("a record batch says how many records it holds, and lies")
        records.make_room(count)
        records.owners.append(data)
        for i in range(count):
            if not _read(&cursor, records.entries + i, first_offset, first_ms):
                raise ValueError("a record of a record batch is damaged")
            if append_ms >= 0:
                records.entries[i].timestamp = append_ms
        if cursor.at != cursor.end:
            raise ValueError("a record batch goes on after its last record")
        records.count = count
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
            text_or_none(entry.value, entry.value_bytes), _headers(entry),
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
        """Where a part that begins at ``start`` ends, and how many bytes its values take.

        It ends with the record that makes it ``records_max`` records or ``bytes_max`` bytes, or with the last one.
        """
        cdef Py_ssize_t stop = start
        cdef Py_ssize_t size = 0
        while stop < self.count and stop - start < records_max and size < bytes_max:
            size += max(self.entries[stop].value_bytes, 0)
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


cdef _headers(Entry* entry):
    cdef Cursor cursor
    cursor.at, cursor.damaged = entry.headers, False
    cursor.end = cursor.at + (<size_t> 1 << 40)  # they were read once: they end where they did then
    return read_headers(&cursor, entry.header_count) if entry.header_count else ()
