"""The demo's second act: positive cases are reported, their contacts found, and one case is withdrawn."""

import json
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from producers.feed import Feed
from producers.lines import CASES, Line, read_lines
from schemas.areas import load_areas
from sinks.client import open_reader
from streams.core.times import LocalClock
from truyvet.demo_check import Check, print_checks
from truyvet.demo_recount import Case, Exposure, read_cases, read_exposures, recount
from truyvet.drain import Drain
from truyvet.explain_text import print_explanation
from truyvet.explain_why import Explainer
from truyvet.explain_words import Language
from truyvet.rulesets import load_files
from truyvet.stack import Stack

LISTED_MAX: Final = 10
"""Districts that the table names; the others share a line."""
_COUNTED: Final = tuple(Exposure._fields.index(name) for name in ("case_id", "person_id", "venue_id"))


@dataclass(slots=True)
class Act:
    """What the second act measured. Seconds are wall-clock time, from the first report sent to the last row stored."""

    cases: int = 0
    cases_seconds: float = 0.0
    withdrawn: str = ""
    """The case_id."""
    withdrawal_seconds: float = 0.0
    before: set[Exposure] = field(default_factory=set)
    """The exposures of all cases."""
    after: set[Exposure] = field(default_factory=set)
    """Those that are left when one case is withdrawn."""
    checks: list[Check] = field(default_factory=list)


def play(stack: Stack, drain: Drain, folder: Path, out: Console, language: Language) -> Act:
    """Reports the cases of ``cases.jsonl``, then withdraws one, and shows what the tables hold after each.

    One exposure is explained, in this language, as ``truyvet explain`` would.

    Raises:
        FeedError: a report was not taken.
        ProcessError: a process of the stack has ended by itself.
        StorageError: the database does not answer.
    """
    lines = list(read_lines(folder / CASES.file_name, CASES))
    reports = [line for line in lines if not _is_withdrawal(line)]
    act = Act(cases=len(reports))
    if not reports:
        return act
    withdrawals = [line for line in lines if _is_withdrawal(line)]
    act.withdrawn = json.loads(withdrawals[-1].value or b"")["case_id"]
    files = load_files(stack.settings.rulesets_dir, shipped=stack.settings.rulesets_shipped)
    rulesets = {name: file.ruleset() for name, file in files.items()}
    clock = LocalClock(ZoneInfo(stack.settings.report_timezone))
    feed = Feed(stack.settings)
    with open_reader(stack.settings) as reader:
        act.cases_seconds = _send(feed, drain, reports)
        act.before = read_exposures(reader)
        act.checks += _compare_all(act, read_cases(reader), recount(reader, rulesets, clock))
        levels = list(dict.fromkeys(level.name for rule in rulesets.values() for level in rule.levels))
        tell_exposures(act, len({line.key for line in reports}), levels, out)
        _tell_one(act, Explainer(reader, files, clock), clock, language, out)
        act.withdrawal_seconds = _send(feed, drain, withdrawals)
        act.after = read_exposures(reader)
    act.checks += compare_rest(act)
    _tell_withdrawal(act, out)
    print_checks(out, "The exposures beside a recount of visits and cases", act.checks, "recounted")
    return act


def _is_withdrawal(line: Line) -> bool:
    return bool(json.loads(line.value or b"")["status"] == "withdrawn")


def _send(feed: Feed, drain: Drain, lines: Sequence[Line]) -> float:
    """Sends reports and waits until all that follows is stored; seconds."""
    began = time.monotonic()
    feed.send(CASES.topic, lines)
    drain.wait(drain.settled)
    return time.monotonic() - began


def _compare_all(act: Act, cases: Sequence[Case], expected: set[Exposure]) -> list[Check]:
    """Every case, and every exposure beside a naive recount of visits and cases."""
    found, counted = _by_case(act.before), _by_case(expected)
    return [
        Check("cases confirmed", len(cases), None, act.cases),
        *(
            Check(f"exposures of {case_id}", found[case_id], None, counted[case_id])
            for case_id in sorted({case.case_id for case in cases} | found.keys())
        ),
        Check("exposed persons", len(_persons(act.before)), None, len(_persons(expected))),
        Check("exposures alike in every field", len(act.before & expected), None, len(expected)),
    ]


def compare_rest(act: Act) -> list[Check]:
    """What the withdrawal takes back, and what it must leave alone."""
    others = {exposure for exposure in act.before if exposure.case_id != act.withdrawn}
    left = {exposure for exposure in act.after if exposure.case_id != act.withdrawn}
    return [
        Check("exposures of the withdrawn case", len(act.after) - len(left), None, 0),
        Check("exposures of the others", len(left), None, len(others)),
        Check("of these unchanged in every field", len(left & others), None, len(others)),
    ]


def _by_case(exposures: Collection[Exposure]) -> Counter[str]:
    return Counter(exposure.case_id for exposure in exposures)


def _persons(exposures: Collection[Exposure]) -> set[str]:
    return {exposure.person_id for exposure in exposures}


def tell_exposures(act: Act, persons: int, levels: Sequence[str], out: Console) -> None:
    """Prints what the reports of ``persons`` different people led to; ``levels`` from the lowest on."""
    out.print()
    out.print(Text("Act two: positive cases", style="bold"))
    venues = len({exposure.venue_id for exposure in act.before})
    out.print(
        f"{act.cases:,} cases of {persons:,} persons gave {len(act.before):,} exposures of "
        f"{len(_persons(act.before)):,} persons at {venues:,} venues; first report sent to last exposure stored: "
        f"{act.cases_seconds:.1f} s."
    )
    table = Table(title="exposures by district and level")
    table.add_column("district")
    for heading in (*levels, "all", "cases", "persons", "venues"):
        table.add_column(heading, justify="right")
    listed = by_district(act.before)
    for code, exposures in listed[:LISTED_MAX]:
        table.add_row(load_areas().names[code], *_cells(exposures, levels))
    rest = [exposure for _, exposures in listed[LISTED_MAX:] for exposure in exposures]
    if rest:
        table.add_row(f"… and {len(listed) - LISTED_MAX} more", *_cells(rest, levels), style="dim")
    table.add_section()
    table.add_row("all districts", *_cells(act.before, levels), style="bold")
    out.print(table)


def _tell_one(act: Act, explainer: Explainer, clock: LocalClock, language: Language, out: Console) -> None:
    """Why the exposure of the highest score stands."""
    if not act.before:
        return
    chosen = max(act.before, key=lambda exposure: (exposure.score, exposure.exposure_id))
    explanation = explainer.exposure(chosen.exposure_id)
    if explanation is not None:
        out.print("\nOne of them, as `truyvet explain EXPOSURE_ID` tells it:")
        print_explanation(out, explanation, clock, language)
        out.print()


def _tell_withdrawal(act: Act, out: Console) -> None:
    taken_back = _by_case(act.before)[act.withdrawn]
    out.print(
        f"{act.withdrawn} is withdrawn: its {taken_back:,} exposures are taken back, {len(act.after):,} of other cases "
        f"stay; withdrawal sent to last row stored: {act.withdrawal_seconds:.1f} s."
    )


def by_district(exposures: Collection[Exposure]) -> list[tuple[str, list[Exposure]]]:
    """The exposures of each district, those with most of them first."""
    found: dict[str, list[Exposure]] = {}
    for exposure in exposures:
        found.setdefault(exposure.district_code, []).append(exposure)
    return sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))


def _cells(exposures: Collection[Exposure], levels: Sequence[str]) -> list[str]:
    by_level = Counter(exposure.level for exposure in exposures)
    counts = [by_level[name] for name in levels] + [
        len(exposures),
        *(len({exposure[place] for exposure in exposures}) for place in _COUNTED),
    ]
    return [f"{count:,}" for count in counts]


def as_json(act: Act) -> dict[str, Any]:
    """The second act's figures."""
    return {
        "cases": act.cases,
        "exposures": len(act.before),
        "persons": len(_persons(act.before)),
        "by_district": {
            code: dict(sorted(Counter(exposure.level for exposure in exposures).items()))
            for code, exposures in by_district(act.before)
        },
        "withdrawn": act.withdrawn,
        "exposures_left": len(act.after),
        "seconds": {"cases": round(act.cases_seconds, 2), "withdrawal": round(act.withdrawal_seconds, 2)},
        "figures": [
            {"name": check.name, "pipeline": check.found, "recounted": check.expected, "agrees": check.good}
            for check in act.checks
        ],
    }
