# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""Hashes of short keys: Kafka's partitioner for many keys at once, and one that nobody can aim at.

``KeyedHash`` is SipHash-1-3, as Python's own dictionaries use it: who does not know its secret cannot choose keys that
fall on each other. The secret is handed in, and no output may depend on it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from streams.core.raw cimport murmur2

SECRET_BYTES = 16


def partitions_of(keys, uint32_t partitions):
    """``partition_of`` of each key, in their order; a key that is None or empty hashes as the empty one."""
    cdef list found = []
    cdef bytes key
    for one in keys:
        key = one or b""
        found.append((murmur2(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)) & 0x7FFFFFFF) % partitions)
    return found


cdef inline uint64_t rotated(uint64_t word, int bits) noexcept nogil:
    return (word << bits) | (word >> (64 - bits))


cdef inline void mixed(uint64_t* v) noexcept nogil:
    """One round."""
    v[0] += v[1]
    v[2] += v[3]
    v[1] = rotated(v[1], 13) ^ v[0]
    v[3] = rotated(v[3], 16) ^ v[2]
    v[0] = rotated(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = rotated(v[1], 17) ^ v[2]
    v[3] = rotated(v[3], 21) ^ v[0]
    v[2] = rotated(v[2], 32)


cdef class KeyedHash:
    """A function from keys to numbers of 64 bits, one for each secret."""

    cdef uint64_t first
    cdef uint64_t second

    def __init__(self, bytes secret):
        """``secret`` has 16 bytes.

        Raises:
            ValueError: it has another length.
        """
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret of {len(secret)} bytes")
        memcpy(&self.first, PyBytes_AS_STRING(secret), 8)
        memcpy(&self.second, PyBytes_AS_STRING(secret) + 8, 8)

    def __call__(self, bytes key not None):
        cdef const char* data = PyBytes_AS_STRING(key)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(key)
        cdef Py_ssize_t at
        cdef uint64_t v[4]
        cdef uint64_t word
        v[0] = self.first ^ <uint64_t> 0x736F6D6570736575
        v[1] = self.second ^ <uint64_t> 0x646F72616E646F6D
        v[2] = self.first ^ <uint64_t> 0x6C7967656E657261
        v[3] = self.second ^ <uint64_t> 0x7465646279746573
        for at in range(0, length - 7, 8):
            memcpy(&word, data + at, 8)
            v[3] ^= word
            mixed(v)
            v[0] ^= word
        word = 0
        memcpy(&word, data + (length & ~7), length & 7)
        word |= <uint64_t> <uint8_t> length << 56
        v[3] ^= word
        mixed(v)
        v[0] ^= word
        v[2] ^= 0xFF
        mixed(v)
        mixed(v)
        mixed(v)
        return v[0] ^ v[1] ^ v[2] ^ v[3]
