"""Rulesets (SPEC §7): how long a case is infectious, what a contact is, and how much it counts.

A ruleset comes from a dated, versioned TOML file (``streams/rulesets/``, read by ``truyvet/rulesets.py``).
The report of a case is judged by the ruleset as it is then, and carries it along: what a rule said when a
case was reported holds for all of that case's exposures, whatever the files say later.
"""

from math import isfinite
from typing import Final, Literal

import msgspec

from streams.core.times import DAY_MS, MINUTE_MS, LocalClock, days_between

_NUMBER_MAX: Final = 1 << 31
"""Beyond every number that a ruleset may hold."""

Tail = Literal["none", "fixed", "equal_to_stay"]


class Level(msgspec.Struct, frozen=True):
    """A named level, reached from ``min_score`` weighted minutes on."""

    name: str
    min_score: float


class DayWeight(msgspec.Struct, frozen=True):
    """What a minute weighs ``day`` local calendar days after the anchor (negative: before)."""

    day: int
    weight: float


class Ruleset(msgspec.Struct, frozen=True):
    """One version of one ruleset. Days are of 24 hours; ``levels`` rise by min_score, the first at 0."""

    name: str
    version: int
    days_before: int
    days_before_asymptomatic: int
    days_after: int
    min_stay_minutes: int
    min_overlap_minutes: int
    tail: Tail
    tail_minutes: int
    """Of a fixed tail its length, of one that equals the stay the most it may be; 0 without a tail."""
    weights: tuple[DayWeight, ...]
    """By rising day; empty: every minute weighs 1."""
    levels: tuple[Level, ...]

    def period(
        self,
        onset_ms: int | None,
        sampled_ms: int | None,
        from_ms: int | None,
        to_ms: int | None,
        isolated_ms: int | None,
    ) -> tuple[int, int, int | None]:
        """When a case is infectious (SPEC §6), and the anchor: (from, to, anchor); empty where to <= from.

        ``from_ms`` and ``to_ms`` are the report's own; a day is 24 hours, whatever the clocks do.

        Raises:
            ValueError: neither the report nor, for want of an anchor, this ruleset tells it.
        """
        anchor_ms = sampled_ms if onset_ms is None else onset_ms
        if from_ms is None and anchor_ms is not None:
            days_before = self.days_before_asymptomatic if onset_ms is None else self.days_before
            from_ms = anchor_ms - days_before * DAY_MS
        if to_ms is None:
            to_ms = isolated_ms
        if to_ms is None and anchor_ms is not None:
            to_ms = anchor_ms + self.days_after * DAY_MS
        if from_ms is None or to_ms is None:
            raise ValueError("onset_at or sampled_at is needed, or the infectious period itself")
        return from_ms, to_ms, anchor_ms

    def tail_ms(self, stay_ms: int) -> int:
        """How long after a stay of this length its air and surfaces count, in milliseconds."""
        if self.tail == "none":
            return 0
        most_ms = self.tail_minutes * MINUTE_MS
        return most_ms if self.tail == "fixed" else min(stay_ms, most_ms)

    def weight(self, anchor_ms: int | None, at_ms: int, clock: LocalClock) -> float:
        """What a minute weighs at ``at_ms``; a day that is not listed has the nearest listed day's.

        Of two listed days equally near, the earlier one's.
        """
        if anchor_ms is None or not self.weights:
            return 1
        day = days_between(clock.place(anchor_ms)[2], clock.place(at_ms)[2])
        return min(self.weights, key=lambda listed: (abs(listed.day - day), listed.day)).weight

    def level(self, score: float) -> str:
        """The highest level whose min_score is reached."""
        reached = self.levels[0].name
        for level in self.levels:
            if score >= level.min_score:
                reached = level.name
        return reached


def is_rule(rule: Ruleset) -> bool:
    """Whether exposures can be told by it: it has a level, and no number that could not be in a ruleset's file."""
    numbers = (rule.version, rule.min_overlap_minutes, *(listed.day for listed in rule.weights))
    factors = (*(listed.weight for listed in rule.weights), *(level.min_score for level in rule.levels))
    return (
        len(rule.levels) > 0
        and all(-_NUMBER_MAX < number < _NUMBER_MAX for number in numbers)
        and all(isfinite(factor) and -_NUMBER_MAX < factor < _NUMBER_MAX for factor in factors)
    )
