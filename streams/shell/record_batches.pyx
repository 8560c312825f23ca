# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Records as Kafka's record batches hold them (message format 2), before compression: no I/O, no clock.

A step makes some tens of thousands of records; each is written once, to where it will be sent from. Keys without a
partition go where Kafka's own partitioner (murmur2) sends them. ``tests/pipeline/test_record_batches.py`` reads
everything back with aiokafka's reader, and holds it to aiokafka's writer byte for byte.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from streams.core.outbox cimport Outbox, Outgoing, Piece
from streams.core.raw cimport murmur2, with_room
from streams.core.varints cimport VARINT_BYTES_MAX, put_sized, put_varint, varint_bytes

cdef enum:
    ROOM_BYTES_FIRST = 2048

cdef const char* NO_HEADERS = b"\0"  # their number


cdef class Written:
    """Records as they were written, in the memory that they were written to: whatever takes a buffer takes it."""

    cdef char* data
    cdef Py_ssize_t size

    def __dealloc__(self):
        free(self.data)

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, True, flags)


Section = tuple[int, int, int, int, Written]


cdef struct Growing:
    char* data
    Py_ssize_t size
    Py_ssize_t room
    int32_t records
    int64_t first_ms
    int64_t newest_ms


cdef class Packing:
    """The records of one topic in one transaction, partition by partition, in the order in which they were added.

    Args:
        partitions: How many the topic has.
        bytes_max: A section that would grow beyond this is closed, and the partition begins another one.
    """

    cdef Growing* sections
    cdef int partitions
    cdef Py_ssize_t bytes_max
    cdef list closed

    def __cinit__(self, int partitions, Py_ssize_t bytes_max):
        self.sections = <Growing*> calloc(partitions, sizeof(Growing))
        if not self.sections:
            raise MemoryError
        self.partitions, self.bytes_max, self.closed = partitions, bytes_max, []

    def __dealloc__(self):
        cdef int i
        if self.sections:
            for i in range(self.partitions):
                free(self.sections[i].data)
            free(self.sections)

    def add(self, messages):
        """Adds records: an ``Outbox``, or messages of which one is made."""
        cdef Outbox box
        if isinstance(messages, Outbox):
            box = messages
        else:
            box = Outbox()
            box.extend(messages)
        cdef Py_ssize_t at = 0
        cdef Piece piece
        cdef Outgoing* head
        while at < box.size:
            at = box.take(at, &piece)
            head = piece.head
            self._add(
                piece.key, head.key_bytes, piece.value, head.value_bytes, head.partition, head.timestamp,
                piece.headers if head.header_bytes else NO_HEADERS, max(head.header_bytes, 1),
            )

    def add_changes(self, dict changes, int32_t partition, int64_t timestamp_ms):
        """Adds a record for each key and value, all to one partition."""
        cdef bytes key, value
        for key, value in changes.items():
            self._add(
                PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), NULL if value is None else PyBytes_AS_STRING(value),
                -1 if value is None else PyBytes_GET_SIZE(value), partition, timestamp_ms, NO_HEADERS, 1,
            )

    cdef int _add(
        self, const char* key, Py_ssize_t key_bytes, const char* value, Py_ssize_t value_bytes, int32_t partition,
        int64_t timestamp_ms, const char* headers, Py_ssize_t header_bytes,
    ) except -1:
        cdef Py_ssize_t inside
        cdef Growing* section
        cdef char* to
        if partition < 0:
            if key_bytes < 0:
                raise ValueError("a record without a key goes to no partition by itself")
            partition = <int32_t> ((murmur2(key, key_bytes) & 0x7FFFFFFF) % <uint32_t> self.partitions)
        if partition >= self.partitions:
            raise ValueError(f"partition {partition} of {self.partitions}")
        section = self.sections + partition
        if section.records and section.size + max(key_bytes, 0) + max(value_bytes, 0) + header_bytes > self.bytes_max:
            self._close(partition)
        if section.records == 0:
            section.first_ms = section.newest_ms = timestamp_ms
        inside = (
            1 + varint_bytes(timestamp_ms - section.first_ms) + varint_bytes(section.records)
            + varint_bytes(key_bytes) + max(key_bytes, 0) + varint_bytes(value_bytes) + max(value_bytes, 0) + header_bytes
        )
        section.data = <char*> with_room(
            section.data, &section.room, section.size + inside + VARINT_BYTES_MAX, ROOM_BYTES_FIRST, 1
        )
        to = put_varint(section.data + section.size, inside)
        to[0] = 0
        to = put_varint(put_varint(to + 1, timestamp_ms - section.first_ms), section.records)
        to = put_sized(put_sized(to, key, key_bytes), value, value_bytes)
        memcpy(to, headers, header_bytes)
        section.size = to + header_bytes - section.data
        section.records += 1
        section.newest_ms = max(section.newest_ms, timestamp_ms)
        return 0

    cdef int _close(self, int partition) except -1:
        cdef Growing* section = self.sections + partition
        cdef Written written = Written()
        cdef int32_t records = section.records
        written.data, written.size = section.data, section.size
        # Given up before anything else can fail: it must not be freed twice.
        section.data, section.size, section.room, section.records = NULL, 0, 0, 0
        self.closed.append((partition, records, section.first_ms, section.newest_ms, written))
        return 0

    def sections_of(self):
        """What was added: (partition, records, first and newest timestamp, a buffer) each, of a partition in order."""
        cdef int i
        for i in range(self.partitions):
            if self.sections[i].records:
                self._close(i)
        done, self.closed = self.closed, []
        return done
