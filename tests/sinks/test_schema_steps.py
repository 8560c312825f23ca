"""A database of an older release: its rows come over, wherever the process is killed meanwhile."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sinks import schema_steps
from sinks.backends import Backend, StorageError, open_backend
from sinks.ddl import quoted
from streams.core import wire
from streams.core.rejected import Origin
from tests.sinks import data
from tests.sinks.test_backends import decoded, rows, store
from truyvet.config import Settings

RECORDED = Path(__file__).parent / "recorded" / "rejects_without_epoch.sql"
"""The table as it was made before it had epochs, and rows of all stages in it."""
FINAL = "SELECT * FROM rejects FINAL ORDER BY topic, epoch, `partition`, `offset`"
BARE = 1 << 40
EXPECTED = [
    # topic, epoch, partition, offset, record_at, key, reason, detail, payload, attempts, status, revision, day
    ("checkin.cases", 0, 0, 7, 1634174130000, "k", "too_old", "d", "cA==", 0, "open", 1, 20211014),
    ("checkin.scans", 0, 1, 1, 1634174130000, "k", "malformed_json", "d", "cA==", 0, "open", 1, 20211014),
    ("checkin.scans", 0, 1, 2, 1634174130000, "k", "unknown_venue", "d", "cA==", 0, "waiting", 2, 20211014),
    ("checkin.scans", 0, 1, 3, 1634174130000, "k", "unknown_venue", "d", "cA==", 0, "resolved", 3, 20211014),
    ("checkin.scans", 0, 1, 4, 1634174130000, None, "too_old", "d", None, 0, "open", BARE | 1, 20211014),
    ("checkin.scans", 0, 1, 5, 1634174130000, None, "unknown_venue", "d", None, 0, "resolved", BARE | 3, 20211014),
    ("checkin.scans", 0, 1, 6, 1634260530000, None, "too_old", "again", None, 0, "resolved", BARE | 3, 20211015),
]


class Killed(BaseException):
    """The process has died."""


@pytest.fixture
def older(backend_settings: Settings) -> Iterator[Backend]:
    """Either backend with a database as the release before made it."""
    database = backend_settings.database
    with open_backend(backend_settings) as backend:
        for statement in RECORDED.read_text(encoding="utf-8").split(";\n")[:-1]:
            backend.maintain(statement.replace("{db}", quoted(database)))
        yield backend
        backend.maintain(f"DROP DATABASE {quoted(database)}")


def beside(backend: Backend) -> list[tuple[str, int]]:
    """The tables that a step has made and left, with their rows."""
    found = rows(backend, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE 'rejects_%'")
    return [(name, int(rows(backend, f"SELECT count() FROM {name}")[0][0])) for (name,) in sorted(found)]


def test_rows_of_an_older_release_come_over(older: Backend) -> None:
    """Every row has the new key and a revision of the new order; what replaced what still does; nothing is left."""
    older.ensure_schema()
    assert rows(older, FINAL) == EXPECTED
    assert beside(older) == [("rejects_before_1", 0)]
    older.ensure_schema()
    assert rows(older, FINAL) == EXPECTED
    store(older, "rejects", [data.reject(1, epoch=1, attempts=2, revision=9)])
    assert rows(older, "SELECT epoch, attempts FROM rejects FINAL WHERE `offset` = 1 ORDER BY epoch") == [
        (0, 0),
        (1, 2),
    ]


@pytest.mark.parametrize("before", [True, False])
def test_a_step_may_be_killed_between_any_two_statements(
    older: Backend, backend_settings: Settings, *, before: bool
) -> None:
    """Killed before or after each statement in turn, time and again, the next start goes on and ends the same."""
    database, survived = backend_settings.database, 0
    for fatal in range(1, 100):
        ran = 0

        def run(sql: str) -> list[tuple[Any, ...]]:
            nonlocal ran
            ran += 1
            if ran == fatal and before:  # noqa: B023 - called at once
                raise Killed
            answer = older.maintain(sql)
            if ran == fatal:  # noqa: B023 - called at once
                raise Killed
            return answer

        try:
            schema_steps.take_steps(run, database)
        except Killed:
            survived += 1
        else:
            break
    assert survived >= 7
    older.ensure_schema()
    assert rows(older, FINAL) == EXPECTED
    assert beside(older) == [("rejects_before_1", 0)]


def test_a_renaming_that_was_cut_in_half_is_finished(older: Backend, backend_settings: Settings) -> None:
    """An old server renames one table after the other: between them no table has the name, and a copy may be half."""
    place = quoted(backend_settings.database)
    older.maintain(f"RENAME TABLE {place}.rejects TO {place}.rejects_before_1")
    older.maintain(f"CREATE TABLE {place}.rejects_copy_1_half (epoch Int64) ENGINE = Memory")
    older.ensure_schema()
    assert rows(older, FINAL) == EXPECTED
    assert beside(older) == [("rejects_before_1", 0)]


def test_two_sinks_take_a_step_at_once(older: Backend, backend_settings: Settings) -> None:
    """The slower one is refused, whatever the faster one has stored since, and then finds it done."""
    database = backend_settings.database

    def slowly(sql: str) -> list[tuple[Any, ...]]:
        if sql.startswith("RENAME"):
            older.ensure_schema()
            store(older, "rejects", [data.reject(99)])
        return older.maintain(sql)

    with pytest.raises(StorageError):
        schema_steps.take_steps(slowly, database)
    older.ensure_schema()
    assert len(rows(older, FINAL)) == len(EXPECTED) + 1
    assert beside(older) == [("rejects_before_1", 0)]


def test_records_of_an_older_release_are_read_as_its_rows() -> None:
    """What stands on the topic becomes the row that the migration makes of what was stored of it."""
    stages = [
        (1, "open", 1), (1, "waiting", 2), (2, "resolved", 3), (3, "open", BARE | 1), (3, "resolved", BARE | 3),
        (4, "resolved", BARE | 3),
    ]  # fmt: skip
    found = decoded(
        "rejects", [data.older_reject(n, status=was, revision=old) for n, (old, was, _) in enumerate(stages)]
    )
    [(_, columns)] = found
    assert list(columns["revision"]) == [new for _, _, new in stages]
    assert list(columns["epoch"]) == list(columns["attempts"]) == [0] * len(stages)


def test_a_row_s_order_is_the_core_s() -> None:
    """The sink takes the revision that the core writes."""
    origin = Origin("checkin.scans", 3, 1, 2)
    value = wire.reject(origin, 0, b"k", b"p", reason="too_old", detail="d", status="waiting")
    [(_, columns)] = decoded("rejects", [msgspec.json.decode(value)])
    assert list(columns["revision"]) == [2]
    assert base64.b64decode(columns["payload"][0]) == b"p"
