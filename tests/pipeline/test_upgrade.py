"""Workers replaced one after another while scans flow, by the same build or one whose state differs: the same rows."""

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from infra.processes import ProcessError
from streams.core.keys import META, STATE_VERSION
from streams.shell.restore import log_consumer, watermarks
from tests.conftest import SettingsFactory, wait_until
from tests.pipeline.builds import OLD, SLOW, THIS, Builds
from tests.pipeline.running import Feeder, Rows, assert_same, rows_when_undisturbed, small_week, stored_rows
from truyvet.members import health
from truyvet.stack import Stack

PARTITIONS = 4
PERSON_PARTS = {f"person-{partition}" for partition in range(PARTITIONS)}
SCALE = 0.02
SESSION_MS = 3_000
PATIENT_SESSION_MS = 20_000
"""Longer than a worker needs to come back, so that it gets its own partitions again."""
SLICES = 400
SLICE_SECONDS = 0.1
SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated week, with all that is mixed in."""
    return small_week(tmp_path_factory.mktemp("week"), seed=11, scale=SCALE)


@pytest.fixture
def undisturbed(week: Path, settings: SettingsFactory, tmp_path: Path) -> Rows:
    """The rows of a run in which nothing happens."""
    with Stack(settings(partitions=PARTITIONS), workers=1, own_broker=False) as stack:
        return rows_when_undisturbed(stack, week, tmp_path / "undisturbed")


class Flow:
    """Half of the input at once, the rest steadily while other things happen; and how long partitions stand."""

    def __init__(self, stack: Stack, week: Path) -> None:
        self._feeder = Feeder(stack, week)
        self._scans = stack.settings.topic("scans")
        self._wanted = True
        self._moved: dict[str, list[float]] = defaultdict(list)
        self._next: dict[str, int] = {}
        self._feeder.register()
        for number in range(1, SLICES // 2 + 1):
            self._feeder.scans(number, SLICES)
        self._feeder.drain.wait(self._feeder.drain.processed)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sends while the body runs, and on until everything is sent; returns once it is stored."""
        threads = [threading.Thread(target=call, daemon=True) for call in (self._send, self._watch)]
        for thread in threads:
            thread.start()
        yield
        threads[0].join()
        self._feeder.drain.wait(self._feeder.drain.processed)
        self._wanted = False
        threads[1].join()
        self._feeder.settle()

    def _send(self) -> None:
        for number in range(SLICES // 2 + 1, SLICES + 1):
            self._feeder.scans(number, SLICES)
            time.sleep(SLICE_SECONDS)

    def _watch(self) -> None:
        while self._wanted:
            for part, room in self._feeder.drain.rooms().items():
                following = room["next"].get(self._scans, 0)
                if following != self._next.setdefault(part, following):
                    self._next[part] = following
                    self._moved[part].append(time.monotonic())
            time.sleep(0.02)

    def tell(self, what: str) -> None:
        """Prints the longest time between two commits of scans of one partition of the person room."""
        assert self._moved.keys() == PERSON_PARTS
        pauses = [later - sooner for moved in self._moved.values() for sooner, later in pairwise(moved)]
        sys.stdout.write(f"\n{what}: the longest pause of a partition was {max(pauses):.1f} s\n")


def _log(stack: Stack, number: int) -> str:
    return (stack.directory / f"worker-{number}.log").read_text(encoding="utf-8")


def _states(stack: Stack) -> dict[str, dict[str, object]]:
    """What each partition of the person room said of its state last, by its changelog."""
    consumer = log_consumer(stack.settings)
    topic = stack.settings.topic("state-person")
    states = {}
    for partition in range(PARTITIONS):
        low, high = watermarks(consumer, topic, partition)
        consumer.assign([TopicPartition(topic, partition, low)])
        at = low
        while at < high:
            for message in consumer.consume(10_000, 0.05):
                at = max(at, (message.offset() or 0) + (message.error() is None))
                if message.error() is None and message.key() == META:
                    states[f"person-{partition}"] = json.loads(message.value() or b"")
    consumer.close()
    return states


def _replace(stack: Builds, number: int, build: str) -> None:
    """One worker goes, and one of that build takes its place."""
    stack.stop_worker(number)
    stack.build = build
    stack.start_worker(number)
    member = next(member for member in stack.members() if member.name == f"worker-{number}")
    assert wait_until(lambda: health(member) == "ok", SECONDS_MAX), "the worker did not come back"


@pytest.mark.parametrize(("before", "rounds"), [(THIS, 2), (OLD, 1)])
def test_workers_replaced_one_after_another(
    settings: SettingsFactory, week: Path, undisturbed: Rows, tmp_path: Path, before: str, rounds: int
) -> None:
    """Each is stopped and started again, of the same build or of one with another state, while scans flow."""
    patient = settings(partitions=PARTITIONS, session_timeout_ms=PATIENT_SESSION_MS)
    stack = Builds(patient, workers=2, own_broker=False)
    stack.build = before
    with stack:
        flow = Flow(stack, week)
        with flow.running():
            for number in (0, 1) * rounds:
                _replace(stack, number, THIS)
        rows = stored_rows(stack, tmp_path / "rows")
        states = _states(stack)
        logs = _log(stack, 0) + _log(stack, 1)
    assert_same(rows, undisturbed)
    assert {state["version"] for state in states.values()} == {STATE_VERSION}
    assert logs.count("state is migrated") == (2 * PARTITIONS if before == OLD else 0)
    flow.tell(f"replacing {before} by {THIS}")


def test_a_migration_killed_in_the_middle(
    settings: SettingsFactory, week: Path, undisturbed: Rows, tmp_path: Path
) -> None:
    """An old build that gets half a migration refuses it; another new one goes on where it stopped: the same rows."""
    stack = Builds(settings(partitions=PARTITIONS, session_timeout_ms=SESSION_MS), workers=2, own_broker=False)
    stack.build = OLD
    with stack:
        flow = Flow(stack, week)
        with flow.running():
            stack.stop_worker(0)
            stack.build = SLOW
            stack.start_worker(0)
            assert wait_until(lambda: "state of an older version" in _log(stack, 0), SECONDS_MAX)
            assert wait_until(lambda: any("migrating" in state for state in _states(stack).values()), SECONDS_MAX)
            stack.kill_worker(0)
            half = [part for part, state in _states(stack).items() if "migrating" in state]
            assert half, "killed before or after the migration"
            old = next(member for member in stack.members() if member.name == "worker-1")
            assert wait_until(lambda: not old.running, SECONDS_MAX), "the old build took over what it cannot read"
            assert "a newer build has the partition" in _log(stack, 1)
            with pytest.raises(ProcessError):
                stack.check()
            stack.kill_worker(1)
            stack.start_worker(1)
            assert wait_until(lambda: '"migrating"' in _log(stack, 1) or "migrating=" in _log(stack, 1), SECONDS_MAX)
            stack.build = THIS
            stack.start_worker(0)
        rows = stored_rows(stack, tmp_path / "rows")
        states = _states(stack)
    assert_same(rows, undisturbed)
    assert all(state["version"] == STATE_VERSION and "migrating" not in state for state in states.values())
    flow.tell("killed while it migrates")
