"""Every table of SPEC as JSON lines, from either backend."""

import json
from pathlib import Path
from typing import Any

import pytest

from sinks import paging
from sinks.backends import Backend
from sinks.export import export_tables
from sinks.tables import TABLES
from tests.sinks import data
from tests.sinks.test_backends import store


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_an_empty_database_gives_empty_files(backend: Backend, tmp_path: Path) -> None:
    """Every table has its file, one without rows too."""
    counts = export_tables(backend, tmp_path / "out")
    assert counts == dict.fromkeys(TABLES, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(f"{t}.jsonl" for t in TABLES)


def test_rows_are_final_and_as_spec_shows_them(backend: Backend, tmp_path: Path) -> None:
    """One row per key, times in UTC with milliseconds, local days, parts, nulls and lists; no storage columns."""
    store(backend, "enriched", [data.scan(2), data.scan(1), data.scan(1, revision=2, lat=21), data.retraction(2)])
    store(backend, "venues", [data.venue("CAFE", codes=["A", "B"])])
    store(backend, "case-states", [data.case_state("C1")])
    store(
        backend, "rejects", [data.reject(10), data.reject(9, key=None), data.reject(10, status="resolved", revision=2)]
    )
    visits = [data.visit(1, revision=2, scan_count=2), data.bare("visits", data.visit(2, revision=3))]
    store(backend, "visits", [data.visit(1), data.visit(2), *visits])
    exposures = [data.exposure(1, revision=2, score=0.5), data.bare("exposures", data.exposure(2, revision=3))]
    store(backend, "exposures", [data.exposure(1), data.exposure(2), *exposures])
    store(backend, "aggregates", [data.ward_minute("2021-10-13T17:00:00.000Z", "00262", "person-3", (1, 2, 3))])
    store(backend, "aggregates", [data.venue_hour("2021-10-13T17:00:00.000Z", "CAFE", "person-3", (1, 2, 3))])
    store(backend, "aggregates", [data.area_day("2021-10-14", "VN", "venue-1", (0, 0, 7))])
    export_tables(backend, tmp_path)
    scans = lines(tmp_path / "scans.jsonl")
    assert [(row["scan_id"], row["status"], row["revision"]) for row in scans] == [
        ("s1", "active", 2),
        ("s2", "erased", 2),
    ]
    assert scans[0] == data.scan(1, revision=2, lat=21.0)
    assert isinstance(scans[0]["lat"], float)
    (venue,) = lines(tmp_path / "venues.jsonl")
    assert venue == data.venue("CAFE", codes=["A", "B"]) | {"registered_at": "2021-09-01T01:00:00.000Z", "revision": 0}
    (case,) = lines(tmp_path / "cases.jsonl")
    assert case == data.case_state("C1")
    assert lines(tmp_path / "rejects.jsonl") == [
        data.reject(9, key=None),
        data.reject(10, status="resolved", revision=2),
    ]
    assert [row for row in lines(tmp_path / "visits.jsonl") if row["status"] == "active"] == visits[:1]
    assert [row for row in lines(tmp_path / "exposures.jsonl") if row["status"] == "active"] == exposures[:1]
    for table, rows in (("visits", visits), ("exposures", exposures)):
        (taken_back,) = [row for row in lines(tmp_path / f"{table}.jsonl") if row["status"] == "retracted"]
        assert taken_back.items() >= rows[1].items()
    (minute,) = lines(tmp_path / "ward_minute.jsonl")
    assert minute == {
        "minute": "2021-10-13T17:00:00.000Z",
        "ward_code": "00262",
        "part": "person-3",
        "scans": 6,
        "ins": 1,
        "outs": 2,
        "passes": 3,
        "revision": 1,
    }
    (hour,) = lines(tmp_path / "venue_hour.jsonl")
    assert (hour["hour"], hour["venue_id"]) == ("2021-10-13T17:00:00.000Z", "CAFE")
    (day,) = lines(tmp_path / "area_day.jsonl")
    assert (day["day"], day["level"], day["code"], day["active_venues"]) == ("2021-10-14", "nation", "VN", 7)


@pytest.mark.parametrize("page_rows", [1, 7, 100])
def test_pages_join_without_seams(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page_rows: int
) -> None:
    """However small the pages, every row comes once and in key order, over keys of one column and of three."""
    monkeypatch.setattr(paging, "PAGE_ROWS", page_rows)
    monkeypatch.setattr(paging, "PAGE_ROWS_OF", {})
    store(backend, "enriched", [data.scan(number, person=number % 3) for number in range(50)])
    store(backend, "venues", [data.venue(f"V{number}") for number in range(20)])
    store(backend, "rejects", [data.reject(number, topic=f"a'{number % 2}\\") for number in range(15)])
    counts = export_tables(backend, tmp_path)
    assert (counts["scans"], counts["venues"], counts["rejects"]) == (50, 20, 15)
    keys = [(row["person_id"], row["scan_id"]) for row in lines(tmp_path / "scans.jsonl")]
    assert keys == sorted(set(keys))
    offsets = [(row["topic"], row["offset"]) for row in lines(tmp_path / "rejects.jsonl")]
    assert offsets == sorted(set(offsets))
