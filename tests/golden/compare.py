"""Compares tables with expected rows exactly as ``data/README.md`` says: as sets, on the fields expected rows name."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

DATA = Path(__file__).parent / "data"
TABLES = ("scans", "visits", "cases", "exposures", "rejects", "ward_minute", "venue_hour", "area_day")
CELL_KEYS = {
    "ward_minute": ("minute", "ward_code"),
    "venue_hour": ("hour", "venue_id"),
    "area_day": ("day", "level", "code"),
}
CELL_VALUES = ("scans", "ins", "outs", "passes", "persons", "active_venues")
KEYS = {
    "scans": ("person_id", "scan_id"),
    "visits": ("visit_id",),
    "venues": ("venue_id",),
    "cases": ("case_id", "person_id"),
    "exposures": ("exposure_id",),
}
# README: after an erasure cells stay, and what is rejected depends on what came first.
NOT_COMPARED = {"16-erasure": {*CELL_KEYS, "rejects"}}
NOT_YET = {"source", "cause", "weight", "follow_up_days"}
"""What newer cases expect beside the rest: it is compared from when the tables have it."""
IF_EXPECTED = ("venues",)
"""Compared only where there is an expected file."""
DIFFERENCES_SHOWN_MAX = 20
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def compare(expected_dir: Path, out_dir: Path, tables: Iterable[str] = TABLES) -> list[str]:
    """The differences between golden rows and the files of ``truyvet replay``, one sentence each; none is good.

    ``expected_dir`` is a golden case or its ``expected`` folder.
    """
    if (expected_dir / "expected").is_dir():
        expected_dir = expected_dir / "expected"
    skipped = NOT_COMPARED.get(expected_dir.parent.name, set())
    differences = []
    extra = [table for table in IF_EXPECTED if (expected_dir / f"{table}.jsonl").exists()]
    for table in (*tables, *extra):
        if table not in skipped:
            expected = read_rows(expected_dir / f"{table}.jsonl")
            differences += compare_rows(table, expected, read_rows(out_dir / f"{table}.jsonl"))
    return differences


def compare_views(expected: Mapping[str, list[Any]], out_dir: Path, tables: Iterable[str]) -> list[str]:
    """As ``compare``, with the expected rows at hand, such as those of the naive checker."""
    differences = []
    for table in tables:
        differences += compare_rows(table, expected[table], read_rows(out_dir / f"{table}.jsonl"))
    return differences


def compare_rows(table: str, expected: list[Any], actual: list[Any]) -> list[str]:
    """The differences of one table. ``actual`` holds stored rows: with parts, statuses, one row per reject."""
    differences = _repeated_keys(table, actual)
    there = {name for row in actual for name in row}
    fields = sorted({name for row in expected for name in row if name in there or name not in NOT_YET})
    wanted = {_projected(row, fields) for row in expected}
    if table == "rejects":
        fields = fields or ["reason", "rows"]
        found = {_projected(row, fields) for row in _reject_counts(actual, fields)}
    elif table in CELL_KEYS:
        found = {_projected(row, fields or list(row)) for row in _summed(table, actual)}
    else:
        found = {_projected(row, fields or list(KEYS[table])) for row in actual if _counts(table, row)}
    differences += [f"{table}: missing {dict(row)}" for row in sorted(wanted - found, key=repr)]
    differences += [f"{table}: not expected {dict(row)}" for row in sorted(found - wanted, key=repr)]
    left_out = len(differences) - DIFFERENCES_SHOWN_MAX
    return [*differences[:DIFFERENCES_SHOWN_MAX], f"{table}: {left_out} more"] if left_out > 0 else differences


def read_rows(path: Path) -> list[Any]:
    """The rows of a JSON-lines file; none if it is absent."""
    return [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()] if path.exists() else []


def _counts(table: str, row: Row) -> bool:
    if table == "venues":
        return True
    return row["status"] in (("confirmed", "withdrawn") if table == "cases" else ("active",))


def _repeated_keys(table: str, actual: list[Row]) -> list[str]:
    key_fields = KEYS.get(table)
    if key_fields is None:
        return []
    times = Counter(tuple(row[name] for name in key_fields) for row in actual)
    return [f"{table}: {count} rows with the key {key}" for key, count in times.items() if count > 1]


def _reject_counts(actual: list[Row], fields: list[str]) -> list[Row]:
    """Rows of dead letters counted by these fields; topics without their prefix."""
    names = [name for name in fields if name != "rows"]
    counted = Counter(
        tuple(row[name].rpartition(".")[2] if name == "topic" else row[name] for name in names)
        for row in actual
        if row.get("status") != "resolved" and "rows" not in row
    )
    return [row for row in actual if "rows" in row] + [
        {**dict(zip(names, values, strict=True)), "rows": count} for values, count in counted.items()
    ]


def _summed(table: str, actual: list[Row]) -> list[Row]:
    """Cells summed over ``part``, without those whose values are all zero."""
    sums: dict[tuple[object, ...], Counter[str]] = {}
    for row in actual:
        cell = sums.setdefault(tuple(_plain(row[name]) for name in CELL_KEYS[table]), Counter())
        cell.update({name: row[name] for name in CELL_VALUES if name in row})
    named = [(dict(zip(CELL_KEYS[table], key, strict=True)), values) for key, values in sums.items()]
    return [{**key, **values} for key, values in named if any(values.values())]


def _projected(row: Row, fields: list[str]) -> tuple[tuple[str, object], ...]:
    return tuple((name, _plain(row.get(name))) for name in fields)


def _plain(value: object) -> object:
    """A comparable value: times as instants, floats without their last digits, lists as tuples."""
    if isinstance(value, str) and _TIME.fullmatch(value):
        return datetime.fromisoformat(value).timestamp()
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    return value
