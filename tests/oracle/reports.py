"""Case reports: several of one case, several cases of a person, one case_id for two persons, periods that cut."""

import random

from tests.oracle.making import MIDNIGHT_MS, Event, Instants, Maker
from tests.oracle.render import DAY_MS, MINUTE_MS, time_text
from tests.oracle.wire import FUTURE_MS

CASE_RETENTION_MS = 90 * DAY_MS
# Days by which the shipped rulesets reach back and ahead: an anchor so far from an instant cuts there.
RULE_DAYS = (-3, -2, -14, 14, 10)


class Reports(Maker):
    """The case reports of one input, about ``persons``, with periods that begin and end at ``instants``."""

    def __init__(self, rng: random.Random, persons: list[str], instants: Instants, *, order_free: bool) -> None:
        super().__init__(rng, order_free=order_free)
        self.persons = persons
        self.instants = instants
        self.events: list[tuple[str, int]] = []

    def past(self, person_id: str) -> list[int]:
        """When this person's cases were reported, epoch ms."""
        return [reported_ms for who, reported_ms in self.events if who == person_id]

    def lines(self) -> list[bytes]:
        """The lines of ``cases.jsonl``."""
        identities = [(self.rng.choice(["HN-0001", "HN-0002"]), self.rng.choice(self.persons)) for _ in range(4)]
        lines = []
        for _ in range(self.rng.randint(1, 12)):
            event, reported_ms = self._report(*self.rng.choice(identities))
            offset = self.rng.choice([0, 0, 1000, -FUTURE_MS, CASE_RETENTION_MS])
            if self.chance(0.1):
                offset = self.rng.choice([-FUTURE_MS - 1, CASE_RETENTION_MS + 1])
            lines += [self.line(event, reported_ms + offset)] * self.rng.choice([1, 1, 2])
        return lines

    def _report(self, case_id: str, person_id: str) -> tuple[Event, int]:
        reported_ms = MIDNIGHT_MS + self.rng.choice([0, 0, 1, DAY_MS])
        self.events.append((person_id, reported_ms))
        event: Event = {
            "case_id": case_id,
            "person_id": person_id,
            "status": self.rng.choice([*["confirmed"] * 4, "withdrawn"]),
            **self._times(),
            "reported_at": time_text(self.rng, reported_ms),
            "ruleset": self.rng.choice(["vn-2021-07", "vn-2021-12"]),
        }
        if event["status"] == "confirmed" and self.chance(0.06):
            event["ruleset"] = "vn-1900-01"
        if self.chance(0.05):
            event |= self.rng.choice([{"status": "maybe"}, {"case_id": None}, {"reported_at": "today"}])
        if self.chance(0.3):
            event["ghi chú"] = self.rng.choice(["một", "hai", "\u0001", 7, {"b": 1, "a": []}])
        return {name: value for name, value in event.items() if value is not None or self.chance(0.5)}, reported_ms

    def _times(self) -> Event:
        """The fields that tell the period: by the ruleset around an anchor, by themselves, or by both; or not."""
        anchor_ms: int | None = MIDNIGHT_MS - self.rng.choice([0, DAY_MS])
        if self.chance(0.3):
            days = self.rng.choice(RULE_DAYS)
            anchor_ms = self.instants.late_or_early(late=days > 0) - days * DAY_MS
        if self.chance(0.06):
            anchor_ms = None
        by_onset, by_sample = self.rng.choice([(True, False), (False, True), (True, True)])
        return {
            "onset_at": self._text(anchor_ms if by_onset else None),
            "sampled_at": self._text(anchor_ms + MINUTE_MS if by_sample and anchor_ms is not None else None),
            "infectious_from": self._text(self._cut(late=False) if self.chance(0.25) else None),
            "infectious_to": self._text(self._cut(late=True) if self.chance(0.2) else None),
            "isolated_at": self._text(self._cut(late=True) if self.chance(0.15) else None),
        }

    def _cut(self, *, late: bool) -> int:
        return self.instants.late_or_early(late=late)

    def _text(self, instant_ms: int | None) -> str | None:
        return None if instant_ms is None else time_text(self.rng, instant_ms)
