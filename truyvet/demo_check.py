"""Holds a run's figures against what was published, simulated or counted once more, and shows them side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sinks.backends import Reader
from truyvet.report import FIGURES, DailyReport

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One figure: as the pipeline found it, as it was published (None where it was not), as it must be."""

    name: str
    found: int
    published: int | None
    expected: int

    @property
    def good(self) -> bool:
        """Whether all that is known agrees."""
        return self.found == self.expected and self.published in (None, self.found)


def compare_report(report: DailyReport, manifest: Row) -> list[Check]:
    """Every figure of the report's last day: value, the day before, change, and mean of seven days."""
    simulated = {row["day"]: row for row in manifest["expected"]["days"]}
    published = {row["date"]: row for row in manifest["published"]["days"]} if manifest["scale"] == 1 else {}
    means = manifest["published"]["seven_day_means"] if manifest["scale"] == 1 else {}
    today, before = report.day.isoformat(), (report.day - timedelta(days=1)).isoformat()
    checks = []
    for name in FIGURES:
        figure = report.figures[name]
        expected = simulated[today][name]
        checks.append(Check(f"{name} {_short(report.day)}", figure.value, _of(published, today, name), expected))
        if before in simulated:
            earlier = simulated[before][name]
            now, then = _of(published, today, name), _of(published, before, name)
            change = None if now is None or then is None else now - then
            checks.append(Check(f"{name} the day before", figure.previous_day, then, earlier))
            checks.append(Check(f"{name} change", figure.change, change, expected - earlier))
        if name in simulated[today]["seven_day_means"]:
            mean = simulated[today]["seven_day_means"][name]
            checks.append(Check(f"{name} mean of 7 days", figure.mean_7d, means.get(name), mean))
    return checks


def compare_rejects(reader: Reader, manifest: Row) -> list[Check]:
    """Every bad line that was mixed in, by reason."""
    _, rows = reader.query("SELECT reason, count() FROM rejects FINAL WHERE status != 'resolved' GROUP BY reason")
    found = {reason: int(count) for reason, count in rows}
    simulated: Mapping[str, int] = manifest["rejects"]
    return [
        Check(f"rejects {reason}", found.get(reason, 0), None, simulated.get(reason, 0))
        for reason in sorted(found.keys() | simulated.keys())
    ]


def print_checks(out: Console, title: str, checks: Sequence[Check], expected: str) -> None:
    """Prints the figures side by side; ``expected`` is the heading of what they must be."""
    published = any(check.published is not None for check in checks)
    table = Table(title=title)
    table.add_column("figure")
    for heading in ("pipeline", *(["bulletin"] if published else []), expected, ""):
        table.add_column(heading, justify="right")
    for check in checks:
        mark = Text("agrees", style="green") if check.good else Text("DIFFERS", style="bold red")
        bulletin = "" if check.published is None else f"{check.published:,}"
        table.add_row(check.name, f"{check.found:,}", *([bulletin] if published else []), f"{check.expected:,}", mark)
    out.print(table)


def _of(published: Mapping[str, Row], day: str, name: str) -> int | None:
    value: int | None = published.get(day, {}).get(name)
    return value


def _short(day: date) -> str:
    return f"{day.day}/{day.month}"
