"""Who counts as a person of an area and day, recounted in the order in which a partition accepted and erased.

Which scan is its person's first of a day depends on that order where somebody was erased: then the marks are those of
the scans that remain (SPEC, section 8). What the naive checker must leave open there has one right answer here.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from streams.core.step import InRecord

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
Area = tuple[str, str]
Cell = tuple[str, str, str, str]


def check_persons(accepted: Mapping[int, Iterable[InRecord]], area_days: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with the scans and persons of ``area_day``; ``accepted`` is ``enriched`` by partition."""
    wanted: dict[Cell, Sequence[int]] = {}
    for partition, records in accepted.items():
        wanted |= {(*cell, f"person-{partition}"): counts for cell, counts in _recounted(records).items()}
    found = {
        (row["day"], row["level"], row["code"], row["part"]): (row["scans"], row["persons"])
        for row in area_days
        if row["part"].startswith("person-")
    }
    return [
        f"area_day {cell}: recounted {tuple(wanted.get(cell, (0, 0)))} scans and persons, found {found.get(cell)}"
        for cell in sorted(wanted.keys() | found.keys())
        if tuple(wanted.get(cell, (0, 0))) != found.get(cell)
    ][:5]


def _recounted(records: Iterable[InRecord]) -> dict[tuple[str, str, str], list[int]]:
    cells: dict[tuple[str, str, str], list[int]] = {}
    scans: dict[tuple[str, str], tuple[str, list[Area]]] = {}
    marks: dict[tuple[str, str], Counter[Area]] = {}
    for record in records:
        row = json.loads(record.value or b"")
        identity = row["person_id"], row["scan_id"]
        if row["status"] != "active":
            day, areas = scans.pop(identity)
            marks[row["person_id"], day].subtract(areas)
            continue
        day = _day_of(row["occurred_at"])
        areas = [(level, row[f"{level}_code"]) for level in ("ward", "district", "province")] + [("nation", "VN")]
        scans[identity] = day, areas
        held = marks.setdefault((row["person_id"], day), Counter())
        for area in areas:
            counts = cells.setdefault((day, *area), [0, 0])
            counts[0] += 1
            counts[1] += held[area] <= 0
            held[area] += 1
    return cells


def _day_of(time_text: str) -> str:
    return datetime.fromisoformat(time_text).astimezone(ZONE).date().isoformat()
