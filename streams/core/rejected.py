"""What the person room remembers of each row of ``rejects`` that names a person: enough to write it again, bare.

A row is remembered under every person it names: the record's key, and the event's own person where it could be
read. Its partition is the room's own. It goes with the person's erasure, or with the retention of rejects.
"""

import msgspec

from streams.core import keys


class RejectEntry(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``rejects`` without its key and payload; times in epoch ms, ``topic`` without prefix."""

    topic: str
    offset: int
    record_ms: int
    event_ms: int
    """What an erasure is compared with: the event's own time, or its record's where it has none."""
    reason: str
    detail: str
    status: str

    def key(self, person: bytes) -> bytes:
        """Its state key under one person (16 bytes)."""
        return keys.person_reject(person, self.topic.encode(), self.offset)

    def pack(self) -> bytes:
        """Its state value."""
        return _encode(self)


_encode = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(RejectEntry).decode
