"""One day's scans, drawn so that scans, persons and active venues come out to the digit.

The venues that are active are chosen first, and each gets its number of scans, at least one. Pairs of scans at one
venue become stays with a check-in and a check-out, all others are visits with one scan. There are at least as many
visits as persons, so the first visits go to all persons once and the rest to those who have more than one.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from producers.simulate.arrays import DAY_MS, MINUTE_MS, SECOND_MS, Floats, Generator, Ints, day_start_ms, half_up
from producers.simulate.people import APP_MIX, CARD_MIX, CHECKPOINT_SOURCE, PAPER_SOURCE, People
from producers.simulate.profile import ArrivalProfile
from producers.simulate.register import CATEGORY_NAMES, CHECKPOINT, RANK_EXPONENT, Register
from producers.simulate.totals import Day
from streams.core.categories import CATEGORIES

IN: Final = 0
OUT: Final = 1
PASS: Final = 2
DIRECTIONS: Final = ("in", "out", "pass")
CHECK_OUT_SHARE: Final = 0.35
"""Of all scans. Where a person has two scans at a venue it is the second, else somebody who scanned only on leaving."""
PAPER_SHARE: Final = 0.03
"""Of all scans."""
STAYS_PER_EXTRA_SCAN: Final = 0.8
"""Of a day's scans beyond one a person, so many check out of a stay that was checked in; the rest are more visits."""
NEAR_HOME_SHARE: Final = 0.75

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scans:
    """Accepted scans as columns, in no order."""

    person: Ints
    venue: Ints
    occurred_ms: Ints
    direction: Ints
    source: Ints

    @classmethod
    def joined(cls, parts: list["Scans"]) -> "Scans":
        """Several days as one."""
        names = ("person", "venue", "occurred_ms", "direction", "source")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def draw_day(rng: Generator, day: Day, register: Register, people: People, profile: ArrivalProfile) -> Scans:
    """The scans of one day; ``register`` and ``people`` must be large enough for it."""
    visit_venue, is_stay = _visits(rng, day, register)
    visit_person = _visitors(rng, day, people, register.place[visit_venue])
    source = _sources(rng, people.app[visit_person], register.category[visit_venue] == CHECKPOINT, is_stay, day)
    arrived_ms = _arrivals(rng, day, register, visit_venue, profile)
    left_ms = _departures(rng, day, register.category[visit_venue], arrived_ms)
    on_form = source == PAPER_SOURCE
    singles = _single_directions(rng, day, register.category[visit_venue] == CHECKPOINT, is_stay)
    scans = Scans(
        person=np.concatenate([visit_person, visit_person[is_stay]]),
        venue=np.concatenate([visit_venue, visit_venue[is_stay]]),
        occurred_ms=np.concatenate([arrived_ms, left_ms[is_stay]]),
        direction=np.concatenate([singles, np.full(int(is_stay.sum()), OUT)]),
        source=np.concatenate([source, source[is_stay]]),
    )
    # A form says minutes, not milliseconds.
    on_paper = np.concatenate([on_form, on_form[is_stay]])
    minute_ms = np.maximum(scans.occurred_ms // MINUTE_MS * MINUTE_MS, register.registered_ms[scans.venue] + SECOND_MS)
    np.copyto(scans.occurred_ms, minute_ms, where=on_paper)
    return scans


def _visits(rng: Generator, day: Day, register: Register) -> tuple[Ints, Flags]:
    """The venue of each visit, and which visits are stays with two scans."""
    venues, counts = _venue_scans(rng, day, register)
    extra = day.scans - day.persons
    pairs = np.where(register.category[venues] == CHECKPOINT, 0, counts // 2)
    stays = min(half_up(STAYS_PER_EXTRA_SCAN * extra), int(pairs.sum()), half_up(CHECK_OUT_SHARE * day.scans))
    picked = rng.permutation(np.repeat(np.arange(len(venues)), pairs))[:stays]
    stays_per_venue = np.bincount(picked, minlength=len(venues))
    visit_venue = np.concatenate([np.repeat(venues, stays_per_venue), np.repeat(venues, counts - 2 * stays_per_venue)])
    return visit_venue, np.arange(len(visit_venue)) < stays


def _venue_scans(rng: Generator, day: Day, register: Register) -> tuple[Ints, Ints]:
    """The day's active venues and the scans of each: by rank, at least one, all of them together exact."""
    popularity = np.log(register.popularity[: day.venues_total])
    keys = popularity + rng.gumbel(0, 1, len(popularity))
    venues = np.sort(np.argsort(-keys, kind="stable")[: day.venues_active])
    if not len(venues):
        return venues, np.zeros(0, dtype=np.int64)
    today = popularity[venues] + rng.normal(0, 0.15, len(venues))
    rank = np.empty(len(venues), dtype=np.int64)
    rank[np.argsort(-today, kind="stable")] = np.arange(1, len(venues) + 1)
    weight = rank.astype(np.float64) ** -RANK_EXPONENT
    low, high = 0.0, 2.0 * day.scans
    for _ in range(100):
        level = (low + high) / 2
        low, high = (level, high) if np.maximum(weight * level, 1).sum() < day.scans else (low, level)
    exact = np.maximum(weight * low, 1)
    counts = exact.astype(np.int64)
    left = max(day.scans - int(counts.sum()), 0)
    luck = rng.random(len(venues)) - (exact - counts)
    counts[np.argsort(luck, kind="stable")[: left % len(venues)]] += 1
    return venues, counts + left // len(venues)


def _visitors(rng: Generator, day: Day, people: People, place: Floats) -> Ints:
    """Who makes each visit: every one of the day's persons at least once, mostly near home."""
    keys = rng.exponential(1, len(people.ids)) / people.activity
    persons = np.sort(np.argsort(keys, kind="stable")[: day.persons])
    if not len(persons):
        return persons
    activity = people.activity[persons]
    again = rng.choice(persons, len(place) - len(persons), p=activity / activity.sum())
    everybody = np.concatenate([persons, again])
    near = rng.random(len(everybody)) < NEAR_HOME_SHARE
    wish = np.where(near, people.home[everybody] + rng.normal(0, 0.01, len(everybody)), rng.random(len(everybody)))
    visitors = np.empty(len(place), dtype=np.int64)
    # Venues from one end of town to the other are matched with wishes in the same order.
    visitors[np.argsort(place, kind="stable")] = everybody[np.argsort(wish, kind="stable")]
    return visitors


def _sources(rng: Generator, app: Ints, at_checkpoint: Flags, is_stay: Flags, day: Day) -> Ints:
    """How each visit was checked in; both scans of a stay in the same way."""
    cards = np.array(list(CARD_MIX.values()))
    card = len(APP_MIX) + rng.choice(len(cards), len(app), p=cards / cards.sum())
    source = np.where(rng.random(len(app)) < cards.sum(), card, app)
    order = rng.permutation(np.flatnonzero(~at_checkpoint))
    scans_so_far = np.cumsum(1 + is_stay[order])
    source[order[scans_so_far <= half_up(PAPER_SHARE * day.scans)]] = PAPER_SOURCE
    return np.where(at_checkpoint, CHECKPOINT_SOURCE, source)


def _arrivals(rng: Generator, day: Day, register: Register, venue: Ints, profile: ArrivalProfile) -> Ints:
    """When each visit begins, in epoch milliseconds: by the profile, and after the venue was registered."""
    start_ms = day_start_ms(day.date)
    arrived_ms = start_ms + profile.draw(rng, day.date, len(venue))
    # Times without milliseconds are cut to the second later on: stay two seconds clear of the registration.
    earliest_ms = register.registered_ms[venue] + 2 * SECOND_MS
    rest_ms = start_ms + DAY_MS - 1 - earliest_ms
    moved_ms = earliest_ms + (rng.random(len(venue)) ** 2 * rest_ms).astype(np.int64)
    return np.where(arrived_ms < earliest_ms, moved_ms, arrived_ms)


def _departures(rng: Generator, day: Day, category: Ints, arrived_ms: Ints) -> Ints:
    """When each stay ends if it is checked out: by category, and on the same day."""
    dwell = np.array([CATEGORIES[name].dwell_minutes for name in CATEGORY_NAMES])[category]
    most = np.array([CATEGORIES[name].dwell_minutes_max for name in CATEGORY_NAMES])[category]
    minutes = np.clip(0.6 * dwell * rng.lognormal(0, 0.6, len(dwell)), 1, most)
    left_ms = arrived_ms + (minutes * MINUTE_MS).astype(np.int64)
    end_ms = day_start_ms(day.date) + DAY_MS - 1
    early_ms = arrived_ms + ((end_ms - arrived_ms) * rng.random(len(dwell))).astype(np.int64)
    return np.where(left_ms > end_ms, early_ms, left_ms)


def _single_directions(rng: Generator, day: Day, at_checkpoint: Flags, is_stay: Flags) -> Ints:
    """The direction of each visit's first scan; the second one of a stay is always a check-out."""
    direction = np.where(at_checkpoint, PASS, IN)
    alone = rng.permutation(np.flatnonzero(~at_checkpoint & ~is_stay))
    direction[alone[: half_up(CHECK_OUT_SHARE * day.scans) - int(is_stay.sum())]] = OUT
    return direction
