"""What the makers of venues, scans and case reports share: chance, lines, the instants around which all happens."""

import random
from typing import Any

from tests.oracle.render import DAY_MS, MINUTE_MS, render
from tests.oracle.wire import CATEGORIES

MIDNIGHT_MS = 1_634_144_400_000  # 2021-10-14T00:00:00+07:00
Event = dict[str, Any]


class Maker:
    """Chance and lines. With ``order_free`` every line states its ``_ts``, so that lines may be moved."""

    def __init__(self, rng: random.Random, *, order_free: bool) -> None:
        self.rng = rng
        self.order_free = order_free

    def chance(self, share: float) -> bool:
        """True this often."""
        return self.rng.random() < share

    def line(self, event: Event, record_ms: int | None = None) -> bytes:
        """The event in one of its many spellings; ``record_ms`` None leaves the record timestamp to its default."""
        if record_ms is None and self.order_free:
            record_ms = MIDNIGHT_MS
        return render(self.rng, event if record_ms is None else event | {"_ts": record_ms})


class Instants:
    """Few instants, so that ties are common, as far apart as the rules of the venues at hand find interesting."""

    def __init__(self, rng: random.Random, venues: list[Event]) -> None:
        self.rng = rng
        self.steps_ms = sorted({step for venue in venues for step in _steps_ms(venue)})
        edges = [0, -1, 1, MINUTE_MS, MINUTE_MS - 1, 60 * MINUTE_MS, 60 * MINUTE_MS - 1, -DAY_MS, DAY_MS - 1]
        bases = rng.sample([*edges, *(rng.randrange(-DAY_MS, DAY_MS) for _ in edges)], rng.choice([1, 1, 2, 3]))
        self.pool_ms = [MIDNIGHT_MS + rng.choice(bases) + rng.choice([0, *self.steps_ms]) for _ in range(10)]

    def any(self) -> int:
        """One of the few, epoch ms."""
        return self.rng.choice(self.pool_ms)

    def late_or_early(self, *, late: bool) -> int:
        """One of the few, rather a late or rather an early one, or one beside it."""
        instant_ms = (max if late else min)(self.any(), self.any())
        return self.rng.choice([instant_ms, self.beside(instant_ms)])

    def beside(self, instant_ms: int) -> int:
        """An instant that a rule may tell apart from this one, before or after it."""
        moved_ms = instant_ms + self.rng.choice(self.steps_ms) * self.rng.choice([1, 1, -1])
        return moved_ms if abs(moved_ms - MIDNIGHT_MS) < 3 * DAY_MS else self.any()


def _steps_ms(venue: Event) -> list[int]:
    dwell, longest = CATEGORIES[venue["category"]]
    own = venue.get("dwell_minutes") or dwell
    bounds = [step * MINUTE_MS for step in (own, 2 * own, longest)]
    return [0, 1, own * MINUTE_MS // 2, 15 * MINUTE_MS, *(bound + by for bound in bounds for by in (-1, 0, 1))]
