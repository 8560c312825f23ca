"""A build of state version 2, made of this one: what it wrote is recorded, and this build must write the same.

Version 2 kept all 29 bytes of a venue's attributes with each scan, the whole payload of a scan that waits, and of a
dead letter the offset alone.
"""

import struct
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
import pytest
from msgspec.structs import replace

from streams.core import erasure, held_scans, keys, migrate, packed, person, reasons, rejected, waiting
from streams.core.decode import decode_scan
from streams.core.inbound import ScanIn
from streams.core.intake import Timed
from streams.core.packed import DIRECTION_CODE, SOURCE_CODE, StoredScan
from streams.core.rejected import Origin, RejectEntry
from streams.core.room import RoomPartition
from streams.core.step import Step
from streams.core.waiting import WaitingScan
from tests.core import plain

_ATTRIBUTES_BYTES = 29
_FIXED_BYTES = 13 + _ATTRIBUTES_BYTES


def become(patch: pytest.MonkeyPatch) -> None:
    """Turns the imported core into version 2's; ``patch`` undoes it, or nobody does in a process of its own."""
    patch.setattr(keys, "STATE_VERSION", 2)
    none: Mapping[int, migrate.Migration] = MappingProxyType({})
    patch.setattr(migrate, "MIGRATIONS", none)
    for module in (packed, person):
        patch.setattr(module, "KEPT_BYTES", _ATTRIBUTES_BYTES)
    for module in (packed, person, held_scans):
        patch.setattr(module, "NO_ATTRIBUTES", bytes(_ATTRIBUTES_BYTES))
    patch.setattr(packed, "_FIXED_BYTES", _FIXED_BYTES)
    _remember_less(patch)
    plain.become(patch)  # what is compiled knows this version alone


_WAITING = struct.Struct("<qqI")


def _wait(batch: person._Batch, timed: Timed[ScanIn], scan: StoredScan) -> str:
    key = keys.waiting_scan(scan.code, bytes.fromhex(timed.event.person_id), scan.scan_id)
    value = _WAITING.pack(timed.record.offset, timed.now_ms, 0) + (timed.record.value or b"")
    batch.step.changes[key] = value
    batch.step.waiting_more += 1
    batch.reject(timed, reasons.UNKNOWN_VENUE, "waits for its venue to be registered", status="waiting")
    batch.timelines[timed.event.person_id].add(scan, batch.room.clock)
    return "waiting"


def _unpack_waiting(key: bytes, value: bytes) -> WaitingScan:
    code, person_key, scan_id = keys.split_waiting(key)
    offset, record_ms, _ = _WAITING.unpack_from(value)
    event = decode_scan(value[_WAITING.size :])
    assert isinstance(event, ScanIn)
    origin = Origin("scans", 0, 0, offset)
    fields = (event.occurred_ms, 0, DIRECTION_CODE[event.direction], SOURCE_CODE[event.source])
    return WaitingScan(code, person_key, scan_id, origin, record_ms, *fields)


def _unpack_reject(value: bytes) -> RejectEntry:
    topic, offset, *rest = msgspec.msgpack.decode(value)
    return RejectEntry(topic, 0, 0, offset, *rest)


def _remember_less(patch: pytest.MonkeyPatch) -> None:
    """Waiting scans and dead letters as they were remembered up to version 3; nothing counted what waits."""

    def key(entry: RejectEntry, person_key: bytes) -> bytes:
        return b"r" + person_key + entry.topic.encode() + b"\0" + struct.pack(">Q", entry.offset)

    def pack(entry: RejectEntry) -> bytes:
        of_old = (entry.topic, entry.offset, entry.record_ms, entry.event_ms, entry.reason, entry.detail, entry.status)
        return msgspec.msgpack.encode(of_old)

    patch.setattr(person, "_wait", _wait)
    patch.setattr(waiting, "unpack", _unpack_waiting)
    patch.setattr(waiting, "_add", lambda *_: None)
    patch.setattr(RejectEntry, "key", key)
    patch.setattr(RejectEntry, "pack", pack)
    patch.setattr(rejected, "unpack", _unpack_reject)
    _know_their_partition(patch)


def _know_their_partition(patch: pytest.MonkeyPatch) -> None:
    """Rows were of the partition that remembered them: nothing stood in the state of which they are."""
    bare, resolve = erasure._bare, person._resolve

    def bare_here(step: Step, room: RoomPartition, person_key: bytes, entry: RejectEntry, now_ms: int) -> None:
        bare(step, room, person_key, replace(entry, partition=room.partition), now_ms)

    def resolve_here(batch: person._Batch, scan: WaitingScan, at_ms: int) -> None:
        resolve(batch, scan._replace(origin=scan.origin._replace(partition=batch.room.partition)), at_ms)

    patch.setattr(erasure, "_bare", bare_here)
    patch.setattr(person, "_resolve", resolve_here)
