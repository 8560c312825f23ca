"""What real networks, phones and forms do to scans: delays, disorder, copies, and lines that are no good.

None of it changes a total: copies are identical, and every bad line is rejected for a reason of its own.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from producers.simulate.arrays import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Generator, Ints, half_up, stream
from producers.simulate.day import Scans
from producers.simulate.people import PAPER_SOURCE

DUPLICATE_SHARE: Final = 0.02
DUPLICATE_WITHIN_MS: Final = 2 * MINUTE_MS
REPLAY_SHARE: Final = 0.005
REPLAY_AFTER_MS: Final = (HOUR_MS, 96 * HOUR_MS)
PAPER_DELAY_MEDIAN_MS: Final = 4 * HOUR_MS
PAPER_DELAY_SIGMA: Final = 1.1
PAPER_DELAY_MAX_MS: Final = 72 * HOUR_MS
SLOW_SHARE: Final = 0.08
SLOW_MEAN_MS: Final = 90 * SECOND_MS
OFFLINE_SHARE: Final = 0.01
OFFLINE_MS: Final = (15 * MINUTE_MS, 6 * HOUR_MS)
FAST_CLOCK_SHARE: Final = 0.005
FAST_CLOCK_MAX_MS: Final = 90 * SECOND_MS


@dataclass(frozen=True)
class Fault:
    """A kind of bad line, its share of the accepted scans, and the code that it is rejected with."""

    name: str
    share: float
    reason: str


FAULTS: Final = (
    Fault("cut", 0.0003, "malformed_json"),
    Fault("garbled", 0.0001, "malformed_json"),
    Fault("wrong_type", 0.0003, "schema_violation"),
    Fault("wrong_value", 0.0002, "schema_violation"),
    Fault("bad_time", 0.0003, "schema_violation"),
    Fault("oversized", 0.00001, "oversized"),
    Fault("future", 0.0002, "in_future"),
    Fault("stale", 0.0002, "too_old"),
    Fault("unknown_venue", 0.0005, "unknown_venue"),
    Fault("conflicting", 0.0002, "conflicting_duplicate"),
)


@dataclass(frozen=True)
class Arrivals:
    """All lines in order of arrival."""

    row: Ints
    """The scan that the line shows or, if it is bad, was made from."""
    record_ms: Ints
    """The record timestamp: when the line arrives, in epoch milliseconds."""
    fault: Ints
    """Index into ``FAULTS``, −1 for a good line."""
    duplicates: int
    replays: int


def mixed(scans: Scans, seed: int) -> Arrivals:
    """Every scan once, copies and bad lines among them."""
    rng = stream(seed, "mixing")
    count = len(scans.person)
    first_ms = _first_arrivals(rng, scans)
    again = rng.permutation(count)
    duplicates, replays = half_up(DUPLICATE_SHARE * count), half_up(REPLAY_SHARE * count)
    duplicated, replayed = again[:duplicates], again[duplicates : duplicates + replays]
    fault = np.repeat(np.arange(len(FAULTS)), [_fault_count(fault, count) for fault in FAULTS])
    spoilt = rng.integers(0, max(count, 1), len(fault))
    row = np.concatenate([np.arange(count), duplicated, replayed, spoilt])
    record_ms = np.concatenate(
        [
            first_ms,
            first_ms[duplicated] + rng.integers(1, DUPLICATE_WITHIN_MS + 1, duplicates),
            first_ms[replayed] + rng.integers(*REPLAY_AFTER_MS, replays),
            # A conflicting copy must come after its original, or it would be the one that stays.
            first_ms[spoilt] + rng.integers(1, 10 * MINUTE_MS, len(fault)),
        ],
    )
    faults = np.concatenate([np.full(count + duplicates + replays, -1), fault])
    order = np.argsort(record_ms, kind="stable")
    return Arrivals(row[order], record_ms[order], faults[order], duplicates, replays)


def _fault_count(fault: Fault, scans: int) -> int:
    """At least one of each kind, so that even a small input shows them all."""
    return max(half_up(fault.share * scans), 1) if scans else 0


def _first_arrivals(rng: Generator, scans: Scans) -> Ints:
    """The record timestamp of each scan's first line, in epoch milliseconds."""
    count = len(scans.person)
    delay_ms = 100 + rng.lognormal(np.log(500), 0.8, count)
    kind = rng.random(count)
    slow = kind < SLOW_SHARE
    delay_ms[slow] = 5 * SECOND_MS + rng.exponential(SLOW_MEAN_MS, int(slow.sum()))
    offline = (kind >= SLOW_SHARE) & (kind < SLOW_SHARE + OFFLINE_SHARE)
    shortest, longest = np.log(OFFLINE_MS)
    delay_ms[offline] = np.exp(rng.uniform(shortest, longest, int(offline.sum())))
    fast = kind >= 1 - FAST_CLOCK_SHARE
    delay_ms[fast] = -rng.uniform(0, FAST_CLOCK_MAX_MS, int(fast.sum()))
    paper = scans.source == PAPER_SOURCE
    delay_ms[paper] = _paper_delays(rng, int(paper.sum()))
    return scans.occurred_ms + delay_ms.astype(np.int64)


def _paper_delays(rng: Generator, count: int) -> Ints:
    """Log-normal, drawn again where it is longer than the longest allowed."""
    delays = np.full(count, np.inf)
    while (late := delays > PAPER_DELAY_MAX_MS).any():
        delays[late] = PAPER_DELAY_MEDIAN_MS * rng.lognormal(0, PAPER_DELAY_SIGMA, int(late.sum()))
    return delays.astype(np.int64)


def stale_ms(rng: Generator, record_ms: int, retention_days: int) -> int:
    """A time that is surely older than retention when the line arrives, in epoch milliseconds."""
    return record_ms - retention_days * DAY_MS - int(rng.integers(HOUR_MS, 20 * DAY_MS))


def future_ms(rng: Generator, record_ms: int) -> int:
    """A time that is surely too far ahead when the line arrives, in epoch milliseconds."""
    return record_ms + int(rng.integers(6 * MINUTE_MS, 3 * HOUR_MS))
