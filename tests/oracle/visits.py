"""Visits as SPEC §3 builds them: its pseudo-code, step by step, over all accepted scans of one person at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from tests.oracle import wire

Row = dict[str, Any]

MINUTE_MS = 60_000
# What a visit takes from its opening scan.
OPENING = ("person_id", "venue_id", "category", "province_code", "district_code", "ward_code")


@dataclass
class Visit:
    """One visit, in epoch ms; ``opening`` is the row of its first scan, dwell and longest stay are that scan's."""

    opening: Row
    dwell: int
    max_dwell: int
    start: int
    last: int
    end: int
    start_kind: str = "scanned"
    end_kind: str = ""
    scan_count: int = 1

    @property
    def visit_id(self) -> str:
        """SPEC §3's digest."""
        return digest(self.opening["person_id"], self.opening["venue_id"], self.opening["scan_id"])


def digest(*parts: str) -> str:
    """32 hex digits of BLAKE2b-128 over the parts."""
    return blake2b("|".join(parts).encode(), digest_size=16).hexdigest()


def all_visits(scans: list[Row], dwell_minutes: Mapping[tuple[str, str], int]) -> list[Visit]:
    """The visits of everybody, sorted by id. ``dwell_minutes`` tells each scan's by (person_id, scan_id)."""
    persons: dict[str, list[Row]] = {}
    for scan in scans:
        persons.setdefault(scan["person_id"], []).append(scan)
    visits = [visit for theirs in persons.values() for visit in _visits_of_one(theirs, dwell_minutes)]
    return sorted(visits, key=lambda visit: visit.visit_id)


def _visits_of_one(scans: list[Row], dwell_minutes: Mapping[tuple[str, str], int]) -> list[Visit]:
    closed: list[Visit] = []
    v: Visit | None = None
    for scan in sorted(scans, key=lambda scan: (wire.instant(scan["occurred_at"]), scan["scan_id"])):
        fresh = _opened_by(scan, dwell_minutes[scan["person_id"], scan["scan_id"]])
        t = fresh.start
        is_out = scan["direction"] == "out"
        if v and scan["venue_id"] == v.opening["venue_id"] and t - v.start <= v.max_dwell:
            if is_out:
                v.scan_count += 1
                _close(v, t, "scanned", closed)
                v = None
            elif t <= v.last + v.dwell:
                v.scan_count += 1
                v.last = t
            else:
                _close(v, v.last + v.dwell, "estimated", closed)
                v = fresh
        else:
            if v:
                moved = t < v.last + v.dwell and t < v.start + v.max_dwell
                end = min(v.last + v.dwell, t, v.start + v.max_dwell)
                _close(v, end, "moved" if moved else "estimated", closed)
                v = None
            if is_out:
                fresh.start = max([t - fresh.dwell, *(visit.end for visit in closed[-1:])])
                fresh.start_kind = "estimated"
                _close(fresh, t, "scanned", closed)
            else:
                v = fresh
    if v:
        _close(v, min(v.last + v.dwell, v.start + v.max_dwell), "estimated", closed)
    return closed


def _opened_by(scan: Row, dwell_minutes: int) -> Visit:
    t = wire.instant(scan["occurred_at"])
    max_minutes = wire.CATEGORIES[scan["category"]][1]
    return Visit(scan, dwell_minutes * MINUTE_MS, max_minutes * MINUTE_MS, start=t, last=t, end=t)


def _close(visit: Visit, end: int, end_kind: str, closed: list[Visit]) -> None:
    visit.end = end
    visit.end_kind = end_kind
    closed.append(visit)


def visit_row(visit: Visit) -> Row:
    """The row of SPEC §9's ``visits``, without its revision."""
    return {
        "visit_id": visit.visit_id,
        **{name: visit.opening[name] for name in OPENING},
        "started_at": wire.instant_text(visit.start),
        "ended_at": wire.instant_text(visit.end),
        "start_kind": visit.start_kind,
        "end_kind": visit.end_kind,
        "first_scan_id": visit.opening["scan_id"],
        "first_scan_at": visit.opening["occurred_at"],
        "scan_count": visit.scan_count,
        "status": "active",
    }
