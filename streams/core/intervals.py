"""Intervals in a venue's state, kept so that what overlaps another interval costs what is found, not what is held.

Beside an interval's start its key has a class: the index of the smallest bound that its length does not pass.
Within a class whatever overlaps [a, b) begins in (a - bound, b), one range of keys; so a look-up is one short
range a class. What a range reads in vain are intervals shorter than their bound that end just before a: the bounds
are the lengths that estimated visits have, and close enough together that the others are few. The last class has
no bound and is read from its beginning: no visit is as long, and hardly a case visit.

A stored value begins with the interval's end as ``keys.time_key``, so that a look-up compares bytes.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from streams.core.crossing import Interval
from streams.core.keys import TIME_KEY_BYTES, time_key
from streams.core.step import StateReader
from streams.core.times import MINUTE_MS

BOUNDS_MINUTES: Final = (
    *(2, 5, 10, 15, 20, 30, 45, 60, 75, 90, 120, 150, 180, 240, 300, 360, 480, 600, 720, 960, 1200, 1440),
    *(2160, 2880),
)
_BOUNDS_MS: Final = tuple(minutes * MINUTE_MS for minutes in BOUNDS_MINUTES)
CLASSES: Final = len(_BOUNDS_MS) + 1


def length_class(length_ms: int) -> int:
    """The class that an interval of this length is kept in."""
    return bisect_left(_BOUNDS_MS, length_ms)


def overlapping(
    state: StateReader,
    prefix: bytes,
    classes: Iterable[int],
    sought: Interval,
    after: bytes,
    limit: Callable[[], int],
) -> Iterator[tuple[list[tuple[bytes, bytes]], bytes, int]]:
    """The pairs under ``prefix`` whose interval overlaps ``sought`` and is of one of ``classes``, page by page.

    Each page comes with the key to go on ``after``, which is at first empty, and how many pairs were read for it: at
    most ``limit()``. A key is the prefix, its class as one byte, its start as ``keys.time_key``, and what tells equal
    ones apart.
    """
    from_ms, to_ms = sought
    ended, begun = time_key(from_ms), time_key(to_ms)
    for length in classes:
        of_class = prefix + bytes((length,))
        if of_class < after[: len(of_class)]:
            continue
        first = of_class
        if length < len(_BOUNDS_MS):
            first += time_key(from_ms - _BOUNDS_MS[length] + 1)
        if after >= first:
            first = after + b"\0"
        read = most = 1
        while read == most:
            most = limit()
            pairs = state.between(first, of_class + begun, most)
            read = len(pairs)
            if pairs:
                first = pairs[-1][0] + b"\0"
                yield [pair for pair in pairs if pair[1][:TIME_KEY_BYTES] > ended], pairs[-1][0], read
