"""What is sent: simulated days of Hanoi with all that is mixed in, and what they leave out.

Some venues come late, so that their scans wait. Cases come spread over the whole flow, half of them are changed later.
A few persons are erased once everything else is processed: cells count what was there before an erasure, so that only
then they are the same in every order.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from producers.lines import CASES, SCANS, VENUES, FileKind, Line, read_lines
from producers.simulate.cli import publication_for
from producers.simulate.generate import generate
from producers.simulate.totals import DEFAULT_TOTALS, Publication, PublishedDay
from streams.core.times import DAY_MS, format_ms, parse_ms

CASES_MIN: Final = 12
LATE_VENUES: Final = 100
"""One of so many comes late."""
ERASED_PERSONS: Final = 5
HOUR_MS: Final = 3_600_000


@dataclass(frozen=True)
class Inputs:
    """One input, the same for the undisturbed and the disturbed run."""

    directory: Path
    scans_count: int
    register: list[Line]
    extras: list[tuple[float, FileKind, Line]]
    """What is sent among the scans: after which share of them, and where to."""
    erasures: list[Line]

    def scans(self) -> Iterator[Line]:
        """All scans in order of arrival."""
        return read_lines(self.directory / SCANS.file_name, SCANS)


def make_inputs(directory: Path, seed: int, scale: float, days: int) -> Inputs:
    """Writes the simulated days, up to 14 October 2021, into ``directory`` and draws the rest from the seed."""
    rng = random.Random(f"inputs {seed}")
    cases_count = max(CASES_MIN, round(CASES_MIN * scale))
    manifest = generate(directory, _publication(days), seed=seed, scale=scale, cases=cases_count)
    register: list[Line] = []
    late: list[Line] = []
    for line in read_lines(directory / VENUES.file_name, VENUES):
        (late if rng.randrange(LATE_VENUES) == 0 else register).append(line)
    reports = [json.loads(line.value or b"") for line in read_lines(directory / CASES.file_name, CASES)]
    extras = _spread(rng, VENUES, late) + _spread(rng, CASES, [_line(report) for report in _with_changes(rng, reports)])
    count = manifest["lines"]["scans"]
    return Inputs(
        directory=directory,
        scans_count=count,
        register=register,
        extras=sorted(extras, key=lambda extra: extra[0]),
        erasures=_erasures(rng, directory, count, reports),
    )


def _publication(days: int) -> Publication:
    """The bulletin of the week, begun earlier or later: the days of which it says nothing are filled in."""
    week = publication_for(DEFAULT_TOTALS, None)
    last = week.days[-1].date
    first = last - timedelta(days=days - 1)
    said = tuple(day for day in week.days[1:] if day.date > first)
    return week.model_copy(update={"days": (PublishedDay(date=first), *said)})


def _spread(rng: random.Random, kind: FileKind, lines: list[Line]) -> list[tuple[float, FileKind, Line]]:
    """Evenly over the flow, in order."""
    return [((number + rng.random()) / len(lines), kind, line) for number, line in enumerate(lines)]


def _with_changes(rng: random.Random, reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every second confirmed report comes again, an hour younger, with symptoms from two days earlier."""
    result = []
    for number, report in enumerate(reports):
        result.append(report)
        if report["status"] == "confirmed" and number % 2 == 0:
            reported_ms = report["_ts"] + HOUR_MS
            onset_ms = parse_ms(report["sampled_at"]) - 2 * DAY_MS - rng.randrange(DAY_MS)
            times = {"onset_at": format_ms(onset_ms), "reported_at": format_ms(reported_ms), "_ts": reported_ms}
            result.append(report | times)
    return result


def _line(event: dict[str, Any]) -> Line:
    return Line(event["person_id"].encode(), json.dumps(event).encode(), event["_ts"])


def _erasures(rng: random.Random, directory: Path, count: int, reports: list[dict[str, Any]]) -> list[Line]:
    """A case's person and some whoever they are, asking when all is over."""
    wanted = {rng.randrange(count) for _ in range(ERASED_PERSONS - 1)}
    persons = {reports[0]["person_id"]}
    newest_ms = max(report["_ts"] for report in reports)
    for number, line in enumerate(read_lines(directory / SCANS.file_name, SCANS)):
        newest_ms = max(newest_ms, line.timestamp_ms)
        if number in wanted and line.key is not None and len(line.key) == 32:
            persons.add(line.key.decode())
    asked_ms = newest_ms + DAY_MS
    events = [{"person_id": one, "requested_at": format_ms(asked_ms), "_ts": asked_ms} for one in sorted(persons)]
    return [_line(event) for event in events]
