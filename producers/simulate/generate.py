"""All of it in order: exact totals in; ``venues.jsonl``, ``scans.jsonl``, ``cases.jsonl``, ``manifest.json`` out."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from producers.simulate import mixing
from producers.simulate.arrays import DAY_MS, LOCAL_OFFSET_MS, day_start_ms, stream
from producers.simulate.cases import default_count, draw_cases
from producers.simulate.day import DIRECTIONS, Scans, draw_day
from producers.simulate.faults import bad_lines
from producers.simulate.fill import complete, mean_half_up
from producers.simulate.lines import ScanLines, cut_to_style, scan_chunks, venue_chunks
from producers.simulate.people import SOURCE_NAMES, make_people
from producers.simulate.profile import ArrivalProfile
from producers.simulate.register import Register, make_register
from producers.simulate.totals import FIGURES, WINDOW_DAYS, Publication, Totals
from schemas.areas import load_areas

DEFAULT_SEED: Final = 20211014
MEAN_FIGURES: Final = ("venues_new", "venues_active", "scans", "persons")
VENUES_FILE: Final = "venues.jsonl"
SCANS_FILE: Final = "scans.jsonl"
CASES_FILE: Final = "cases.jsonl"
MANIFEST_FILE: Final = "manifest.json"

Manifest = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Called with what is being made, how much of it is done, and how much there is."""


def generate(
    out: Path,
    publication: Publication,
    *,
    seed: int = DEFAULT_SEED,
    scale: float = 1.0,
    cases: int | None = None,
    progress: Progress = lambda *_: None,
) -> Manifest:
    """Writes the input files for what was published into the folder ``out``, and returns the manifest.

    ``cases`` is how many positive cases there are; None leaves it to the scale.

    Raises:
        TotalsError: the figures contradict each other.
        OSError: the folder cannot be written.
    """
    totals = complete(publication, seed).scaled(scale)
    areas = load_areas()
    register = make_register(totals, areas, seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST_FILE).unlink(missing_ok=True)  # it comes last: a folder that has one is complete
    _write(out / VENUES_FILE, venue_chunks(register, areas, seed), progress, len(register.ids))
    lines = _draw(totals, register, seed, progress)
    arrivals = mixing.mixed(lines.scans, seed)
    _write(
        out / SCANS_FILE, scan_chunks(lines, arrivals, bad_lines(lines, arrivals, seed)), progress, len(arrivals.row)
    )
    count = default_count(scale) if cases is None else cases
    reports = draw_cases(lines.scans, lines.people, totals, seed, count)
    _write(out / CASES_FILE, reports.chunks(), progress, len(reports.reports))
    manifest = {
        "title": publication.title,
        "source": publication.source,
        "province": totals.province,
        "seed": seed,
        "scale": scale,
        "published": publication.model_dump(mode="json", include={"seven_day_means", "days"}),
        "expected": _expected(totals, register),
        "lines": {"venues": len(register.ids), "scans": len(arrivals.row), "cases": len(reports.reports)},
        "cases": {"count": reports.count, "persons": reports.persons, "withdrawn": reports.withdrawn},
        "mixed_in": _mixed_in(lines, arrivals),
        "rejects": _rejects(arrivals),
    }
    (out / MANIFEST_FILE).write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return manifest


def _draw(totals: Totals, register: Register, seed: int, progress: Progress) -> ScanLines:
    people, profile = make_people(totals, seed), ArrivalProfile()
    parts = []
    for number, day in enumerate(totals.days):
        progress("days", number, len(totals.days))
        parts.append(draw_day(stream(seed, "day", day.date.toordinal()), day, register, people, profile))
    progress("days", len(totals.days), len(totals.days))
    scans = Scans.joined(parts)
    cut_to_style(scans)
    return ScanLines(scans, register, people, seed)


def _write(path: Path, chunks: Iterable[tuple[int, str]], progress: Progress, total: int) -> None:
    done = 0
    with path.open("wb") as file:
        for count, text in chunks:
            # Garbled lines hold bytes that are no UTF-8, as lone surrogates.
            file.write(text.encode("utf-8", "surrogateescape"))
            done += count
            progress(path.name, done, total)


def _expected(totals: Totals, register: Register) -> Manifest:
    """What the daily report must show for each day, area the whole province."""
    dates = [day.date for day in totals.days]
    local_days = (register.registered_ms + LOCAL_OFFSET_MS) // DAY_MS
    first = (day_start_ms(dates[0]) + LOCAL_OFFSET_MS) // DAY_MS
    # Venues are registered before the first day as well; other figures are 0 then.
    earlier = [int((local_days == first - back).sum()) for back in range(WINDOW_DAYS - 1, 0, -1)]
    days = []
    for index, day in enumerate(totals.days):
        figures: Manifest = {"day": day.date.isoformat()} | {name: getattr(day, name) for name in FIGURES}
        window = totals.days[max(index + 1 - WINDOW_DAYS, 0) : index + 1]
        sums = {name: sum(getattr(one, name) for one in window) for name in MEAN_FIGURES}
        sums["venues_new"] += sum(earlier[index:])
        days.append(figures | {"seven_day_means": {name: mean_half_up(total) for name, total in sums.items()}})
    return {"as_of": dates[-1].isoformat(), "venues_before": totals.venues_before, "days": days}


def _mixed_in(lines: ScanLines, arrivals: mixing.Arrivals) -> Manifest:
    scans = lines.scans
    sources = np.bincount(scans.source, minlength=len(SOURCE_NAMES)).tolist()
    directions = np.bincount(scans.direction, minlength=len(DIRECTIONS)).tolist()
    faults = np.bincount(arrivals.fault[arrivals.fault >= 0], minlength=len(mixing.FAULTS)).tolist()
    return {
        "accepted_scans": len(scans.person),
        "duplicates_within_two_minutes": arrivals.duplicates,
        "replays": arrivals.replays,
        "old_code_scans": len(lines.shown_codes),
        "closed_venues": int(lines.register.closed.sum()),
        "directions": dict(zip(DIRECTIONS, directions, strict=True)),
        "sources": dict(zip(SOURCE_NAMES, sources, strict=True)),
        "bad_lines": {fault.name: count for fault, count in zip(mixing.FAULTS, faults, strict=True)},
    }


def _rejects(arrivals: mixing.Arrivals) -> dict[str, int]:
    """How many rows of ``rejects`` there must be by reason."""
    counts: Counter[str] = Counter()
    for index in arrivals.fault[arrivals.fault >= 0].tolist():
        counts[mixing.FAULTS[index].reason] += 1
    return dict(sorted(counts.items()))
