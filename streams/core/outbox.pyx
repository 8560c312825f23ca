# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""What a step sends, in one piece of memory a topic: no object is made of a record between a scan and its batch.

To everybody but compiled code an ``Outbox`` is a list of ``step.Message`` that can be appended to, and ``Headed`` one of
``step.HeadedMessage``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from streams.core.raw cimport with_room
from streams.core.varints cimport VARINT_BYTES_MAX, Cursor, put_varint, read_headers, read_varint, text_or_none

cdef enum:
    ROOM_BYTES_FIRST = 4096


cdef class Outbox:
    """Records for one topic, in the order in which they were added."""

    def __dealloc__(self):
        free(self.data)

    cdef int put(
        self, const char* key, Py_ssize_t key_bytes, const char* value, Py_ssize_t value_bytes,
        const char* headers, Py_ssize_t header_bytes, int32_t partition, int64_t timestamp_ms,
    ) except -1:
        """Adds a record; lengths of -1 where there is no key or no value, ``headers`` as Kafka's records hold them."""
        cdef Py_ssize_t more = sizeof(Outgoing) + max(key_bytes, 0) + max(value_bytes, 0) + header_bytes + 7
        cdef char* to
        cdef Outgoing* head
        self.data = <char*> with_room(self.data, &self.room, self.size + more, ROOM_BYTES_FIRST, 1)
        head = <Outgoing*> (self.data + self.size)
        head.timestamp, head.partition = timestamp_ms, partition
        head.key_bytes, head.value_bytes, head.header_bytes = key_bytes, value_bytes, header_bytes
        to = <char*> (head + 1)
        if key_bytes > 0:
            memcpy(to, key, key_bytes)
            to += key_bytes
        if value_bytes > 0:
            memcpy(to, value, value_bytes)
            to += value_bytes
        if header_bytes > 0:
            memcpy(to, headers, header_bytes)
            to += header_bytes
        while (to - self.data) & 7:  # the next one's numbers stand where processors like them, and nothing is left unset
            to[0] = 0
            to += 1
        self.size = to - self.data
        self.count += 1
        return 0

    cdef Py_ssize_t take(self, Py_ssize_t at, Piece* piece) noexcept:
        """Finds the record that begins at ``at``; where the next one does."""
        piece.head = <Outgoing*> (self.data + at)
        piece.key = <const char*> (piece.head + 1)
        piece.value = piece.key + max(piece.head.key_bytes, 0)
        piece.headers = piece.value + max(piece.head.value_bytes, 0)
        return (piece.headers + piece.head.header_bytes - self.data + 7) & ~7

    def append(self, message, bytes headers=b""):
        """Adds (key, value, partition, timestamp in epoch ms)."""
        cdef bytes key = message[0]
        cdef bytes value = message[1]
        self.put(
            NULL if key is None else PyBytes_AS_STRING(key), -1 if key is None else PyBytes_GET_SIZE(key),
            NULL if value is None else PyBytes_AS_STRING(value), -1 if value is None else PyBytes_GET_SIZE(value),
            PyBytes_AS_STRING(headers), PyBytes_GET_SIZE(headers), message[2], message[3],
        )

    def extend(self, messages):
        """Adds several."""
        for message in messages:
            self.append(message)

    def __len__(self):
        return self.count

    def __iter__(self):
        for message, _ in self.with_headers():
            yield message

    def with_headers(self):
        """The records, each with its headers."""
        cdef Py_ssize_t at = 0
        cdef Piece piece
        cdef Outgoing* head
        while at < self.size:
            at = self.take(at, &piece)
            head = piece.head
            yield (
                (
                    text_or_none(piece.key, head.key_bytes), text_or_none(piece.value, head.value_bytes),
                    head.partition, head.timestamp,
                ),
                _headers(piece.headers, head.header_bytes),
            )

    def __eq__(self, other):
        cdef Outbox another
        if not isinstance(other, Outbox):
            return NotImplemented
        another = other
        return self.size == another.size and memcmp(self.data, another.data, self.size) == 0

    __hash__ = None


cdef class Headed:
    """Records with headers, for whichever topics."""

    def __cinit__(self):
        self.topics = {}

    cdef Outbox of(self, topic):
        box = self.topics.get(topic)
        if box is None:
            box = self.topics[topic] = Outbox()
        return <Outbox> box

    def append(self, message):
        """Adds a ``HeadedMessage``."""
        self.of(message.topic).append(
            (message.key, message.value, message.partition, message.timestamp), _packed(message.headers)
        )

    def __len__(self):
        return sum([len(box) for box in self.topics.values()])

    def __iter__(self):
        from streams.core.step import HeadedMessage  # which itself holds one of these

        for topic, box in self.topics.items():
            for (key, value, partition, timestamp_ms), headers in box.with_headers():
                yield HeadedMessage(topic, partition, key, value, timestamp_ms, headers)


cdef bytes _packed(headers):
    """Headers as Kafka's records hold them: how many, then name and value of each."""
    cdef char number[VARINT_BYTES_MAX]
    cdef list parts = [number[: put_varint(number, len(headers)) - number]]
    for name, value in headers:
        for part in (name.encode(), value):
            parts.append(number[: put_varint(number, -1 if part is None else len(part)) - number])
            if part is not None:
                parts.append(part)
    return b"".join(parts)


cdef list _headers(const char* packed, Py_ssize_t length):
    cdef Cursor cursor
    cursor.at, cursor.end, cursor.damaged = packed, packed + length, False
    return read_headers(&cursor, read_varint(&cursor)) if length else []
