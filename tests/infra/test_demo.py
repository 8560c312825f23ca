"""The demo's second act: its naive recount held to the golden rows, and its checks to what they must notice."""

import json
from io import StringIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from rich.console import Console

from schemas.areas import load_areas
from streams.core.ruleset import DayWeight
from streams.core.times import DAY_MS, MINUTE_MS, LocalClock, parse_ms
from truyvet.demo_cases import Act, as_json, compare_rest, tell_exposures
from truyvet.demo_recount import Case, Exposure, Visit, contacts
from truyvet.rulesets import load_rulesets

GOLDEN = Path(__file__).parent.parent / "golden" / "data"
CLOCK = LocalClock(ZoneInfo("Asia/Ho_Chi_Minh"))
RULES = load_rulesets()
DISTRICTS = sorted(code for code, province in load_areas().districts.items() if province == "01")
NOON_MS = parse_ms("2021-10-14T12:00:00+07:00")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _as(kind: Any, row: dict[str, Any]) -> Any:  # noqa: ANN401 - any of the three
    """A golden row as one of the recount's own, times as numbers."""
    times = {"started_at", "ended_at", "overlap_from", "overlap_to", *Case._fields[3:]}
    return kind(*(parse_ms(row[name]) if name in times and row[name] else row[name] for name in kind._fields))


@pytest.mark.parametrize("golden", ["10-exposures", "11-minimum-overlap", "12-withdrawn-and-returned"])
@pytest.mark.parametrize("order", [1, -1])
def test_the_recount_gives_the_golden_exposures(golden: str, order: int) -> None:
    """From the golden visits and the reports that count, whatever order they stand in."""
    _check_golden(golden, order)


@pytest.mark.parametrize("golden", ["13-period-cuts", "14-two-cases-who-met"])
def test_the_recount_cuts_periods_and_goes_both_ways(golden: str) -> None:
    """Explicit periods, isolation, several cases of one person, two case persons who met."""
    _check_golden(golden, 1)


def _check_golden(golden: str, order: int) -> None:
    reports: dict[tuple[str, str], dict[str, Any]] = {}
    for report in sorted(_rows(GOLDEN / golden / "in" / "cases.jsonl"), key=lambda row: row["reported_at"]):
        reports[report["case_id"], report["person_id"]] = report
    cases = [_as(Case, report) for report in reports.values() if report["status"] == "confirmed"]
    visits = [_as(Visit, row) for row in _rows(GOLDEN / golden / "expected" / "visits.jsonl")]
    expected = {_as(Exposure, row) for row in _rows(GOLDEN / golden / "expected" / "exposures.jsonl")}
    assert expected
    assert contacts(cases[::order], visits[::order], RULES, CLOCK) == expected


def _visit(person: str, begin_minute: int, end_minute: int) -> Visit:
    started, ended = (NOON_MS + minute * MINUTE_MS for minute in (begin_minute, end_minute))
    return Visit(f"visit of {person}", person, "CAFE", "007", started, ended)


def test_the_recount_knows_tails_weights_and_least_stays() -> None:
    """Whoever comes within the tail is a contact, a minute weighs what its day says, a short stay gives nothing."""
    rule = msgspec.structs.replace(
        RULES["vn-2021-07"], tail="fixed", tail_minutes=30, min_stay_minutes=20, weights=(DayWeight(1, 0.5),)
    )
    case = Case("C1", "ill", rule.name, NOON_MS - DAY_MS, None, None, None, None)
    others = [_visit("after", 25, 45), _visit("later", 50, 90)]
    found = contacts([case], [_visit("ill", 0, 20), *others], {rule.name: rule}, CLOCK)
    assert [(one.person_id, one.overlap_minutes, one.score, one.level) for one in found] == [("after", 20, 10, "low")]
    assert not contacts([case], [_visit("ill", 0, 19), *others], {rule.name: rule}, CLOCK)


def _exposure(case_id: str, number: int, *, minutes: int = 20) -> Exposure:
    from_ms, to_ms = NOON_MS, NOON_MS + minutes * MINUTE_MS
    district = DISTRICTS[number % 12]
    return Exposure(
        f"{case_id}/{number}", case_id, f"p{number}", "CAFE", district, from_ms, to_ms, minutes, minutes, "low"
    )


def _act(before: set[Exposure], after: set[Exposure]) -> Act:
    return Act(cases=2, withdrawn="C2", before=before, after=after)


def test_a_withdrawal_must_take_back_its_own_and_nothing_else() -> None:
    """Each check fails by itself: an exposure that stayed, one that went too, one that changed."""
    mine, stays = {_exposure("C2", number) for number in range(3)}, {_exposure("C1", number) for number in range(3)}
    lost, changed = _exposure("C1", 0), _exposure("C1", 1, minutes=21)
    verdicts = {
        "good": compare_rest(_act(mine | stays, stays)),
        "stayed": compare_rest(_act(mine | stays, stays | {_exposure("C2", 1)})),
        "went": compare_rest(_act(mine | stays, stays - {lost})),
        "changed": compare_rest(_act(mine | stays, stays - {_exposure("C1", 1)} | {changed})),
    }
    assert {name: [check.good for check in checks] for name, checks in verdicts.items()} == {
        "good": [True, True, True],
        "stayed": [False, True, True],
        "went": [True, False, False],
        "changed": [True, True, False],
    }


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_exposures_fits_a_terminal(width: int) -> None:
    """Districts by name with the busiest first, the rest in one line, nothing cut off at 80 columns."""
    before = {_exposure("C1", number) for number in range(25)}
    console = Console(file=StringIO(), width=width, force_terminal=False)
    tell_exposures(_act(before, set()), 2, ["low", "medium", "high"], console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert rows[0] == ["Quận Ba Đình", "3", "0", "0", "3", "1", "3", "1"]
    assert rows[-2:] == [
        ["… and 2 more", "4", "0", "0", "4", "1", "4", "1"],
        ["all districts", "25", "0", "0", "25", "1", "25", "1"],
    ]
    assert len(rows) == 12
    assert as_json(_act(before, set()))["by_district"]["001"] == {"low": 3}
