"""Workers that are killed, stopped, woken, that join and leave; a broker that goes away: the same rows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from infra.processes import send_signal
from streams.core.partition import partition_of
from tests.conftest import SettingsFactory, wait_until
from tests.pipeline.running import Feeder, Rows, assert_same, rows_when_undisturbed, small_week, stored_rows
from truyvet.config import Settings
from truyvet.drain import Drain
from truyvet.members import fetch
from truyvet.stack import Stack

PARTITIONS = 4
SCALE = 0.02
TAKEN_OVER_SECONDS_MAX = 30.0


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated week, with all that is mixed in."""
    return small_week(tmp_path_factory.mktemp("week"), seed=7, scale=SCALE)


@pytest.fixture(scope="module")
def undisturbed(week: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of a run in which nothing happens."""
    settings = Settings.model_validate({"partitions": PARTITIONS, "restating": True})
    with Stack(settings, workers=1) as stack:
        rows = rows_when_undisturbed(stack, week, tmp_path_factory.mktemp("undisturbed"))
    assert len(rows["scans"]) > 30_000
    return rows


def _positions(drain: Drain, name: str) -> dict[str, int]:
    return {part: state["next"].get(name, 0) for part, state in drain.rooms().items() if part.startswith("person")}


def test_workers_killed_joining_and_leaving(
    settings: SettingsFactory, week: Path, undisturbed: Rows, tmp_path: Path
) -> None:
    """One joins, one is killed in the middle, one leaves, one comes back with an old store: the same rows."""
    with Stack(settings(partitions=PARTITIONS), workers=1, own_broker=False) as stack:
        feeder = Feeder(stack, week)
        feeder.register()
        feeder.scans(1, 4)
        stack.start_worker(1)
        feeder.scans(2, 4)
        assert wait_until(lambda: len(feeder.drain.rooms()) == 2 * PARTITIONS, TAKEN_OVER_SECONDS_MAX)
        feeder.scans(3, 4)
        stack.kill_worker(0)
        killed_at = time.monotonic()
        ends = feeder.drain.ends(("scans",))[stack.settings.topic("scans")]
        moved_on = wait_until(
            lambda: all(
                _positions(feeder.drain, stack.settings.topic("scans")).get(f"person-{p}", -1) >= end
                for p, end in ends.items()
            ),
            TAKEN_OVER_SECONDS_MAX,
        )
        assert moved_on, "the other worker did not take over"
        assert time.monotonic() - killed_at < TAKEN_OVER_SECONDS_MAX
        stack.start_worker(0)
        feeder.scans(4, 4)
        stack.stop_worker(1)
        feeder.settle()
        assert_same(stored_rows(stack, tmp_path), undisturbed)


def test_a_stopped_worker_that_wakes_up_changes_nothing(
    settings: SettingsFactory, week: Path, undisturbed: Rows, tmp_path: Path
) -> None:
    """A worker thought dead (SIGSTOP beyond its session) is fenced when it wakes: the same rows."""
    with Stack(settings(partitions=PARTITIONS, session_timeout_ms=3000), workers=2, own_broker=False) as stack:
        feeder = Feeder(stack, week)
        feeder.register()
        feeder.scans(1, 3)
        zombie = next(member for member in stack.members() if member.name == "worker-0")
        send_signal(zombie.process, signal.SIGSTOP)
        feeder.scans(2, 3)
        survivor = stack.worker_urls()[1]

        def taken_over() -> bool:
            rooms = [part for part, state in _rooms_of(survivor).items() if state["next"]]
            return len(rooms) == 2 * PARTITIONS

        assert wait_until(taken_over, TAKEN_OVER_SECONDS_MAX), "the other worker did not take over"
        send_signal(zombie.process, signal.SIGCONT)
        feeder.scans(3, 3)
        feeder.settle()
        assert_same(stored_rows(stack, tmp_path), undisturbed)


def _rooms_of(url: str) -> dict[str, dict[str, dict[str, int]]]:
    rooms: dict[str, dict[str, dict[str, int]]] = json.loads(fetch(f"{url}/progress")[1])["rooms"]
    return rooms


def test_a_broker_that_is_away_is_waited_for(week: Path, undisturbed: Rows, tmp_path: Path) -> None:
    """The broker is killed in the middle and comes back: worker and sink say so, go on, and the rows are the same."""
    settings = Settings.model_validate({"partitions": PARTITIONS, "restating": True})
    with Stack(settings, workers=1) as stack:
        feeder = Feeder(stack, week)
        feeder.register()
        feeder.scans(1, 2)
        stack.kill_broker()
        time.sleep(5)
        stack.start_broker()
        feeder.scans(2, 2)
        feeder.settle()
        stack.check()
        assert_same(stored_rows(stack, tmp_path), undisturbed)
        logs = (stack.directory / "worker-0.log").read_text() + (stack.directory / "sink.log").read_text()
    assert "broker" in logs


def test_a_scan_on_a_wrong_partition_finds_home(settings: SettingsFactory, tmp_path: Path) -> None:
    """A misrouted scan is sent on, whatever its headers say; one that has a wrong key is rejected."""
    person = "9f86d081884c7d659a2feaa0c55ad015"
    with Stack(settings(partitions=PARTITIONS), workers=1, own_broker=False) as stack:
        home = partition_of(person.encode(), PARTITIONS)
        away = (home + 1) % PARTITIONS
        producer = Producer(stack.settings.librdkafka())
        topic = stack.settings.topic("scans")

        def send(scan_id: str, key: bytes, partition: int, headers: list[tuple[str, str | bytes | None]]) -> None:
            value = json.dumps(
                {
                    "scan_id": scan_id, "person_id": person, "venue_id": "NOWHERE", "direction": "in",
                    "occurred_at": "2021-10-14T08:00:00+07:00", "source": "vhd",
                }
            )  # fmt: skip
            producer.produce(topic, value, key, partition, timestamp=1_634_173_200_000, headers=headers)

        send("lost", person.encode(), away, [])
        send("often", person.encode(), away, [("hops", b"2")])
        send("strange", b"somebody else", away, [])
        send("late", person.encode(), away, [("first-ts", b"1734173200000")])
        producer.flush()
        drain = Drain(stack)
        drain.wait(drain.settled)
        drain.close()
        rows = [json.loads(row) for row in stored_rows(stack, tmp_path)["rejects"]]
    found = sorted((row["reason"], row["status"]) for row in rows)
    assert found == sorted(
        [
            ("unknown_venue", "waiting"),
            ("unknown_venue", "waiting"),
            ("unknown_venue", "waiting"),
            ("key_mismatch", "open"),
        ]
    )
    assert {row["key"] for row in rows} == {person, "somebody else"}
    assert all(row["record_at"] == "2021-10-14T01:00:00.000Z" for row in rows)


def test_wrong_settings_are_one_sentence() -> None:
    """A worker with a wrong setting ends with status 2 before anything starts, and names the setting."""
    environ = os.environ | {"TRUYVET_PARTITIONS": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "truyvet", "worker"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "TRUYVET_PARTITIONS" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
