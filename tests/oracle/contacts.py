"""Exposures as SPEC §6 and §7 give them: every case against every pair of visits, one after another.

A ruleset is a plain dictionary with the fields that its file has, so that a test may hold any to it.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.oracle import wire
from tests.oracle.visits import MINUTE_MS, Row, Visit, digest
from tests.oracle.wire import DAY_MS, Object

Rule = Mapping[str, Any]

_LEVELS = [{"name": "low", "min_score": 0}, {"name": "medium", "min_score": 15}, {"name": "high", "min_score": 60}]


def rule(name: str, days_before: int, days_before_asymptomatic: int, days_after: int, **others: object) -> Rule:
    """A ruleset that has no minimum, no tail, no weights, and the shipped ones' levels, but for ``others``."""
    plain: Rule = {
        "name": name,
        "version": 1,
        "days_before": days_before,
        "days_before_asymptomatic": days_before_asymptomatic,
        "days_after": days_after,
        "min_stay_minutes": 0,
        "min_overlap_minutes": 0,
        "tail": "none",
        "tail_minutes": 0,
        "weights": [],
        "levels": _LEVELS,
    }
    if not plain.keys() >= others.keys():
        raise ValueError(f"no fields of a ruleset: {others.keys() - plain.keys()}")
    return {**plain, **others}


RULESETS: Mapping[str, Rule] = {
    "vn-2021-07": rule("vn-2021-07", 3, 14, 14),
    "vn-2021-12": rule("vn-2021-12", 2, 2, 10, min_overlap_minutes=15),
}
"""The shipped ones."""

KINDS: Mapping[str, Rule] = {
    **RULESETS,
    "tail": rule(
        *("tail", 1, 2, 3),
        min_stay_minutes=5,
        tail="equal_to_stay",
        tail_minutes=20,
        weights=[{"day": -1, "weight": 0.5}, {"day": 1, "weight": 2.0}],
    ),
    "fixed": rule("fixed", 1, 2, 3, min_overlap_minutes=5, tail="fixed", tail_minutes=30),
}
"""One ruleset of each kind."""


def all_exposures(visits: list[Visit], cases: list[Object], rulesets: Mapping[str, Rule], zone: ZoneInfo) -> list[Row]:
    """The rows of SPEC §9's ``exposures`` without reason, detected_at and revision, sorted by id.

    ``cases`` are the reports that count, one per case, withdrawn ones too.
    """
    rows = []
    at_venue: dict[str, list[Visit]] = {}
    for visit in visits:
        at_venue.setdefault(visit.opening["venue_id"], []).append(visit)
    for case in cases:
        if case["status"] == "confirmed":
            used = rulesets[case["ruleset"]]
            for visit in visits:
                if visit.opening["person_id"] == case["person_id"]:
                    rows += _exposures_of_stay(case, visit, at_venue[visit.opening["venue_id"]], used, zone)
    return sorted(rows, key=lambda row: str(row["exposure_id"]))


def _anchor(case: Object) -> int | None:
    anchor: int | None = case["sampled_at"] if case["onset_at"] is None else case["onset_at"]
    return anchor


def _period(case: Object, used: Rule) -> tuple[int, int]:
    """The infectious period of a confirmed case, [from, to) in epoch ms."""
    begin, end, anchor = case["infectious_from"], case["infectious_to"], _anchor(case)
    if begin is None:
        days = used["days_before_asymptomatic"] if case["onset_at"] is None else used["days_before"]
        begin = anchor - days * DAY_MS
    if end is None:
        end = case["isolated_at"]
    if end is None:
        end = anchor + used["days_after"] * DAY_MS
    return begin, end


def _exposures_of_stay(case: Object, visit: Visit, there: list[Visit], used: Rule, zone: ZoneInfo) -> list[Row]:
    begin, end = _period(case, used)
    w0, w1 = max(visit.start, begin), min(visit.end, end)
    if w1 <= w0 or w1 - w0 < used["min_stay_minutes"] * MINUTE_MS:
        return []
    tail = used["tail_minutes"] * MINUTE_MS
    until = w1 + {"none": 0, "fixed": tail, "equal_to_stay": min(w1 - w0, tail)}[used["tail"]]
    rows = []
    for other in there:
        if other.opening["person_id"] == case["person_id"]:
            continue
        overlap_from, overlap_to = max(other.start, w0), min(other.end, until)
        overlap = overlap_to - overlap_from
        if overlap > 0 and overlap >= used["min_overlap_minutes"] * MINUTE_MS:
            score = _weight(case, overlap_from, used, zone) * (overlap // MINUTE_MS)
            rows.append(
                {
                    "exposure_id": digest(case["case_id"], visit.visit_id, other.visit_id),
                    "case_id": case["case_id"],
                    **{name: other.opening[name] for name in ("person_id", "venue_id", "category")},
                    **{name: other.opening[name] for name in ("province_code", "district_code", "ward_code")},
                    "overlap_from": wire.instant_text(overlap_from),
                    "overlap_to": wire.instant_text(overlap_to),
                    "overlap_minutes": overlap // MINUTE_MS,
                    "score": score,
                    "level": [level["name"] for level in used["levels"] if score >= level["min_score"]][-1],
                    "ruleset": used["name"],
                    "ruleset_version": used["version"],
                    "contact_scan_at": other.opening["occurred_at"],
                    "status": "active",
                }
            )
    return rows


def _weight(case: Object, overlap_from: int, used: Rule, zone: ZoneInfo) -> float:
    """What a minute weighs; of two listed days equally near the earlier one's."""
    anchor = _anchor(case)
    if anchor is None or not used["weights"]:
        return 1
    day = (_local_day(overlap_from, zone) - _local_day(anchor, zone)).days
    weights: dict[int, float] = {listed["day"]: listed["weight"] for listed in used["weights"]}
    return weights[min(weights, key=lambda listed: (abs(listed - day), listed))]


def _local_day(instant_ms: int, zone: ZoneInfo) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant_ms)).astimezone(zone).date()
