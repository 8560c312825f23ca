"""The venue register: who is where since when, as columns in order of registration."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from producers.simulate.arrays import (
    DAY_MS,
    SECOND_MS,
    Floats,
    Generator,
    Ints,
    base32,
    day_start_ms,
    half_up,
    stream,
    texts,
)
from producers.simulate.totals import Totals, TotalsError
from schemas.areas import Areas
from streams.core.categories import CATEGORIES

# category -> (share of venues, how much busier than others)
CATEGORY_MIX: Final = {
    "restaurant": (0.150, 1.0),
    "cafe": (0.120, 1.2),
    "supermarket": (0.030, 3.0),
    "market": (0.008, 3.0),
    "mall": (0.002, 5.0),
    "transport": (0.015, 2.0),
    "checkpoint": (0.001, 5.0),
    "hotel": (0.020, 0.6),
    "hospital": (0.004, 4.0),
    "pharmacy": (0.030, 1.5),
    "school": (0.015, 0.8),
    "office": (0.185, 1.0),
    "factory": (0.040, 1.2),
    "worship": (0.010, 0.4),
    "residence": (0.070, 0.5),
    "other": (0.300, 0.7),
}
CATEGORY_NAMES: Final = tuple(CATEGORY_MIX)
CHECKPOINT: Final = CATEGORY_NAMES.index("checkpoint")
RANK_EXPONENT: Final = 0.63
"""The venue of rank r has about r to the minus this as many scans."""
CLOSED_SHARE: Final = 0.008
ROTATED_SHARE: Final = 0.015
"""Venues whose poster was replaced: the code of the old one still hangs somewhere."""
OWN_DWELL_SHARE: Final = 0.04
NO_CAPACITY_SHARE: Final = 0.25
HISTORY_DAYS: Final = 45
OPENS_S: Final = 7 * 3600
CLOSES_S: Final = 18 * 3600
IDENTITY_BITS: Final = 30


@dataclass(frozen=True)
class Register:
    """All venues, sorted by registration; a venue is its index."""

    province: str
    ids: list[str]
    wards: list[str]
    """The codes that ``ward`` points to."""
    ward: Ints
    category: Ints
    lat: Floats
    lon: Floats
    capacity: Ints
    """0 is unknown."""
    own_dwell_minutes: Ints
    """0 is none."""
    closed: npt.NDArray[np.bool_]
    registered_ms: Ints
    popularity: Floats
    place: Floats
    """Where the venue lies on a line through all wards, from 0 to 1: near venues have near numbers."""
    old_codes: dict[int, list[str]]
    unknown_ids: list[str]
    """Identities that nobody ever registers."""

    def registered_by(self, end_ms: int) -> int:
        """How many venues are registered before that moment; they are the first ones."""
        return int(np.searchsorted(self.registered_ms, end_ms, side="left"))


def make_register(totals: Totals, areas: Areas, seed: int) -> Register:
    """Draws the register that the totals ask for.

    Raises:
        TotalsError: the province has no wards.
    """
    rng = stream(seed, "register")
    registered_ms = _registrations(totals, stream(seed, "registrations"))
    count = len(registered_ms)
    wards = sorted(
        (code for code, (_, province) in areas.parents.items() if province == totals.province),
        key=lambda code: (areas.parents[code][0], code),
    )
    if not wards:
        raise TotalsError(f"province: the administrative list has no province {totals.province!r} with wards")
    weights = np.array([_ward_weight(areas.names[code]) for code in wards]) * rng.lognormal(0, 0.5, len(wards))
    ward = rng.choice(len(wards), count, p=weights / weights.sum())
    shares = np.array([share for share, _ in CATEGORY_MIX.values()])
    category = rng.choice(len(shares), count, p=shares / shares.sum())
    busier = np.array([factor for _, factor in CATEGORY_MIX.values()])
    centres = np.array([areas.centres[code] for code in wards])
    rotated = np.flatnonzero(rng.random(count) < ROTATED_SHARE)
    old_per_venue = rng.choice([1, 2], len(rotated), p=[0.8, 0.2])
    spare = half_up(count * 0.001) + 10
    names = _identities(totals.province, count + int(old_per_venue.sum()) + spare, rng)
    codes = iter(names[count:-spare])
    return Register(
        province=totals.province,
        ids=names[:count],
        wards=wards,
        ward=ward,
        category=category,
        lat=centres[ward, 0] + rng.normal(0, 0.004, count),
        lon=centres[ward, 1] + rng.normal(0, 0.004, count),
        capacity=_capacities(rng, category),
        own_dwell_minutes=_own_dwell(rng, category),
        closed=rng.random(count) < CLOSED_SHARE,
        registered_ms=registered_ms,
        popularity=busier[category] * rng.uniform(1e-6, 1, count) ** -RANK_EXPONENT,
        place=(ward + rng.random(count)) / len(wards),
        old_codes={
            int(venue): [next(codes) for _ in range(many)]
            for venue, many in zip(rotated.tolist(), old_per_venue.tolist(), strict=True)
        },
        unknown_ids=names[-spare:],
    )


def _ward_weight(name: str) -> float:
    """More venues in town (phường) than in a small town (thị trấn) or a village (xã)."""
    return 3.0 if name.startswith("Phường") else 2.0 if name.startswith("Thị trấn") else 1.0


def _registrations(totals: Totals, rng: Generator) -> Ints:
    """Registration times, sorted: those of before over ``HISTORY_DAYS``, then each day's own; whole seconds."""
    first_ms = day_start_ms(totals.days[0].date)
    starts = [first_ms - (HISTORY_DAYS - number) * DAY_MS for number in range(HISTORY_DAYS)]
    weights = np.linspace(2.0, 1.0, HISTORY_DAYS)
    weights[0] += 5.0  # a bulk of venues that were taken over on the first day
    edges = np.floor(np.cumsum(weights) / weights.sum() * totals.venues_before + 1e-6).astype(np.int64)
    edges[-1] = totals.venues_before
    counts = [int(many) for many in np.diff(edges, prepend=0)]
    starts += [day_start_ms(day.date) for day in totals.days]
    counts += [day.venues_new for day in totals.days]
    days = [
        start + np.sort(rng.integers(OPENS_S, CLOSES_S, many)) * SECOND_MS
        for start, many in zip(starts, counts, strict=True)
    ]
    return np.concatenate(days).astype(np.int64)


def _identities(province: str, count: int, rng: Generator) -> list[str]:
    """Different identities such as ``01-7Q4ZK2``: an odd multiplier permutes the numbers below 2^30."""
    multiplier = np.uint64(int(rng.integers(2**28, 2**29)) * 2 + 1)
    start = np.uint64(int(rng.integers(2**IDENTITY_BITS)))
    numbers = (np.arange(count, dtype=np.uint64) * multiplier + start) & np.uint64(2**IDENTITY_BITS - 1)
    return [f"{province}-{text}" for text in texts(base32(numbers, IDENTITY_BITS // 5))]


def _capacities(rng: Generator, category: Ints) -> Ints:
    typical = np.array([30 * (1 + CATEGORIES[name].dwell_minutes_max / 120) for name in CATEGORY_NAMES])
    drawn = np.rint(typical[category] * rng.lognormal(0, 0.8, len(category))).astype(np.int64)
    known = rng.random(len(category)) >= NO_CAPACITY_SHARE
    return np.where(known, np.maximum(drawn, 2), 0)


def _own_dwell(rng: Generator, category: Ints) -> Ints:
    usual = np.array([CATEGORIES[name].dwell_minutes for name in CATEGORY_NAMES])[category]
    most = np.array([CATEGORIES[name].dwell_minutes_max for name in CATEGORY_NAMES])[category]
    drawn = np.clip(np.rint(usual * rng.uniform(0.5, 1.5, len(category))).astype(np.int64), 1, most)
    return np.where(rng.random(len(category)) < OWN_DWELL_SHARE, drawn, 0)
