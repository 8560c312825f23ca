"""How far behind a worker is, how fast it works it off, and when it will have: arithmetic, given what was seen when.

The estimate is of the work that is left over the work done beyond what comes in, by the last two minutes. What waits
outside brings further records with it, which one room writes for the other; who of the two is ahead does not matter. A
pause (a rebalance, a broker away, a laptop asleep) is no time in which records are worked off: it makes nothing slower.
"""

from collections import deque
from typing import Final, NamedTuple

WINDOW_SECONDS: Final = 120.0
PAUSE_SECONDS_MIN: Final = 10.0
"""So long without a record settled is a pause: a large step takes seconds, too."""
SURE_SECONDS_MIN: Final = 5.0
"""Before so much work was seen, nothing is said of its speed."""
BACKLOG_RECORDS_MIN: Final = 10_000
"""Fewer records are the next step, and no backlog."""
TELL_FIRST_SECONDS: Final = 10.0
TELL_SECONDS: Final = 60.0


class Estimate(NamedTuple):
    """What is left, and how long it will take."""

    records: int
    """That are there and not settled."""
    per_second: float
    """Records settled, pauses left out."""
    coming_per_second: float
    """Records that came in meanwhile, with those that they bring with them."""
    seconds: float | None
    """Until it is worked off; 0 without a backlog, None where nobody can say: falling behind, or too little seen."""

    @property
    def falling_behind(self) -> bool:
        """Whether more comes in than is worked off."""
        return self.per_second > 0 and self.coming_per_second >= self.per_second and self.records > 0

    def text(self, age_seconds: float | None = None) -> str:
        """One sentence without its end; the age is that of the records that come next, where it means something."""
        if self.records < BACKLOG_RECORDS_MIN:
            return f"{self.records} records wait"
        age = "" if age_seconds is None else f" ({duration(age_seconds)})"
        behind = f"{self.records:,} records behind{age}, {self.per_second:,.0f}/s"
        if self.falling_behind:
            return f"{behind}, falling behind: {self.coming_per_second:,.0f}/s come in"
        return behind if self.seconds is None else f"{behind}, caught up in {duration(self.seconds)}"


class Place(NamedTuple):
    """Where some inputs together stand: sums of the offsets of their partitions."""

    settled: int
    end: int

    @property
    def lag(self) -> int:
        """Records that are there and not settled."""
        return self.end - self.settled


NOWHERE: Final = Place(0, 0)


class _Stretch(NamedTuple):
    """What happened between two times at which something had been settled."""

    seconds: float
    """Of work: a pause counts as much as the shortest one."""
    clock_seconds: float
    settled: int
    """Records in all."""
    settled_outside: int
    came_outside: int
    came_inside: int


class Backlog:
    """What one worker has seen of its inputs; to be told of about once a second."""

    def __init__(self, news_records_min: int = BACKLOG_RECORDS_MIN) -> None:
        """So many records at least are worth telling of."""
        self._news_records_min = news_records_min
        self._stretches: deque[_Stretch] = deque()
        self._last: tuple[float, Place, Place] | None = None
        self._outside = self._inside = NOWHERE
        self._behind_since: float | None = None
        self._told_at: float | None = None

    def forget(self) -> None:
        """The inputs are others now: what was seen says nothing about them."""
        self._stretches.clear()
        self._last = None

    def see(self, now_seconds: float, outside: Place, inside: Place = NOWHERE) -> None:
        """Where the inputs stand that others write, and those that this work writes itself."""
        self._outside, self._inside = outside, inside
        if self._lag < BACKLOG_RECORDS_MIN:
            self.forget()
        if self._lag < self._news_records_min:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now_seconds
        if self._last is None:
            self._last = (now_seconds, outside, inside)
            return
        since, outside_before, inside_before = self._last
        settled_outside = outside.settled - outside_before.settled
        settled = settled_outside + inside.settled - inside_before.settled
        if settled <= 0:
            return
        seconds = now_seconds - since
        came = (outside.end - outside_before.end, inside.end - inside_before.end)
        self._stretches.append(_Stretch(min(seconds, PAUSE_SECONDS_MIN), seconds, settled, settled_outside, *came))
        self._last = (now_seconds, outside, inside)
        while sum(stretch.seconds for stretch in self._stretches) > WINDOW_SECONDS:
            self._stretches.popleft()

    @property
    def _lag(self) -> int:
        return self._outside.lag + self._inside.lag

    def estimate(self) -> Estimate:
        """By what was seen so far."""
        seconds = sum(stretch.seconds for stretch in self._stretches)
        if seconds < SURE_SECONDS_MIN:
            return Estimate(self._lag, 0.0, 0.0, 0.0 if self._lag < BACKLOG_RECORDS_MIN else None)
        per_second = sum(stretch.settled for stretch in self._stretches) / seconds
        outside = sum(stretch.settled_outside for stretch in self._stretches)
        with_them = 1 + sum(stretch.came_inside for stretch in self._stretches) / outside if outside else 1.0
        clock_seconds = sum(stretch.clock_seconds for stretch in self._stretches)
        coming = with_them * sum(stretch.came_outside for stretch in self._stretches) / clock_seconds
        work = with_them * self._outside.lag + self._inside.lag
        return Estimate(self._lag, per_second, coming, None if coming >= per_second else work / (per_second - coming))

    def due(self, now_seconds: float) -> str | None:
        """What is to be said now of a backlog, or of its end: its first seconds are no news, and then once a minute."""
        if self._behind_since is None:
            told, self._told_at = self._told_at, None
            return None if told is None else "caught up"
        first = self._told_at is None
        since, wait = (self._behind_since, TELL_FIRST_SECONDS) if first else (self._told_at or 0.0, TELL_SECONDS)
        if now_seconds - since < wait:
            return None
        self._told_at = now_seconds
        return "catching up"


def duration(seconds: float) -> str:
    """Roughly: ``40 s``, ``12 min``, ``5 h 10 min``, ``27 d 3 h``."""
    if seconds < 90:  # noqa: PLR2004 - a minute and a half is no "2 min" yet
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:  # noqa: PLR2004 - minutes an hour
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
