"""Keys that an adversary makes up so that a table of hashes is as slow as it can be: all of them have one hash."""

from itertools import islice, product
from typing import Final
from zlib import crc32

import numpy as np

_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_BITS: Final = 0xFFFFFFFF
_STAGE_BYTES: Final = 16


def persons(count: int) -> list[str]:
    """Person ids (32 hex digits) of one murmur2 hash: any of the halves found first fits any of those found second."""
    state = _SEED ^ 2 * _STAGE_BYTES
    halves = []
    for _ in range(2):
        found, state = _halves(state, int(count**0.5) + 1)
        halves.append(found)
    return [first + second for first, second in islice(product(*halves), count)]


def venues(count: int) -> list[bytes]:
    """Venue ids of one CRC-32: a sum that is linear in the bits of what it is of."""
    length, flips = 36, (2, 4)  # of A: C, E and G
    base = bytearray(b"A" * length)
    basis: dict[int, tuple[int, int]] = {}
    free: list[int] = []
    for number, (place, flip) in enumerate(product(range(length), flips)):
        base[place] ^= flip
        change, taken = crc32(base) ^ crc32(b"A" * length), 1 << number
        base[place] ^= flip
        while change and (highest := change.bit_length()) in basis:
            change, taken = change ^ basis[highest][0], taken ^ basis[highest][1]
        if change:
            basis[change.bit_length()] = change, taken
        else:
            free.append(taken)
    ids = [0]
    for taken in free:
        if len(ids) < count:
            ids += [known ^ taken for known in ids]
    return [_flipped(length, flips, taken) for taken in ids[:count]]


def _flipped(length: int, flips: tuple[int, ...], taken: int) -> bytes:
    result = bytearray(b"A" * length)
    for number, (place, flip) in enumerate(product(range(length), flips)):
        if taken >> number & 1:
            result[place] ^= flip
    return bytes(result)


def _mixed(blocks: "np.ndarray[tuple[int], np.dtype[np.uint32]]") -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
    k = blocks * np.uint32(_M)
    return (k ^ (k >> np.uint32(24))) * np.uint32(_M)


def _halves(state: int, count: int) -> tuple[list[str], int]:
    """(16 hex digits each, the state that all of them bring murmur2 from ``state`` to)."""
    texts = ["".join(digits) for digits in product("0123456789abcdef", repeat=4)]
    blocks = np.frombuffer("".join(texts).encode(), np.uint32)
    mixed = _mixed(blocks)
    pairs = np.zeros(1 << 16, bool)
    pairs[np.frombuffer("".join(texts).encode(), np.uint16)] = True
    unmix = np.uint32(pow(_M, -1, 1 << 32))
    goal, found = 0x12345678, []
    start = (state * _M & _BITS) ^ int(mixed[0])
    for first in range(len(texts)):
        begun = (start * _M & _BITS) ^ int(mixed[first])
        k = np.uint32(goal) ^ ((np.uint32(begun * _M & _BITS) ^ mixed) * np.uint32(_M))
        k = k * unmix
        k = (k ^ (k >> np.uint32(24))) * unmix
        for second in np.flatnonzero(pairs[k & np.uint32(0xFFFF)] & pairs[k >> np.uint32(16)]):
            third = int(k[second]).to_bytes(4, "little").decode()
            found.append(texts[0] + texts[first] + texts[second] + third)
        if len(found) >= count:
            break
    return found, goal
