"""A table of millions of short keys with values of one length, in a third of a dictionary's memory.

Records stand one after another in one run of bytes, and are found over an open table of hashes that says where each
begins::

    record: length of the key u8 | value | key

Keys can be made up so that all of them belong into one place of the table. So a key is looked for in a few slots only:
where those are taken by others it stands in a dictionary, whose hashes nobody outside the process can foresee.

One thread may put while others look up: a record is never changed once it is found, and a new value is a new record.
"""

from array import array
from collections.abc import Iterator
from itertools import chain
from typing import Final
from zlib import crc32

_KEY_BYTES_MAX: Final = 255
_SLOTS_MIN: Final = 64
_LOAD_MAX: Final = 0.75
_GROWTH: Final = 3
_RECORDS_PER_KEY_MAX: Final = 2
"""Records that were replaced are left behind when there are so many."""
_PROBES_MAX: Final = 64
"""Of keys that nobody has chosen, hardly one in a million is not among so many slots."""
_SLOT_TYPE: Final = "I"

_Crowded = dict[bytes, int]

Packed = tuple[bytearray, memoryview, int, _Crowded]
"""(records, slots, how many keys, the crowded): all that a table holds, not copied, for keeping and taking up again."""

_Table = tuple["array[int]", bytearray, _Crowded]
"""Slots, records, and where the records of those keys begin that found no slot."""


class PackedTable:
    """``bytes`` keys of up to 255 bytes, each with a value of ``value_bytes`` bytes; four gigabytes in all at most.

    Nothing is ever taken out.
    """

    def __init__(self, value_bytes: int) -> None:
        """Starts empty."""
        self._key_at = value_bytes + 1
        # Replaced together: who looks up needs slots of these very records. None begins at 0, so an empty slot says 0.
        self._table: _Table = _slots(_SLOTS_MIN), bytearray(1), {}
        self._keys = self._written = 0

    def __len__(self) -> int:
        """How many keys there are."""
        return self._keys

    def __contains__(self, key: bytes) -> bool:
        """Whether ``key`` is there."""
        return self.get(key) is not None

    def __getitem__(self, key: bytes) -> bytes:
        """The value of ``key``.

        Raises:
            KeyError: it is not there.
        """
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def get(self, key: bytes) -> bytes | None:
        """The value of ``key``, or None."""
        slots, records, crowded = self._table
        key_at = self._key_at
        slot = crc32(key) % len(slots)
        probes_left = _PROBES_MAX
        while at := slots[slot]:
            if records.startswith(key, at + key_at) and records[at] == len(key):
                return bytes(records[at + 1 : at + key_at])
            probes_left -= 1
            if not probes_left:
                found = crowded.get(key)
                return None if found is None else bytes(records[found + 1 : found + key_at])
            slot = slot + 1 if slot + 1 < len(slots) else 0
        return None

    def __setitem__(self, key: bytes, value: bytes) -> None:
        """Takes a value, new or instead of an older one.

        Raises:
            ValueError: the key is too long, or the value has another length.
            OverflowError: the table is full.
        """
        if len(key) > _KEY_BYTES_MAX or len(value) != self._key_at - 1:
            raise ValueError(f"a key of {len(key)} bytes, a value of {len(value)}")
        slots, records, crowded = self._table
        slot = _slot_of(slots, records, key, self._key_at)
        self._keys += key not in crowded if slot < 0 else not slots[slot]
        self._written += 1
        at = len(records)
        records += bytes((len(key),)) + value + key
        if slot < 0:
            crowded[key] = at
        else:
            slots[slot] = at  # from here on it is found
        if self._written > _RECORDS_PER_KEY_MAX * self._keys + _SLOTS_MIN:
            records = bytearray(1)
            self._table = _spread(self._table, records, len(slots), self._key_at)
            self._written = self._keys
        elif self._keys > _LOAD_MAX * len(slots):
            self._table = _spread(self._table, records, _GROWTH * self._keys, self._key_at)

    @property
    def packed(self) -> Packed:
        """Everything it holds, not copied."""
        slots, records, crowded = self._table
        return records, memoryview(slots).cast("B"), self._keys, crowded

    def take_up(self, packed: Packed) -> None:
        """Holds what another one held, and nothing else."""
        records, slots, self._keys, crowded = packed
        self._table = array(_SLOT_TYPE, slots.tobytes()), records, crowded
        self._written = self._keys

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All pairs, in no order."""
        slots, records, crowded = self._table
        for at in chain(filter(None, slots), tuple(crowded.values())):
            key_at = at + self._key_at
            yield bytes(records[key_at : key_at + records[at]]), bytes(records[at + 1 : key_at])


def _slot_of(slots: "array[int]", records: bytearray, key: bytes, key_at: int) -> int:
    """Where ``key`` is among the slots, or would be; -1 where that is among the crowded."""
    slot = crc32(key) % len(slots)
    probes_left = _PROBES_MAX
    while at := slots[slot]:
        if records.startswith(key, at + key_at) and records[at] == len(key):
            break
        probes_left -= 1
        if not probes_left:
            return -1
        slot = slot + 1 if slot + 1 < len(slots) else 0
    return slot


def _spread(table: _Table, to: bytearray, size: int, key_at: int) -> _Table:
    """The same with ``size`` slots; where ``to`` is not the table's own, with the current records copied there."""
    slots, records, crowded = table
    spread = _slots(size)
    still_crowded: _Crowded = {}
    for at in chain(filter(None, slots), crowded.values()):
        end = at + key_at + records[at]
        slot = crc32(records[at + key_at : end]) % size
        probes_left = _PROBES_MAX
        while probes_left and spread[slot]:
            slot = slot + 1 if slot + 1 < size else 0
            probes_left -= 1
        moved = at if to is records else len(to)
        if probes_left:
            spread[slot] = moved
        else:
            still_crowded[bytes(records[at + key_at : end])] = moved
        if to is not records:
            to += records[at:end]
    return spread, to, still_crowded


def _slots(count: int) -> "array[int]":
    empty = array(_SLOT_TYPE)
    empty.frombytes(bytes(count * empty.itemsize))
    return empty
