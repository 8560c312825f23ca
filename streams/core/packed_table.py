"""A table of millions of short keys with values of one length, in a third of a dictionary's memory.

Records stand one after another in one run of bytes, and are found over an open table of hashes that says where each
begins::

    record: length of the key u8 | value | key

Where a key was taken out its slot says where no key's record is, until the slots are made anew. One thread may put and
take out while others look up: a record is never changed once it is found, and a new value is a new record. The hash has
a secret: who may choose keys could else choose such as all fall on one slot, and each would cost as much as all before.
"""

from array import array
from collections.abc import Iterator
from typing import Final

from streams.core.hashing import SECRET_BYTES, KeyedHash

_KEY_BYTES_MAX: Final = 254
_NO_KEY: Final = 255
"""The length that the record says to which emptied slots point."""
_GONE: Final = 1
"""Where that record is."""
_SLOTS_MIN: Final = 64
_LOAD_MAX: Final = 0.75
_GROWTH: Final = 3
_RECORDS_PER_KEY_MAX: Final = 2
"""Records that were replaced are left behind when there are so many."""
_SLOT_TYPE: Final = "I"

Packed = tuple[bytearray, memoryview, int, bytes]
"""(records, slots, how many keys, secret): all that a table holds, not copied, for keeping and taking up again."""

_Table = tuple["array[int]", bytearray]


class PackedTable:
    """``bytes`` keys of up to 254 bytes, each with a value of ``value_bytes`` bytes; four gigabytes in all at most."""

    def __init__(self, value_bytes: int, secret: bytes = bytes(SECRET_BYTES)) -> None:
        """Starts empty; ``secret`` (16 bytes) keeps its slots from who chooses the keys, and shows in nothing else."""
        self._key_at = value_bytes + 1
        self._secret = secret
        self._hash = KeyedHash(secret)
        # Replaced together: who looks up needs slots of these very records. None begins at 0, so an empty slot says 0.
        self._table = _slots(_SLOTS_MIN), self._no_records()
        self._keys = self._written = self._used = 0

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
        slot = self._hash(key) % len(slots)
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
        slot = self._slot_of(slots, records, key)
        if slots[slot] <= _GONE:
            self._keys += 1
            self._used += not slots[slot]
        self._written += 1
        at = len(records)
        records += bytes((len(key),)) + value + key
        slots[slot] = at  # from here on it is found
        self._tidy()

    def __delitem__(self, key: bytes) -> None:
        """Takes a key out.

        Raises:
            KeyError: it is not there.
        """
        slots, records = self._table
        slot = self._slot_of(slots, records, key)
        if slots[slot] <= _GONE:
            raise KeyError(key)
        slots[slot] = _GONE
        self._keys -= 1
        self._tidy()

    @property
    def packed(self) -> Packed:
        """Everything it holds, not copied."""
        slots, records = self._table
        return records, memoryview(slots).cast("B"), self._keys, self._secret

    def take_up(self, packed: Packed) -> None:
        """Holds what another one held, and nothing else."""
        records, bytes_of_slots, self._keys, self._secret = packed
        self._hash = KeyedHash(self._secret)
        slots = array(_SLOT_TYPE, bytes_of_slots.tobytes())
        self._table = slots, records
        self._written = self._keys
        self._used = len(slots) - slots.count(0)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All pairs, in no order."""
        slots, records = self._table
        for at in slots:
            if at > _GONE:
                key_at = at + self._key_at
                yield bytes(records[key_at : key_at + records[at]]), bytes(records[at + 1 : key_at])

    def _no_records(self) -> bytearray:
        return bytearray((0, _NO_KEY, *bytes(self._key_at - 1)))

    def _slot_of(self, slots: "array[int]", records: bytearray, key: bytes) -> int:
        """Where ``key`` is among the slots, or is to be put."""
        slot = self._hash(key) % len(slots)
        emptied = -1
        while at := slots[slot]:
            if at == _GONE:
                emptied = slot if emptied < 0 else emptied
            elif records.startswith(key, at + self._key_at) and records[at] == len(key):
                return slot
            slot = slot + 1 if slot + 1 < len(slots) else 0
        return slot if emptied < 0 else emptied

    def _tidy(self) -> None:
        """Leaves behind what was replaced or taken out, and makes room, once it costs no more than what led to it."""
        slots, records = self._table
        wanted = max(_SLOTS_MIN, _GROWTH * self._keys)
        if self._written > _RECORDS_PER_KEY_MAX * self._keys + _SLOTS_MIN:
            self._table = self._spread(self._no_records(), min(wanted, len(slots)))
            self._written = self._keys
        elif self._used > _LOAD_MAX * len(slots):
            self._table = self._spread(records, wanted)

    def _spread(self, to: bytearray, size: int) -> _Table:
        """The same with ``size`` slots; where ``to`` is not the table's own, with the current records copied there."""
        slots, records = self._table
        hashed, key_at = self._hash, self._key_at
        spread = _slots(size)
        for at in slots:
            if at <= _GONE:
                continue
            end = at + key_at + records[at]
            slot = hashed(bytes(records[at + key_at : end])) % size
            while spread[slot]:
                slot = slot + 1 if slot + 1 < size else 0
            spread[slot] = at if to is records else len(to)
            if to is not records:
                to += records[at:end]
        self._used = self._keys
        return spread, to


def _slots(count: int) -> "array[int]":
    empty = array(_SLOT_TYPE)
    empty.frombytes(bytes(count * empty.itemsize))
    return empty
