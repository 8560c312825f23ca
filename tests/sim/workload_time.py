"""When things of a workload happen, and when their records say so: instants that jump about, or days that pass."""

import random
from typing import Protocol

from tests.oracle.making import MIDNIGHT_MS, Instants
from tests.oracle.render import DAY_MS, MINUTE_MS
from tests.oracle.reports import CASE_RETENTION_MS
from tests.oracle.wire import FUTURE_MS

HOUR_MS = 60 * MINUTE_MS
UTC_OFFSET_MS = 7 * HOUR_MS
QUIET_FROM = 53.0
"""Seconds after which time stands still in ``Passing``: what comes then comes after the last expiry."""


def day_start(ms: int) -> int:
    """When the local day of an instant began; in epoch ms, in Asia/Ho_Chi_Minh, which knows no summer."""
    return (ms + UTC_OFFSET_MS) // DAY_MS * DAY_MS - UTC_OFFSET_MS


def bursts(rng: random.Random, count: int, number: int, latest: float) -> list[float]:
    """``count`` times in seconds, rising, most of them in ``number`` bursts."""
    centres = [rng.uniform(0.5, latest - 1) for _ in range(number)]
    width = rng.choice([0.02, 0.3, 1.0])
    times = [
        rng.choice(centres) + rng.random() * width if rng.random() < 0.9 else rng.uniform(0.5, latest)
        for _ in range(count)
    ]
    return sorted(round(at, 3) for at in times)


class When(Protocol):
    """Says when an event that is sent at ``at`` happened, and what its record is stamped with; all in epoch ms."""

    floor_ms: int | None

    def scan(self, at: float) -> int:
        """When a scan happened."""
        ...

    def beside(self, at: float, instant_ms: int) -> int:
        """An instant that a rule may tell apart from this one."""
        ...

    def stamp(self, at: float, topic: str, instant_ms: int) -> int:
        """The record timestamp for an event of that instant: mostly in bounds, else just outside."""
        ...

    def spared(self, instant_ms: int, stamp_ms: int) -> bool:
        """Whether nothing expires of an event of that instant in a record with that stamp."""
        ...


class Jumping(When):
    """Few instants within some days; stamps anywhere that the bounds allow, in any order."""

    def __init__(self, rng: random.Random, instants: Instants, retention_ms: int, *, in_order: bool) -> None:
        """``in_order``: scans happen mostly in the order they are sent in."""
        self.floor_ms = None
        self._rng = rng
        self._instants = instants
        self._retention_ms = retention_ms
        self._in_order = in_order

    def scan(self, at: float) -> int:
        if self._in_order and self._rng.random() < 0.8:
            return MIDNIGHT_MS - DAY_MS + round(at * DAY_MS / 30) // MINUTE_MS * MINUTE_MS
        return self._instants.any()

    def beside(self, at: float, instant_ms: int) -> int:  # noqa: ARG002 - where days pass, it counts
        return self._instants.beside(instant_ms)

    def stamp(self, at: float, topic: str, instant_ms: int) -> int:  # noqa: ARG002 - same
        rng = self._rng
        oldest_ms = {"scans": self._retention_ms, "cases": CASE_RETENTION_MS}.get(topic, 400 * DAY_MS)
        if rng.random() > 0.06:
            return instant_ms + rng.choice([0, 0, 700, HOUR_MS, -FUTURE_MS, oldest_ms])
        return instant_ms + rng.choice([-FUTURE_MS - 1, oldest_ms + 1, -DAY_MS, 400 * DAY_MS])

    def spared(self, instant_ms: int, stamp_ms: int) -> bool:  # noqa: ARG002 - same
        return True


class Passing(When):
    """Stamps rise with ``at`` over some weeks, some topics' up to a day ahead of the others'.

    Scans come on time, days late, or as late as the retention allows, to the millisecond.
    """

    def __init__(self, rng: random.Random, steps_ms: list[int], retention_ms: int) -> None:
        self._rng = rng
        self._steps_ms = steps_ms
        self._retention_ms = retention_ms
        self._begin_ms = MIDNIGHT_MS + rng.randrange(DAY_MS)
        self._ms_per_second = (retention_ms + rng.uniform(8, 20) * DAY_MS) / QUIET_FROM
        most_ms = rng.choice([1, 1, 23 * HOUR_MS])
        self._ahead_ms = {name: rng.randrange(most_ms) for name in ("scans", "cases", "erasures")}
        end_ms = max(self.now(QUIET_FROM, topic) for topic in self._ahead_ms)
        self.floor_ms: int = day_start(end_ms - retention_ms - DAY_MS)

    def now(self, at: float, topic: str) -> int:
        """The stamp of a record sent then."""
        return self._begin_ms + round(min(at, QUIET_FROM) * self._ms_per_second) + self._ahead_ms.get(topic, 0)

    def at(self, stamp_ms: int) -> float:
        """When a scan with this stamp is sent, or soon after."""
        return round((stamp_ms - self.now(0, "scans")) / self._ms_per_second + 0.001, 3)

    def scan(self, at: float) -> int:
        rng, now_ms, kind = self._rng, self.now(at, "scans"), self._rng.random()
        if kind < 0.65:
            late_ms = rng.choice([0, 0, 1000, rng.randrange(3 * HOUR_MS)])
        elif kind < 0.82:
            late_ms = rng.randrange(self._retention_ms)
        elif kind < 0.93:
            late_ms = self._retention_ms - rng.choice([0, 0, 1, 1000, HOUR_MS, DAY_MS])
        else:
            late_ms = rng.choice([self._retention_ms + 1, self._retention_ms + 3 * DAY_MS, -FUTURE_MS, -FUTURE_MS - 1])
        return now_ms - late_ms

    def beside(self, at: float, instant_ms: int) -> int:
        moved_ms = instant_ms + self._rng.choice(self._steps_ms) * self._rng.choice([1, 1, -1])
        now_ms = self.now(at, "scans")
        return moved_ms if now_ms - self._retention_ms <= moved_ms <= now_ms + FUTURE_MS else self.scan(at)

    def stamp(self, at: float, topic: str, instant_ms: int) -> int:  # noqa: ARG002 - where instants jump, it counts
        return self.now(at, topic)

    def spared(self, instant_ms: int, stamp_ms: int) -> bool:
        return min(instant_ms, stamp_ms) >= self.floor_ms
