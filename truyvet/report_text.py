"""The daily report on a terminal, in Vietnamese or English."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from truyvet.query import printable
from truyvet.report import DailyReport, VenueList

Language = Literal["vi", "en"]

LISTED_MAX: Final = 10
"""Entries of a list that a terminal shows; the rest is counted."""


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of one language."""

    title: str
    as_of: str
    columns: tuple[str, str, str, str, str]
    figures: Mapping[str, str]
    communes: str
    silent: str
    closed: str
    more: str
    day_format: str
    thousands: str


_WORDS: Final[Mapping[str, _Words]] = {
    "vi": _Words(
        title="Báo cáo quét mã QR ngày {day}: {area}",
        as_of="Số liệu tính đến hết ngày {day}.",
        columns=("Chỉ tiêu", "Trong ngày", "Hôm trước", "Thay đổi", "Trung bình 7 ngày"),
        figures={
            "venues_total": "Địa điểm đã đăng ký",
            "venues_new": "Địa điểm đăng ký mới",
            "venues_active": "Địa điểm có lượt quét",
            "scans": "Lượt quét",
            "persons": "Số người quét",
        },
        communes="Xã, phường, thị trấn không có lượt quét: {count} trên {all}",
        silent="Địa điểm ngừng có lượt quét (7 ngày trước có, hôm nay không): {count}",
        closed="Địa điểm đã đóng vẫn có lượt quét: {count} ({scans} lượt)",
        more="… và {count} nơi khác",
        day_format="%d/%m/%Y",
        thousands=".",
    ),
    "en": _Words(
        title="QR check-in report of {day}: {area}",
        as_of="Figures as of the end of {day}.",
        columns=("Figure", "Day", "Day before", "Change", "7-day mean"),
        figures={
            "venues_total": "Venues registered",
            "venues_new": "Venues newly registered",
            "venues_active": "Venues with scans",
            "scans": "Scans",
            "persons": "Persons scanning",
        },
        communes="Communes without a scan: {count} of {all}",
        silent="Venues fallen silent (scans in the 7 days before, none on the day): {count}",
        closed="Closed venues that still had scans: {count} ({scans} scans)",
        more="… and {count} more",
        day_format="%Y-%m-%d",
        thousands=",",
    ),
}


def print_report(console: Console, report: DailyReport, language: Language) -> None:
    """Prints the report; colours where the console has them."""
    words = _WORDS[language]
    day = report.day.strftime(words.day_format)
    area = report.area_name if report.area_level == "nation" else f"{report.area_name} ({report.area_code})"
    console.print(Text(words.title.format(day=day, area=area), style="bold"))
    console.print(Text(words.as_of.format(day=day), style="dim"))
    console.print(_figures(report, words))
    communes = report.communes_without_scans
    heading = words.communes.format(count=_grouped(len(communes), words), all=_grouped(report.communes, words))
    named = [f"{commune.code}  {commune.name}, {commune.district}" for commune in communes[:LISTED_MAX]]
    _print_list(console, heading, named, len(communes), words)
    silent = report.silent_venues
    _print_list(console, words.silent.format(count=_grouped(silent.count, words)), _named(silent), silent.count, words)
    closed = report.closed_venues_with_scans
    heading = words.closed.format(count=_grouped(closed.count, words), scans=_grouped(closed.scans, words))
    _print_list(console, heading, _named(closed), closed.count, words)


def _figures(report: DailyReport, words: _Words) -> Table:
    table = Table()
    table.add_column(words.columns[0])
    for heading in words.columns[1:]:
        table.add_column(heading, justify="right")
    for name, figure in report.figures.items():
        change = Text(
            _signed(figure.change, words), style="green" if figure.change > 0 else "red" if figure.change else ""
        )
        numbers = [_grouped(number, words) for number in (figure.value, figure.previous_day, figure.mean_7d)]
        table.add_row(words.figures[name], Text(numbers[0], style="bold"), numbers[1], change, numbers[2])
    return table


def _named(venues: VenueList) -> list[str]:
    return [f"{venue.venue_id}  {venue.name} ({venue.ward_code})" for venue in venues.venues[:LISTED_MAX]]


def _print_list(console: Console, heading: str, named: Sequence[str], count: int, words: _Words) -> None:
    console.print(Text(heading, style="bold" if count else ""))
    for line in named:
        # Names come from the register: nothing in them may be taken for markup or command the terminal.
        console.print(Text("  " + printable(line)))
    if count > len(named):
        console.print(Text("  " + words.more.format(count=_grouped(count - len(named), words)), style="dim"))


def _grouped(number: int, words: _Words) -> str:
    return f"{number:,}".replace(",", words.thousands)


def _signed(number: int, words: _Words) -> str:
    sign = "+" if number > 0 else "−" if number < 0 else ""
    return sign + _grouped(abs(number), words)
