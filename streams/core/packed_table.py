"""A table of millions of short keys with values of one length, in a third of a dictionary's memory.

Records stand one after another in one run of bytes, and are found over an open table of hashes that says where each
begins::

    record: length of the key u8 | value | key

One thread may put while others look up: a record is never changed once it is found, and a new value is a new record.
"""

from array import array
from collections.abc import Iterator
from typing import Final
from zlib import crc32

_KEY_BYTES_MAX: Final = 255
_SLOTS_MIN: Final = 64
_LOAD_MAX: Final = 0.75
_GROWTH: Final = 3
_RECORDS_PER_KEY_MAX: Final = 2
"""Records that were replaced are left behind when there are so many."""
_SLOT_TYPE: Final = "I"

Packed = tuple[bytearray, memoryview, int]
"""(records, slots, how many keys): all that a table holds, not copied, for keeping and taking up again."""

_Table = tuple["array[int]", bytearray]


class PackedTable:
    """``bytes`` keys of up to 255 bytes, each with a value of ``value_bytes`` bytes; four gigabytes in all at most.

    Nothing is ever taken out.
    """

    def __init__(self, value_bytes: int) -> None:
        """Starts empty."""
        self._key_at = value_bytes + 1
        # Replaced together: who looks up needs slots of these very records. None begins at 0, so an empty slot says 0.
        self._table = _slots(_SLOTS_MIN), bytearray(1)
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
        slots, records = self._table
        key_at = self._key_at
        slot = crc32(key) % len(slots)
        while at := slots[slot]:
            if records.startswith(key, at + key_at) and records[at] == len(key):
                return bytes(records[at + 1 : at + key_at])
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
        slots, records = self._table
        slot = _slot_of(slots, records, key, self._key_at)
        self._keys += not slots[slot]
        self._written += 1
        at = len(records)
        records += bytes((len(key),)) + value + key
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
        slots, records = self._table
        return records, memoryview(slots).cast("B"), self._keys

    def take_up(self, packed: Packed) -> None:
        """Holds what another one held, and nothing else."""
        records, slots, self._keys = packed
        self._table = array(_SLOT_TYPE, slots.tobytes()), records
        self._written = self._keys

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All pairs, in no order."""
        slots, records = self._table
        for at in filter(None, slots):
            key_at = at + self._key_at
            yield bytes(records[key_at : key_at + records[at]]), bytes(records[at + 1 : key_at])


def _slot_of(slots: "array[int]", records: bytearray, key: bytes, key_at: int) -> int:
    """Where ``key`` is among the slots, or would be."""
    slot = crc32(key) % len(slots)
    while at := slots[slot]:
        if records.startswith(key, at + key_at) and records[at] == len(key):
            break
        slot = slot + 1 if slot + 1 < len(slots) else 0
    return slot


def _spread(table: _Table, to: bytearray, size: int, key_at: int) -> _Table:
    """The same with ``size`` slots; where ``to`` is not the table's own, with the current records copied there."""
    slots, records = table
    spread = _slots(size)
    for at in filter(None, slots):
        end = at + key_at + records[at]
        slot = crc32(records[at + key_at : end]) % size
        while spread[slot]:
            slot = slot + 1 if slot + 1 < size else 0
        spread[slot] = at if to is records else len(to)
        if to is not records:
            to += records[at:end]
    return spread, to


def _slots(count: int) -> "array[int]":
    empty = array(_SLOT_TYPE)
    empty.frombytes(bytes(count * empty.itemsize))
    return empty
