"""Kafka's default partitioner (murmur2), for one key and for whole columns of 32-byte keys."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_PERSON_KEY_BYTES = 32


def murmur2(data: bytes) -> int:
    """murmur2 of ``data`` as Kafka's Java client computes it, as an unsigned 32-bit integer."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of ``key`` among ``partitions``: what every producer of the project uses."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_of_persons(keys: Sequence[bytes], partitions: int) -> NDArray[np.int64]:
    """``partition_of`` for many keys of exactly 32 bytes at once (a person_id in hex); shape (n,)."""
    words = np.frombuffer(b"".join(keys), dtype="<u4").reshape(len(keys), _PERSON_KEY_BYTES // 4)
    m = np.uint32(_M)
    h = np.full(len(keys), _SEED ^ _PERSON_KEY_BYTES, dtype=np.uint32)
    with np.errstate(over="ignore"):
        for column in range(_PERSON_KEY_BYTES // 4):
            k = words[:, column] * m
            k = (k ^ (k >> np.uint32(24))) * m
            h = (h * m) ^ k
        h = (h ^ (h >> np.uint32(13))) * m
        h ^= h >> np.uint32(15)
    return (h & np.uint32(0x7FFFFFFF)).astype(np.int64) % partitions
