"""Compressed record batches, inflated as far as a bound and no further: what a frame declares is its sender's word."""

import zlib
from collections.abc import Callable
from typing import Final

import cramjam
import lz4.frame
import numpy as np

from streams.core.records import COMPRESSION, FRAME, INFLATED, CorruptBatchError

INFLATED_BYTES_MAX: Final = 64 * 1024 * 1024
_FRAMES_MAX: Final = 16
"""Nobody writes a batch in more than one; each costs a call."""
_LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
_LZ4_HAS_SIZE: Final = 0x08
_LZ4_RATIO_MAX: Final = 255
_LZ4_SIZE_FROM: Final = 6
_LZ4_SIZE_TO: Final = 14
_GZIP_WINDOW: Final = 31
_XERIAL_MAGIC: Final = b"\x82SNAPPY\0"
_XERIAL_HEAD_BYTES: Final = 16
_XERIAL_BLOCKS_MAX: Final = 4096
"""Twice as many as 64 MiB have, in the 32 KiB that everybody writes."""
_LENGTH_BYTES: Final = 4


def inflated(compression: int, packed: memoryview) -> bytes:
    """What ``packed`` holds, by the number that a record batch has for its compression.

    Raises:
        CorruptBatchError: it is damaged, or more than 64 MiB, or the number stands for nothing.
    """
    inflate = _WAYS.get(compression)
    if inflate is None:
        raise CorruptBatchError(COMPRESSION)
    try:
        return inflate(packed)
    except CorruptBatchError:
        raise
    except (ValueError, RuntimeError, EOFError, zlib.error, cramjam.DecompressionError) as error:
        raise CorruptBatchError(FRAME) from error


def _gzip(packed: memoryview | bytes) -> bytes:
    parts, left = list[bytes](), INFLATED_BYTES_MAX
    for _ in range(_FRAMES_MAX):
        stream = zlib.decompressobj(_GZIP_WINDOW)
        part = stream.decompress(packed, left + 1)
        left = _less(left, len(part))
        if not stream.eof:
            break
        parts.append(part)
        packed = stream.unused_data
        if not packed:
            return b"".join(parts)
    raise CorruptBatchError(FRAME)


def _lz4(packed: memoryview) -> bytes:
    """Most batches in one go, since no block of such a size can hold more than the bound."""
    if bytes(packed[:4]) != _LZ4_MAGIC or len(packed) < _LZ4_SIZE_FROM:
        raise CorruptBatchError(FRAME)
    declared = int.from_bytes(packed[_LZ4_SIZE_FROM:_LZ4_SIZE_TO], "little") if packed[4] & _LZ4_HAS_SIZE else 0
    most = len(packed) * _LZ4_RATIO_MAX
    if most > INFLATED_BYTES_MAX or declared > most:
        return _lz4_frames(packed)
    # Lets other threads run, which aiokafka's own way does not.
    data, taken = lz4.frame.decompress(packed, return_bytes_read=True)
    return bytes(data) if taken == len(packed) else _lz4_frames(packed)


def _lz4_frames(packed: memoryview | bytes) -> bytes:
    parts, left = list[bytes](), INFLATED_BYTES_MAX
    for _ in range(_FRAMES_MAX):
        stream = lz4.frame.LZ4FrameDecompressor()
        part = stream.decompress(packed, max_length=left + 1)
        left = _less(left, len(part))
        if not stream.eof:
            break
        parts.append(part)
        packed = stream.unused_data
        if not packed:
            return b"".join(parts)
    raise CorruptBatchError(FRAME)


def _zstd(packed: memoryview) -> bytes:
    # Memory that is not written to costs nothing.
    room = np.empty(INFLATED_BYTES_MAX, np.uint8)
    try:
        size = cramjam.zstd.decompress_into(packed, room.data)
    except cramjam.DecompressionError as error:
        raise CorruptBatchError(INFLATED if "write whole buffer" in str(error) else FRAME) from error
    return room[:size].tobytes()


def _snappy(packed: memoryview) -> bytes:
    """One block, or many after each other in the frame that Java's clients write."""
    if bytes(packed[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        return _snappy_block(packed, INFLATED_BYTES_MAX)
    parts, left, at = list[bytes](), INFLATED_BYTES_MAX, _XERIAL_HEAD_BYTES
    while at < len(packed):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(packed[at:start], "big")
        if at > len(packed) or len(parts) == _XERIAL_BLOCKS_MAX:
            raise CorruptBatchError(FRAME)
        parts.append(_snappy_block(packed[start:at], left))
        left -= len(parts[-1])
    return b"".join(parts)


def _snappy_block(packed: memoryview, most: int) -> bytes:
    # Here a block that is not as long as it declares is refused by who inflates it.
    _less(most, cramjam.snappy.decompress_raw_len(packed))
    return bytes(cramjam.snappy.decompress_raw(packed))


def _less(left: int, size: int) -> int:
    if size > left:
        raise CorruptBatchError(INFLATED)
    return left - size


_WAYS: Final[dict[int, Callable[[memoryview], bytes]]] = {0: bytes, 1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
"""By compression, as a batch names it."""
