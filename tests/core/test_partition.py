"""murmur2 is Kafka's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.partition import murmur2, partition_of, partitions_of_persons

# From Apache Kafka's own UtilsTest.testMurmur2, as signed integers.
VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "expected"), VECTORS.items())
def test_murmur2_is_kafkas(data: bytes, expected: int) -> None:
    """The vectors of Kafka's own test come out."""
    assert np.uint32(murmur2(data)).astype(np.int32) == expected


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=50), st.integers(1, 1000))
def test_columns_agree_with_single_keys(persons: list[bytes], partitions: int) -> None:
    """Whole columns of person keys go where each key alone goes."""
    keys = [person.hex().encode() for person in persons]
    assert partitions_of_persons(keys, partitions).tolist() == [partition_of(key, partitions) for key in keys]
