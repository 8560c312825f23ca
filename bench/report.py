"""The rounds' figures as a table and as JSON."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.checking import Verdict
from bench.contenders import Contender
from bench.measuring import Figures
from bench.workload import Shape

HEADER: Final = """\
| contender | scans/s | CPU s per million scans | × | peak MiB | start-up s, CPU s, CPU s in all | output | promises |
|---|---|---|---|---|---|---|---|
"""
_STOLEN_TOLD: Final = 0.02
BASE: Final = "person"
"""What the column × compares with."""


@dataclass(frozen=True)
class Outcome:
    """One round of one contender."""

    contender: str
    round: int
    figures: Figures | None
    verdict: Verdict | None
    failure: str | None
    """Why there are no figures."""
    stolen: float = 0.0
    """Share of the machine's time that a hypervisor gave to others meanwhile."""
    taken: int = 1
    """How often it was run: again where too much was stolen."""

    @property
    def right(self) -> bool:
        """Whether it ended, and its output was checked and is what it must be."""
        return self.failure is None and self.verdict is not None and self.verdict.right


def table(everyone: Mapping[str, Contender], outcomes: Sequence[Outcome]) -> str:
    """A row for each contender: medians, and in brackets the smallest and the largest of the rounds."""
    rows = [_row(everyone[name], outcomes) for name in dict.fromkeys(outcome.contender for outcome in outcomes)]
    return HEADER + "".join(rows)


def as_json(shape: Shape, everyone: Mapping[str, Contender], outcomes: Sequence[Outcome]) -> str:
    """Everything that was measured, for a program."""
    titles = {
        name: {"title": everyone[name].title, "promises": everyone[name].promises}
        for name in dict.fromkeys(outcome.contender for outcome in outcomes)
    }
    rounds: list[dict[str, Any]] = [asdict(outcome) for outcome in outcomes]
    whole = {"workload": asdict(shape), "contenders": titles, "rounds": rounds}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def _row(contender: Contender, outcomes: Sequence[Outcome]) -> str:
    mine = [outcome for outcome in outcomes if outcome.contender == contender.name]
    figures = [outcome.figures for outcome in mine if outcome.figures is not None]
    said = "; ".join(dict.fromkeys(_said(outcome) for outcome in mine))
    stolen, again = max(outcome.stolen for outcome in mine), sum(outcome.taken - 1 for outcome in mine)
    if again or stolen >= _STOLEN_TOLD:
        said += f" (up to {stolen:.0%} of the machine stolen; taken again {again} times)"
    if not figures:
        return f"| {contender.title} | – | – | – | – | – | {said} | {contender.promises} |\n"
    startups = [(found.startup_seconds, found.startup_cpu_seconds, found.cpu_seconds_total) for found in figures]
    cells = (
        contender.title,
        _spread([found.events_per_second for found in figures], 0),
        _spread([found.cpu_seconds_per_million for found in figures], 1) + _by_process(figures),
        _ratio(contender.name, outcomes),
        _spread([found.memory_mib_peak for found in figures], 0),
        ", ".join(_median(values) for values in zip(*startups, strict=True)),
        said,
        contender.promises,
    )
    return "| " + " | ".join(cells) + " |\n"


def _by_process(figures: Sequence[Figures]) -> str:
    """Medians of each process, where there are several."""
    names = figures[0].cpu_by_process
    if len(names) < 2:  # noqa: PLR2004 - one is all there is
        return ""
    return "; " + ", ".join(f"{name} {_median(found.cpu_by_process[name] for found in figures)}" for name in names)


def _said(outcome: Outcome) -> str:
    if outcome.failure is not None:
        return f"FAILED: {outcome.failure}".replace("|", "/")
    return "not checked" if outcome.verdict is None else outcome.verdict.text()


def _ratio(name: str, outcomes: Sequence[Outcome]) -> str:
    """CPU per event as a multiple of this project's person room, round by round; the median."""
    base = {o.round: o.figures.cpu_seconds_per_million for o in outcomes if o.contender == BASE and o.figures}
    ratios = [
        o.figures.cpu_seconds_per_million / base[o.round]
        for o in outcomes
        if o.contender == name and o.figures and base.get(o.round)
    ]
    return f"{statistics.median(ratios):.2f}" if ratios else "–"


def _median(values: Iterable[float]) -> str:
    return f"{statistics.median(values):.1f}"


def _spread(values: Sequence[float], digits: int) -> str:
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"
