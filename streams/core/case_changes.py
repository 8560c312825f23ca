"""What follows for ``case-visits`` from a change of a case or of visits, as work that may take several portions.

A person may have any number of visits, for a card may be shared by thousands, and any number of cases. While such work
is pending nothing of the person changes but by other such work, none of which has the same case and visit.
"""

from typing import Self

import msgspec

from streams.core import keys
from streams.core.case_visits import Infectious, Sender
from streams.core.held_scans import Place
from streams.core.pending import Turn
from streams.core.reports import case_id_of, reports, unpack
from streams.core.timeline import Timeline
from streams.core.visits import Visit

VISITS_TOGETHER_MAX = 256
"""Visits that changed in one piece of work: a piece must fit into one value of state."""


class CaseChange(msgspec.Struct, frozen=True, array_like=True, tag="case"):
    """A case whose report changed, to be told for each of its person's visits."""

    person_id: str
    case_id: str
    was: Infectious | None
    """As what the report said before made it; now it is as state has it."""
    caused_ms: int
    start: Place | None = None
    """Where the chunk of the timeline begins to go on with."""

    def advance(self, turn: Turn) -> Self | None:
        """See ``pending.Work``."""
        person = bytes.fromhex(self.person_id)
        key = keys.case_report(person, self.case_id.encode())
        changes = turn.step.changes
        report = changes[key] if key in changes else turn.state.get(key)
        now = None if report is None else unpack(report).infectious
        timeline = Timeline(person, turn.state.get(keys.person_head(person)), turn.state)
        sender = Sender(turn.step, self.person_id, self.caused_ms, "case")
        start = tell_case(turn, sender, timeline, (self.case_id, self.was, now), self.start)
        return None if start is None else msgspec.structs.replace(self, start=start)


class CasesOfVisits(msgspec.Struct, frozen=True, array_like=True, tag="cases"):
    """Visits of a person that changed, each as it was and as it is, to be told for each of the person's cases."""

    person_id: str
    visits: list[tuple[Visit | None, Visit | None]]
    caused_ms: int
    after: bytes = b""
    """The key of the report that was looked at last."""

    def advance(self, turn: Turn) -> Self | None:
        """See ``pending.Work``."""
        sender = Sender(turn.step, self.person_id, self.caused_ms, "visit")
        for key, report in reports(bytes.fromhex(self.person_id), turn.state, self.after):
            if turn.step.changes.get(key, b"") is not None:
                case_id, infectious = case_id_of(key), report.infectious
                for was, now in self.visits:
                    sender.send(case_id, (was, infectious), (now, infectious))
            turn.look_at(len(self.visits))
            if turn.is_full:
                return msgspec.structs.replace(self, after=key)
        return None


def tell_case(
    turn: Turn,
    sender: Sender,
    timeline: Timeline,
    change: tuple[str, Infectious | None, Infectious | None],
    start: Place | None,
) -> Place | None:
    """Sends what follows for the visits from a case: its id, as it was, as it is. Where to go on, if there is more."""
    periods = [period for period in change[1:] if isinstance(period, Infectious)]
    if not periods:
        return None
    from_ms, to_ms = min(period.from_ms for period in periods), max(period.to_ms for period in periods)
    for visits, following in timeline.visits_between(from_ms, to_ms, start):
        sender.case_changed(*change, visits)
        turn.look_at(len(visits))
        if turn.is_full:
            return following
    return None
