"""Record batches byte by byte: whole ones, forged ones, and bombs."""

import gzip
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import cramjam
import lz4.frame
from aiokafka.record._crecords import DefaultRecordBatch
from crc32c import crc32c

from streams.core.records import Records, newest_ms
from tests.fuzz import events
from tests.fuzz.calls import Answer, Call, FaultError, Reader
from tests.fuzz.chance import Chance
from tests.fuzz.events import HOSTILE, ONE, SEVERAL, VALID
from tests.fuzz.gates import judged

HEAD: Final = struct.Struct(">qiibIhiqqqhii")
_SUMMED: Final = struct.Struct(">hiqqqhii")
_BOMB_BYTES_MAX: Final = 512 * 1024 * 1024
_MASK: Final = (1 << 64) - 1
_RECORD: Final = "record"
_EMPTY: Final = "empty"
_LOOKED_AT_MAX: Final = 1_000
_WAYS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
_NUMBERS: Final = (-(2**63), -(2**31), -1, 0, 1, 61, 5_000, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1)


def varint(number: int) -> bytes:
    """A number as records hold it."""
    rest = (number << 1 ^ number >> 63) & _MASK
    if rest < 0x80:
        return bytes((rest,))
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def sized(text: bytes | None) -> bytes:
    """A length and as many bytes."""
    return b"\x01" if text is None else varint(len(text)) + text


def record_bytes(
    delta: int, later_ms: int, key: bytes | None, value: bytes | None, headers: Sequence[Any] = ()
) -> bytes:
    """A record as a batch holds it."""
    inside = b"\0%b%b%b%b%b" % (varint(later_ms), varint(delta), sized(key), sized(value), varint(len(headers)))
    for name, content in headers:
        inside += sized(name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")) + sized(content)
    return varint(len(inside)) + inside


def compressed(way: int, data: bytes) -> bytes:
    """What a batch holds, compressed."""
    if way == 1:
        return gzip.compress(data, 1)
    if way == 2:
        return bytes(cramjam.snappy.compress_raw(data))
    if way == 3:
        return bytes(lz4.frame.compress(data))
    return bytes(cramjam.zstd.compress(data, 1)) if way == 4 else data


def written(head: dict[str, int], packed: bytes) -> bytes:
    """A batch; ``head`` names what is not as it should be, or has no default: count and last."""
    body = _SUMMED.pack(
        *(head.get("attributes", 0), head["last"], head.get("first_ms", 0), head.get("max_ms", 0)),
        *(-1, -1, -1, head["count"]),
    )
    crc = (crc32c(body + packed) + head.get("crc", 0)) & 0xFFFFFFFF
    length = 4 + 1 + 4 + len(body) + len(packed) + head.get("length", 0)
    return struct.pack(">qiibI", head.get("base", 0), length, 0, head.get("magic", 2), crc) + body + packed


def _wrapped(number: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return (number + half) % (1 << bits) - half


def made(chance: Chance) -> tuple[bytes, str, int]:
    """A batch, how it was made, and how many bytes it inflates to."""
    turn = chance.random()
    how = VALID if turn < 0.3 else ONE if turn < 0.85 else SEVERAL if turn < 0.995 else HOSTILE
    if how == HOSTILE:
        return _hostile(chance)
    topic = chance.pick(("scans", "scans", "venues", "cases", "erasures"))
    count = 1 + chance.below(20)
    parts = []
    changes = 0 if how == VALID else 1 if how == ONE else 2 + chance.below(3)
    inside = {chance.below(count) for _ in range(changes) if chance.once_in(2)}
    for delta in range(count):
        draft = events.MAKERS[topic](chance)
        if chance.once_in(10):
            draft.headers.append(events.header(chance))
        later_ms, at = chance.below(100_000), delta
        if delta in inside:
            if chance.once_in(2):
                at = chance.pick(_NUMBERS)
            else:
                later_ms = chance.pick(_NUMBERS)
        part = record_bytes(at, later_ms, draft.key, draft.written(), draft.headers)
        parts.append(chance.bend(part) if delta in inside and chance.once_in(2) else part)
    data = b"".join(parts)
    head = {"last": count - 1, "count": count, "base": chance.below(1 << 40), "first_ms": events.NOW_MS}
    head["max_ms"] = events.NOW_MS + 100_000
    way = chance.below(5) if chance.once_in(2) else 0
    packed = compressed(way, data)
    head["attributes"] = way | (8 if chance.once_in(4) else 0)
    whole = True
    for _ in range(changes - len(inside)):
        packed, whole = _bend_around(chance, head, packed), not chance.once_in(8)
    batch = written(head, packed)
    return batch if whole else chance.bend(batch), how, len(data)


def _bend_around(chance: Chance, head: dict[str, int], packed: bytes) -> bytes:
    """Changes one thing of a batch's head, or of what it holds, compressed; the latter."""
    what = chance.below(7)
    if what < 4:
        name, bits = chance.pick((("last", 32), ("count", 32), ("first_ms", 64), ("max_ms", 64), ("base", 64)))
        number = chance.pick(_NUMBERS) if chance.once_in(2) else head[name] + chance.below(5) - 2
        head[name] = _wrapped(number, bits)
    elif what == 4:
        head["attributes"] = chance.getrandbits(3) | chance.pick((0, 8, 16, 64, 128))
    elif what == 5:
        head[chance.pick(("crc", "length", "magic"))] = chance.below(4)
    else:
        return chance.bend(packed)
    return packed


def _hostile(chance: Chance) -> tuple[bytes, str, int]:
    """What inflates to far more than was sent, or holds as many of something as fit."""
    what = chance.below(4)
    count = 1
    if what == 0:
        # Of nothing but zeros: a frame declares what it likes.
        size = 1 << (20 + chance.below(8))
        way = 4 if size > 1 << 26 else 1 + chance.below(4)
        data = record_bytes(0, 0, b"k", bytes(size))
    elif what == 1:
        way, size = chance.below(5), 1 << (10 + chance.below(10))
        data = record_bytes(0, 0, b"k", b"{}", [("", None)] * (size >> 3))
    elif what == 2:
        way, count = chance.below(5), 1 << (8 + chance.below(11))
        data = b"".join(record_bytes(delta, 0, None, None) for delta in range(count))
    else:
        way = 4
        return _zeros(chance), HOSTILE, 64 << 20
    packed = compressed(way, data)
    head = {"last": count - 1, "count": count, "first_ms": events.NOW_MS, "max_ms": events.NOW_MS, "attributes": way}
    return written(head, packed), HOSTILE, min(len(data), 64 << 20)


def _zeros(chance: Chance) -> bytes:
    """A zstd frame of blocks that repeat a byte: 4 bytes for each 128 KiB, as often as it likes."""
    blocks = chance.below(_BOMB_BYTES_MAX >> 17) + 1
    frame = bytearray(b"\x28\xb5\x2f\xfd\x00" + bytes(((23 - 10) << 3,)))
    for number in range(blocks):
        frame += struct.pack("<I", 131_072 << 3 | 2 | (number == blocks - 1))[:3] + b"\0"
    return written({"last": 0, "count": 1, "attributes": 4}, bytes(frame))


def _plain(records: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [(one.offset, one.timestamp, one.key, one.value, [*one.headers]) for one in records if one.fault is None]


def _by_library(batch: bytes) -> list[tuple[Any, ...]]:
    """What aiokafka reads; its bounds are other ones."""
    read = DefaultRecordBatch(batch)
    append_ms = read.max_timestamp if read.timestamp_type == 1 else None
    return [
        (one.offset, one.timestamp if append_ms is None else append_ms, one.key, one.value, [*one.headers])
        for one in read
    ]


def answer(pieces: Sequence[Records]) -> Answer:
    """One verdict on a batch: what is worst of its records."""
    last, faults = -1, Counter[str]()
    for piece in pieces:
        for one in _looked_at(piece):
            if one.offset <= last:
                faults["offset does not rise"] += 1
            last = one.offset
            if one.fault is not None:
                faults[one.fault.reason] += 1
    return Answer(Counter({max(faults) if faults else _RECORD if pieces else _EMPTY: 1}), pieces)


def _looked_at(piece: Records) -> Sequence[Any]:
    # To make objects of a hundred thousand records is no matter of the gate's.
    return piece if len(piece) <= _LOOKED_AT_MAX else [piece[0], piece[-1]]


def _case(chance: Chance) -> Iterator[Call]:
    for _ in range(8):
        batch, how, size = made(chance)
        bounded = not chance.once_in(4)

        call = Call(
            lambda batch=batch, bounded=bounded: answer(list(judged(batch, bounded=bounded))),  # type: ignore[misc]
            1,
            size + len(batch),
            lambda batch=batch: batch,  # type: ignore[misc]
            Counter({how: 1}),
            batch=True,
        )
        yield call
        if how == VALID and call.answer is not None:
            yield _same(batch, call.answer.decided, size, chance.below(20))


def _same(batch: bytes, pieces: Sequence[Records], size: int, at: int) -> Call:
    """Cut somewhere and put together again, they are what aiokafka reads; as far as the project takes them."""

    def read() -> Answer:
        joined = [_joined(piece, at) for piece in pieces]
        return Answer(Counter({"as aiokafka reads it": 1}), [one for piece in joined for one in _plain(piece)])

    taken = {one.offset for piece in pieces for one in piece if one.fault is None}
    other = [one for one in _by_library(batch) if one[0] in taken]
    return Call(read, 1, size, lambda: batch, Counter(), twin=lambda: other)


def _joined(piece: Records, at: int) -> Records:
    at = min(at, len(piece))
    first, stop = piece.part(0, at), at
    while stop < len(piece):
        start, (stop, _) = stop, piece.fitting(stop, 3, 1_000)
        first.extend(piece.part(start, stop))
    again = Records.of(list(first))
    if newest_ms(again) != newest_ms(piece) or again.distinct_keys() != piece.distinct_keys():
        raise FaultError("a part of the records is not what the whole is")
    return first


READER: Final = Reader(
    "batches",
    _case,
    frozenset({_RECORD, "corrupt_batch", "oversized", "as aiokafka reads it"}),
    frozenset({_EMPTY}),
    weight=24,
)
