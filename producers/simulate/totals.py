"""Totals files: what was published about some days, and the exact figures that are simulated for them.

The format is described in ``data/README.md``. Figures are named as in the daily report (SPEC §5).
"""

import itertools
import json
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from truyvet.config import ConfigError

DEFAULT_TOTALS: Final = Path(__file__).parent / "data" / "hanoi-2021-10.toml"
WINDOW_DAYS: Final = 7
DAYS_MAX: Final = 400
SCANS_MAX: Final = 50_000_000
VENUES_MAX: Final = 20_000_000
FIGURES: Final = ("venues_total", "venues_new", "venues_active", "scans", "persons")

Scans = Annotated[int, Field(ge=0, le=SCANS_MAX)]
Venues = Annotated[int, Field(ge=0, le=VENUES_MAX)]


class TotalsError(ConfigError):
    """A totals file is wrong; the message is one sentence that says where."""


def _date(value: object) -> object:
    return date.fromisoformat(value) if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class PublishedDay(_Strict):
    """What was published about one day; None is unknown."""

    date: Annotated[date, BeforeValidator(_date), Field(ge=date(2000, 1, 1), le=date(2098, 12, 31))]
    venues_total: Venues | None = None
    venues_new: Venues | None = None
    venues_active: Venues | None = None
    scans: Scans | None = None
    persons: Scans | None = None


class Means(_Strict):
    """Published means of the seven days that end on the last day, rounded half up; None is unknown."""

    scans: Scans | None = None
    persons: Scans | None = None
    venues_active: Venues | None = None
    venues_new: Venues | None = None


class Publication(_Strict):
    """A totals file as it stands."""

    title: str = ""
    source: str = ""
    province: str = Field("01", pattern=r"^[0-9]{2}$")
    seven_day_means: Means = Means()
    days: tuple[PublishedDay, ...] = Field(min_length=1, max_length=DAYS_MAX, strict=False)

    @model_validator(mode="after")
    def _days_in_order(self) -> Self:
        for before, after in itertools.pairwise(self.days):
            if after.date <= before.date:
                raise ValueError(f"days: {after.date} follows {before.date}; the days must be in order, each once")
        if (self.days[-1].date - self.days[0].date).days >= DAYS_MAX:
            raise ValueError(f"days: from first to last are more than {DAYS_MAX} days")
        return self

    def period(self) -> list[PublishedDay]:
        """Every day that is simulated, with what is known of it."""
        last = self.days[-1].date
        first = self.days[0].date
        if self.seven_day_means != Means():
            first = min(first, last - timedelta(days=WINDOW_DAYS - 1))
        known = {day.date: day for day in self.days}
        dates = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
        return [known.get(one, PublishedDay(date=one)) for one in dates]


class Day(_Strict):
    """The exact figures of one simulated day, local to Asia/Ho_Chi_Minh."""

    date: date
    venues_total: int
    venues_new: int
    venues_active: int
    scans: int
    persons: int


class Totals(_Strict):
    """The exact figures of all simulated days."""

    province: str
    venues_before: int
    """Venues registered before the first day."""
    days: tuple[Day, ...]

    def scaled(self, scale: float) -> "Totals":
        """The same days with every figure times ``scale``.

        Rounded half up, but what was not zero stays at least 1. ``venues_total`` adds up from the rounded
        ``venues_before`` and ``venues_new``; persons and active venues are cut to the rounded scans and venues.
        """
        venues = before = scale_figure(self.venues_before, scale)
        days = []
        for day in self.days:
            new, scans = scale_figure(day.venues_new, scale), scale_figure(day.scans, scale)
            venues += new
            days.append(
                Day(
                    date=day.date,
                    venues_total=venues,
                    venues_new=new,
                    venues_active=min(scale_figure(day.venues_active, scale), scans, venues),
                    scans=scans,
                    persons=min(scale_figure(day.persons, scale), scans),
                ),
            )
        return Totals(province=self.province, venues_before=before, days=tuple(days))


def scale_figure(figure: int, scale: float) -> int:
    """A figure times ``scale``, rounded half up; at least 1 unless it is 0."""
    return max(int(figure * scale + 0.5), 1) if figure else 0


def load_publication(path: Path) -> Publication:
    """Reads a totals file.

    Raises:
        TotalsError: it cannot be read, or a key or value is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no TOML, no JSON
        raise TotalsError(f"{path}: cannot be read as a totals file: {error}") from error
    try:
        return Publication.model_validate(values)
    except ValidationError as error:
        raise TotalsError(f"{path}: {_sentence(error)}") from error


def _sentence(error: ValidationError) -> str:
    """The first error in plain words, with the place it is in."""
    first = error.errors()[0]
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{place}: no such key; see producers/simulate/data/README.md for the list"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message} (got {first.get('input')!r})"[:300] if place else message
