"""The contract of a ruleset's TOML file (SPEC §7); ``docs/rulesets.md`` says how to write one.

Types are strict and unknown keys refused: a misspelt key must not pass for one that was left out. The
description of a field is what the file may hold there, in the words of the sentence that refuses the rest.
"""

from datetime import date
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from streams.core.ruleset import DayWeight, Level, Ruleset

DAYS_MAX: Final = 365
MINUTES_MAX: Final = 1440
WEIGHT_MAX: Final = 1_000_000
LEVELS_MAX: Final = 20
"""A case visit carries its whole ruleset along."""

_NAME: Final = "a name of 1 to 64 characters of a-z 0-9 _ -"
_WORDS: Final = "a text of 1 to 200 characters"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=200), Field(description=_WORDS)]
Days = Annotated[int, Field(ge=0, le=DAYS_MAX, description=f"a whole number of days from 0 to {DAYS_MAX}")]
Minutes = Annotated[int, Field(ge=0, le=MINUTES_MAX, description=f"a whole number of minutes from 0 to {MINUTES_MAX}")]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class TailTable(_Table):
    """``[tail]``: how long air and surfaces count after a case has left."""

    mode: Annotated[
        Literal["none", "fixed", "equal_to_stay"], Field(description='one of "none", "fixed", "equal_to_stay"')
    ]
    minutes: Annotated[
        int | None,
        Field(
            ge=1,
            le=MINUTES_MAX,
            validate_default=True,
            description=f'left out where mode is "none", else a whole number of minutes from 1 to {MINUTES_MAX}',
        ),
    ] = None

    @field_validator("minutes")
    @classmethod
    def _as_the_mode_wants(cls, minutes: int | None, known: ValidationInfo) -> int | None:
        if "mode" in known.data and (known.data["mode"] == "none") != (minutes is None):
            raise ValueError("does not fit the mode")
        return minutes


class WeightTable(_Table):
    """One of ``[[weights]]``: what a minute weighs so many local calendar days after the anchor."""

    day: Annotated[
        int, Field(ge=-DAYS_MAX, le=DAYS_MAX, description=f"a whole number of days from -{DAYS_MAX} to {DAYS_MAX}")
    ]
    weight: Annotated[
        float, Field(ge=0, le=WEIGHT_MAX, allow_inf_nan=False, description=f"a number from 0 to {WEIGHT_MAX}")
    ]


class LevelTable(_Table):
    """One of ``[[levels]]``."""

    name: Annotated[Name, Field(description=_NAME)]
    min_score: Annotated[float, Field(ge=0, allow_inf_nan=False, description="a finite number from 0 on")]


class RulesetFile(_Table):
    """One ruleset as its file holds it."""

    name: Annotated[Name, Field(description=f"the file's own name without .toml, {_NAME}")]
    version: Annotated[int, Field(ge=1, le=2_147_483_647, description="a whole number from 1 to 2147483647")]
    valid_from: Annotated[date, Field(description="a date without quotes, such as 2021-07-30")]
    title: Words
    source: Words
    days_before: Days
    days_before_asymptomatic: Days
    days_after: Days
    min_stay_minutes: Minutes
    min_overlap_minutes: Minutes
    tail: Annotated[TailTable, Field(description="a table [tail] with mode and minutes")]
    weights: Annotated[
        list[WeightTable], Field(description="tables [[weights]] with day and weight, no day more than once")
    ] = []
    levels: Annotated[
        list[LevelTable],
        Field(
            min_length=1,
            max_length=LEVELS_MAX,
            description=f"1 to {LEVELS_MAX} tables [[levels]] with name and min_score, min_score rising from 0 on"
            " and no name more than once",
        ),
    ]

    @field_validator("weights")
    @classmethod
    def _days_are_distinct(cls, weights: list[WeightTable]) -> list[WeightTable]:
        if len({weight.day for weight in weights}) < len(weights):
            raise ValueError("a day is listed twice")
        return weights

    @field_validator("levels")
    @classmethod
    def _levels_rise(cls, levels: list[LevelTable]) -> list[LevelTable]:
        scores = [level.min_score for level in levels]
        if scores[0] != 0 or any(low >= high for low, high in pairwise(scores)):
            raise ValueError("min_score does not rise from 0 on")
        if len({level.name for level in levels}) < len(levels):
            raise ValueError("a name is given twice")
        return levels

    def ruleset(self) -> Ruleset:
        """The rules alone, as the rooms know them."""
        return Ruleset(
            name=self.name,
            version=self.version,
            days_before=self.days_before,
            days_before_asymptomatic=self.days_before_asymptomatic,
            days_after=self.days_after,
            min_stay_minutes=self.min_stay_minutes,
            min_overlap_minutes=self.min_overlap_minutes,
            tail=self.tail.mode,
            tail_minutes=self.tail.minutes or 0,
            weights=tuple(DayWeight(each.day, each.weight) for each in sorted(self.weights, key=lambda each: each.day)),
            levels=tuple(Level(each.name, each.min_score) for each in self.levels),
        )
