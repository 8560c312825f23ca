"""The register's table: a dictionary in all that is asked of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import packed_table
from streams.core.packed_table import PackedTable

VALUE_BYTES = 3
keys = st.binary(max_size=4) | st.integers(0, 40).map(b"venue-%d".__mod__)
values = st.binary(min_size=VALUE_BYTES, max_size=VALUE_BYTES)


@given(pairs=st.lists(st.tuples(keys, values), max_size=300), asked=st.lists(keys), colliding=st.booleans())
def test_it_holds_what_a_dictionary_would(
    pairs: list[tuple[bytes, bytes]],
    asked: list[bytes],
    colliding: bool,  # noqa: FBT001 - Hypothesis passes it by name
) -> None:
    """Whatever is put, in whatever order and however often, even where all keys have the same hash; then taken up."""
    with pytest.MonkeyPatch.context() as patch:
        if colliding:
            patch.setattr(packed_table, "crc32", lambda key: len(key) % 2)
        table, known = PackedTable(VALUE_BYTES), dict[bytes, bytes]()
        for key, value in pairs:
            table[key] = known[key] = value
        other = PackedTable(VALUE_BYTES)
        other.take_up(table.packed)
        for found in (table, other):
            assert len(found) == len(known)
            assert dict(found.items()) == known
            for key in (*known, *asked):
                assert found.get(key) == known.get(key)
                assert (key in found) == (key in known)


def test_values_that_change_again_and_again_take_no_more_room() -> None:
    """Records that were replaced are left behind."""
    table = PackedTable(VALUE_BYTES)
    for number in range(100_000):
        table[b"venue-%d" % (number % 100)] = number.to_bytes(VALUE_BYTES)
    assert len(table) == 100
    assert len(table.packed[0]) < 100 * 4 * 13


def test_what_does_not_fit_is_refused() -> None:
    """A key that is too long, a value of another length, a key that is not there."""
    table = PackedTable(VALUE_BYTES)
    with pytest.raises(ValueError, match="a key of 256 bytes"):
        table[bytes(256)] = b"abc"
    with pytest.raises(ValueError, match="a value of 2"):
        table[b"k"] = b"ab"
    with pytest.raises(KeyError):
        table[b"k"]
