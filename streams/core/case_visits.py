"""Visits of cases' persons, cut to the infectious period (SPEC §7): what the person room tells the venue room of them.

Nothing that was sent is stored: it follows from visits and report as they were, so a change of either sends
the difference.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from streams.core.crossing import CASE_VISITS, CaseVisit, Cause, Interval, encode_case_visit
from streams.core.ruleset import Ruleset
from streams.core.step import Step
from streams.core.times import MINUTE_MS
from streams.core.visits import Visit
from streams.core.wire import visit_id


class Infectious(msgspec.Struct, frozen=True):
    """When a case is infectious, and by which rule; epoch milliseconds."""

    from_ms: int
    to_ms: int
    anchor_ms: int | None
    rule: Ruleset


class Cut(NamedTuple):
    """A stay within an infectious period: when it began and ended, and until when its tail lasts."""

    from_ms: int
    to_ms: int
    until_ms: int


def cut(visit: Visit, infectious: Infectious) -> Cut | None:
    """The visit cut to the infectious period; None if nothing is left that the ruleset counts."""
    from_ms, to_ms = max(visit.start_ms, infectious.from_ms), min(visit.end_ms, infectious.to_ms)
    stay_ms = to_ms - from_ms
    if stay_ms <= 0 or stay_ms < infectious.rule.min_stay_minutes * MINUTE_MS:
        return None
    return Cut(from_ms, to_ms, to_ms + infectious.rule.tail_ms(stay_ms))


class Sender:
    """Sends the case visits of one person that a step changes."""

    def __init__(self, step: Step, person: str, caused_ms: int, cause: Cause) -> None:
        self._step = step
        self._person = person
        self._caused_ms = caused_ms
        self._cause: Cause = cause

    def case_changed(
        self, case_id: str, was: Infectious | None, now: Infectious | None, visits: Sequence[Visit]
    ) -> None:
        """Sends what follows for each of the person's visits from a case that changed."""
        for visit in visits:
            self.send(case_id, (visit, was), (visit, now))

    def send(
        self, case_id: str, was: tuple[Visit | None, Infectious | None], now: tuple[Visit | None, Infectious | None]
    ) -> None:
        """Sends the difference for one visit and one case, each as it was and as it is now; None: not there."""
        visit = now[0] or was[0]
        before, after = _cut(*was), _cut(*now)
        if visit is None or (before is None and after is None):
            return
        if before == after and _judged(was[1]) == _judged(now[1]):
            return
        identity = visit_id(self._person.encode(), visit.venue_id, visit.scan_id).decode()
        interval = Interval(before.from_ms, before.until_ms) if before else None
        if after is None or now[1] is None:
            record = CaseVisit(case_id, identity, self._cause, interval, "retracted")
        else:
            record = CaseVisit(
                *(case_id, identity, self._cause, interval, "active", self._person, *after),
                anchor_ms=now[1].anchor_ms,
                rule=now[1].rule,
            )
        self._step.emit(CASE_VISITS, visit.venue_id, encode_case_visit(record), self._caused_ms)


def _judged(infectious: Infectious | None) -> tuple[int | None, Ruleset] | None:
    """What a case visit carries of its case beside the cut."""
    return None if infectious is None else (infectious.anchor_ms, infectious.rule)


def _cut(visit: Visit | None, infectious: Infectious | None) -> Cut | None:
    return None if visit is None or infectious is None else cut(visit, infectious)
