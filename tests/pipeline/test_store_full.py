"""The store of a room partition on a full disk: nothing is lost, nothing comes too early, and nobody stands still."""

import errno
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from streams.shell import store as module
from streams.shell.store import Store
from tests.conftest import wait_until
from tests.pipeline.bounds_faults import NoSmallDiskError, SmallDisk, small_disk
from truyvet.disk import NO_SPACE, keep_writing

STORES = 8
"""They share RocksDB's one thread for flushes: a memtable fills while another's flush is waited for."""
BATCHES = 100
VALUE = os.urandom(300)
SECONDS_MAX = 60.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk that can be filled."""
    try:
        with small_disk(tmp_path / "disk") as small:
            yield small
    except NoSmallDiskError as error:
        pytest.skip(f"no small file system can be mounted: {error}")


def _batch(number: int) -> dict[bytes, bytes | None]:
    return {b"%d %d" % (number, place): VALUE for place in range(1_000)}


def _write_much(folder: Path, pipe: Connection) -> None:
    """Eight stores in as many threads, as in a worker; tells when each was refused, and fails unless all is there."""
    stores = [Store(folder / f"{number}") for number in range(STORES)]
    refused: set[int] = set()

    def written(number: int, batch: int) -> None:
        try:
            stores[number].written(batch + 1)
        except Exception as error:
            if NO_SPACE in str(error):
                refused.add(number)
            raise

    def write_all(number: int) -> None:
        for batch in range(BATCHES):
            stores[number].apply(_batch(batch))
            keep_writing(lambda batch=batch: written(number, batch), folder, unless=lambda: False)  # type: ignore[misc]

    pipe.send("open")
    pipe.recv()
    threads = [threading.Thread(target=write_all, args=(number,)) for number in range(STORES)]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(refused) == STORES, SECONDS_MAX)
    pipe.send("all refused")
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    for number in range(STORES):
        store = Store(folder / f"{number}")
        assert store.position == BATCHES
        assert all(store.get_many(list(_batch(batch))) == [VALUE] * 1_000 for batch in range(BATCHES))
        store.close()


def test_many_stores_go_on_once_there_is_room(disk: SmallDisk) -> None:
    """Meanwhile the process does other things: it once stood still, and for good."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_write_much, args=(disk.folder, there))
    process.start()
    try:
        assert here.poll(SECONDS_MAX)
        assert here.recv() == "open"
        disk.fill()
        here.send("go")
        assert here.poll(SECONDS_MAX), "the process stands still"
        assert here.recv() == "all refused"
        disk.make_room()
        process.join(SECONDS_MAX)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


def test_what_is_not_committed_yet_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the flush behind a step is refused, that step is written again, and not the one behind it."""

    def flush(store: Store) -> None:
        store._flushed_at = time.monotonic()
        raise OSError(errno.ENOSPC, NO_SPACE)

    monkeypatch.setattr(Store, "flush", flush)
    store = Store(tmp_path / "s")
    store.apply({b"a": b"committed"})
    store.apply({b"b": b"on its way"})
    store._flushed_at = -math.inf
    keep_writing(lambda: store.written(1), tmp_path, unless=lambda: False)
    assert (store._db.get(b"a"), store._db.get(b"b")) == (b"committed", None)
    store.close()


def test_a_store_that_is_long_behind_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With room on the disk it is waited for; with none it is as if RocksDB had said that the disk is full."""
    real, refusals = Store._write_at_once, 3

    def write_at_once(store: Store, changes: Mapping[bytes, bytes | None], local: bytes) -> bool:
        nonlocal refusals
        refusals -= 1
        return refusals < 0 and real(store, changes, local)

    monkeypatch.setattr(Store, "_write_at_once", write_at_once)
    monkeypatch.setattr(module, "_STALL_SECONDS_MAX", 0.0)
    monkeypatch.setattr(module, "complaint", lambda _folder: None)
    store = Store(tmp_path / "s")
    store.write({b"a": b"1"}, 1, time.time())
    assert (store.position, store.get(b"a")) == (1, b"1")
    assert caplog.text.count("takes nothing until") == 1
    refusals = 1
    monkeypatch.setattr(module, "complaint", lambda _folder: "the disk is full")
    with pytest.raises(OSError, match=NO_SPACE):
        store.write({b"a": b"2"}, 2, time.time())
    assert (store.position, store._db.get(b"a")) == (1, b"1")
    store.close()


def test_a_store_is_closed_all_the_same(disk: SmallDisk) -> None:
    """What could not be flushed is missing together with its position, so it will be restored."""
    store = Store(disk.folder / "s")
    store.write({b"a": b"1"}, 1, time.time())
    store.close()
    store = Store(disk.folder / "s")
    store.write({b"a": b"2"}, 2, time.time())
    disk.fill()
    store.close()
    disk.make_room()
    store = Store(disk.folder / "s")
    assert (store.position, store.get(b"a")) == (1, b"1")
    store.close()
