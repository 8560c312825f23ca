"""Scans that wait for their venue (SPEC §4): kept by the code they named, with their fields and not their payload.

A value is ``offset i64 | record_ms i64 | occurred_ms i64 | epoch u32 | partition u32 | attempts u32 | direction u8 |
source u8``: the first, fourth and fifth say where the scan was first written. How many scans of a person wait for a
code is counted beside them (u32), since no step may be without bound.
"""

import struct
from typing import Final, NamedTuple

from streams.core import keys
from streams.core.rejected import Origin
from streams.core.step import StateReader, Step

WAITING_MAX = 10_000
"""Scans of one person that wait for one code; a further one is ``too_many_waiting``."""
_VALUE: Final = struct.Struct("<qqqIIIBB")
_COUNT: Final = struct.Struct("<I")


class WaitingScan(NamedTuple):
    """One waiting scan; times in epoch ms, ``direction`` and ``source`` as in ``packed.py``."""

    code: bytes
    person: bytes
    scan_id: bytes
    origin: Origin
    """Its topic is ``scans``, without prefix."""
    record_ms: int
    occurred_ms: int
    attempts: int
    direction: int
    source: int

    @property
    def key(self) -> bytes:
        """Its state key."""
        return keys.waiting_scan(self.code, self.person, self.scan_id)

    def pack(self) -> bytes:
        """Its state value."""
        _, epoch, partition, offset = self.origin
        return _VALUE.pack(
            *(offset, self.record_ms, self.occurred_ms, epoch, partition, self.attempts, self.direction, self.source)
        )


def unpack(key: bytes, value: bytes) -> WaitingScan:
    """The waiting scan of a state key and value."""
    code, person, scan_id = keys.split_waiting(key)
    offset, record_ms, occurred_ms, epoch, partition, attempts, direction, source = _VALUE.unpack(value)
    origin = Origin("scans", epoch, partition, offset)
    return WaitingScan(code, person, scan_id, origin, record_ms, occurred_ms, attempts, direction, source)


def waiting_for(code: bytes | None, state: StateReader, limit: int, after: bytes = b"") -> list[WaitingScan]:
    """Up to ``limit`` scans that wait for ``code`` (for any with None), in the order of their keys, past ``after``."""
    prefix = keys.WAITING if code is None else keys.waiting_code(code)
    return [unpack(key, value) for key, value in state.scan(prefix, limit, after)]


def count_of(step: Step, state: StateReader, code: bytes, person: bytes) -> int:
    """How many scans of a person (16 bytes) wait for a code, with what this step has changed of it."""
    key = keys.waiting_count(code, person)
    packed = step.changes[key] if key in step.changes else state.get(key)
    return 0 if packed is None else int(_COUNT.unpack(packed)[0])


def keep(step: Step, state: StateReader, scan: WaitingScan) -> None:
    """Has a scan wait."""
    step.changes[scan.key] = scan.pack()
    step.waiting_more += 1
    _add(step, state, scan.code, scan.person, 1)


def drop(step: Step, state: StateReader, code: bytes, person: bytes, scan_id: bytes) -> None:
    """Has a scan wait no longer."""
    step.changes[keys.waiting_scan(code, person, scan_id)] = None
    step.waiting_more -= 1
    _add(step, state, code, person, -1)


def _add(step: Step, state: StateReader, code: bytes, person: bytes, more: int) -> None:
    count = count_of(step, state, code, person) + more
    step.changes[keys.waiting_count(code, person)] = _COUNT.pack(count) if count else None
