"""The naive checker's visits and exposures: the golden rows, and examples worked out by hand."""

from collections.abc import Mapping
from json import dumps
from pathlib import Path

import pytest

from tests.golden.compare import DATA, compare_rows, read_rows
from tests.oracle import wire
from tests.oracle.contacts import rule
from tests.oracle.files import Files
from tests.oracle.naive import naive_views

GOLDEN = sorted(path for path in DATA.iterdir() if path.is_dir())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.name)
@pytest.mark.parametrize("table", ["scans", "visits", "cases", "exposures"])
def test_golden_rows(case: Path, table: str) -> None:
    """Every golden scan, visit, case and exposure, and no other."""
    views = naive_views(Files.read(case / "in"))
    assert compare_rows(table, read_rows(case / "expected" / f"{table}.jsonl"), views[table]) == []


VENUES = [("CAFE", "cafe", None), ("SHOP", "pharmacy", 10)]  # dwell 60, at most 240; dwell 10, at most 60
Visit = tuple[str, str, str, str, int]


def _at(clock: str) -> str:
    return f"2021-10-14T{clock}+07:00"


def _files(scans: list[str], case: Mapping[str, object] | None = None) -> Files:
    """Scans such as ``a CAFE in 08:00:00``, numbered in this order; person ``a`` may be a case."""
    venues = [
        {"venue_id": name, "category": category, "dwell_minutes": dwell, "name": name, "status": "active", "codes": []}
        | {"province_code": "01", "district_code": "007", "ward_code": "00262", "lat": 21, "lon": 105}
        | {"registered_at": "2021-09-01T00:00:00Z"}
        for name, category, dwell in VENUES
    ]
    events = [
        {"scan_id": f"s{number}", "person_id": person * 32, "venue_id": venue, "direction": direction, "source": "vhd"}
        | {"occurred_at": _at(clock)}
        for number, (person, venue, direction, clock) in enumerate(scan.split() for scan in scans)
    ]
    report = {"case_id": "C", "person_id": "a" * 32, "status": "confirmed", "reported_at": _at("20:00:00")}
    return Files(
        venues=tuple(dumps(venue).encode() for venue in venues),
        scans=tuple(dumps(event).encode() for event in events),
        cases=() if case is None else (dumps(report | dict(case)).encode(),),
    )


def _visits(*scans: str) -> list[Visit]:
    """(first scan, local start, local end, kinds, scans) of each visit, in order of time."""
    rows = naive_views(_files(list(scans)))["visits"]
    visits = [
        (
            row["first_scan_id"],
            _clock(row["started_at"]),
            _clock(row["ended_at"]),
            f"{row['start_kind']} {row['end_kind']}",
            row["scan_count"],
        )
        for row in rows
    ]
    return sorted(visits, key=lambda visit: (visit[1], visit[2]))


def _clock(text: str) -> str:
    local = wire.instant_text(wire.instant(text) + 7 * 3_600_000)
    return local[11:19] if local.endswith(".000Z") else local[11:-1]


def test_rescans_prolong_up_to_the_longest_stay() -> None:
    """A chain of rescans ends with the category's longest stay; the scan a millisecond later opens a new visit."""
    chain = [f"a CAFE in {clock}:00" for clock in ("08:00", "09:00", "10:00", "11:00", "12:00")]
    assert _visits(*chain) == [("s0", "08:00:00", "12:00:00", "scanned estimated", 5)]
    assert _visits(*chain[:4], "a CAFE in 12:00:00.001") == [
        ("s0", "08:00:00", "12:00:00", "scanned estimated", 4),
        ("s4", "12:00:00.001", "13:00:00.001", "scanned estimated", 1),
    ]
    assert _visits(*chain, "a CAFE out 12:00:00.001") == [
        ("s0", "08:00:00", "12:00:00", "scanned estimated", 5),
        ("s5", "12:00:00", "12:00:00.001", "estimated scanned", 1),
    ]


def test_a_check_out_closes_even_after_the_dwell() -> None:
    """Within the longest stay a check-out ends the visit, however long ago the last scan was; a rescan does not."""
    assert _visits("a CAFE in 08:00:00", "a CAFE out 12:00:00") == [
        ("s0", "08:00:00", "12:00:00", "scanned scanned", 2)
    ]
    assert _visits("a CAFE in 08:00:00", "a CAFE pass 09:00:00.001") == [
        ("s0", "08:00:00", "09:00:00", "scanned estimated", 1),
        ("s1", "09:00:00.001", "10:00:00.001", "scanned estimated", 1),
    ]


def test_check_outs_without_check_in_reach_back_to_the_visit_before() -> None:
    """Each lone check-out is a visit of its own, at most its dwell long, that begins where the last one ended."""
    assert _visits("a CAFE out 08:00:00", "a CAFE out 08:20:00", "a SHOP out 08:50:00", "a SHOP out 08:50:00") == [
        ("s0", "07:00:00", "08:00:00", "estimated scanned", 1),
        ("s1", "08:00:00", "08:20:00", "estimated scanned", 1),
        ("s2", "08:40:00", "08:50:00", "estimated scanned", 1),
        ("s3", "08:50:00", "08:50:00", "estimated scanned", 1),
    ]


def test_another_venue_moves_whoever_would_still_be_there() -> None:
    """An end is ``moved`` only if the next scan came before the dwell and the longest stay were over."""
    assert _visits("a SHOP in 08:00:00", "a CAFE in 08:09:59.999", "a SHOP out 09:09:59.999") == [
        ("s0", "08:00:00", "08:09:59.999", "scanned moved", 1),
        ("s1", "08:09:59.999", "09:09:59.999", "scanned estimated", 1),
        ("s2", "09:09:59.999", "09:09:59.999", "estimated scanned", 1),
    ]
    assert _visits("a SHOP in 08:00:00", "a CAFE out 08:10:00") == [
        ("s0", "08:00:00", "08:10:00", "scanned estimated", 1),
        ("s1", "08:10:00", "08:10:00", "estimated scanned", 1),
    ]


# The case, a, is there from 8:00 to 8:20; b from 8:15 to 8:45:59; c from 8:25 to 8:55.
SCENE = [
    *("a CAFE in 08:00:00", "a CAFE out 08:20:00", "b CAFE in 08:15:00", "b CAFE out 08:45:59"),
    *("c CAFE in 08:25:00", "c CAFE out 08:55:00"),
]
ONSET = {"onset_at": "2021-10-14T00:30:00+07:00"}  # a day earlier in UTC
NOTHING: dict[str, tuple[int, float, str]] = {}
LEVELS = [{"name": "x", "min_score": 0}, {"name": "y", "min_score": 5}]


@pytest.mark.parametrize(
    ("case", "others", "expected"),
    [
        (ONSET, {}, {"b": (5, 5, "low")}),
        (ONSET, {"tail": "fixed", "tail_minutes": 10}, {"b": (15, 15, "medium"), "c": (5, 5, "low")}),
        (ONSET, {"tail": "equal_to_stay", "tail_minutes": 60}, {"b": (25, 25, "medium"), "c": (15, 15, "medium")}),
        (ONSET, {"tail": "equal_to_stay", "tail_minutes": 10}, {"b": (15, 15, "medium"), "c": (5, 5, "low")}),
        (ONSET, {"tail": "fixed", "tail_minutes": 60}, {"b": (30, 30, "medium"), "c": (30, 30, "medium")}),
        (ONSET, {"min_stay_minutes": 20}, {"b": (5, 5, "low")}),
        (ONSET, {"min_stay_minutes": 21, "tail": "fixed", "tail_minutes": 60}, NOTHING),
        (ONSET, {"min_overlap_minutes": 5}, {"b": (5, 5, "low")}),
        (ONSET, {"min_overlap_minutes": 6}, NOTHING),
        (ONSET, {"levels": LEVELS}, {"b": (5, 5, "y")}),
        (ONSET, {"weights": [{"day": 0, "weight": 3}, {"day": 1, "weight": 9}]}, {"b": (5, 15, "medium")}),
        (ONSET, {"weights": [{"day": -1, "weight": 12}, {"day": 1, "weight": 9}]}, {"b": (5, 60, "high")}),
        (ONSET, {"weights": [{"day": 7, "weight": 0.5}, {"day": 9, "weight": 9}]}, {"b": (5, 2.5, "low")}),
        (ONSET | {"isolated_at": _at("08:17:00")}, {}, {"b": (2, 2, "low")}),
        (ONSET | {"isolated_at": _at("08:00:00")}, {"tail": "fixed", "tail_minutes": 60}, NOTHING),
        (ONSET | {"infectious_to": _at("08:18:00"), "isolated_at": _at("08:17:00")}, {}, {"b": (3, 3, "low")}),
        (
            {"infectious_from": _at("08:16:00"), "isolated_at": _at("08:18:00")},
            {"tail": "equal_to_stay", "tail_minutes": 60, "weights": [{"day": 0, "weight": 9}]},
            {"b": (4, 4, "low")},
        ),
    ],
)
def test_rulesets_by_hand(
    case: dict[str, object], others: dict[str, object], expected: dict[str, tuple[int, float, str]]
) -> None:
    """Tails, minimums, weights by local day, levels and cuts, each worked out by hand."""
    rulesets = {"own": rule("own", 1, 2, 3, version=4, **others)}
    rows = naive_views(_files(SCENE, case | {"ruleset": "own"}), rulesets=rulesets)["exposures"]
    found = {row["person_id"][0]: (row["overlap_minutes"], row["score"], row["level"]) for row in rows}
    assert found == expected
    assert {(row["ruleset"], row["ruleset_version"]) for row in rows} <= {("own", 4)}


@pytest.mark.parametrize(
    ("case", "cut"),
    [
        ({"onset_at": "2021-10-15T08:17:00+07:00"}, "08:17:00"),
        ({"onset_at": "2021-10-15T08:17:00+07:00", "sampled_at": "2021-10-20T08:00:00+07:00"}, "08:17:00"),
        ({"sampled_at": "2021-10-16T08:17:00+07:00"}, "08:17:00"),
        ({"sampled_at": "2021-10-16T08:17:00+07:00", "infectious_from": _at("08:18:00")}, "08:18:00"),
    ],
)
def test_periods_begin_days_before_the_anchor(case: dict[str, object], cut: str) -> None:
    """A day is 24 hours; onset goes before sample, an explicit begin before both."""
    rulesets = {"own": rule("own", 1, 2, 3)}
    [row] = naive_views(_files(SCENE, case | {"ruleset": "own"}), rulesets=rulesets)["exposures"]
    assert _clock(row["overlap_from"]) == cut


def test_a_period_ends_days_after_the_anchor() -> None:
    """Without isolation the ruleset's days count from the anchor."""
    case = {"onset_at": "2021-10-11T08:17:00+07:00", "ruleset": "own"}
    [row] = naive_views(_files(SCENE, case), rulesets={"own": rule("own", 1, 2, 3)})["exposures"]
    assert _clock(row["overlap_to"]) == "08:17:00"
