"""Changes of the state's layout: how a state of an older version becomes one of this build's, portion by portion.

A migration leads from version n to n + 1 and knows both layouts by itself: modules that follow the newest one would
make an old migration wrong. Each portion is a step without outputs, committed together with how far the migration
is, so it goes on after a crash where it was, here or at another owner of the same build.

The record ``META`` of a state that is being migrated names the version it is to become, and ``migrating``, the key up
to which it is of that version. So a build that knows only the version before refuses it from the first portion on.
"""

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from streams.core import keys
from streams.core.room import PERSON_ROOM
from streams.core.step import StateReader

PAGE_KEYS = 1_000
"""Keys that are read at a time."""
PORTION_KEYS = 20_000
"""Keys that one portion looks at, about, where little of them changes."""
PORTION_BYTES = 4 * 1024 * 1024
"""Changed bytes that make a portion full, some hundred milliseconds of work; at most a page goes beyond."""


class Stand(NamedTuple):
    """How far a state is: of ``version`` up to and including the key ``after``, and of the version before beyond it."""

    version: int
    after: bytes | None = None
    """None: wholly."""

    def note(self) -> dict[str, object]:
        """What ``META`` says of it; ``stand_of`` reads it."""
        return {"version": self.version} | ({} if self.after is None else {"migrating": self.after.hex()})


class Portion(NamedTuple):
    """What one portion changes, how many keys it looked at, and the key to go on after; None: that was all."""

    changes: dict[bytes, bytes | None]
    looked_at: int
    following: bytes | None


Migration = Callable[[str, bytes, StateReader], Portion]
"""(room's name, key to go on after, state) to the next portion; the key is at first empty."""


def current() -> Stand:
    """Wholly of this build's version."""
    return Stand(keys.STATE_VERSION)


def stand_of(known: Mapping[str, Any]) -> Stand:
    """The stand that a record ``META`` tells."""
    migrating = known.get("migrating")
    return Stand(known["version"], None if migrating is None else bytes.fromhex(migrating))


def refusal(stand: Stand) -> str | None:
    """Why this build cannot take a state over, and what to do; None if it can."""
    newest, oldest = keys.STATE_VERSION, min(MIGRATIONS, default=keys.STATE_VERSION)
    if stand.version > newest:
        return (
            f"the state is of version {stand.version}, this build's is {newest}: a newer build has the partition, and "
            "nothing is lost; start that build here, too (docs/upgrade.md)"
        )
    if stand.version - (stand.after is not None) < oldest:
        return (
            f"the state is of version {stand.version}, this build migrates from {oldest} on: run a build in between "
            "first, or replay into a new topic_prefix and database (docs/upgrade.md)"
        )
    return None


def take_portion(room: str, stand: Stand, state: StateReader) -> tuple[Portion, Stand]:
    """The next portion of a state that is not of this build's version yet, and where the state stands with it."""
    version, after = (stand.version + 1, b"") if stand.after is None else (stand.version, stand.after)
    portion = MIGRATIONS[version - 1](room, after, state)
    return portion, Stand(version, portion.following)


def change_values(by_tag: Mapping[bytes, Callable[[bytes], bytes]], after: bytes, state: StateReader) -> Portion:
    """A portion of what changes the values, and not the keys, of all keys with these first letters."""
    changes: dict[bytes, bytes | None] = {}
    changed_bytes = looked_at = 0
    for tag, change in sorted(by_tag.items()):
        full_page = after[:1] <= tag
        while full_page:
            pairs = state.scan(tag, PAGE_KEYS, after)
            for key, value in pairs:
                new = change(value)
                if new != value:
                    changes[key] = new
                    changed_bytes += len(key) + len(new)
            looked_at += len(pairs)
            full_page = len(pairs) == PAGE_KEYS
            if full_page:
                after = pairs[-1][0]
                if changed_bytes >= PORTION_BYTES or looked_at >= PORTION_KEYS:
                    return Portion(changes, looked_at, after)
    return Portion(changes, looked_at, None)


# From 2 to 3: a stored scan no longer keeps where its venue lies.

_FIXED_2: Final = 44
"""Bytes of a packed scan of version 2 beside its three texts: 13, attributes 29, total length 2."""
_KEPT_2: Final = 26
_COORDINATES_2: Final = 16
_LENGTH_2 = struct.Struct("<H")
_CARRY_BYTES_2: Final = 20
_LONG_2, _ERASED_2, _FLOOR_2 = 1, 4, 8
_CLOSED_LAST_SCANS_2: Final = 20
_NO_OPENER_2: Final = 0xFFFF


def _scans_2(blob: bytes) -> bytes:
    """A packed run of scans without their venues' coordinates."""
    parts: list[bytes] = []
    at = 0
    while at < len(blob):
        length = _FIXED_2 + blob[at + 10] + blob[at + 11] + blob[at + 12]
        end = at + length
        parts += (
            blob[at : at + _KEPT_2],
            blob[at + _KEPT_2 + _COORDINATES_2 : end - _LENGTH_2.size],
            _LENGTH_2.pack(length - _COORDINATES_2),
        )
        at = end
    return b"".join(parts)


def _head_2(head: bytes) -> bytes:
    """The head of a timeline; its opener is named by where it begins among the scans."""
    flags = head[0]
    if flags & _LONG_2:
        return head
    at = 1 + 8 * bool(flags & _ERASED_2) + 8 * bool(flags & _FLOOR_2) + _CLOSED_LAST_SCANS_2
    [opener] = _LENGTH_2.unpack_from(head, at)
    begin = at + _LENGTH_2.size
    scans = _scans_2(head[begin:])
    if opener != _NO_OPENER_2:
        opener = len(_scans_2(head[begin : begin + opener]))
    return head[:at] + _LENGTH_2.pack(opener) + scans


def _chunk_2(chunk: bytes) -> bytes:
    """A chunk of a long timeline, with the opener that its carry may hold."""
    [length] = _LENGTH_2.unpack_from(chunk)
    end = _LENGTH_2.size + length
    carry = chunk[_LENGTH_2.size : end]
    carry = carry[:_CARRY_BYTES_2] + _scans_2(carry[_CARRY_BYTES_2:])
    return _LENGTH_2.pack(len(carry)) + carry + _scans_2(chunk[end:])


def _drop_coordinates(room: str, after: bytes, state: StateReader) -> Portion:
    if room != PERSON_ROOM:
        return Portion({}, 0, None)
    return change_values({b"c": _chunk_2, b"p": _head_2}, after, state)


MIGRATIONS: Mapping[int, Migration] = MappingProxyType({2: _drop_coordinates})
"""From which version to the next; without gaps, up to this build's."""
