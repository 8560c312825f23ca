"""When in the day people come: the minutes of real days; ``data/README.md`` names their source."""

import csv
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np

from producers.simulate.arrays import DAY_MS, MINUTE_MS, Floats, Generator, Ints

PROFILE_FILE: Final = Path(__file__).parent / "data" / "nz-scans-per-minute.csv"
MINUTES_PER_DAY: Final = 1440


class ArrivalProfile:
    """Shares of a day's arrivals by minute, for each day of the week."""

    def __init__(self, path: Path = PROFILE_FILE) -> None:
        by_day: dict[str, list[float]] = {}
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                by_day.setdefault(row["day"], []).append(float(row["scans"]) + float(row["manual_entries"]))
        self._by_weekday: dict[int, list[Floats]] = {}
        for text, minutes in by_day.items():
            if len(minutes) != MINUTES_PER_DAY:
                raise ValueError(f"{path}: {text} has {len(minutes)} minutes instead of {MINUTES_PER_DAY}")
            weights = np.array(minutes)
            self._by_weekday.setdefault(date.fromisoformat(text).weekday(), []).append(weights / weights.sum())

    def shares(self, day: date) -> Floats:
        """The share of each minute of a day, adding up to 1; several real days of a weekday take turns."""
        days = self._by_weekday[day.weekday()]
        return days[day.toordinal() // 7 % len(days)]

    def draw(self, rng: Generator, day: date, count: int) -> Ints:
        """``count`` times of the day, in milliseconds after midnight, in no order."""
        edges = np.cumsum(self.shares(day))
        minutes = np.searchsorted(edges, rng.random(count) * edges[-1], side="right")
        moments: Ints = minutes.astype(np.int64) * MINUTE_MS + rng.integers(0, MINUTE_MS, count)
        return np.minimum(moments, DAY_MS - 1)
