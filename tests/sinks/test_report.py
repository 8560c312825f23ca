"""The daily report on a small register and few cells, counted by hand."""

import json
from collections.abc import Iterator
from datetime import date
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from schemas.areas import load_areas
from sinks.backends import Backend, Reader, open_backend
from sinks.venue_rows import store_removals
from tests.sinks import data
from tests.sinks.test_backends import store
from truyvet import report as report_verb
from truyvet.cli import main
from truyvet.config import Settings
from truyvet.report import DailyReport, Figure, as_json, build_report, half_up_mean
from truyvet.report_text import print_report

DAY = date(2021, 10, 14)
HANOI, OTHER_WARD, SAIGON_WARD = "01", "00001", "26734"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A database of one register and some cells; the counts are in the comments."""
    settings = Settings.model_validate({"embedded_dir": tmp_path_factory.mktemp("report"), "database": "r"})
    with open_backend(settings) as backend:
        backend.ensure_schema()
        other = {"district_code": "001", "ward": OTHER_WARD}
        store(
            backend,
            "venues",
            [
                # Hanoi: four by the end of the 14th, two of them of the 14th (local time), one of the 8th.
                data.venue("OLD", day="2021-09-01"),
                data.venue("EIGHTH", day="2021-10-08", **other),
                data.venue("NEW1", registered_at="2021-10-13T17:00:00Z"),
                data.venue("NEW2", registered_at="2021-10-14T23:59:59+07:00", status="closed"),
                # Too new for the report; and one that moved here from Hanoi: its present area counts.
                data.venue("LATER", registered_at="2021-10-15T00:00:00+07:00"),
                data.venue("MOVED", day="2021-09-02"),
                data.venue(
                    "MOVED",
                    day="2021-09-02",
                    province_code="79",
                    district_code="760",
                    ward=SAIGON_WARD,
                    name="Chợ Sài Gòn",
                ),
            ],
        )
        store_removals(backend, {"NEW1": 1_000})
        hours = [
            ("2021-10-07T03:00:00.000Z", "OLD", 2),  # seven days before: just counts
            ("2021-10-06T03:00:00.000Z", "EIGHTH", 2),  # eight days before: does not
            ("2021-10-13T03:00:00.000Z", "MOVED", 1),
            ("2021-10-13T17:00:00.000Z", "NEW1", 3),  # 00:00 of the 14th
            ("2021-10-14T03:00:00.000Z", "NEW2", 5),
            ("2021-10-14T04:00:00.000Z", "NEW2", 1),
        ]
        cells = [data.venue_hour(hour, venue, "person-0", (count, 0, 0)) for hour, venue, count in hours]
        for part in ("person-0", "person-1"):
            cells += [
                data.area_day("2021-10-14", HANOI, part, (100, 40, 0)),
                data.area_day("2021-10-13", HANOI, part, (75, 45, 0)),
                data.area_day("2021-10-08", HANOI, part, (3, 1, 0)),
                data.area_day("2021-10-07", HANOI, part, (999, 999, 0)),
                data.area_day("2021-10-14", "00262", part, (100, 40, 0)),
                data.area_day("2021-10-13", OTHER_WARD, part, (75, 45, 0)),
            ]
        cells += [data.area_day("2021-10-14", HANOI, "venue-0", (0, 0, 2))]
        store(backend, "aggregates", cells)
        yield backend


@pytest.fixture(scope="module")
def hanoi(reader: Backend) -> DailyReport:
    """The report of Hanoi."""
    return build_report(reader, DAY, HANOI)


def test_figures(hanoi: DailyReport) -> None:
    """Each figure with the day before, the change and the mean of seven days, half-up."""
    assert dict(hanoi.figures) == {
        # 2, 2, 2, 2, 2, 2 and 4 venues at the ends of the 8th to the 14th: 16 / 7 = 2.29.
        "venues_total": Figure(4, 2, 2, 2),
        # 1 on the 8th, 2 on the 14th: 3 / 7 = 0.43.
        "venues_new": Figure(2, 0, 2, 0),
        "venues_active": Figure(2, 0, 2, 0),
        # (200 + 150 + 6) / 7 = 50.86; the 7th is outside.
        "scans": Figure(200, 150, 50, 51),
        # (80 + 90 + 2) / 7 = 24.57.
        "persons": Figure(80, 90, -10, 25),
    }
    assert list(hanoi.figures) == list(report_verb.FIGURES)


@pytest.mark.parametrize(
    ("values", "mean"),
    [([0] * 7, 0), ([3, 0, 0, 0, 0, 0, 0], 0), ([4, 0, 0, 0, 0, 0, 0], 1), ([1, 0], 1), ([3, 0], 2), ([7] * 7, 7)],
)
def test_means_are_half_up(values: list[int], mean: int) -> None:
    """A half is rounded up, less is rounded down."""
    assert half_up_mean(values) == mean


def test_communes_without_scans(hanoi: DailyReport) -> None:
    """Every ward of the area but the one with scans that day, by code, with its district."""
    codes = [commune.code for commune in hanoi.communes_without_scans]
    assert hanoi.communes == 579
    assert len(codes) == 578
    assert OTHER_WARD in codes
    assert "00262" not in codes
    assert codes == sorted(codes)
    assert hanoi.communes_without_scans[0].district == "Quận Ba Đình"


def test_silent_and_closed_venues(hanoi: DailyReport) -> None:
    """Silent: active on the 7th to the 13th, not on the 14th, in Hanoi now. Closed: NEW2; removed: NEW1."""
    assert [venue.venue_id for venue in hanoi.silent_venues.venues] == ["OLD"]
    assert hanoi.silent_venues.count == 1
    closed = hanoi.closed_venues_with_scans
    assert (closed.count, closed.scans, [venue.venue_id for venue in closed.venues]) == (2, 9, ["NEW1", "NEW2"])


def test_a_venue_belongs_to_its_present_area(reader: Reader) -> None:
    """A venue that moved is counted, and silent, where it is now."""
    saigon = build_report(reader, DAY, "79")
    assert saigon.figures["venues_total"].value == 1
    assert [venue.name for venue in saigon.silent_venues.venues] == ["Chợ Sài Gòn"]
    assert saigon.figures["scans"] == Figure(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("area", "total", "communes"), [("VN", 5, 10599), ("007", 3, 18), ("00262", 3, 1), ("01", 4, 579)]
)
def test_areas_of_every_level(reader: Reader, area: str, total: int, communes: int) -> None:
    """Nation, province, district and ward are reported alike."""
    found = build_report(reader, DAY, area)
    assert (found.figures["venues_total"].value, found.communes) == (total, communes)


def test_a_day_without_rows_counts_zero(reader: Reader) -> None:
    """Long before and after the data everything is zero but the venues registered so far."""
    before, after = build_report(reader, date(2020, 1, 1), HANOI), build_report(reader, date(2022, 1, 1), HANOI)
    assert all(figure == Figure(0, 0, 0, 0) for figure in before.figures.values())
    assert after.figures["venues_total"] == Figure(5, 5, 0, 5)
    assert after.figures["scans"] == Figure(0, 0, 0, 0)
    assert after.silent_venues.count == 0


def shown(report: DailyReport, language: str) -> str:
    """What a wide terminal shows."""
    text = StringIO()
    print_report(Console(file=text, width=200), report, "vi" if language == "vi" else "en")
    return text.getvalue()


def test_vietnamese(hanoi: DailyReport) -> None:
    """The Vietnamese table has its words, its dates and its figures."""
    text = shown(hanoi, "vi")
    assert "Báo cáo quét mã QR ngày 14/10/2021: Thành phố Hà Nội (01)" in text
    assert "Số liệu tính đến hết ngày 14/10/2021." in text
    assert "Lượt quét" in text
    assert "không có lượt quét: 578 trên 579" in text
    assert "… và 568 nơi khác" in text
    assert "Địa điểm đã đóng vẫn có lượt quét: 2 (9 lượt)" in text


def test_english(hanoi: DailyReport) -> None:
    """The English table shows the same, a falling figure with its sign."""
    text = shown(hanoi, "en")
    assert "QR check-in report of 2021-10-14" in text
    assert "Figures as of the end of 2021-10-14." in text
    assert "−10" in text
    assert "+50" in text
    assert "Communes without a scan: 578 of 579" in text


def test_thousands_are_grouped(hanoi: DailyReport) -> None:
    """Vietnamese groups with dots, English with commas."""
    big = DailyReport(
        **{name: getattr(hanoi, name) for name in hanoi.__slots__ if name != "figures"},
        figures={"scans": Figure(304916, 245680, 59236, 241740)},
    )
    assert "304.916" in shown(big, "vi")
    assert "304,916" in shown(big, "en")


def test_names_cannot_command_the_terminal(hanoi: DailyReport) -> None:
    """A venue's name is shown as text: no escape sequence and no markup of ours."""
    venue = hanoi.silent_venues.venues[0]
    bad = type(venue)(venue.venue_id, "\x1b[2J[red]x", venue.ward_code, 0)
    changed = {name: getattr(hanoi, name) for name in hanoi.__slots__ if name != "silent_venues"}
    text = shown(DailyReport(**changed, silent_venues=type(hanoi.silent_venues)(1, 0, (bad,))), "en")
    assert "\x1b" not in text
    assert "[2J[red]x" in text


def test_json(hanoi: DailyReport) -> None:
    """The JSON form has every figure, the as-of day and the whole list of communes."""
    whole: dict[str, Any] = json.loads(as_json(hanoi))
    assert whole["as_of"] == "2021-10-14"
    assert whole["area_code"] == "01"
    assert whole["figures"]["scans"] == {"value": 200, "previous_day": 150, "change": 50, "mean_7d": 51}
    assert len(whole["communes_without_scans"]) == 578


@pytest.mark.parametrize(
    "arguments",
    [
        ["--day", "14/10/2021", "--area", "01"],
        ["--day", "2021-10-14", "--area", "999"],
        ["--day", "2021-10-14", "--area", "01", "--lang", "fr"],
        ["--area", "01"],
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong day, area or language is one line and exit status 2, before anything is asked."""
    with pytest.raises(SystemExit) as ended:
        main(["report", *arguments])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_without_a_sink_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing answers, the command fails with a sentence that says what to do."""
    monkeypatch.setenv("TRUYVET_QUERY_PORT", "1")
    assert main(["report", "--day", "2021-10-14", "--area", "01"]) == 1
    assert "is the stack up?" in capsys.readouterr().err


def test_wards_of_the_list_are_complete() -> None:
    """The wards above are those of the administrative list."""
    parents = load_areas().parents
    assert parents["00262"] == ("007", "01")
    assert parents[OTHER_WARD] == ("001", "01")
    assert parents[SAIGON_WARD] == ("760", "79")
