"""``truyvet report``: the daily report of SPEC, section 5, from the pipeline's own tables.

``build_report`` reads and counts, ``truyvet.report_text`` shows. A day without rows counts 0; a venue belongs to its
present area; a closed or removed venue stays in venues_total, and its scans still count and are shown apart.
"""

# ruff: noqa: S608 - what stands in these queries comes from a checked date and the administrative list

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Final

from schemas.areas import Areas, Level, load_areas
from sinks.backends import QueryFailedError, Reader, StorageError
from sinks.client import open_reader
from sinks.paging import literal
from sinks.views import SILENCE_DAYS
from truyvet.config import load_settings
from truyvet.days import local_day
from truyvet.terminal import console

MEAN_DAYS: Final = 7
LISTED_VENUES_MAX: Final = 1_000
"""Venues named in a list; the count beside it is of all."""

FIGURES: Final = ("venues_total", "venues_new", "venues_active", "scans", "persons")
"""The figures of a report, in order."""

_AREA_COLUMNS: Final[Mapping[Level, str]] = {
    "province": "province_code",
    "district": "district_code",
    "ward": "ward_code",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a day."""

    value: int
    previous_day: int
    change: int
    mean_7d: int
    """Mean of the seven days ending that day, half-up to an integer."""


@dataclass(frozen=True, slots=True)
class Commune:
    """A ward without a scan."""

    code: str
    name: str
    district: str


@dataclass(frozen=True, slots=True)
class NamedVenue:
    """A venue in a list; ``scans`` are those of the day."""

    venue_id: str
    name: str
    ward_code: str
    scans: int


@dataclass(frozen=True, slots=True)
class VenueList:
    """Venues: how many, how many scans they had on the day, and the first of them by id."""

    count: int
    scans: int
    venues: tuple[NamedVenue, ...]


@dataclass(frozen=True, slots=True)
class DailyReport:
    """The report of one local day and one area; every figure is as of the end of that day."""

    day: date
    area_code: str
    area_level: Level
    area_name: str
    figures: Mapping[str, Figure]
    """By the names of ``FIGURES``, in their order."""
    communes: int
    """Wards of the area."""
    communes_without_scans: tuple[Commune, ...]
    silent_venues: VenueList
    """Active in the seven days before, not on the day."""
    closed_venues_with_scans: VenueList


def build_report(reader: Reader, day: date, area: str) -> DailyReport:
    """Reads and counts the report of a local day and an area (2, 3 or 5 digits, or ``VN``).

    Raises:
        KeyError: the administrative list has no such area.
        StorageError: the database does not answer.
    """
    areas = load_areas()
    level = areas.level(area)
    wards = _wards(areas, level, area)
    return DailyReport(
        day=day,
        area_code=area,
        area_level=level,
        area_name=areas.names[area],
        figures=_figures(reader, day, level, area),
        communes=len(wards),
        communes_without_scans=_communes_without_scans(reader, day, areas, wards),
        silent_venues=_silent_venues(reader, day, level, area),
        closed_venues_with_scans=_closed_venues(reader, day, level, area),
    )


def half_up_mean(values: Sequence[int]) -> int:
    """The mean of counts, rounded half-up to an integer."""
    return (2 * sum(values) + len(values)) // (2 * len(values))


def _number(day: date) -> int:
    """The day as the tables hold it."""
    return day.year * 10_000 + day.month * 100 + day.day


def _in_area(level: Level, area: str) -> str:
    """SQL: whether a venue is in the area now. The code is one of the administrative list's."""
    column = _AREA_COLUMNS.get(level)
    return "1" if column is None else f"{column} = {literal(area)}"


def _wards(areas: Areas, level: Level, area: str) -> list[str]:
    if level == "nation":
        return list(areas.parents)
    if level == "ward":
        return [area]
    place = 0 if level == "district" else 1
    return [ward for ward, parents in areas.parents.items() if parents[place] == area]


def _figures(reader: Reader, day: date, level: Level, area: str) -> dict[str, Figure]:
    days = [day - timedelta(days=back) for back in range(MEAN_DAYS)]
    counted = _cells(reader, days, level, area) | _registrations(reader, days, level, area)
    figures = {}
    for name in FIGURES:
        values = counted[name]
        figures[name] = Figure(values[0], values[1], values[0] - values[1], half_up_mean(values))
    return figures


def _cells(reader: Reader, days: Sequence[date], level: Level, area: str) -> dict[str, list[int]]:
    """scans, persons and active venues of each day, newest first; the mean's days hold the previous one too."""
    _, rows = reader.query(
        "SELECT day, sum(scans), sum(persons), sum(active_venues) FROM area_day FINAL"
        f" WHERE level = '{level}' AND code = '{area}' AND day >= {_number(days[-1])} AND day <= {_number(days[0])}"
        " GROUP BY day"
    )
    by_day = {number: values for number, *values in rows}
    found = [by_day.get(_number(day), [0, 0, 0]) for day in days]
    names = ("scans", "persons", "venues_active")
    return {name: [values[place] for values in found] for place, name in enumerate(names)}


def _registrations(reader: Reader, days: Sequence[date], level: Level, area: str) -> dict[str, list[int]]:
    """Venues registered on each day, and up to its end, newest first."""
    _, rows = reader.query(
        "SELECT registered_day, count() FROM venues FINAL"
        f" WHERE {_in_area(level, area)} AND registered_day <= {_number(days[0])} GROUP BY registered_day"
    )
    numbers = [_number(day) for day in days]
    return {
        "venues_new": [sum(venues for on, venues in rows if on == number) for number in numbers],
        "venues_total": [sum(venues for on, venues in rows if on <= number) for number in numbers],
    }


def _communes_without_scans(reader: Reader, day: date, areas: Areas, wards: Sequence[str]) -> tuple[Commune, ...]:
    _, rows = reader.query(
        f"SELECT code FROM area_day FINAL WHERE level = 'ward' AND day = {_number(day)}"
        " GROUP BY code HAVING sum(scans) > 0"
    )
    seen = {code for (code,) in rows}
    return tuple(
        Commune(code, areas.names[code], areas.names[areas.parents[code][0]])
        for code in sorted(wards)
        if code not in seen
    )


def _silent_venues(reader: Reader, day: date, level: Level, area: str) -> VenueList:
    first, last = _number(day - timedelta(days=SILENCE_DAYS)), _number(day - timedelta(days=1))
    active = "SELECT venue_id FROM venue_hour FINAL WHERE scans > 0 AND"
    source = (
        f"FROM venues FINAL WHERE {_in_area(level, area)}"
        f" AND venue_id IN ({active} day >= {first} AND day <= {last})"
        f" AND venue_id NOT IN ({active} day = {_number(day)})"
    )
    _, ((count,),) = reader.query(f"SELECT count() {source}")
    _, rows = reader.query(f"SELECT venue_id, name, ward_code {source} ORDER BY venue_id LIMIT {LISTED_VENUES_MAX}")
    return VenueList(count, 0, tuple(NamedVenue(venue_id, name, ward, 0) for venue_id, name, ward in rows))


def _closed_venues(reader: Reader, day: date, level: Level, area: str) -> VenueList:
    source = (
        "FROM (SELECT venue_id, sum(scans) AS scans FROM venue_hour FINAL"
        f" WHERE day = {_number(day)} GROUP BY venue_id) AS active"
        " ANY INNER JOIN (SELECT venue_id, name, ward_code FROM venues FINAL"
        f" WHERE status IN ('closed', 'removed') AND {_in_area(level, area)}) AS closed"
        " USING (venue_id) WHERE scans > 0"
    )
    _, ((count, scans),) = reader.query(f"SELECT count(), sum(scans) {source}")
    _, rows = reader.query(
        f"SELECT venue_id, name, ward_code, scans {source} ORDER BY venue_id LIMIT {LISTED_VENUES_MAX}"
    )
    return VenueList(count, scans or 0, tuple(NamedVenue(*row) for row in rows))


def as_json(report: DailyReport) -> str:
    """The report as one JSON object."""
    whole = asdict(report) | {"day": report.day.isoformat(), "as_of": report.day.isoformat()}
    return json.dumps(whole, ensure_ascii=False, indent=2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's own arguments."""
    parser.add_argument("--day", required=True, type=local_day, metavar="D", help="local day, YYYY-MM-DD")
    parser.add_argument(
        "--area", required=True, type=_area, metavar="CODE", help="province, district or ward (2, 3, 5 digits), or VN"
    )
    parser.add_argument("--lang", choices=("vi", "en"), default="vi", help="language of the table (default: vi)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    from truyvet.report_text import print_report  # noqa: PLC0415 - a table is not always wanted

    try:
        with open_reader(load_settings()) as reader:
            report = build_report(reader, args.day, args.area)
    except (StorageError, QueryFailedError) as error:
        print(f"truyvet report: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(as_json(report))
    else:
        print_report(console(), report, args.lang)
    return 0


def _area(text: str) -> str:
    code = text.upper()
    if code not in load_areas().names:
        raise argparse.ArgumentTypeError(f"{text!r} is no area of the administrative list, nor VN")
    return code
