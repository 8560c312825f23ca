"""Requests to forget a person, before, between and after what they cover; several of one, good and bad."""

import random
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from tests.oracle import hostile
from tests.oracle.making import MIDNIGHT_MS, Event, Maker
from tests.oracle.render import DAY_MS, time_text
from tests.oracle.wire import FUTURE_MS

BAD_FIELDS: list[Event] = [
    {"person_id": "A" * 32},
    {"person_id": "a" * 31},
    {"person_id": None},
    {"requested_at": "2021-10-14"},
    {"requested_at": MIDNIGHT_MS},
    {"requested_at": None},
]


class Erasures(Maker):
    """The erasures of one input."""

    def __init__(
        self,
        rng: random.Random,
        pasts: Mapping[str, Sequence[int]],
        told_twice: AbstractSet[tuple[str, int]],
        *,
        order_free: bool,
    ) -> None:
        """``pasts``: when things happened to each person, epoch ms; ``told_twice``: person and instant to keep off."""
        super().__init__(rng, order_free=order_free)
        self.pasts = pasts
        self.told_twice = told_twice

    def lines(self) -> list[bytes]:
        """The lines of ``erasures.jsonl``."""
        lines: list[bytes] = []
        known = [who for who, past in self.pasts.items() if past]
        for _ in range(self.rng.choice([1, 1, 2, 2, 3, 5])):
            who = self.rng.choice(known if known and self.chance(0.9) else [*self.pasts])
            lines += [self._line(who, self._until(who))] * self.rng.choice([1, 1, 2])
        return lines

    def _until(self, person_id: str) -> int:
        """At an event of the person, beside it, between two of them, or before or after them all."""
        past = sorted(self.pasts[person_id]) or [MIDNIGHT_MS]
        # Rather early: where all is gone, little can go wrong.
        at = min(self.rng.randrange(len(past)), self.rng.randrange(len(past)))
        between_ms = (past[at] + past[min(at + 1, len(past) - 1)]) // 2
        until_ms = self.rng.choice([past[at], past[at], past[at] - 1, past[at] + 1, between_ms])
        if self.chance(0.15):
            until_ms = self.rng.choice([past[0] - 1, past[-1] + DAY_MS])
        while (person_id, until_ms) in self.told_twice:
            until_ms += 1
        return until_ms

    def _line(self, person_id: str, until_ms: int) -> bytes:
        event: Event = {"person_id": person_id, "requested_at": time_text(self.rng, until_ms)}
        if self.chance(0.06):
            return hostile.bad_bytes(self.rng, event)
        if self.chance(0.06):
            event |= self.rng.choice(BAD_FIELDS)
        record_ms = until_ms + self.rng.choice([0, 0, 1000, -FUTURE_MS, DAY_MS, 400 * DAY_MS])
        if self.chance(0.08):
            record_ms = until_ms - FUTURE_MS - self.rng.choice([1, DAY_MS])
        return self.line(event, None if record_ms == until_ms and not self.order_free else record_ms)
