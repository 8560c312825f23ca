"""Changes of the state's layout: how a state of an older version becomes one of this build's, portion by portion.

A migration leads from version n to n + 1 and knows both layouts by itself: modules that follow the newest one would
make an old migration wrong. Each portion is a step without outputs, committed together with how far the migration
is, so it goes on after a crash where it was, here or at another owner of the same build.

The record ``META`` of a state that is being migrated names the version it is to become, and ``migrating``, the key up
to which it is of that version. So a build that knows only the version before refuses it from the first portion on.
"""

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from streams.core import keys
from streams.core.room import PERSON_ROOM
from streams.core.step import StateReader
from streams.core.times import parse_ms

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


Pair = tuple[bytes, bytes | None]
"""A key and its new value; None takes it out."""

Migration = Callable[[str, int, bytes, StateReader], Portion]
"""(room's name, partition, key to go on after, state) to the next portion; the key is at first empty."""


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


def take_portion(room: str, partition: int, stand: Stand, state: StateReader) -> tuple[Portion, Stand]:
    """The next portion of a state that is not of this build's version yet, and where the state stands with it."""
    version, after = (stand.version + 1, b"") if stand.after is None else (stand.version, stand.after)
    portion = MIGRATIONS[version - 1](room, partition, after, state)
    return portion, Stand(version, portion.following)


def change_values(by_tag: Mapping[bytes, Callable[[bytes], bytes]], after: bytes, state: StateReader) -> Portion:
    """A portion of what changes the values, and not the keys, of all keys with these first letters."""

    def changing(change: Callable[[bytes], bytes]) -> Callable[[bytes, bytes], Iterable[Pair]]:
        return lambda key, value: [(key, new)] if (new := change(value)) != value else []

    return change_pairs({tag: changing(change) for tag, change in by_tag.items()}, after, state)


def change_pairs(
    by_tag: Mapping[bytes, Callable[[bytes, bytes], Iterable[Pair]]], after: bytes, state: StateReader
) -> Portion:
    """A portion of what follows for all keys with these first letters; each key and value says which pairs change."""
    changes: dict[bytes, bytes | None] = {}
    changed_bytes = looked_at = 0
    for tag, change in sorted(by_tag.items()):
        full_page = after[:1] <= tag
        while full_page:
            pairs = state.scan(tag, PAGE_KEYS, after)
            for key, value in pairs:
                for changed, new in change(key, value):
                    changes[changed] = new
                    changed_bytes += len(changed) + len(new or b"")
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


def _drop_coordinates(room: str, _: int, after: bytes, state: StateReader) -> Portion:
    if room != PERSON_ROOM:
        return Portion({}, 0, None)
    return change_values({b"c": _chunk_2, b"p": _head_2}, after, state)


# From 3 to 4: what waits keeps its fields instead of its payload, and is counted by code and person; a row of rejects
# is remembered with its whole origin. What came by a header of an input is forgotten: those are nothing now.

_WAITING_3: Final = struct.Struct("<qqI")
_WAITING_4: Final = struct.Struct("<qqqIIIBB")
_COUNT_4: Final = struct.Struct("<I")
_ORIGIN_4: Final = struct.Struct(">QII")
_PERSON_BYTES_3: Final = 16
_OFFSET_BYTES_3: Final = 8
_DIRECTIONS_3: Final = ("in", "out", "pass")
_SOURCES_3: Final = (
    *("pc_covid", "bluezone", "ncovi", "vhd", "vneid", "hue_s", "national_qr", "cccd", "bhyt"),
    *("checkpoint", "paper", "other"),
)


class _Scan3(msgspec.Struct):
    """What is kept of a waiting scan's payload, which was judged when it came."""

    occurred_at: str
    direction: str
    source: str


class _Keeping:
    """Changes the keys of one portion."""

    def __init__(self, partition: int, state: StateReader) -> None:
        self._partition = partition
        self._state = state
        self._counts: dict[bytes, int] = {}

    def waiting(self, key: bytes, value: bytes) -> Iterable[Pair]:
        """A scan that waits, and how many of its person wait for its code with it."""
        offset, record_ms, length = _WAITING_3.unpack_from(value)
        payload = value[_WAITING_3.size + length :]
        # Of a repeated name the last counts, as it did when the scan was judged.
        scan = msgspec.convert(json.loads(payload), _Scan3)
        kept = _WAITING_4.pack(
            *(offset, record_ms, parse_ms(scan.occurred_at), 0, self._partition, 0),
            *(_DIRECTIONS_3.index(scan.direction), _SOURCES_3.index(scan.source)),
        )
        count = b"n" + key[1 : key.index(b"\0") + 1 + _PERSON_BYTES_3]
        if count not in self._counts:
            held = self._state.get(count)
            self._counts[count] = _COUNT_4.unpack(held)[0] if held else 0
        self._counts[count] += 1
        return [(key, kept), (count, _COUNT_4.pack(self._counts[count]))]

    def reject(self, key: bytes, value: bytes) -> Iterable[Pair]:
        """A row of rejects, under a key that says where its event was first written."""
        _, _, offset = key[1 + _PERSON_BYTES_3 :].partition(b"\0")
        if len(offset) != _OFFSET_BYTES_3:
            return []  # one that this migration has made
        new = key[:-_OFFSET_BYTES_3] + _ORIGIN_4.pack(int.from_bytes(offset), self._partition, 0)
        topic, number, *rest = msgspec.msgpack.decode(value)
        return [(key, None), (new, msgspec.msgpack.encode([topic, 0, self._partition, number, *rest, 0]))]


def _keep_origins(room: str, partition: int, after: bytes, state: StateReader) -> Portion:
    if room != PERSON_ROOM:
        return Portion({}, 0, None)
    keeping = _Keeping(partition, state)
    return change_pairs({b"r": keeping.reject, b"w": keeping.waiting}, after, state)


MIGRATIONS: Mapping[int, Migration] = MappingProxyType({2: _drop_coordinates, 3: _keep_origins})
"""From which version to the next; without gaps, up to this build's."""
