"""Record batches written byte by byte: whatever a producer of bad will, or a broken one, may send."""

import asyncio
import gzip
import struct
import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import cramjam
import lz4.frame
from aiokafka import codec
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition
from crc32c import crc32c

from truyvet.config import Settings

NOW_MS = 1_634_200_000_000
MIB = 1024 * 1024
COMPRESSIONS: dict[int, Any] = {
    0: bytes,
    1: gzip.compress,
    2: codec.snappy_encode,
    3: lz4.frame.compress,
    4: lambda data: bytes(cramjam.zstd.compress(data)),
}
"""By the number that a batch has for it."""


def varint(number: int) -> bytes:
    """A number as records hold it; of more than 64 bits what is left of it."""
    rest = ((number << 1) ^ (number >> 63)) & (1 << 64) - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def sized(text: bytes | None) -> bytes:
    """A length and as many bytes."""
    return varint(-1) if text is None else varint(len(text)) + text


def record(
    delta: int,
    key: bytes | None = b"k",
    value: bytes | None = b"v",
    headers: Sequence[tuple[bytes, bytes | None]] = (),
    *,
    later_ms: int = 0,
    header_count: int | None = None,
) -> bytes:
    """A record whose offset is so much more than its batch's first."""
    count = len(headers) if header_count is None else header_count
    inside = b"\0" + varint(later_ms) + varint(delta) + sized(key) + sized(value) + varint(count)
    inside += b"".join(sized(name) + sized(text) for name, text in headers)
    return varint(len(inside)) + inside


def batch(  # noqa: PLR0913 - all that a head says may be forged
    records: bytes | Iterable[bytes],
    count: int,
    compression: int = 0,
    *,
    base: int = 0,
    last_delta: int | None = None,
    first_ms: int = NOW_MS,
    max_ms: int | None = None,
    attributes: int = 0,
    packed: bytes | None = None,
    sum_off_by: int = 0,
    producer_id: int = -1,
) -> bytes:
    """A batch with a right checksum around anything; ``packed`` stands behind its head instead of ``records``."""
    data = records if isinstance(records, bytes) else b"".join(records)
    if packed is None:
        packed = COMPRESSIONS[compression](data)
    last = count - 1 if last_delta is None else last_delta
    most = first_ms if max_ms is None else max_ms
    body = struct.pack(">hiqqqhii", compression | attributes, last, first_ms, most, producer_id, -1, -1, count)
    body += cast("bytes", packed)
    summed = (crc32c(body) + sum_off_by) & 0xFFFFFFFF
    return struct.pack(">qiibI", base, len(body) + 9, -1, 2, summed) + body


def zeros(before: bytes, count: int, behind: bytes) -> bytes:
    """A zstd frame without a declared size, of ``count`` zero bytes between two texts: four bytes for 128 KiB."""
    runs = [(1, min(131_072, count - at)) for at in range(0, count, 131_072)]
    blocks: list[tuple[int, bytes | int]] = [(0, before), *runs, (0, behind)]
    out = b"\x28\xb5\x2f\xfd\0" + bytes([(23 - 10) << 3])
    for number, (kind, what) in enumerate(blocks):
        size, body = (len(what), what) if isinstance(what, bytes) else (what, b"\0")
        head = size << 3 | kind << 1 | (number == len(blocks) - 1)
        out += head.to_bytes(3, "little") + body
    return out


def bomb(value_bytes: int, key: bytes = b"k") -> bytes:
    """A zstd frame of one record whose value is so many zero bytes."""
    inside = b"\0" + varint(0) + varint(0) + sized(key) + varint(value_bytes)
    return zeros(varint(len(inside) + value_bytes + 1) + inside, value_bytes, varint(0))


def send(settings: Settings, topic: str, partition: int, data: bytes) -> tuple[int, int]:
    """Produces one batch as it stands to a topic (full name); (the broker's error code, offset)."""
    return asyncio.run(_send(settings, topic, partition, data))


async def _send(settings: Settings, topic: str, partition: int, data: bytes) -> tuple[int, int]:
    client = AIOKafkaClient(**settings.aiokafka())
    try:
        await client.bootstrap()
        deadline = time.monotonic() + 10
        await client.set_topics([topic])
        while (leader := client.cluster.leader_for_partition(TopicPartition(topic, partition))) in {None, -1}:
            assert time.monotonic() < deadline, f"nobody leads {topic}"
            await client.force_metadata_update()
        answer = await client.send(leader, ProduceRequest(None, -1, 30_000, [(topic, [(partition, data)])]))
    finally:
        await client.close()
    code, offset = answer.topics[0][1][0][1:3]
    return code, offset
