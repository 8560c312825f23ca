"""Hashes of keys: the partitioner's compiled form, and the keyed one, held to Python's own."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.hashing import KeyedHash, partitions_of
from streams.core.partition import partition_of

_KEYS = [bytes(range(256))[: length % 257] * (1 + length // 257) for length in (*range(1, 70), 255, 600)]
_PRINT = f"print([hash(key) for key in {_KEYS!r}])"


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="this Python hashes otherwise")
@pytest.mark.parametrize("seed", [1, 77])
def test_the_keyed_hash_is_the_one_of_python_s_dictionaries(seed: int) -> None:
    """Another Python, told its secret, says the same of keys of every length."""
    run = subprocess.run(
        [sys.executable, "-c", _PRINT], capture_output=True, check=True, env=os.environ | {"PYTHONHASHSEED": str(seed)}
    )
    hashed = KeyedHash(_secret_of(seed))
    assert [_signed(hashed(key)) for key in _KEYS] == [int(text) for text in run.stdout.strip(b"[]\n").split(b",")]


def _secret_of(seed: int) -> bytes:
    """The secret that Python makes of ``PYTHONHASHSEED``."""
    secret = bytearray()
    for _ in range(16):
        seed = (seed * 214_013 + 2_531_011) & 0xFFFFFFFF
        secret.append(seed >> 16 & 0xFF)
    return bytes(secret)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def test_a_secret_has_sixteen_bytes() -> None:
    """Any other is refused."""
    with pytest.raises(ValueError, match="a secret of 15 bytes"):
        KeyedHash(bytes(15))


@given(st.lists(st.binary(max_size=80) | st.none()), st.integers(1, 64))
def test_many_partitions_at_once_are_those_of_each(keys: list[bytes | None], partitions: int) -> None:
    """The compiled partitioner says what the plain one does; no key counts as an empty one."""
    assert partitions_of(keys, partitions) == [partition_of(key or b"", partitions) for key in keys]
