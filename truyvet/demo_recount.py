"""Who met whom, counted once more for the demo: a naive join of the visits and cases that stand in the tables.

It is kept apart from the rooms, which find the same contacts one change at a time. What a ruleset says of a period,
a tail, a weight or a level is asked of the ruleset itself.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from sinks.backends import Reader
from sinks.paging import pages
from sinks.tables import TABLES
from streams.core.ruleset import Ruleset
from streams.core.times import MINUTE_MS, LocalClock

_ACTIVE: Final = "status = 'active'"
_CONFIRMED: Final = "status = 'confirmed'"
_CASE_VENUES: Final = (
    f"SELECT venue_id FROM visits FINAL WHERE {_ACTIVE}"  # noqa: S608 - constants only
    f" AND person_id IN (SELECT person_id FROM cases FINAL WHERE {_CONFIRMED})"
)
"""SQL: wherever a person with a confirmed case was."""


class Visit(NamedTuple):
    """A row of ``visits``; times in epoch milliseconds."""

    visit_id: str
    person_id: str
    venue_id: str
    district_code: str
    started_at: int
    ended_at: int


class Case(NamedTuple):
    """A row of ``cases``; times in epoch milliseconds."""

    case_id: str
    person_id: str
    ruleset: str
    onset_at: int | None
    sampled_at: int | None
    infectious_from: int | None
    infectious_to: int | None
    isolated_at: int | None


class Exposure(NamedTuple):
    """A row of ``exposures``, as far as visits and cases alone determine it; times in epoch milliseconds."""

    exposure_id: str
    case_id: str
    person_id: str
    venue_id: str
    district_code: str
    overlap_from: int
    overlap_to: int
    overlap_minutes: int
    score: float
    level: str


def read_cases(reader: Reader) -> list[Case]:
    """The confirmed cases."""
    return [Case(*row) for page in pages(reader, TABLES["cases"], Case._fields, _CONFIRMED) for row in page]


def read_exposures(reader: Reader) -> set[Exposure]:
    """The active exposures."""
    return {Exposure(*row) for page in pages(reader, TABLES["exposures"], Exposure._fields, _ACTIVE) for row in page}


def recount(reader: Reader, rulesets: Mapping[str, Ruleset], clock: LocalClock) -> set[Exposure]:
    """The exposures that the stored visits and cases give."""
    where = f"{_ACTIVE} AND venue_id IN ({_CASE_VENUES})"
    visits = [Visit(*row) for page in pages(reader, TABLES["visits"], Visit._fields, where) for row in page]
    return contacts(read_cases(reader), visits, rulesets, clock)


def contacts(
    cases: Iterable[Case], visits: Iterable[Visit], rulesets: Mapping[str, Ruleset], clock: LocalClock
) -> set[Exposure]:
    """Every case's stays within its infectious period, beside every visit of others at the same venue (SPEC §7)."""
    at_venue: dict[str, list[Visit]] = {}
    of_person: dict[str, list[Visit]] = {}
    for visit in visits:
        at_venue.setdefault(visit.venue_id, []).append(visit)
        of_person.setdefault(visit.person_id, []).append(visit)
    found = set()
    for case in cases:
        rule = rulesets[case.ruleset]
        from_ms, to_ms, anchor_ms = rule.period(*case[3:])
        for stay in of_person.get(case.person_id, ()):
            begin_ms, end_ms = max(stay.started_at, from_ms), min(stay.ended_at, to_ms)
            if end_ms <= begin_ms or end_ms - begin_ms < rule.min_stay_minutes * MINUTE_MS:
                continue
            until_ms = end_ms + rule.tail_ms(end_ms - begin_ms)
            for visit in at_venue[stay.venue_id]:
                first_ms, last_ms = max(visit.started_at, begin_ms), min(visit.ended_at, until_ms)
                enough = last_ms > first_ms and last_ms - first_ms >= rule.min_overlap_minutes * MINUTE_MS
                if enough and visit.person_id != case.person_id:
                    weight = rule.weight(anchor_ms, first_ms, clock)
                    found.add(_exposure(case, stay, visit, (first_ms, last_ms), (rule, weight)))
    return found


def _exposure(
    case: Case, stay: Visit, visit: Visit, overlap: tuple[int, int], judged: tuple[Ruleset, float]
) -> Exposure:
    minutes = (overlap[1] - overlap[0]) // MINUTE_MS
    rule, weight = judged
    identity = f"{case.case_id}|{stay.visit_id}|{visit.visit_id}"
    return Exposure(
        exposure_id=blake2b(identity.encode(), digest_size=16).hexdigest(),
        case_id=case.case_id,
        person_id=visit.person_id,
        venue_id=visit.venue_id,
        district_code=visit.district_code,
        overlap_from=overlap[0],
        overlap_to=overlap[1],
        overlap_minutes=minutes,
        score=weight * minutes,
        level=rule.level(weight * minutes),
    )
