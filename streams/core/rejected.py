"""What the person room remembers of each row of ``rejects`` that names a person: enough to write it again, bare.

A row is remembered under every person it names: the record's key, and the event's own person where it could be
read. The whole origin is remembered: a record that came by ``returns`` was first written on another partition. An entry
goes with the person's erasure, or with the retention of rejects.
"""

from typing import NamedTuple

import msgspec

from streams.core import keys


class Origin(NamedTuple):
    """Where an event was first written: the identity of its row in ``rejects`` (SPEC §1)."""

    topic: str
    """Without prefix where the state keeps it, full on the wire."""
    epoch: int
    """How often the input was made anew or cut before."""
    partition: int
    offset: int


class RejectEntry(msgspec.Struct, frozen=True, array_like=True):
    """A row of ``rejects`` without its key and payload; times in epoch ms, ``topic`` without prefix."""

    topic: str
    epoch: int
    partition: int
    offset: int
    record_ms: int
    event_ms: int
    """What an erasure is compared with: the event's own time, or its record's where it has none."""
    reason: str
    detail: str
    status: str
    attempts: int = 0

    @property
    def origin(self) -> Origin:
        """Which row it is."""
        return Origin(self.topic, self.epoch, self.partition, self.offset)

    def key(self, person: bytes) -> bytes:
        """Its state key under one person (16 bytes)."""
        return keys.person_reject(person, self.topic.encode(), self.offset, self.partition, self.epoch)

    def pack(self) -> bytes:
        """Its state value."""
        return _encode(self)


_encode = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(RejectEntry).decode
