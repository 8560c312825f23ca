"""What exposures a case would have under another ruleset, beside those it has: read from ClickHouse, emitting nothing.

Cuts and scores are made by the rooms' own functions. Of the case's person nothing leaves this module.
"""

# ruff: noqa: S608 - what stands in these queries is numbers, and texts as ``literal`` writes them

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sinks.backends import QueryFailedError, Reader, Rows, StorageError
from sinks.paging import literal
from streams.core.case_visits import Infectious, cut
from streams.core.directory import CATEGORY_NAMES
from streams.core.exposures import CaseStay, Contact, exposure_of
from streams.core.ruleset import Ruleset
from streams.core.times import LocalClock
from streams.core.visits import VISIT_MS_MAX, Visit
from streams.core.wire import digest

STAYS_PER_QUERY: Final = 100
"""A query reads the days of so many stays, which follow each other, and no others."""
_VISIT_COLUMNS: Final = "visit_id, venue_id, started_at, ended_at"
_CONTACT_COLUMNS: Final = (
    f"{_VISIT_COLUMNS}, person_id, first_scan_at, ward_code, district_code, province_code, category"
)
_PSEUDONYM: Final = re.compile(r"[0-9a-f]{8,}")


class TrialError(Exception):
    """There is no such case to try, or not one alone; one sentence."""


class Judged(NamedTuple):
    """An exposure as far as trials compare it."""

    level: str
    district_code: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A case's exposures by id: those stored, and those that another ruleset gives."""

    case_id: str
    ruleset_now: str
    ruleset: Ruleset
    from_ms: int
    to_ms: int
    """The infectious period under the other ruleset, epoch ms; empty where to <= from."""
    now: Mapping[str, Judged]
    then: Mapping[str, Judged]

    @property
    def appear(self) -> list[str]:
        """Ids of exposures that the case has not, and would have."""
        return sorted(self.then.keys() - self.now.keys())

    @property
    def vanish(self) -> list[str]:
        """Ids of exposures that the case has, and would not have."""
        return sorted(self.now.keys() - self.then.keys())

    @property
    def changed(self) -> list[str]:
        """Ids of exposures that would have another level."""
        return sorted(one for one in self.now.keys() & self.then.keys() if self.now[one].level != self.then[one].level)


class _Case(NamedTuple):
    person_id: str
    onset_ms: int | None
    sampled_ms: int | None
    from_ms: int | None
    to_ms: int | None
    isolated_ms: int | None
    ruleset: str


def try_ruleset(reader: Reader, clock: LocalClock, case_id: str, person_id: str | None, rule: Ruleset) -> Trial:
    """Reads what is needed of the case's days and venues, and judges it by the ruleset.

    Raises:
        TrialError: no confirmed case, or several persons' and none is named.
        StorageError: the database does not answer.
        QueryFailedError: it cannot answer.
    """
    try:
        return _Trying(reader, clock, case_id, rule).run(person_id)
    except (StorageError, QueryFailedError) as error:
        # The engine may quote the query, and with it the case's person.
        raise type(error)(_PSEUDONYM.sub("…", str(error))) from None


class _Trying:
    def __init__(self, reader: Reader, clock: LocalClock, case_id: str, rule: Ruleset) -> None:
        self._reader = reader
        self._clock = clock
        self._case_id = case_id
        self._rule = rule

    def run(self, person_id: str | None) -> Trial:
        """The whole trial."""
        case, shared = self._case(person_id)
        from_ms, to_ms, anchor_ms = self._rule.period(*case[1:6])
        infectious = Infectious(from_ms, to_ms, anchor_ms, self._rule)
        stays = [
            (venue, stay)
            for visit_id, venue, visit in self._visits(case.person_id, from_ms, to_ms)
            if (stay := self._stay(case.person_id, visit_id, visit, infectious))
        ]
        return Trial(
            *(self._case_id, case.ruleset, self._rule, from_ms, to_ms),
            now=self._stored(case.person_id if shared else None),
            then=self._exposures(stays),
        )

    def _case(self, person_id: str | None) -> tuple[_Case, bool]:
        """The report that counts, and whether another person has a case of the same id."""
        rows = self._rows(
            "SELECT person_id, onset_at, sampled_at, infectious_from, infectious_to, isolated_at, ruleset, status"
            f" FROM cases FINAL WHERE case_id = {literal(self._case_id)} AND status != 'erased'"
        )
        confirmed = [_Case(*row[:-1]) for row in rows if row[-1] == "confirmed"]
        meant = [case for case in confirmed if person_id in (None, case.person_id)]
        if len(meant) > 1:
            raise TrialError(f"{len(meant)} persons have a case {self._case_id}: say with --person which one is meant")
        if not meant:
            whose = "" if person_id is None else " of this person"
            withdrawn = any(person_id in (None, row[0]) for row in rows)
            why = "is withdrawn: no ruleset gives it exposures" if withdrawn else "is not known"
            raise TrialError(f"the case {self._case_id}{whose} {why}")
        return meant[0], len(confirmed) > 1

    def _stay(self, person_id: str, visit_id: str, visit: Visit, infectious: Infectious) -> CaseStay | None:
        kept = cut(visit, infectious)
        if kept is None:
            return None
        whose = (self._case_id, visit_id, person_id)
        return CaseStay(*whose, kept.from_ms, kept.until_ms, infectious.anchor_ms, self._rule)

    def _visits(self, person_id: str, from_ms: int, to_ms: int) -> Iterator[tuple[str, str, Visit]]:
        """(visit_id, venue_id, visit) of a person's visits that intersect the interval."""
        rows = self._rows(
            f"SELECT {_VISIT_COLUMNS} FROM visits FINAL WHERE {self._within(from_ms, to_ms)}"
            f" AND person_id = {literal(person_id)} ORDER BY started_at, visit_id"
        )
        for visit_id, venue_id, start_ms, end_ms in rows:
            # Only its times are asked for by the cut.
            yield visit_id, venue_id, Visit(b"", start_ms, venue_id.encode(), b"", start_ms, end_ms, b"", b"", 0)

    def _exposures(self, stays: Sequence[tuple[str, CaseStay]]) -> dict[str, Judged]:
        """What the stays, given by time with their venues, give under the ruleset."""
        found = {}
        for first in range(0, len(stays), STAYS_PER_QUERY):
            some = stays[first : first + STAYS_PER_QUERY]
            meets = " OR ".join(
                f"(venue_id = {literal(venue)} AND started_at < {stay.end_ms} AND ended_at > {stay.start_ms})"
                for venue, stay in some
            )
            within = self._within(some[0][1].start_ms, max(stay.end_ms for _, stay in some))
            rows = self._rows(f"SELECT {_CONTACT_COLUMNS} FROM visits FINAL WHERE {within} AND ({meets})")
            contacts: dict[str, list[Contact]] = {}
            for row in rows:
                contacts.setdefault(row[1], []).append(_contact(row))
            for venue, stay in some:
                for contact in contacts.get(venue, ()):
                    exposure = exposure_of(venue.encode(), stay, contact, self._clock)
                    if exposure:
                        found[exposure.exposure_id] = Judged(exposure.level, exposure.district_code)
        return found

    def _stored(self, person_id: str | None) -> dict[str, Judged]:
        """The case's active exposures; of the named person's case where several have this case_id."""
        rows = self._rows(
            "SELECT exposure_id, level, district_code, person_id, venue_id, contact_scan_at FROM exposures FINAL"
            f" WHERE status = 'active' AND case_id = {literal(self._case_id)} ORDER BY contact_scan_at"
        )
        if person_id is not None and rows:
            own = self._ids(person_id, rows)
            rows = [row for row in rows if row[0] in own]
        return {exposure_id: Judged(level, district) for exposure_id, level, district, *_ in rows}

    def _ids(self, person_id: str, exposures: Rows) -> set[str]:
        """Ids of all exposures that the person's visits could give to the contacts of these exposures.

        An exposure never names the case's person: only its id, a hash, tells from which visits it came.
        """
        first_ms, last_ms = exposures[0][-1] - 2 * VISIT_MS_MAX, exposures[-1][-1] + VISIT_MS_MAX
        visits: dict[str, list[str]] = {}
        for visit_id, venue, _ in self._visits(person_id, first_ms, last_ms):
            visits.setdefault(venue, []).append(visit_id)
        ids = set()
        for first in range(0, len(exposures), STAYS_PER_QUERY):
            some = exposures[first : first + STAYS_PER_QUERY]
            contacts = ", ".join(f"({literal(person)}, {literal(venue)}, {at})" for *_, person, venue, at in some)
            rows = self._rows(
                f"SELECT visit_id, venue_id FROM visits FINAL WHERE {self._within(some[0][-1], some[-1][-1])}"
                f" AND (person_id, venue_id, first_scan_at) IN ({contacts})"
            )
            for contact_id, venue in rows:
                for visit_id in visits.get(venue, ()):
                    ids.add(digest(self._case_id.encode(), visit_id.encode(), contact_id.encode()).decode())
        return ids

    def _within(self, from_ms: int, to_ms: int) -> str:
        """SQL: active visits that touch the interval. Their day is their first scan's, which lies within them."""
        first, last = from_ms - VISIT_MS_MAX, to_ms + VISIT_MS_MAX
        days = f"day >= {self._day(first)} AND day <= {self._day(last)}"
        return f"status = 'active' AND {days} AND started_at <= {to_ms} AND ended_at >= {from_ms}"

    def _day(self, ms: int) -> int:
        """The local day as the tables hold it."""
        return int(self._clock.day_text(ms).replace("-", ""))

    def _rows(self, sql: str) -> Rows:
        return self._reader.query(sql)[1]


def _contact(row: Sequence[Any]) -> Contact:
    """A row of ``_CONTACT_COLUMNS`` as the venue room holds it."""
    visit_id, _, start_ms, end_ms, person_id, first_scan_ms, ward, district, province, category = row
    areas = f"{ward}{district}{province}".encode()
    whose = (bytes.fromhex(visit_id), start_ms, end_ms, bytes.fromhex(person_id), first_scan_ms)
    return Contact(*whose, areas, CATEGORY_NAMES.index(category))
