"""The case reports and erasures of a workload."""

import json
import random
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from tests.oracle import contacts, erasures, hostile
from tests.oracle.making import Instants
from tests.oracle.render import DAY_MS, time_text
from tests.oracle.reports import CASE_RETENTION_MS, Reports
from tests.oracle.wire import FUTURE_MS, VALUE_BYTES_MAX
from tests.sim.workload_scans import Event, Send, misrouted, spelled, told
from tests.sim.workload_time import HOUR_MS, QUIET_FROM, When


def _record(rng: random.Random, send: Send, event: Event, bad: float, partitions: int, *, may_wander: bool) -> Send:
    """The record as it is, or what a faulty producer makes of it."""
    kind = rng.random()
    if kind < bad:
        value = hostile.bad_bytes(rng, event)
        value = b"[" if len(value) > VALUE_BYTES_MAX else value
        return Send(send.at, send.topic, send.key, value, send.timestamp_ms)
    if kind < bad + 0.03:
        return Send(send.at, send.topic, b"nobody", send.value, send.timestamp_ms)
    if kind < bad + 0.1 and may_wander and partitions > 1:
        return misrouted(rng, send, partitions)
    return send


class Reporting:
    """Reports of a few cases, some of one person, some with one case_id; changes, withdrawals, ties, copies."""

    def __init__(
        self, rng: random.Random, when: When, instants: Instants, persons: Sequence[str], partitions: int, bad: float
    ) -> None:
        self.rng = rng
        self.when = when
        self.instants = instants
        self.maker = Reports(rng, [*persons], instants, order_free=True)
        self.partitions = partitions
        self.bad = bad
        first, second, third, fourth = persons[-1], persons[-2], persons[-3], persons[0]
        self.identities = [("C1", first), ("C1", first), ("C2", first), ("C1", second), ("C3", third), ("C3", fourth)]
        self.reported: list[tuple[str, int]] = []

    def past(self, person_id: str) -> list[int]:
        """When this person's cases were reported, epoch ms."""
        return [reported_ms for who, reported_ms in self.reported if who == person_id]

    def sends(self, times: Sequence[float]) -> list[Send]:
        """A report at each of these times, and some copies."""
        rng, sends = self.rng, []
        if self.when.floor_ms is not None:  # some after all that can expire has
            times = [*times, *(rng.uniform(QUIET_FROM + 3, QUIET_FROM + 6) for _ in range(4))]
        for at in times:
            case_id, who = rng.choice(self.identities)
            if self.when.floor_ms is None:
                event, reported_ms = self.maker._report(case_id, who)
                if event.get("ruleset") in contacts.RULESETS:
                    event["ruleset"] = rng.choice([*contacts.KINDS])
            else:
                reported_ms = self._reported_ms(at)
                if not self.when.spared(reported_ms, self.when.stamp(at, "cases", reported_ms)):
                    case_id, who = self.identities[0]  # no case of whoever may be erased
                event = self._event(case_id, who, reported_ms, self.when.floor_ms)
            self.reported.append((who, reported_ms))
            stamp_ms = self.when.stamp(at, "cases", reported_ms)
            send = Send(at, "cases", who.encode(), spelled(rng, event), stamp_ms)
            spared = self.when.spared(reported_ms, stamp_ms)
            sends.append(_record(rng, send, event, self.bad / 2, self.partitions, may_wander=spared))
            if rng.random() < 0.15:
                later = rng.uniform(at, 59)
                sends.append(Send(later, "cases", send.key, send.value, self.when.stamp(later, "cases", reported_ms)))
        return sends

    def at_the_edge(self, at: float, floor_ms: int) -> Send:
        """A case of its own, whose period begins with the oldest day that must not expire."""
        who = self.identities[0][1]
        event: Event = {"case_id": "EDGE", "person_id": who, "status": "confirmed", "ruleset": "vn-2021-07"}
        event |= {"infectious_from": told(self.rng, floor_ms), "infectious_to": told(self.rng, floor_ms + 2 * DAY_MS)}
        stamp_ms = self.when.stamp(at, "cases", floor_ms)
        value = spelled(self.rng, event | {"reported_at": told(self.rng, stamp_ms)})
        return Send(at, "cases", who.encode(), value, stamp_ms)

    def _reported_ms(self, at: float) -> int:
        now_ms = self.when.stamp(at, "cases", 0)
        aged = [CASE_RETENTION_MS, CASE_RETENTION_MS + 1] if at > QUIET_FROM else []
        return now_ms - self.rng.choice([0, 0, 1, HOUR_MS, DAY_MS, -FUTURE_MS, -FUTURE_MS - 1, *aged])

    def _event(self, case_id: str, who: str, reported_ms: int, floor_ms: int) -> Event:
        """A report whose period begins where nothing expires, often at the very instant."""
        rng = self.rng
        ruleset = rng.choice([*contacts.KINDS])
        event: Event = {"case_id": case_id, "person_id": who, "ruleset": ruleset}
        event |= {"reported_at": time_text(rng, reported_ms), "status": rng.choice([*["confirmed"] * 5, "withdrawn"])}
        young = [instant_ms for instant_ms in self.instants.pool_ms if instant_ms >= floor_ms] or [floor_ms]
        begin_ms = rng.choice([floor_ms, floor_ms, rng.choice(young)])
        anchor = rng.choice(["onset_at", "sampled_at"])
        days = contacts.KINDS[ruleset]["days_before" if anchor == "onset_at" else "days_before_asymptomatic"]
        kind = rng.random()
        if kind < 0.6:
            event[anchor] = time_text(rng, begin_ms + days * DAY_MS)
        if kind > 0.5:
            event["infectious_from"] = time_text(rng, begin_ms)
            event["infectious_to"] = time_text(rng, begin_ms + rng.choice([DAY_MS, 10 * DAY_MS, 40 * DAY_MS]))
        if rng.random() < 0.2:
            event["isolated_at"] = time_text(rng, rng.choice(young))
        return event


class Forgettings:
    """Requests to forget, before, between and after what they cover; several of one person, good and bad."""

    def __init__(
        self,
        rng: random.Random,
        when: When,
        pasts: Mapping[str, Sequence[int]],
        told_twice: AbstractSet[tuple[str, int]],
        partitions: int,
    ) -> None:
        """``pasts``: when things happened to each person, epoch ms; ``told_twice``: person and instant to keep off."""
        self.rng = rng
        self.when = when
        self.pasts = pasts
        self.partitions = partitions
        self.maker = erasures.Erasures(rng, pasts, told_twice, order_free=True)

    def sends(self) -> list[Send]:
        """Their records."""
        rng, sends = self.rng, []
        for _ in range(rng.choice([1, 2, 2, 3, 5])):
            who = rng.choice([*self.pasts])
            until_ms = self.maker._until(who)
            event: Event = {"person_id": who, "requested_at": time_text(rng, until_ms)}
            if rng.random() < 0.08:
                event |= rng.choice(erasures.BAD_FIELDS)
            at = rng.uniform(1 if self.when.floor_ms is None else 30, 59)
            stamp_ms = self.when.stamp(at, "erasures", until_ms)
            send = Send(at, "erasures", who.encode(), json.dumps(event).encode(), stamp_ms)
            sends.append(_record(rng, send, event, 0.05, self.partitions, may_wander=True))
            if rng.random() < 0.3:
                sends.append(Send(rng.uniform(at, 59), "erasures", send.key, send.value, stamp_ms))
        return sends
