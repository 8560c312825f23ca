"""Checks what stored rows say about each other, whatever the naive checker makes of the events."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from tests.golden.compare import CELL_KEYS, CELL_VALUES
from tests.oracle import naive, wire
from tests.oracle.contacts import all_exposures
from tests.oracle.visits import MINUTE_MS, Visit
from tests.sim.workload import Workload

Row = dict[str, Any]
ZONE: Final = ZoneInfo("Asia/Ho_Chi_Minh")


def check_rows(workload: Workload, rows: Mapping[str, list[Row]], *, erased: bool) -> Iterator[str]:
    """One line for each broken rule; ``erased``: whether anybody is, and cells may count what is gone."""
    active = {table: [row for row in rows[table] if row["status"] == "active"] for table in ("scans", "visits")}
    yield from _check_visits(active["visits"], active["scans"])
    yield from _check_exposures(workload, active["visits"], rows)
    if not erased:
        yield from _check_recount(workload, active["scans"], rows)
    for row in rows["area_day"]:
        if row["persons"] > row["scans"]:
            yield f"area_day {row['day']}|{row['code']}|{row['part']}: {row['persons']} persons, {row['scans']} scans"


def _check_visits(visits: list[Row], scans: list[Row]) -> Iterator[str]:
    """Each scan counts in one visit; visits of a person last no longer than allowed, and never overlap."""
    counted = sum(row["scan_count"] for row in visits)
    if counted != len(scans):
        yield f"visits: they share {counted} scans of {len(scans)}"
    theirs: dict[str, list[tuple[int, int, Row]]] = defaultdict(list)
    for row in visits:
        start_ms, end_ms = wire.instant(row["started_at"]), wire.instant(row["ended_at"])
        theirs[row["person_id"]].append((start_ms, end_ms, row))
        if not 0 <= end_ms - start_ms <= wire.CATEGORIES[row["category"]][1] * MINUTE_MS:
            yield f"visits {row['visit_id']}: from {row['started_at']} to {row['ended_at']} in a {row['category']}"
    for spans in theirs.values():
        for before, after in pairwise(sorted(spans, key=lambda span: span[:2])):
            if before[1] > after[0]:
                yield f"visits {after[2]['visit_id']}: begins before {before[2]['visit_id']} ends"


def _check_exposures(workload: Workload, visits: list[Row], rows: Mapping[str, list[Row]]) -> Iterator[str]:
    """Exposures are the naive join of the visits and cases as they are stored, and name nobody's own case."""
    stays = [_visit(row) for row in visits]
    cases = [_case(row) for row in rows["cases"] if row["status"] in ("confirmed", "withdrawn")]
    unknown = {str(case["ruleset"]) for case in cases if case["status"] == "confirmed"} - workload.rules.keys()
    if unknown:
        yield f"cases: rulesets that nobody has made: {sorted(unknown)}"
        return
    joined = {row["exposure_id"]: row for row in all_exposures(stays, cases, workload.rules, ZONE)}
    stored = {row["exposure_id"]: row for row in rows["exposures"] if row["status"] == "active"}
    persons: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        persons[case["case_id"]].add(case["person_id"])
    for exposure_id in sorted(joined.keys() | stored.keys()):
        row, other = joined.get(exposure_id), stored.get(exposure_id)
        if row is None or other is None or any(other[name] != value for name, value in row.items()):
            yield f"exposures {exposure_id}: visits and cases give {_short(row)}, the table has {_short(other)}"
        if other is not None and not persons[other["case_id"]] - {other["person_id"]}:
            yield f"exposures {exposure_id}: somebody is exposed to themselves"


def _visit(row: Row) -> Visit:
    start_ms, end_ms = wire.instant(row["started_at"]), wire.instant(row["ended_at"])
    opening = row | {"scan_id": row["first_scan_id"], "occurred_at": row["first_scan_at"]}
    return Visit(opening, 0, 0, start_ms, start_ms, end_ms)


def _case(row: Row) -> Row:
    times = {name: None if row[name] is None else wire.instant(row[name]) for name in wire.CASE_TIMES}
    return row | times


def _check_recount(workload: Workload, scans: list[Row], rows: Mapping[str, list[Row]]) -> Iterator[str]:
    """Cells are a recount of the scans that are stored."""
    recounted = naive.cells_of(scans, ZONE)
    for table, names in CELL_KEYS.items():
        sums: dict[tuple[Any, ...], dict[str, int]] = {}
        for row in rows[table]:
            cell = sums.setdefault(tuple(row[name] for name in names), {})
            for name in CELL_VALUES:
                if name in row:
                    cell[name] = cell.get(name, 0) + row[name]
        for row in recounted[table]:
            key = tuple(row[name] for name in names)
            cell = sums.pop(key, {})
            unlike = {name for name in CELL_VALUES if name in row and row[name] != cell.get(name)}
            if workload.expires:
                unlike.discard("active_venues")  # compared where it is certain
            if unlike:
                yield f"{table} {'|'.join(key)}: a recount gives {_short(row)}, the table has {_short(cell)}"
        yield from (f"{table} {key}: no scan was there" for key, cell in sums.items() if any(cell.values()))


def _short(row: Row | None) -> str:
    return "nothing" if row is None else json.dumps(row)[:300]
