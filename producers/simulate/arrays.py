"""Shared by the modules that work on columns: types, random streams, local time, identifiers as text."""

import zlib
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Generator = np.random.Generator

SECOND_MS: Final = 1000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
LOCAL_OFFSET_MS: Final = 7 * HOUR_MS
"""Asia/Ho_Chi_Minh, which has had no other offset since 1975."""
CROCKFORD: Final = np.frombuffer(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", dtype=np.uint8)


def stream(seed: int, purpose: str, number: int = 0) -> Generator:
    """A random stream of its own for each purpose, so that a change in one leaves the others as they were."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), number])


def day_start_ms(day: date) -> int:
    """Local midnight at which the day begins, in epoch milliseconds."""
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        milliseconds=1,
    ) - LOCAL_OFFSET_MS


def base32(numbers: npt.NDArray[np.uint64], digits: int) -> Bytes:
    """The lowest ``digits`` × 5 bits of each number as Crockford base 32, one row of ASCII bytes each."""
    shifts = np.arange(5 * (digits - 1), -1, -5, dtype=np.uint64)
    picked: Bytes = CROCKFORD[((numbers[:, None] >> shifts) & np.uint64(31)).astype(np.intp)]
    return picked


def texts(rows: Bytes) -> list[str]:
    """Rows of ASCII bytes as texts."""
    width = rows.shape[1]
    whole = np.ascontiguousarray(rows).tobytes().decode("ascii")
    return [whole[start : start + width] for start in range(0, len(whole), width)]


def scattered(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64: another number for each number, without a pattern and without repeats."""
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return result


def half_up(value: float) -> int:
    """The nearest whole number, half up."""
    return int(value + 0.5)
