"""The store of a room partition: what is on its way, what is on disk, and when it starts from nothing."""

import json
import queue
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.shell import store as module
from streams.shell.store import Store
from tests.conftest import wait_until

KEYS = st.text("vxy", max_size=2).map(str.encode)
"""Of state, which all sort before the store's own ``~local``."""


def test_changes_are_seen_before_and_after_they_are_written(tmp_path: Path) -> None:
    """Later steps see what earlier ones changed, from memory or from disk; a deletion too."""
    store = Store(tmp_path / "s")
    store.apply({b"a": b"1", b"b": b"2"})
    store.apply({b"a": None})
    assert store.get_many([b"a", b"b", b"c"]) == [None, b"2", None]
    store.written(7)
    store.written(9)
    store.close()
    store = Store(tmp_path / "s")
    assert store.get_many([b"a", b"b", b"c"]) == [None, b"2", None]
    assert store.position == 9
    store.close()


def test_a_kill_costs_no_more_than_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is on disk soon, though there is little of it: what a killed process leaves has it."""
    monkeypatch.setattr(module, "_FLUSH_SECONDS", 0.0)
    store = Store(tmp_path / "s")
    store.apply({b"a": b"1"})
    store.written(7)
    assert wait_until(lambda: int(store._db.property_int_value("rocksdb.total-sst-files-size") or 0) > 0)
    shutil.copytree(tmp_path / "s", tmp_path / "left")
    store.close()
    killed = Store(tmp_path / "left")
    assert killed.position == 7
    assert killed.get(b"a") == b"1"
    killed.close()


def test_a_small_cache_forgets_nothing_that_is_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What falls out of memory is still found among the changes that wait to be written."""
    monkeypatch.setattr(module, "_CACHE_BYTES", 4_000)
    store = Store(tmp_path / "s")
    changes: dict[bytes, bytes | None] = {b"k%d" % n: b"v%d" % n for n in range(100)}
    store.apply(changes)
    store.apply({b"k1": b"new"})
    assert store.get_many(list(changes)) == [b"new" if key == b"k1" else value for key, value in changes.items()]
    store.written(1)
    assert store.get(b"k1") == b"new"
    store.written(2)
    assert store.get(b"k2") == b"v2"
    store.close()


def test_a_scan_is_of_what_is_committed(tmp_path: Path) -> None:
    """Pairs come by prefix, in order, from where the last page ended; never while steps are on their way."""
    store = Store(tmp_path / "s")
    store.write({b"w1": b"a", b"w2": b"b", b"w3": b"c", b"x": b"d"}, 1, time.time())
    assert store.scan(b"w", 2) == [(b"w1", b"a"), (b"w2", b"b")]
    assert store.scan(b"w", 2, after=b"w2") == [(b"w3", b"c")]
    store.apply({b"w4": b"e"})
    with pytest.raises(AssertionError):
        store.scan(b"w", 2)
    store.close()


def test_a_range_sees_what_is_on_its_way(tmp_path: Path) -> None:
    """A range holds committed pairs and newer changes, deletions too, in key order, its end left out."""
    store = Store(tmp_path / "s")
    store.write({b"v1": b"a", b"v2": b"b", b"v3": b"c", b"v5": b"e", b"w": b"f"}, 1, time.time())
    assert store.between(b"v2", b"v5") == [(b"v2", b"b"), (b"v3", b"c")]
    store.apply({b"v2": None, b"v4": b"old", b"v0": b"before"})
    store.apply({b"v4": b"new", b"v5": b"at the end"})
    expected = [(b"v1", b"a"), (b"v3", b"c"), (b"v4", b"new")]
    for position in (2, 3, 4):
        assert store.between(b"v1", b"v5") == expected
        assert store.between(b"v6", b"w") == []
        if position < 4:
            store.written(position)
    store.close()


@given(
    st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=1), max_size=6), max_size=5),
    st.integers(0, 5),
    KEYS,
    KEYS,
)
@settings(max_examples=60, deadline=None)
def test_a_range_is_that_of_a_dictionary(
    steps: list[dict[bytes, bytes | None]], written: int, first: bytes, stop: bytes
) -> None:
    """However many of the steps are on the disk already, a range is what a dictionary would hold."""
    first, stop = min(first, stop), max(first, stop)
    held: dict[bytes, bytes] = {}
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory))
        for changes in steps:
            store.apply(changes)
            held = {key: value for key, value in (held | changes).items() if value is not None}
        for position, _ in enumerate(steps[:written]):
            store.written(position)
        expected = sorted((key, value) for key, value in held.items() if first <= key < stop)
        assert store.between(first, stop) == expected
        store.close()


def test_a_range_misses_nothing_that_is_written_meanwhile(tmp_path: Path) -> None:
    """While the committer takes changes off their way, every range holds every key, at its newest value."""
    store = Store(tmp_path / "s")
    handed: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def commit() -> None:
        while (position := handed.get()) is not None:
            store.written(position)

    committer = threading.Thread(target=commit)
    committer.start()
    try:
        for number in range(1, 400):
            store.apply({b"k%d" % (number % 7): b"%d" % number})
            handed.put(number)
            for _ in range(3):
                newest = {b"k%d" % (n % 7): b"%d" % n for n in range(max(1, number - 6), number + 1)}
                assert dict(store.between(b"k", b"l")) == newest
    finally:
        handed.put(None)
        committer.join()
        store.close()


def test_a_store_is_as_old_as_the_steps_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However late a step is written: a stopped process may have missed what others did since it was sent."""
    store = Store(tmp_path / "s")
    assert (store.as_of, store.stale) == (None, False)
    now = time.time()
    store.apply({b"a": b"1"})
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    store.apply({b"b": b"1"})
    store.written(5)
    assert store.stale
    assert store.as_of == pytest.approx(now, abs=60)
    store.written(6)
    assert (store.as_of, store.stale) == (now + 86_400, False)
    store.close()


@pytest.mark.parametrize(
    "local",
    [
        {"layout": module.LAYOUT_VERSION + 1, "position": 5, "as_of": time.time()},
        {"layout": module.LAYOUT_VERSION, "position": 5, "as_of": time.time() - module.STALE_SECONDS_MAX - 60},
        {"layout": module.LAYOUT_VERSION, "position": 5, "as_of": time.time() + 3600},
    ],
    ids=["another layout", "too old", "from the future"],
)
def test_a_store_that_cannot_serve_starts_from_nothing(tmp_path: Path, local: dict[str, object]) -> None:
    """A store of another layout, or one that may have missed tombstones, is thrown away."""
    store = Store(tmp_path / "s")
    store.write({b"a": b"1"}, 5, time.time())
    store._db.put(b"~local", json.dumps(local).encode())
    store.close()
    store = Store(tmp_path / "s")
    assert (store.get(b"a"), store.position) == (None, 0)
    store.close()
