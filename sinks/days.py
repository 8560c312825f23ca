"""Local days as the tables hold them: the number yyyymmdd."""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.core.times import LocalClock

_QUARTER_MS: Final = 900_000
_QUARTERS_MAX: Final = 10_000
"""A hundred days: further apart, times are sorted to find which quarters there are."""
# Dates of day columns repeat without end; this many are kept.
_DAYS_KEPT_MAX: Final = 10_000


class _DayNumbers(dict[str, int]):
    """``2021-10-14`` to 20211014."""

    def __missing__(self, text: str) -> int:
        year, month, day = text.split("-")
        if len(self) >= _DAYS_KEPT_MAX:
            self.clear()
        self[text] = number = int(year) * 10_000 + int(month) * 100 + int(day)
        return number


DAYS: Final = _DayNumbers()


def local_days(times: npt.NDArray[np.int64], clock: LocalClock) -> npt.NDArray[np.uint32]:
    """The local day of each instant, as the number yyyymmdd."""
    # No zone changes its day within a quarter of an hour, and a batch spans few of them.
    quarters = times // _QUARTER_MS
    first = int(quarters.min())
    places = quarters - first
    if int(places.max()) < _QUARTERS_MAX:
        there = np.flatnonzero(np.bincount(places))
        days = np.zeros(int(there[-1]) + 1, np.uint32)
        days[there] = [DAYS[clock.day_text((first + place) * _QUARTER_MS)] for place in there.tolist()]
        return days[places]
    found, places = np.unique(quarters, return_inverse=True)
    texts = [clock.day_text(quarter * _QUARTER_MS) for quarter in found.tolist()]
    return np.array([DAYS[text] for text in texts], np.uint32)[places]
