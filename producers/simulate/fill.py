"""Completes what was published: every unknown figure is filled in, every published mean comes out to the digit."""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from producers.simulate.totals import WINDOW_DAYS, Day, Means, Publication, PublishedDay, Totals, TotalsError

# What is assumed where nothing at all was published about a figure.
SCANS_PER_PERSON: Final = 1.29
VENUES_ACTIVE_PER_SCAN: Final = 0.23
VENUES_NEW_PER_VENUE: Final = 0.007
# Fewer people are out at the weekend.
WEEKDAY_WEIGHTS: Final = (0.98, 1.0, 1.02, 1.03, 1.06, 0.95, 0.86)
FIGURE_MAX: Final = 2**40
ROUNDING_SLACK: Final = 3
"""Half up, a mean m of seven days is given by every sum from 7m − 3 to 7m + 3."""

Known = list[int | None]


def mean_half_up(total: int) -> int:
    """The mean of seven days whose sum is ``total``, rounded half up."""
    return (2 * total + WINDOW_DAYS) // (2 * WINDOW_DAYS)


def complete(publication: Publication, seed: int) -> Totals:
    """The exact figures of every simulated day.

    Raises:
        TotalsError: the figures contradict each other, or a mean cannot be reached.
    """
    period = publication.period()
    means = publication.seven_day_means
    _check_days(period)
    demand = [
        WEEKDAY_WEIGHTS[day.date.weekday()] * (1 + 0.05 * random.Random(f"{seed}/demand/{day.date}").uniform(-1, 1))
        for day in period
    ]
    scans_min = [max(day.persons or 0, day.venues_active or 0) for day in period]
    scans = _fill(Figure("scans", _scans_by_persons(period, means), _scans_mean(period, means), demand, scans_min))
    by_scans = [float(count) for count in scans]
    least = [min(count, 1) for count in scans]
    persons = _fill(
        Figure(
            *("persons", [day.persons for day in period], means.persons, by_scans, least),
            highs=scans,
            default_per_weight=1 / SCANS_PER_PERSON,
        ),
    )
    venues_before, new = _venues(publication, period, demand)
    total = [venues_before + sum(new[: index + 1]) for index in range(len(period))]
    active = _fill(
        Figure(
            *("venues_active", [day.venues_active for day in period], means.venues_active, by_scans, least),
            highs=[min(pair) for pair in zip(scans, total, strict=True)],
            default_per_weight=VENUES_ACTIVE_PER_SCAN,
        ),
    )
    rows = zip(period, total, new, active, scans, persons, strict=True)
    days = tuple(
        Day(date=day.date, venues_total=t, venues_new=n, venues_active=a, scans=s, persons=p)
        for day, t, n, a, s, p in rows
    )
    _check_filled(days)
    return Totals(province=publication.province, venues_before=venues_before, days=days)


def _scans_per_person(period: list[PublishedDay]) -> float:
    """Of the days where both are known, else what is usual."""
    both = [(day.scans, day.persons) for day in period if day.scans and day.persons]
    return sum(scans for scans, _ in both) / sum(persons for _, persons in both) if both else SCANS_PER_PERSON


def _scans_by_persons(period: list[PublishedDay], means: Means) -> Known:
    """Each day's scans; where only its persons are known, and no mean binds the scans, they follow from those."""
    ratio = _scans_per_person(period)
    follows = means.scans is None
    return [
        round(max(day.persons * ratio, day.venues_active or 0))
        if day.scans is None and day.persons is not None and follows
        else day.scans
        for day in period
    ]


def _scans_mean(period: list[PublishedDay], means: Means) -> int | None:
    """The mean of scans; one that follows from the mean of persons where that alone is published."""
    known = _scans_by_persons(period, means)[-WINDOW_DAYS:]
    if means.scans is not None or means.persons is None or None not in known:
        return means.scans
    ratio = _scans_per_person(period)
    persons = float(WINDOW_DAYS * means.persons)
    total = 0.0
    for day, scans in zip(period[-WINDOW_DAYS:], known, strict=True):
        total += (day.venues_active or 0) if scans is None else scans
        persons -= (scans or 0) / ratio if day.persons is None else day.persons
    return math.ceil((total + max(persons, 0) * ratio) / WINDOW_DAYS)


def _check_days(period: list[PublishedDay]) -> None:
    """Figures of one day that contradict each other, whatever the unknown ones are."""
    for day in period:
        for part, whole in (
            ("persons", "scans"),
            ("venues_active", "scans"),
            ("venues_active", "venues_total"),
            ("venues_new", "venues_total"),
        ):
            less, more = getattr(day, part), getattr(day, whole)
            if less is not None and more is not None and less > more:
                raise TotalsError(f"{day.date}: {part} ({less}) may not be more than {whole} ({more})")
        if day.scans and (day.persons == 0 or day.venues_active == 0):
            raise TotalsError(f"{day.date}: {day.scans} scans need at least one person and one active venue")


def _check_filled(days: tuple[Day, ...]) -> None:
    for day in days:
        if day.venues_active > day.venues_total:
            raise TotalsError(
                f"{day.date}: venues_active ({day.venues_active}) may not be more than the {day.venues_total} "
                "venues registered by then",
            )
        if day.scans and not (day.persons and day.venues_active):
            raise TotalsError(f"{day.date}: {day.scans} scans need at least one person and one active venue")


@dataclass(frozen=True)
class Figure:
    """One figure of every day: what is known, and what binds the rest."""

    name: str
    known: Known
    mean: int | None
    weights: Sequence[float]
    lows: Sequence[int]
    highs: Sequence[int] | None = None
    default_per_weight: float | None = None
    """What one unit of weight is worth if nothing was published."""


def _fill(figure: Figure) -> list[int]:
    """The figure on every day; unknown ones in proportion to the weights, within their bounds."""
    known, lows = figure.known, figure.lows
    highs = figure.highs or [FIGURE_MAX] * len(known)
    level = _level(figure)
    filled = [
        min(max(round(level * figure.weights[index]), lows[index]), highs[index]) if value is None else value
        for index, value in enumerate(known)
    ]
    if figure.mean is None:
        return filled
    window = range(max(len(known) - WINDOW_DAYS, 0), len(known))
    unknown = [index for index in window if known[index] is None]
    rest = sum(known[index] or 0 for index in window)
    bounded = [[values[index] for index in unknown] for values in (lows, highs)]
    total = nearest_sum(figure.name, figure.mean, rest + sum(bounded[0]), rest + sum(bounded[1]))
    shares = apportion(total - rest, [figure.weights[index] for index in unknown], *bounded)
    for index, share in zip(unknown, shares, strict=True):
        filled[index] = share
    return filled


def _level(figure: Figure) -> float:
    """What one unit of weight is worth, going by the known days, else by the mean, else by assumption."""
    pairs = [(value, weight) for value, weight in zip(figure.known, figure.weights, strict=True) if value is not None]
    if sum(weight for _, weight in pairs) > 0:
        return sum(value for value, _ in pairs) / sum(weight for _, weight in pairs)
    if figure.mean is not None and sum(figure.weights) > 0:
        return figure.mean * len(figure.weights) / sum(figure.weights)
    if figure.default_per_weight is None:
        raise TotalsError(f"{figure.name}: give it for at least one day, or its seven-day mean")
    return figure.default_per_weight


def nearest_sum(name: str, mean: int, lowest: int, highest: int) -> int:
    """The sum of seven days nearest to seven times the mean, among those that give it.

    Raises:
        TotalsError: none of them lies between ``lowest`` and ``highest``.
    """
    total = min(max(WINDOW_DAYS * mean, lowest), highest)
    if abs(total - WINDOW_DAYS * mean) > ROUNDING_SLACK:
        bounds = f"{mean_half_up(lowest)}" if lowest == highest else f"{mean_half_up(lowest)} or more"
        if total < WINDOW_DAYS * mean and lowest != highest:
            bounds = f"{mean_half_up(highest)} or less"
        raise TotalsError(f"seven_day_means.{name}: {mean} cannot be reached; with the days' figures it is {bounds}")
    return total


def apportion(total: int, weights: Sequence[float], lows: Sequence[int], highs: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to ``weights``, each within its bounds, that add up to ``total``.

    ``total`` must lie between the sums of the bounds.
    """
    if not weights:
        return []
    weights = [max(weight, 1e-9) for weight in weights]
    low, high = 0.0, (total + 1.0) / min(weights)
    for _ in range(200):
        middle = (low + high) / 2
        if sum(_clipped(middle, weights, lows, highs)) < total:
            low = middle
        else:
            high = middle
    exact = _clipped(low, weights, lows, highs)
    shares = [math.floor(value) for value in exact]
    # The largest remainders get what rounding down left over; bounds are whole, so they stay kept.
    by_remainder = sorted(range(len(shares)), key=lambda index: (shares[index] - exact[index], index))
    while sum(shares) != total:
        step = 1 if sum(shares) < total else -1
        for index in by_remainder if step > 0 else reversed(by_remainder):
            if sum(shares) != total and lows[index] <= shares[index] + step <= highs[index]:
                shares[index] += step
    return shares


def _clipped(level: float, weights: Sequence[float], lows: Sequence[int], highs: Sequence[int]) -> list[float]:
    return [min(max(level * weight, low), high) for weight, low, high in zip(weights, lows, highs, strict=True)]


def _venues(publication: Publication, period: list[PublishedDay], demand: list[float]) -> tuple[int, list[int]]:
    """Venues before the first day, and new ones on each day."""
    new: Known = [day.venues_new for day in period]
    ends = _known_ends(period)
    if not ends:
        raise TotalsError("venues_total: give it for at least one day")
    indexes = sorted(ends)
    for start, end in itertools.pairwise(indexes):
        _share_between(period, new, demand, (start, ends[start]), (end, ends[end]))
    figure = Figure(
        *("venues_new", new, publication.seven_day_means.venues_new, demand, [0] * len(period)),
        default_per_weight=ends[indexes[-1]] * VENUES_NEW_PER_VENUE,
    )
    filled = _fill(figure)
    last = indexes[-1]
    before = ends[last] - sum(filled[: last + 1])
    if before < 0:
        raise TotalsError(f"venues_total: more venues are new by {period[last].date} than the {ends[last]} there are")
    return before, filled


def _known_ends(period: list[PublishedDay]) -> dict[int, int]:
    """Venues at the end of the day with that index; −1 is the day before the first."""
    ends: dict[int, int] = {}
    for index, day in enumerate(period):
        if day.venues_total is None:
            continue
        ends[index] = day.venues_total
        if day.venues_new is not None:
            before = ends.setdefault(index - 1, day.venues_total - day.venues_new)
            if before != day.venues_total - day.venues_new:
                raise TotalsError(
                    f"{day.date}: venues_total ({day.venues_total}) less venues_new ({day.venues_new}) is not the "
                    f"{before} of the day before",
                )
    return ends


def _share_between(
    period: list[PublishedDay],
    new: Known,
    demand: list[float],
    start: tuple[int, int],
    end: tuple[int, int],
) -> None:
    """Fills in new venues between two days (index, venues_total) whose totals are known."""
    days = range(start[0] + 1, end[0] + 1)
    unknown = [index for index in days if new[index] is None]
    rest = end[1] - start[1] - sum(new[index] or 0 for index in days)
    if rest < 0 or (rest and not unknown):
        raise TotalsError(
            f"{period[end[0]].date}: venues_total ({end[1]}) does not follow from {start[1]} "
            f"on {period[start[0]].date if start[0] >= 0 else 'the day before the first'} and the venues that are new",
        )
    shares = apportion(rest, [demand[index] for index in unknown], [0] * len(unknown), [rest] * len(unknown))
    for index, share in zip(unknown, shares, strict=True):
        new[index] = share
