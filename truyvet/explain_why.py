"""Why an exposure stands or was taken back: from the facts to what may be told.

An ``Explanation`` names the exposed person and never the case's: of the case's visit it holds times alone.
"""

from collections.abc import Mapping, Sequence

from schemas.ruleset import RulesetFile
from sinks.backends import Reader
from streams.core.times import MINUTE_MS, LocalClock, days_between
from truyvet.explain_read import ROWS_AT_ONCE, Archive, Case, Facts, Meeting, Row, Scan, Visit, opening_scans
from truyvet.explain_stay import place_of, stay_of
from truyvet.explain_told import CaseStay, Cause, Contact, Explanation, Place


class Explainer:
    """Explains exposures; raises StorageError or QueryFailedError, in whose words no person stands."""

    def __init__(self, reader: Reader, rules: Mapping[str, RulesetFile], clock: LocalClock) -> None:
        self._archive = Archive(reader, clock)
        self._rules = rules
        self._clock = clock

    def exposure(self, exposure_id: str) -> Explanation | None:
        """The exposure of this id; None if there never was one."""
        row = self._archive.exposure(exposure_id)
        return None if row is None else self._explained([row])[0]

    def of_person(self, person_id: str, limit: int) -> tuple[list[Explanation], int]:
        """A person's latest exposures, and how many there are in all."""
        rows = self._archive.of_person(person_id)
        return self._explained(rows[:limit]), len(rows)

    def of_case(self, case_id: str, limit: int) -> tuple[list[Explanation], int]:
        """The latest exposures that a case has or had, and how many there are in all."""
        rows = self._archive.of_case(case_id)
        return self._explained(rows[:limit]), len(rows)

    def knows_case(self, case_id: str) -> bool:
        """Whether a case of this id was ever reported."""
        return self._archive.knows_case(case_id)

    def knows_person(self, person_id: str) -> bool:
        """Whether anything is stored of this person."""
        return self._archive.knows_person(person_id)

    def _explained(self, rows: Sequence[Row]) -> list[Explanation]:
        found = []
        for first in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[first : first + ROWS_AT_ONCE]
            facts = self._archive.facts(some)
            found += [_Explaining(row, facts, self._rules, self._clock).explanation() for row in some]
        return found


class _Explaining:
    """One exposure and the facts around it."""

    def __init__(self, row: Row, facts: Facts, rules: Mapping[str, RulesetFile], clock: LocalClock) -> None:
        self._row = row
        self._facts = facts
        self._clock = clock
        self._meeting: Meeting | None = facts.meetings.get(row.exposure_id)
        self._ruleset = row.ruleset or self._case_ruleset()
        self._rule = rules.get(self._ruleset) if self._ruleset else None
        self._rule_applied = self._rule if not row.active or _version(self._rule) == row.ruleset_version else None
        self._visit = self._contact_visit()
        self._case_visit = self._meeting and facts.visits.get(self._meeting.case_scan.visit_id)

    def explanation(self) -> Explanation:
        """All that can be told."""
        row = self._row
        return Explanation(
            exposure_id=row.exposure_id,
            status=row.status,
            person_id=row.person_id,
            case_id=row.case_id or (self._meeting.case.case_id if self._meeting else None),
            venue=self._venue(),
            contact=self._contact() if row.active else None,
            ruleset=self._ruleset,
            ruleset_version=row.ruleset_version if row.active else None,
            rule=self._rule,
            stay=stay_of(self._visit, self._facts) if self._visit else None,
            case_stay=self._case_stay(),
            causes=() if row.active else tuple(self._causes()),
        )

    def _case_ruleset(self) -> str | None:
        """A report that withdraws names one without meaning."""
        case = self._meeting.case if self._meeting else None
        return case.ruleset if case and case.status == "confirmed" else None

    def _contact_visit(self) -> Visit | None:
        scans = [self._meeting.contact_scan] if self._meeting else opening_scans(self._row, self._facts)
        visits = [visit for scan in scans if (visit := self._facts.visits.get(scan.visit_id))]
        # Without the case it is not known which of several scans at one instant it was.
        return visits[0] if len(visits) == 1 else None

    def _venue(self) -> Place | None:
        row = self._row
        if row.active:
            venue = self._facts.venues.get(row.venue_id)
            areas = (row.province_code, row.district_code, row.ward_code)
            return Place(row.venue_id, venue.name if venue else None, row.category, *areas)
        scans = [self._meeting.contact_scan] if self._meeting else opening_scans(row, self._facts)
        venues = {scan.venue_id for scan in scans}
        return place_of(venues.pop(), self._facts) if len(venues) == 1 else None

    def _contact(self) -> Contact:
        row, rule = self._row, self._rule_applied
        level_from = next((level.min_score for level in rule.levels if level.name == row.level), None) if rule else None
        anchor_ms = None
        if rule and rule.weights and self._meeting:
            case = self._meeting.case
            anchor_ms = case.sampled_ms if case.onset_ms is None else case.onset_ms
        day = None
        if anchor_ms is not None:
            day = days_between(self._clock.place(anchor_ms)[2], self._clock.place(row.from_ms)[2])
        return Contact(
            *(row.from_ms, row.to_ms, row.minutes, row.score, row.score / row.minutes if row.minutes else None, day),
            *(row.level, level_from, row.reason, row.detected_ms),
        )

    def _period(self) -> tuple[int, int] | None:
        """The case's infectious period by its report and the rule that is here; None if they do not tell it."""
        assert self._meeting, "a period belongs to a case"
        case = self._meeting.case
        to_ms = case.isolated_ms if case.to_ms is None else case.to_ms
        if case.from_ms is not None and to_ms is not None:
            return case.from_ms, to_ms
        if self._rule_applied is None:
            return None
        try:
            return self._rule_applied.ruleset().period(*_dates(case))[:2]
        except ValueError:
            return None  # of a withdrawn case

    def _case_stay(self) -> CaseStay | None:
        visit = self._case_visit
        if not visit:
            return None
        times = (visit.start_ms, visit.end_ms, visit.start_kind, visit.end_kind)
        period = self._period()
        if period is None:
            return CaseStay(*times, None, None, None, None, None)
        from_ms, to_ms = max(visit.start_ms, period[0]), min(visit.end_ms, period[1])
        if to_ms <= from_ms:
            return CaseStay(*times, *period, None, None, None)
        rule = self._rule_applied
        tail_to_ms = to_ms + rule.ruleset().tail_ms(to_ms - from_ms) if rule else None
        return CaseStay(*times, *period, from_ms, to_ms, tail_to_ms)

    def _causes(self) -> list[Cause]:
        """What took it back, by what is stored now."""
        row, meeting = self._row, self._meeting
        if meeting is None:
            scans = self._facts.scans.get(row.person_id, ())
            erased = any(scan.at_ms == row.contact_scan_ms and scan.status == "erased" for scan in scans)
            return [Cause("person_erased" if erased else "nothing_matches")]
        causes = []
        if meeting.case.status == "withdrawn":
            causes.append(Cause("case_withdrawn", at_ms=meeting.case.reported_ms))
        elif meeting.case.status == "erased":
            causes.append(Cause("case_erased"))
        if not self._visit:
            scan = meeting.contact_scan
            causes.append(Cause("contact_gone", scan.at_ms, *self._now_in(scan), scan_id=scan.scan_id))
        if not self._case_visit:
            causes.append(Cause("case_visit_gone", None, *self._now_in(meeting.case_scan)))
        if not causes and self._visit:
            causes = [self._missed(self._visit) or Cause("stands_again")]
        return causes

    def _missed(self, visit: Visit) -> Cause | None:
        """What of the rule the two visits do not fulfil (any more); both are there."""
        stay = self._case_stay()
        assert stay, "the case's visit is there"
        rule = self._rule_applied
        if stay.period_from_ms is not None and (stay.counts_from_ms is None or stay.counts_to_ms is None):
            return Cause("outside_period", from_ms=stay.period_from_ms, to_ms=stay.period_to_ms)
        if rule is None or stay.counts_from_ms is None or stay.counts_to_ms is None or stay.tail_to_ms is None:
            return Cause("rule_unknown", ruleset=self._ruleset)
        stay_ms = stay.counts_to_ms - stay.counts_from_ms
        if stay_ms < rule.min_stay_minutes * MINUTE_MS:
            return Cause("stay_too_short", minutes=stay_ms // MINUTE_MS, least_minutes=rule.min_stay_minutes)
        overlap_ms = min(stay.tail_to_ms, visit.end_ms) - max(stay.counts_from_ms, visit.start_ms)
        if overlap_ms <= 0:
            return Cause("no_overlap")
        if overlap_ms < rule.min_overlap_minutes * MINUTE_MS:
            return Cause("overlap_too_short", minutes=overlap_ms // MINUTE_MS, least_minutes=rule.min_overlap_minutes)
        return None

    def _now_in(self, scan: Scan) -> tuple[int | None, int | None]:
        """The visit that a scan lies in now, if it does not open it (any more)."""
        for visit in self._facts.visits.values():
            same = (visit.person_id, visit.venue_id) == (scan.person_id, scan.venue_id)
            if same and visit.start_ms <= scan.at_ms <= visit.end_ms:
                return visit.start_ms, visit.end_ms
        return None, None


def _version(rule: RulesetFile | None) -> int | None:
    return rule.version if rule else None


def _dates(case: Case) -> tuple[int | None, int | None, int | None, int | None, int | None]:
    return case.onset_ms, case.sampled_ms, case.from_ms, case.to_ms, case.isolated_ms
