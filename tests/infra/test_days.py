"""Days and times as arguments: whatever is typed, one line says what is wrong with it."""

from datetime import date
from typing import Any

import pytest

from sinks.retention import kept_from
from truyvet import cli
from truyvet.days import local_day
from truyvet.report import build_report

PERSON = "0123456789abcdef0123456789abcdef"
BAD_DAYS = (
    *("0001-01-01", "0001-01-08", "0000-01-01", "1969-12-31", "10000-01-01", "-001-01-01", "2021-02-29"),
    *(
        "2021-13-01",
        "20211014",
        "2021-W41-4",
        "2021-10-14T00:00:00",
        "2021-1-1",
        "today",
        "",
        "２０２１-10-14",
        "1" * 5_000,
    ),
)
BAD_TIMES = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "2021-10-14", "", "9" * 5_000)


def _complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("text", BAD_DAYS, ids=lambda text: text[:20])
@pytest.mark.parametrize("verb", [("report", "--area", "VN", "--day"), ("purge", "--as-of")], ids=lambda verb: verb[0])
def test_a_day_that_is_none_is_wrong_usage(
    verb: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Days that the calendar lacks, forms other than YYYY-MM-DD, and days before all events: status 2, one line."""
    complaint = _complaint([*verb[:-1], f"{verb[-1]}={text}"], capsys)
    assert complaint.count("\n") == 1
    assert f"argument {verb[-1]}: " in complaint


@pytest.mark.parametrize("text", BAD_TIMES, ids=lambda text: text[:20])
def test_a_time_that_is_none_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The moment up to which a person is to be forgotten is one of 1970 to 2099."""
    complaint = _complaint(["erase", PERSON, f"--requested-at={text}"], capsys)
    assert complaint.count("\n") == 1
    assert "argument --requested-at: " in complaint


class _NoRows:
    """A database that holds nothing."""

    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """No row, or a row of noughts where only counts are asked for."""
        asked = sql.removeprefix("SELECT ").split(" FROM")[0]
        return [], [(0,) * asked.count("(")] if asked.startswith("count()") else []


@pytest.mark.parametrize("text", ["1970-01-01", "9999-12-31"])
def test_the_first_and_the_last_day_have_a_report(text: str) -> None:
    """The week before 1970 is in the calendar, and nothing is reckoned behind its end."""
    report = build_report(_NoRows(), local_day(text), "VN")  # type: ignore[arg-type]
    assert {figure.value for figure in report.figures.values()} == {0}


def test_retention_ends_at_the_beginning_of_the_calendar() -> None:
    """What is reckoned back to before it stays, however long it is kept."""
    assert kept_from(date.min, 400) == date.min
    assert kept_from(date(1970, 1, 1), 1_000_000) == date.min
