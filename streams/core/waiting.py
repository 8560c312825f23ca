"""Scans that wait for their venue (SPEC §4): kept by the code they named, with all that their reject row said.

A value is ``offset i64 | record_ms i64 | len(origin) u32 | origin | payload``.
"""

import struct
from typing import NamedTuple

from streams.core import keys
from streams.core.step import StateReader

_FIXED = struct.Struct("<qqI")


class WaitingScan(NamedTuple):
    """One waiting scan: where its record stood, and the record's value as it came."""

    code: bytes
    person: bytes
    scan_id: bytes
    offset: int
    record_ms: int
    origin: bytes
    payload: bytes

    @property
    def key(self) -> bytes:
        """Its state key."""
        return keys.waiting_scan(self.code, self.person, self.scan_id)

    def pack(self) -> bytes:
        """Its state value."""
        return _FIXED.pack(self.offset, self.record_ms, len(self.origin)) + self.origin + self.payload


def unpack(key: bytes, value: bytes) -> WaitingScan:
    """The waiting scan of a state key and value."""
    code, person, scan_id = keys.split_waiting(key)
    offset, record_ms, length = _FIXED.unpack_from(value)
    at = _FIXED.size
    return WaitingScan(code, person, scan_id, offset, record_ms, value[at : at + length], value[at + length :])


def waiting_for(code: bytes | None, state: StateReader, limit: int, after: bytes = b"") -> list[WaitingScan]:
    """Up to ``limit`` scans that wait for ``code`` (for any with None), in the order of their keys, past ``after``."""
    prefix = keys.WAITING if code is None else keys.waiting_code(code)
    return [unpack(key, value) for key, value in state.scan(prefix, limit, after)]
