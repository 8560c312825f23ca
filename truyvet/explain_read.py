"""What an exposure came from, read from ClickHouse: its two visits, their scans, the case, the venue.

A retracted exposure's row names neither case nor venue, and no exposure names the case's person. But its id is a hash
over the case and the first scans of both visits: of all cases whose person was at a venue of the exposed person's
around then, the one that gives the id is meant. Every query is bounded by days, persons, venues or ids.

What is read here names the cases' persons; ``truyvet.explain_why`` passes none of it on.
"""

# ruff: noqa: S608 - what stands in these queries is numbers, and texts as ``literal`` writes them

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sinks.backends import QueryFailedError, Reader, Rows, StorageError
from sinks.paging import literal
from streams.core.times import DAY_MS, LocalClock
from streams.core.visits import VISIT_MS_MAX
from streams.core.wire import digest, visit_id

ROWS_AT_ONCE: Final = 50
"""Exposures that share their queries."""
_IDS_PER_QUERY: Final = 1000
_TAIL_MS_MAX: Final = DAY_MS
"""The longest tail that a ruleset may have."""
# Before and after the contact's first scan. Its visit begins at most one longest visit before that scan (and the visit
# before it one more) and ends at most one after; the case's ends at most a tail before that, and begins before its end.
_CONTACT_MS: Final = (2 * VISIT_MS_MAX, VISIT_MS_MAX)
_CASE_MS: Final = (2 * VISIT_MS_MAX + _TAIL_MS_MAX, 2 * VISIT_MS_MAX)
_HALF_DAY_MS: Final = DAY_MS // 2
"""A step that leaves out no day, not even one that the clocks make short."""
_PSEUDONYM: Final = re.compile(r"[0-9a-f]{8,}")


class Row(NamedTuple):
    """A row of ``exposures``; of a retracted one only the first four and the last are filled. Times in epoch ms."""

    exposure_id: str
    status: str
    person_id: str
    contact_scan_ms: int
    case_id: str
    venue_id: str
    category: str
    province_code: str
    district_code: str
    ward_code: str
    from_ms: int
    to_ms: int
    minutes: int
    score: float
    level: str
    ruleset: str
    ruleset_version: int
    reason: str
    detected_ms: int

    @property
    def active(self) -> bool:
        """Whether it stands."""
        return self.status == "active"


class Scan(NamedTuple):
    """A row of ``scans``; an erased one's venue is empty."""

    person_id: str
    at_ms: int
    scan_id: str
    venue_id: str
    source: str
    status: str

    @property
    def visit_id(self) -> str:
        """Of the visit that this scan opens, if it opens one."""
        return visit_id(self.person_id.encode(), self.venue_id.encode(), self.scan_id.encode()).decode()


class Visit(NamedTuple):
    """An active row of ``visits``; times in epoch ms."""

    visit_id: str
    person_id: str
    venue_id: str
    start_ms: int
    end_ms: int
    start_kind: str
    end_kind: str
    first_scan_id: str
    scan_count: int
    category: str


class Case(NamedTuple):
    """A row of ``cases``; times in epoch ms."""

    case_id: str
    person_id: str
    status: str
    onset_ms: int | None
    sampled_ms: int | None
    from_ms: int | None
    to_ms: int | None
    isolated_ms: int | None
    reported_ms: int | None
    ruleset: str | None


class Venue(NamedTuple):
    """A row of ``venues``."""

    venue_id: str
    name: str
    category: str
    province_code: str
    district_code: str
    ward_code: str
    dwell_minutes: int | None


class Meeting(NamedTuple):
    """What gives an exposure's id: the case, and the first scans of the case's visit and of the contact's."""

    case: Case
    case_scan: Scan
    contact_scan: Scan


@dataclass(slots=True)
class Facts:
    """What is stored around some exposures."""

    scans: dict[str, list[Scan]] = field(default_factory=dict)
    """By exposed person, in order, erased ones too."""
    meetings: dict[str, Meeting] = field(default_factory=dict)
    """By exposure_id; those that were found."""
    visits: dict[str, Visit] = field(default_factory=dict)
    """By visit_id: active ones of the exposed persons, and of those of ``meetings``' cases at the venue."""
    venues: dict[str, Venue] = field(default_factory=dict)


_ROW_COLUMNS: Final = (
    "exposure_id, status, person_id, contact_scan_at, case_id, venue_id, category, province_code, district_code,"
    " ward_code, overlap_from, overlap_to, overlap_minutes, score, level, ruleset, ruleset_version, reason, detected_at"
)
_SCAN_COLUMNS: Final = "person_id, occurred_at, scan_id, venue_id, source, status"
_VISIT_COLUMNS: Final = (
    "visit_id, person_id, venue_id, started_at, ended_at, start_kind, end_kind, first_scan_id, scan_count, category"
)
_CASE_COLUMNS: Final = (
    "case_id, person_id, status, onset_at, sampled_at, infectious_from, infectious_to, isolated_at,"
    " reported_at, ruleset"
)
_VENUE_COLUMNS: Final = "venue_id, name, category, province_code, district_code, ward_code, dwell_minutes"


class Archive:
    """Asks the database; raises StorageError or QueryFailedError, in whose words no person stands."""

    def __init__(self, reader: Reader, clock: LocalClock) -> None:
        self._reader = reader
        self._clock = clock

    def exposure(self, exposure_id: str) -> Row | None:
        """The exposure of this id, taken back or not."""
        found = self._exposures(f"exposure_id = {literal(exposure_id)}")
        return found[0] if found else None

    def of_person(self, person_id: str) -> list[Row]:
        """Every exposure of a person, the latest contact first."""
        return self._exposures(f"person_id = {literal(person_id)}")

    def of_case(self, case_id: str) -> list[Row]:
        """Every exposure that a case has, and those it had, as far as they can be found; the latest contact first."""
        rows = self._exposures(f"case_id = {literal(case_id)}")
        taken_back = self._taken_back(case_id)
        if taken_back:
            rows += [row for some in _cut(taken_back) for row in self._exposures(_in("exposure_id", some))]
        return sorted(rows, key=_latest_first)

    def knows_case(self, case_id: str) -> bool:
        """Whether a case of this id was ever reported."""
        return bool(self._rows(f"SELECT case_id FROM cases FINAL WHERE case_id = {literal(case_id)}"))

    def knows_person(self, person_id: str) -> bool:
        """Whether a scan of this person is stored, an erased one too."""
        return bool(self._rows(f"SELECT person_id FROM scans WHERE person_id = {literal(person_id)} LIMIT 1"))

    def facts(self, rows: Sequence[Row]) -> Facts:
        """What is stored around these exposures, at most ``ROWS_AT_ONCE``."""
        assert len(rows) <= ROWS_AT_ONCE, "a query has room for so many"
        facts = Facts(scans=self._contact_scans(rows))
        case_scans = self._case_scans(rows, facts)
        cases = self._cases({scan.person_id for scan in case_scans})
        for row in rows:
            meeting = _meeting(row, facts, case_scans, cases)
            if meeting is not None:
                facts.meetings[row.exposure_id] = meeting
        theirs = {(one.case.person_id, one.case_scan.venue_id) for one in facts.meetings.values()}
        opening = [scan for scan in case_scans if (scan.person_id, scan.venue_id) in theirs]
        opening += [scan for scans in facts.scans.values() for scan in scans if scan.status == "active"]
        facts.visits = self._visits(opening)
        venues = {row.venue_id for row in rows} | {scan.venue_id for scans in facts.scans.values() for scan in scans}
        facts.venues = self._venues(sorted(venues - {""}))
        return facts

    def _exposures(self, where: str) -> list[Row]:
        rows = self._rows(f"SELECT {_ROW_COLUMNS} FROM exposures FINAL WHERE {where}")
        return sorted((Row(*row) for row in rows), key=_latest_first)

    def _taken_back(self, case_id: str) -> list[str]:
        """Ids of retracted exposures that this case gave: those of its venues and days whose hash is right."""
        persons = f"SELECT person_id FROM cases FINAL WHERE case_id = {literal(case_id)}"
        stays = self._scans(f"person_id IN ({persons}) AND status = 'active'")
        if not stays:
            return []
        days = self._days_around((scan.at_ms for scan in stays), (_CASE_MS[1], _CASE_MS[0]))
        venues = _in("venue_id", sorted({scan.venue_id for scan in stays}))
        rows = self._rows(
            "SELECT exposure_id, person_id, contact_scan_at, scan_id, venue_id FROM ("
            " SELECT person_id, occurred_at AS contact_scan_at, scan_id, venue_id"
            f" FROM scans FINAL WHERE {days} AND {venues} AND status = 'active') AS scanned"
            " ALL INNER JOIN (SELECT exposure_id, person_id, contact_scan_at"
            f" FROM exposures FINAL WHERE {days} AND status = 'retracted') AS taken USING (person_id, contact_scan_at)"
        )
        contacts = [
            (exposure_id, Scan(person_id, at_ms, scan_id, venue_id, "", "active"))
            for exposure_id, person_id, at_ms, scan_id, venue_id in rows
        ]
        return sorted(
            {
                exposure_id
                for exposure_id, contact in contacts
                for stay in stays
                if stay.venue_id == contact.venue_id and _exposure_id(case_id, stay, contact) == exposure_id
            }
        )

    def _contact_scans(self, rows: Sequence[Row]) -> dict[str, list[Scan]]:
        persons = _in("person_id", sorted({row.person_id for row in rows}))
        days = self._days_around((row.contact_scan_ms for row in rows), _CONTACT_MS)
        found: dict[str, list[Scan]] = {}
        for scan in sorted(self._scans(f"{persons} AND {days}")):
            found.setdefault(scan.person_id, []).append(scan)
        return found

    def _case_scans(self, rows: Sequence[Row], facts: Facts) -> list[Scan]:
        """Of all persons with a case (where no row is retracted: with one of the rows'), at the rows' venues."""
        venues = {row.venue_id for row in rows if row.active}
        venues |= {scan.venue_id for row in rows if not row.active for scan in opening_scans(row, facts)}
        if not venues:
            return []
        of_cases = "1" if not all(row.active for row in rows) else _in("case_id", sorted({row.case_id for row in rows}))
        return self._scans(
            f"person_id IN (SELECT person_id FROM cases WHERE {of_cases})"
            f" AND {self._days_around((row.contact_scan_ms for row in rows), _CASE_MS)}"
            f" AND {_in('venue_id', sorted(venues))} AND status = 'active'"
        )

    def _scans(self, where: str) -> list[Scan]:
        return [Scan(*row) for row in self._rows(f"SELECT {_SCAN_COLUMNS} FROM scans FINAL WHERE {where}")]

    def _cases(self, persons: Collection[str]) -> dict[str, list[Case]]:
        found: dict[str, list[Case]] = {}
        for some in _cut(sorted(persons)):
            for row in self._rows(f"SELECT {_CASE_COLUMNS} FROM cases FINAL WHERE {_in('person_id', some)}"):
                case = Case(*row)
                found.setdefault(case.person_id, []).append(case)
        return found

    def _visits(self, opening: Iterable[Scan]) -> dict[str, Visit]:
        """The active visits that these scans open; their day is the scan's."""
        days = {scan.visit_id: scan.at_ms for scan in opening}
        found = {}
        for some in _cut(sorted(days)):
            where = f"{_in('visit_id', some)} AND {self._days_around((days[one] for one in some), (0, 0))}"
            for row in self._rows(f"SELECT {_VISIT_COLUMNS} FROM visits FINAL WHERE {where} AND status = 'active'"):
                found[row[0]] = Visit(*row)
        return found

    def _venues(self, ids: Sequence[str]) -> dict[str, Venue]:
        rows = [
            row
            for some in _cut(ids)
            for row in self._rows(f"SELECT {_VENUE_COLUMNS} FROM venues FINAL WHERE {_in('venue_id', some)}")
        ]
        return {row[0]: Venue(*row) for row in rows}

    def _days_around(self, times_ms: Iterable[int], around_ms: tuple[int, int]) -> str:
        """SQL: rows of the local days within so much before and after some times."""
        before, after = around_ms
        days = {
            int(self._clock.day_text(ms).replace("-", ""))
            for time_ms in times_ms
            for ms in {*range(time_ms - before, time_ms + after, _HALF_DAY_MS), time_ms + after}
        }
        return f"day IN ({', '.join(map(str, sorted(days)))})"

    def _rows(self, sql: str) -> Rows:
        try:
            return self._reader.query(sql)[1]
        except (StorageError, QueryFailedError) as error:
            # The engine may quote the query, and with it a case's person.
            raise type(error)(_PSEUDONYM.sub("…", str(error))) from None


def opening_scans(row: Row, facts: Facts) -> list[Scan]:
    """The exposed person's accepted scans at the instant of the contact's first one; one of them it is."""
    scans = facts.scans.get(row.person_id, ())
    return [
        scan
        for scan in scans
        if scan.at_ms == row.contact_scan_ms and scan.status == "active" and row.venue_id in ("", scan.venue_id)
    ]


def _meeting(row: Row, facts: Facts, case_scans: Sequence[Scan], cases: dict[str, list[Case]]) -> Meeting | None:
    first_ms, last_ms = row.contact_scan_ms - _CASE_MS[0], row.contact_scan_ms + _CASE_MS[1]
    for contact in opening_scans(row, facts):
        for stay in case_scans:
            if stay.venue_id != contact.venue_id or not first_ms <= stay.at_ms <= last_ms:
                continue
            for case in cases.get(stay.person_id, ()):
                if _exposure_id(case.case_id, stay, contact) == row.exposure_id:
                    return Meeting(case, stay, contact)
    return None


def _exposure_id(case_id: str, stay: Scan, contact: Scan) -> str:
    return digest(case_id.encode(), stay.visit_id.encode(), contact.visit_id.encode()).decode()


def _latest_first(row: Row) -> tuple[int, str]:
    return -row.contact_scan_ms, row.exposure_id


def _in(column: str, values: Sequence[str]) -> str:
    """SQL: whether the column holds one of these texts."""
    return f"{column} IN ({', '.join(map(literal, values))})"


def _cut(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(values), _IDS_PER_QUERY):
        yield values[first : first + _IDS_PER_QUERY]
