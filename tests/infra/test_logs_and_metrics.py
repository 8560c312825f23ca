"""Logs without personal data, a closed registry of metrics, and the pages that document both."""

import ast
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.processes import PROJECT_DIR
from truyvet import docpages, logs, metrics
from truyvet.config import Settings
from truyvet.logs import BANNED_FIELDS, BannedFieldError

Said = Callable[[], list[str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[Said]:
    """The lines logged so far; the root logger is as before afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def lines() -> list[str]:
        return capsys.readouterr().err.splitlines()

    yield lines
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_text_line_has_time_level_logger_message_fields(said: Said) -> None:
    """Values with spaces or line ends are quoted, so an event stays one line."""
    logs.configure(Settings())
    logs.get("sink").info("rows stored", table="scans", rows=3, why="two\nlines", empty="")
    (line,) = said()
    time, rest = line.split(" ", 1)
    assert len(time) == len("2021-10-14T01:15:30.000Z")
    assert rest == 'INFO sink rows stored table=scans rows=3 why="two\\nlines" empty=""'


def test_a_json_line_is_one_object(said: Said) -> None:
    """The fields stand beside time, level, logger and message."""
    logs.configure(Settings(log_format="json"))
    try:
        raise ValueError("no")  # noqa: TRY301 -- a traceback is wanted
    except ValueError:
        logs.get("worker").exception("step failed", partition=3)
    (line,) = said()
    event = json.loads(line)
    assert (event["level"], event["logger"], event["message"], event["partition"]) == (
        "ERROR",
        "worker",
        "step failed",
        3,
    )
    assert event["traceback"].endswith("ValueError: no")


def test_the_level_is_the_settings_and_libraries_whisper(said: Said) -> None:
    """Our INFO is written or not as configured; a library speaks from WARNING on."""
    logs.configure(Settings(log_level="WARNING"))
    logs.get("sink").info("quiet")
    logs.configure(Settings(log_level="DEBUG"))
    logs.get("sink").debug("loud")
    logging.getLogger("aiokafka").info("about myself")
    logging.getLogger("aiokafka").warning("trouble")
    assert [line.split(" ", 3)[2:] for line in said()] == [
        ["sink", "loud"],
        ["aiokafka", "trouble"],
    ]


def test_a_library_says_the_same_once_a_minute(said: Said) -> None:
    """Whatever varies in it; what the project says itself is always said."""
    logs.configure(Settings())
    for port in range(100):
        logging.getLogger("aiokafka").error("cannot connect to %s", port)
        logs.get("sink").warning("trouble")
    logging.getLogger("aiokafka").error("something else")
    lines = said()
    assert [sum(text in line for line in lines) for text in ("cannot connect", "trouble", "else")] == [1, 100, 1]


@pytest.mark.parametrize("field", sorted(BANNED_FIELDS))
def test_a_field_that_may_name_a_person_crashes(field: str) -> None:
    """Also on a level that is not written: the bug is in the call."""
    with pytest.raises(BannedFieldError, match=field):
        logs.get("worker").debug("anything", **{field: "x"})


def test_the_banned_fields_hold_what_names_a_person() -> None:
    """The list may grow, never shrink below these."""
    assert {"person_id", "scan_id", "payload"} <= BANNED_FIELDS


def test_the_registry_is_closed() -> None:
    """Nobody else makes a prometheus metric: the library is imported in one module alone."""
    importing = set()
    for package in ("producers", "streams", "sinks", "schemas", "infra", "truyvet"):
        for path in (PROJECT_DIR / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(name.split(".")[0] == "prometheus_client" for name in names):
                    importing.add(str(path.relative_to(PROJECT_DIR)))
    assert importing == {"truyvet/metrics.py"}


def test_what_is_shown_is_what_is_registered() -> None:
    """Every family on /metrics is in the table or of the process itself; names say kind and unit."""
    shown = {family.name for family in metrics.REGISTRY.collect() if not family.name.startswith("process_")}
    assert shown == {metric.full_name.removesuffix("_total") for metric in metrics.METRICS}
    assert len({metric.name for metric in metrics.METRICS}) == len(metrics.METRICS)
    for metric in metrics.METRICS:
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert metric.unit in metric.name or metric.unit in {"records", "errors", "inserts"}
        assert metric.meaning.endswith(".")


def test_no_label_can_name_a_person() -> None:
    """Labels are of the seven that have few values."""
    assert {label for metric in metrics.METRICS for label in metric.labels} <= {
        "room",
        "topic",
        "partition",
        "reason",
        "table",
        "change",
        "work",
    }


@pytest.mark.parametrize("path", sorted(docpages.pages()), ids=lambda path: path.name)
def test_generated_pages_are_current(path: Path) -> None:
    """`./do docs` would change nothing."""
    assert path.read_text(encoding="utf-8") == docpages.pages()[path], "run ./do docs"


def test_every_setting_is_documented() -> None:
    """Each has a meaning, and stands in a section."""
    page = docpages.configuration_page()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"| `TRUYVET_{name.upper()}` |" in page
