"""One contract for RocksDB and its fake, through the store that uses them."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import pytest

from infra.processes import PROJECT_DIR
from streams.shell import store as module
from streams.shell.store import Store
from tests.sim.outside import Alone, Crashed
from tests.sim.rocks import Disks

Changes = dict[bytes, bytes | None]
STEPS = 40
PADDING = {"small": 10, "large": 400_000}
"""Bytes of a value: small ones stay in memory until somebody asks, large ones overflow RocksDB's buffer."""


def step_changes(number: int, padding: int) -> Changes:
    """Step ``number`` of a killed worker: a key of its own, one that all steps write, one that is deleted later."""
    changes: Changes = {b"k%03d" % number: b"x" * padding, b"n": b"%d" % number, b"t%03d" % number: b"t"}
    return changes | {b"t%03d" % (number - 1): None}


def after_steps(last: int, padding: int) -> dict[bytes, bytes]:
    """What a store holds after that many steps, beside its own record."""
    held: dict[bytes, bytes] = {}
    for number in range(1, last + 1):
        held = {k: v for k, v in (held | step_changes(number, padding)).items() if v is not None}
    return held


def work(store: Store, first: int, last: int, padding: int) -> None:
    """The steps from ``first`` to ``last``, each with its number as position."""
    for number in range(first, last + 1):
        store.apply(step_changes(number, padding))
        store.written(number)


def killed_while_wiping(directory: Path) -> None:
    """Opens a store and dies when the first of its files that matters is deleted."""

    def rmtree(path: Path, *, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            next(path.glob("MANIFEST*")).unlink()
            os.kill(os.getpid(), 9)

    with patch.object(shutil, "rmtree", rmtree):
        Store(directory).wipe()


def killed_after_steps(directory: Path, first: int, last: int, padding: int) -> None:
    """Opens a store, makes the steps, and dies."""
    work(Store(directory), first, last, padding)
    os.kill(os.getpid(), 9)


class Machine(Protocol):
    """Disks, and processes that can be killed."""

    def folder(self) -> Path:
        """Where a store may be opened."""

    def killed_after_steps(self, first: int, last: int, padding: int) -> None:
        """A process opens the store, makes these steps and is killed."""

    def killed_while_wiping(self) -> None:
        """A process opens the store and is killed while it deletes its files."""


class RealMachine:
    """Processes of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "s"

    def folder(self) -> Path:
        return self._directory

    def killed_after_steps(self, first: int, last: int, padding: int) -> None:
        self._killed(f"killed_after_steps(Path({str(self._directory)!r}), {first}, {last}, {padding})")

    def killed_while_wiping(self) -> None:
        self._killed(f"killed_while_wiping(Path({str(self._directory)!r}))")

    def _killed(self, call: str) -> None:
        program = f"from pathlib import Path; from tests.sim import test_store_contract as t; t.{call}"
        assert subprocess.run([sys.executable, "-c", program], cwd=PROJECT_DIR, check=False).returncode == -9


class FakeWorld(Alone):
    """A world of one process at a time, which dies at the step it is told to."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.running = object()
        self.dies_at: str | None = None
        self.steps: list[str] = []

    def process(self) -> object:
        return self.running

    def step(self, label: str) -> None:
        self.steps.append(label)
        if label == self.dies_at:
            raise Crashed


class FakeMachine:
    """Processes of a simulated world."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> None:
        self.world = FakeWorld(seed)
        self.disks = Disks(self.world)
        for name, stand_in in self.disks.names().items():
            monkeypatch.setattr(module, name, stand_in)

    def folder(self) -> Path:
        return self.disks.folder("/worker/s")

    def kill(self) -> None:
        """The process that is running dies; another one begins."""
        self.disks.crashed(self.world.running)
        self.world.running = object()
        self.world.dies_at = None

    def killed_after_steps(self, first: int, last: int, padding: int) -> None:
        work(Store(self.folder()), first, last, padding)
        self.kill()

    def killed_while_wiping(self) -> None:
        store = Store(self.folder())
        self.killed_at("store deleted in part", store.wipe)

    def killed_at(self, label: str, call: Callable[[], object]) -> None:
        """The process dies at that step of the call."""
        self.world.dies_at = label
        with pytest.raises(Crashed):
            call()
        self.kill()


@pytest.fixture(params=["real", "fake"])
def machine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Real and fake disks."""
    return RealMachine(tmp_path) if request.param == "real" else FakeMachine(monkeypatch)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """Fake disks alone."""
    return FakeMachine(monkeypatch)


def test_a_store_is_a_dictionary_in_key_order(machine: Machine) -> None:
    """Whatever is written, deleted, flushed, reopened and wiped, gets, scans and ranges are a dictionary's."""
    rng = random.Random(6)
    keys = [b"%c%d" % (letter, number) for letter in b"svw" for number in range(12)]
    held: dict[bytes, bytes] = {}
    store = Store(machine.folder())
    for number in range(1, 400):
        chosen = rng.sample(keys, rng.choice((0, 1, 1, 1, 2, 20)))
        changes: Changes = {key: rng.choice((None, b"%d" % number)) for key in chosen}
        store.apply(changes)
        store.written(number)
        held = {k: v for k, v in (held | changes).items() if v is not None}
        first, stop = sorted(rng.sample(keys, 2))
        assert store.between(first, stop) == sorted((k, v) for k, v in held.items() if first <= k < stop)
        page = sorted((k, v) for k, v in held.items() if k.startswith(b"v") and k > first)[:3]
        assert store.scan(b"v", 3, after=first) == page
        assert store.get_many(keys) == [held.get(key) for key in keys]
        if rng.random() < 0.05:
            store.close()
            store = Store(machine.folder())
        assert store.position == number
        if rng.random() < 0.01:
            store.wipe()
            held = {}
            assert store.position == 0
        assert {key for key in keys if store._db.get(key) is not None} == held.keys()
    store.close()


def test_a_store_is_opened_by_one(machine: Machine) -> None:
    """A second opener is refused as long as the first has not closed it; a closed store refuses everything."""
    store = Store(machine.folder())
    with pytest.raises(Exception, match="lock hold by current process"):
        Store(machine.folder())
    store.close()
    for call in (
        store.close,
        lambda: store.get(b"a"),
        lambda: store.between(b"a", b"b"),
        lambda: store.write({}, 1, time.time()),
    ):
        with pytest.raises(Exception, match="already closed"):
            call()
    Store(machine.folder()).close()


def test_an_iterator_sees_what_was_there_when_it_was_made(machine: Machine) -> None:
    """What is written while pairs are being read is not among them."""
    store = Store(machine.folder())
    store.write({b"a": b"1", b"b": b"2"}, 1, time.time())
    names: Any = module
    options = names.ReadOptions()
    options.set_iterate_upper_bound(b"z")
    at = store._db.iter(options)
    at.seek(b"a")
    store.write({b"a": None, b"b": b"3", b"c": b"4"}, 2, time.time())
    pairs = []
    while at.valid():
        pairs.append((at.key(), at.value()))
        at.next()
    at.status()
    assert pairs == [(b"a", b"1"), (b"b", b"2")]
    del at
    store.close()


def test_closing_rocksdb_flushes_it(machine: Machine) -> None:
    """Also where nobody asked for a flush, nothing is lost by closing."""
    store = Store(machine.folder())
    store.write({b"a": b"1"}, 3, time.time())
    store._db.close()
    store = Store(machine.folder())
    assert (store.get(b"a"), store.position) == (b"1", 3)
    store.close()


@pytest.mark.parametrize("size", PADDING)
def test_who_is_killed_leaves_a_first_part_of_the_steps(machine: Machine, size: str) -> None:
    """After SIGKILL the store holds what a number of whole steps made, none of those before the last close missing."""
    padding = PADDING[size]
    store = Store(machine.folder())
    work(store, 1, 5, padding)
    store.close()
    machine.killed_after_steps(6, STEPS, padding)
    store = Store(machine.folder())
    position = store.position
    assert 5 <= position <= STEPS
    assert dict(store.between(b"k", b"u")) == after_steps(position, padding)
    work(store, position + 1, STEPS, padding)
    store.close()
    store = Store(machine.folder())
    assert dict(store.between(b"k", b"u")) == after_steps(STEPS, padding)
    store.close()


def test_who_is_killed_while_it_wipes_can_start_again(machine: Machine) -> None:
    """Files that are deleted in part are no store that refuses to open: it starts from nothing."""
    store = Store(machine.folder())
    work(store, 1, 5, 10)
    store.close()
    machine.killed_while_wiping()
    for _ in range(2):
        store = Store(machine.folder())
        assert (store.get(b"n"), store.position) == (None, 0)
        store.wipe()
        store.close()


def test_killed_stores_fall_back_to_all_none_and_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many seeds, every number of steps that may be left is left."""
    found = set()
    for seed in range(200):
        machine = FakeMachine(monkeypatch, seed)
        machine.killed_after_steps(1, 6, 1)
        found.add(Store(machine.folder()).position)
    assert found == set(range(7))


@pytest.mark.parametrize("label", ["store write", "store written", "store flush", "store flushed", "store close"])
def test_who_dies_between_two_steps_writes_nothing_more(fake: FakeMachine, label: str) -> None:
    """A process dies at every step; what it would still do changes nothing, and the store opens again."""
    store = Store(fake.folder())
    work(store, 1, 3, 1)

    def go_on() -> None:
        work(store, 4, 4, 1)
        store._db.flush()
        store.close()

    fake.killed_at(label, go_on)
    before = fake.disks.contents("/worker/s")
    calls: list[Callable[[], object]] = [
        lambda: store.write({b"late": b"1"}, 9, time.time()),
        store.close,
        lambda: store.get(b"never asked"),
    ]
    for call in calls:
        with pytest.raises(Crashed):
            call()
    assert fake.disks.contents("/worker/s") == before
    least = {"store write": 0, "store written": 0, "store flush": 0}.get(label, 4)
    assert least <= Store(fake.folder()).position <= (3 if label == "store write" else 4)


def test_a_folder_is_lost_and_an_old_copy_comes_back(fake: FakeMachine) -> None:
    """Of one store or of all below a folder; a copy holds whole steps and does not follow the store."""
    store = Store(fake.folder())
    work(store, 1, 3, 1)
    store.close()
    old = fake.disks.snapshot("/worker")
    store = Store(fake.folder())
    work(store, 4, 6, 1)
    live = fake.disks.snapshot("/worker/s")
    assert store.position == 6
    store.close()
    for copy, path, positions in ((old, "/worker", {3}), (live, "/worker/s", {3, 4, 5, 6})):
        fake.disks.put_back(path, copy)
        store = Store(fake.folder())
        assert store.position in positions
        assert dict(store.between(b"k", b"u")) == after_steps(store.position, 1)
        work(store, store.position + 1, 6, 1)
        store.close()
    fake.disks.lose("/worker")
    assert fake.disks.contents("/worker/s") == {}
    assert Store(fake.folder()).position == 0
