"""The store of a room partition: what is on its way, what is on disk, and when it starts from nothing."""

import json
import time
from pathlib import Path

import pytest

from streams.shell import store as module
from streams.shell.store import Store


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


def test_a_small_cache_forgets_nothing_that_is_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What falls out of memory is still found among the changes that wait to be written."""
    monkeypatch.setattr(module, "_CACHE_GENERATION_BYTES", 500)
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
    store.write({b"w1": b"a", b"w2": b"b", b"w3": b"c", b"x": b"d"}, 1)
    assert store.scan(b"w", 2) == [(b"w1", b"a"), (b"w2", b"b")]
    assert store.scan(b"w", 2, after=b"w2") == [(b"w3", b"c")]
    store.apply({b"w4": b"e"})
    with pytest.raises(AssertionError):
        store.scan(b"w", 2)
    store.close()


@pytest.mark.parametrize(
    "local",
    [
        {"layout": module.LAYOUT_VERSION + 1, "position": 5, "written_at": time.time()},
        {"layout": module.LAYOUT_VERSION, "position": 5, "written_at": time.time() - module.STALE_SECONDS_MAX - 60},
        {"layout": module.LAYOUT_VERSION, "position": 5, "written_at": time.time() + 3600},
    ],
    ids=["another layout", "too old", "from the future"],
)
def test_a_store_that_cannot_serve_starts_from_nothing(tmp_path: Path, local: dict[str, object]) -> None:
    """A store of another layout, or one that may have missed tombstones, is thrown away."""
    store = Store(tmp_path / "s")
    store.write({b"a": b"1"}, 5)
    store._db.put(b"~local", json.dumps(local).encode())
    store.close()
    store = Store(tmp_path / "s")
    assert (store.get(b"a"), store.position) == (None, 0)
    store.close()
