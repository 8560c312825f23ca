"""Positive cases among the simulated visitors: ``cases.jsonl``, with one report that is withdrawn later.

The reports come in the last day's evening, each after its person's last scan. Every second person has symptoms,
every third report follows the stricter ruleset, the first person is isolated. The last case is the first person's
once more under another number, and the one that is withdrawn: what the person's other case says must stay.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np

from producers.simulate.arrays import (
    DAY_MS,
    HOUR_MS,
    LOCAL_OFFSET_MS,
    MINUTE_MS,
    SECOND_MS,
    Generator,
    Ints,
    day_start_ms,
    half_up,
    stream,
)
from producers.simulate.day import Scans
from producers.simulate.lines import LOCAL_SECONDS, time_texts
from producers.simulate.people import People
from producers.simulate.totals import Totals

CASES: Final = 12
"""At scale 1."""
CASES_MIN: Final = 3
SCANS_LIKED: Final = (8, 20)
"""Of somebody who was about enough that there is something to trace."""
DAYS_LIKED: Final = 3
SHORTLIST: Final = 20
"""People looked at more closely for each one wanted."""
SECOND_CASE_FROM: Final = 3
"""From so many cases on, one person has two."""
RULESETS: Final = ("vn-2021-07", "vn-2021-12")
TIME_FIELDS: Final = ("onset_at", "sampled_at", "infectious_from", "infectious_to", "isolated_at")

Report = dict[str, Any]


@dataclass(frozen=True)
class Cases:
    """All reports in order of ``reported_at``; the withdrawal comes last."""

    reports: list[Report]
    count: int
    persons: int
    withdrawn: str | None
    """The case_id."""

    def chunks(self) -> Iterator[tuple[int, str]]:
        """The file in pieces: how many lines, and their text."""
        for report in self.reports:
            yield 1, json.dumps(report, separators=(",", ":")) + "\n"


def default_count(scale: float) -> int:
    """How many cases there are if nobody says so."""
    return max(half_up(CASES * scale), CASES_MIN)


def draw_cases(scans: Scans, people: People, totals: Totals, seed: int, count: int) -> Cases:
    """Makes ``count`` cases among those who scanned; none where nobody did."""
    rng = stream(seed, "cases")
    wanted = count - 1 if count >= SECOND_CASE_FROM else count
    last_scans = _last_scans(rng, scans, len(people.ids), wanted)
    if not last_scans:
        return Cases([], 0, 0, None)
    evening_ms = day_start_ms(totals.days[-1].date) + 19 * HOUR_MS
    reports = []
    for number in range(count):
        person, last_ms = last_scans[number % wanted % len(last_scans)]
        reported_ms = evening_ms + int(rng.integers(3 * HOUR_MS // SECOND_MS)) * SECOND_MS
        reported_ms = max(reported_ms, (last_ms // SECOND_MS + 60) * SECOND_MS)
        times = _times(rng, number, totals.days[-1].date, withdrawn=number == count - 1)
        case_id = f"BN{totals.province}-{number + 1:04d}"
        ruleset = RULESETS[number % 3 == 1 and number < count - 1]
        reports.append(_report(case_id, people.ids[person], "confirmed", times, reported_ms, ruleset))
    mistaken = reports[-1]
    reports.sort(key=lambda report: (report["_ts"], report["case_id"]))
    next_day_ms = day_start_ms(totals.days[-1].date) + DAY_MS + 9 * HOUR_MS
    withdrawn_ms = max(next_day_ms + int(rng.integers(60)) * MINUTE_MS, mistaken["_ts"] + HOUR_MS)
    reports.append(_report(mistaken["case_id"], mistaken["person_id"], "withdrawn", {}, withdrawn_ms, None))
    return Cases(reports, count, len({report["person_id"] for report in reports}), mistaken["case_id"])


def _last_scans(rng: Generator, scans: Scans, people: int, wanted: int) -> list[tuple[int, int]]:
    """Up to ``wanted`` people, each with the time of the last scan in epoch milliseconds.

    First those who were about on several days, and neither rarely nor all the time.
    """
    counts = np.bincount(scans.person, minlength=people)
    distance = np.abs(counts - np.clip(counts, *SCANS_LIKED))
    listed = np.argsort(distance + rng.random(people))[: SHORTLIST * wanted]
    is_listed = np.zeros(people, dtype=np.bool_)
    is_listed[listed] = True
    rows = np.flatnonzero(is_listed[scans.person])
    seen_ms: dict[int, list[int]] = {person: [] for person in listed.tolist()}
    for person, occurred_ms in zip(scans.person[rows].tolist(), scans.occurred_ms[rows].tolist(), strict=True):
        seen_ms[person].append(occurred_ms)
    seldom = {
        person: -min(len({(at_ms + LOCAL_OFFSET_MS) // DAY_MS for at_ms in times_ms}), DAYS_LIKED)
        for person, times_ms in seen_ms.items()
    }
    chosen = sorted(seen_ms, key=lambda person: seldom[person])[:wanted]
    return [(person, max(seen_ms[person])) for person in chosen if seen_ms[person]]


def _times(rng: Generator, number: int, last_day: date, *, withdrawn: bool) -> dict[str, int]:
    """A case's own times in epoch milliseconds; what is withdrawn was a sample without symptoms."""
    start_ms = day_start_ms(last_day)
    minutes = rng.integers(4 * 60, size=3).tolist()  # always drawn, so that one case does not depend on another's kind
    days_back, ill_days = int(rng.integers(2)), int(rng.integers(1, 4))
    sampled_ms = start_ms - days_back * DAY_MS + 7 * HOUR_MS + minutes[0] * MINUTE_MS
    times = {"sampled_at": sampled_ms}
    if number % 2 == 0 and not withdrawn:
        times["onset_at"] = start_ms - (days_back + ill_days) * DAY_MS + 6 * HOUR_MS + minutes[1] * MINUTE_MS
    if number == 0 and not withdrawn:
        times["isolated_at"] = start_ms + 12 * HOUR_MS + minutes[2] * MINUTE_MS
    return times


def _report(
    case_id: str, person_id: str, status: str, times: dict[str, int], reported_ms: int, ruleset: str | None
) -> Report:
    return {
        "case_id": case_id,
        "person_id": person_id,
        "status": status,
        **{name: _text(times[name]) if name in times else None for name in TIME_FIELDS},
        "reported_at": _text(reported_ms),
        "ruleset": ruleset,
        "_ts": reported_ms,
    }


def _text(instant_ms: int) -> str:
    one: Ints = np.array([instant_ms])
    return time_texts(one, np.array([LOCAL_SECONDS]))[0]
