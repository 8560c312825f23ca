"""A week under way, backed up; then the broker's disk is lost: the same rows as if nothing had happened."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.pipeline.running import Feeder, Rows, rows_when_undisturbed, small_week, stored_rows
from tests.pipeline.test_backup_files import TELL, Log, everything
from truyvet.backup import Backup
from truyvet.backup_broker import Ends
from truyvet.backup_files import Point
from truyvet.config import Settings
from truyvet.restore import restore
from truyvet.stack import Stack

PARTITIONS = 3
SCALE = 0.01
SLICES = 8
SETTINGS = Settings.model_validate({"partitions": PARTITIONS, "restating": True})


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated week, with all that is mixed in."""
    return small_week(tmp_path_factory.mktemp("week"), seed=11, scale=SCALE)


@pytest.fixture(scope="module")
def undisturbed(week: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of a run in which nothing happens."""
    with Stack(SETTINGS, workers=1) as stack:
        return rows_when_undisturbed(stack, week, tmp_path_factory.mktemp("undisturbed"))


def _back_up(stack: Stack, directory: Path) -> tuple[Backup, Point | None]:
    taken = Backup(stack.settings, directory)
    with taken.owned():
        return taken, taken.copy(TELL)


def _back_up_while_open(stack: Stack, directory: Path) -> Point | None:
    """A hot copy on top of a consistent one: what it adds is not restored."""
    producer = Producer(stack.settings.librdkafka() | {"transactional.id": "open"})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(stack.settings.topic("case-states"), b"{}", b"k", 0)
    producer.flush()
    point = _back_up(stack, directory)[1]
    producer.abort_transaction()
    return point


def _before(log: Log, ends: Ends) -> Log:
    return {place: [record for record in records if record[0] < ends[place]] for place, records in log.items()}


def _lose_the_broker(stack: Stack) -> None:
    stack.kill_worker(0)
    stack.kill_sink()
    stack.kill_broker()
    assert stack.broker is not None
    shutil.rmtree(stack.broker.directory / "data")
    shutil.move(stack.settings.embedded_dir, stack.directory / "lost")


def _folded(log: Log, name: str, key: str) -> dict[str, dict[str, Any]]:
    """The newest version of each row that a topic holds."""
    rows: dict[str, dict[str, Any]] = {}
    for partition in range(PARTITIONS):
        for record in log[name, partition]:
            row = json.loads(record[3] or b"")
            if row["revision"] > rows.get(row[key], {"revision": -1})["revision"]:
                rows[row[key]] = row
    return {row_key: row for row_key, row in rows.items() if row["status"] == "active"}


def _same(found: Rows, expected: Rows) -> None:
    for table, rows in expected.items():
        if table == "rejects":  # each copy of a bad event has a row of its own, and some were sent again
            assert set(found[table]) == set(rows)
        else:
            assert found[table] == rows, table


@pytest.mark.parametrize("kept", ["ClickHouse's archive, and state from after it", "topics alone"])
def test_a_lost_disk_changes_no_row(week: Path, undisturbed: Rows, tmp_path: Path, kept: str) -> None:
    """Restored, and sent again what came since before the backup: the same rows, the same offsets before it."""
    with Stack(SETTINGS, workers=1) as stack:
        feeder = Feeder(stack, week)
        feeder.register()
        feeder.scans(1, SLICES)
        feeder.scans(2, SLICES)
        _back_up(stack, tmp_path / "backup")
        feeder.scans(3, SLICES)
        stack.stop_worker(0)
        stack.stop_sink()
        feeder.scans(4, SLICES)
        taken, point = _back_up(stack, tmp_path / "backup")
        assert point is not None, taken.sentence()
        if kept != "topics alone":
            assert "is copied" in taken.copy_clickhouse(point)
        ends = {(name, p): end for name, of in point.ends.items() for p, end in enumerate(of)}
        original = everything(stack.settings)
        stack.start_sink()
        stack.start_worker(0)
        feeder.scans(5, SLICES)
        feeder.drain.wait(feeder.drain.processed)
        assert _back_up_while_open(stack, tmp_path / "backup") is None
        feeder.scans(6, SLICES)
        feeder.drain.wait(feeder.drain.processed)
        _lose_the_broker(stack)
        if kept == "topics alone":
            shutil.rmtree(stack.settings.state_dir)
        stack.start_broker()
        restore(stack.settings, tmp_path / "backup", TELL)
        assert _before(everything(stack.settings), ends) == _before(original, ends)
        feeder.drain.close()
        feeder = Feeder(stack, week)
        stack.start_sink()
        stack.start_worker(0)
        for number in range(3, SLICES + 1):
            feeder.scans(number, SLICES)
        feeder.settle()
        log = everything(stack.settings)
        rows = stored_rows(stack, tmp_path / "rows")
        _same(rows, undisturbed)
        for name, key in (("exposures", "exposure_id"), ("visits", "visit_id")):
            stored = {row[key] for row in map(json.loads, rows[name])}
            assert _folded(log, name, key).keys() == stored, name
        text = (stack.directory / "worker-0.log").read_text()
        assert ("the stores are not of these changelogs" in text) == (kept != "topics alone")
