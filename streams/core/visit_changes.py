"""What a step changes of one person's visits, told to all: ``visits``, and ``case-visits`` where one is a case's."""

from collections.abc import Iterator, Sequence

from streams.core import wire
from streams.core.case_changes import VISITS_TOGETHER_MAX, CasesOfVisits
from streams.core.crossing import VISITS, Interval, was_header
from streams.core.step import BY_KEY, KAFKA_TIMESTAMP_MIN_MS, HeadedMessage, Step
from streams.core.visits import Visit


class VisitChanges:
    """The difference between the visits that were and those that are; only those that may differ are given."""

    def __init__(self, step: Step, person: str, caused_ms: int, were: Sequence[Visit], are: Sequence[Visit]) -> None:
        """``caused_ms`` is the record timestamp of what caused it."""
        self._step = step
        self._person = person
        self._caused_ms = max(caused_ms, KAFKA_TIMESTAMP_MIN_MS)
        self._were = {visit.scan_id: visit for visit in were}
        self._are = {visit.scan_id: visit for visit in are}
        self._changed: list[bytes] = []

    def emit(self) -> None:
        """Emits the visits that are new or changed, and takes back those that are gone."""
        step, key, number, caused_ms = self._step, self._person.encode(), self._step.number, self._caused_ms
        emit, were, changed = step.to(VISITS).append, self._were, self._changed
        for scan_id, visit in self._are.items():
            was = were.get(scan_id)
            if was == visit:
                continue
            changed.append(scan_id)
            value = wire.visit(key, wire.visit_id(key, visit.venue_id, scan_id), visit, number)
            if was is None:
                emit((visit.venue_id, value, BY_KEY, caused_ms))
            else:
                self._replace(was, value)
        for scan_id, visit in were.items():
            if scan_id not in self._are:
                changed.append(scan_id)
                identity = wire.visit_id(key, visit.venue_id, scan_id)
                self._replace(visit, wire.retracted_visit(identity, visit, number))

    def _replace(self, was: Visit, value: bytes) -> None:
        headers = was_header(Interval(was.start_ms, was.end_ms))
        self._step.headed.append(HeadedMessage(VISITS, BY_KEY, was.venue_id, value, self._caused_ms, headers))

    def for_cases(self) -> Iterator[CasesOfVisits]:
        """What follows for the person's cases, as work; to be asked after ``emit``."""
        pairs = [(self._were.get(scan_id), self._are.get(scan_id)) for scan_id in self._changed]
        for at in range(0, len(pairs), VISITS_TOGETHER_MAX):
            yield CasesOfVisits(self._person, pairs[at : at + VISITS_TOGETHER_MAX], self._caused_ms)
