"""The comparison itself, and the naive checker held to the golden cases."""

import json
from pathlib import Path

import pytest

from tests.golden.compare import DATA, compare, compare_rows
from tests.oracle.files import Files
from tests.oracle.naive import naive_views

WITHOUT_ERASURES = sorted(path for path in DATA.iterdir() if path.is_dir() and not path.name.startswith("16"))
TABLES = ("scans", "cases", "rejects", "ward_minute", "venue_hour", "area_day")


def _write(directory: Path, views: dict[str, list[dict[str, object]]]) -> None:
    for table, rows in views.items():
        (directory / f"{table}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_all_golden_cases_are_here() -> None:
    """The golden folders are in the repository."""
    assert len([path for path in DATA.iterdir() if path.is_dir()]) == 17
    assert len(WITHOUT_ERASURES) == 16


@pytest.mark.parametrize("case", WITHOUT_ERASURES, ids=lambda path: path.name)
def test_the_naive_checker_gives_the_golden_rows(case: Path, tmp_path: Path) -> None:
    """The naive checker's scans, cases, cells and rejects are the golden ones."""
    views = naive_views(Files.read(case / "in"))
    views["rejects"] = [row for row in views["reject_rows"] if row["status"] != "resolved"]
    _write(tmp_path, views)
    assert compare(case, tmp_path, TABLES) == []


def test_a_missing_and_an_unexpected_row_are_differences() -> None:
    """A row on one side only is named, whichever side it is on."""
    expected = [{"person_id": "a", "scan_id": "1", "status": "active"}]
    actual = [{"person_id": "a", "scan_id": "2", "status": "active", "lat": 21.0}]
    differences = compare_rows("scans", expected, actual)
    assert len(differences) == 2
    assert differences[0].startswith("scans: missing")
    assert differences[1].startswith("scans: not expected")


def test_times_and_numbers_compare_by_value() -> None:
    """The same instant and the same number are equal however they are written."""
    expected = [
        {"person_id": "a", "scan_id": "1", "occurred_at": "2021-10-14T01:00:00.000Z", "lat": 21, "status": "active"}
    ]
    actual = [
        {"person_id": "a", "scan_id": "1", "occurred_at": "2021-10-14T08:00:00+07:00", "lat": 21.0, "status": "active"}
    ]
    assert compare_rows("scans", expected, actual) == []


def test_cells_are_summed_over_parts_and_empty_ones_are_dropped() -> None:
    """Two parts of a cell are one row, and a cell of zeros is none."""
    cell = {"minute": "2021-10-14T01:00:00.000Z", "ward_code": "00262", "outs": 0, "passes": 0}
    expected = [{**cell, "scans": 3, "ins": 3}]
    actual = [
        {**cell, "part": "person-1", "scans": 1, "ins": 1},
        {**cell, "part": "person-2", "scans": 2, "ins": 2},
        {**cell, "ward_code": "00001", "part": "person-2", "scans": 0, "ins": 0},
    ]
    assert compare_rows("ward_minute", expected, actual) == []
    assert compare_rows("ward_minute", expected, actual[:1]) != []


def test_rejects_are_counted_by_reason_without_resolved_ones() -> None:
    """Resolved rows do not count, waiting ones do."""
    actual = [{"reason": "unknown_venue", "status": status} for status in ("waiting", "resolved", "waiting")]
    assert compare_rows("rejects", [{"reason": "unknown_venue", "rows": 2}], actual) == []
    assert compare_rows("rejects", [], actual) != []


def test_only_rows_that_count_are_compared() -> None:
    """Erased scans and cases are no rows; a withdrawn case is one."""
    scan = {"person_id": "a", "scan_id": "1", "status": "erased"}
    assert compare_rows("scans", [], [scan]) == []
    case = {"case_id": "C", "person_id": "a", "status": "withdrawn"}
    assert compare_rows("cases", [case], [case]) == []
    assert compare_rows("cases", [], [{**case, "status": "erased"}]) == []


def test_a_key_stored_twice_is_a_difference() -> None:
    """A table that holds a key twice is wrong even if both rows are equal."""
    row = {"person_id": "a", "scan_id": "1", "status": "active"}
    assert compare_rows("scans", [row], [row, row]) == ["scans: 2 rows with the key ('a', '1')"]
