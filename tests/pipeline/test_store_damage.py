"""Stores whose files are damaged: a store is a cache, so it is set aside, said, and restored from its changelog."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rocksdict import CompactOptions

from producers.feed import Feed
from producers.lines import CASES, SCANS, VENUES, read_lines
from sinks.client import open_reader
from sinks.export import export_tables
from streams.shell.changelogs import keep_only_stores_of
from streams.shell.damage import NOTE, DamagedStoreError, is_damage
from streams.shell.store import Store
from tests.conftest import SettingsFactory, wait_until
from tests.golden.compare import DATA, compare
from truyvet.drain import Drain
from truyvet.stack import Stack

RNG = random.Random(1)  # noqa: S311 - nothing secret
KEYS = [b"k%05d" % number for number in range(6_000)]
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three tables, closed; its position is 3."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    store = Store(folder)
    for number in range(3):
        store.write({key: RNG.randbytes(100) for key in KEYS[number::3]}, number + 1, time.time())
        store._db.flush(wait=True)
    store.close()
    return folder


def tables(folder: Path) -> list[Path]:
    """The store's tables, oldest first."""
    return sorted(folder.glob("*.sst"))


def spoil(path: Path, *, head: int = 0, tail: int = 0) -> None:
    """Other bytes in the place of all but the first and the last ones."""
    data = path.read_bytes()
    end = len(data) - tail
    path.write_bytes(data[:head] + bytes(byte ^ 0x55 for byte in data[head:end]) + data[end:])


def _manifest(folder: Path) -> Path:
    return next(folder.glob("MANIFEST-*"))


def _as_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"no folder")


def _local(packed: bytes) -> Damage:
    def damage(folder: Path) -> None:
        store = Store(folder)
        store._db.put(b"~local", packed)
        store.close()

    return damage


AT_OPENING: dict[str, Damage] = {
    "an empty CURRENT": lambda folder: (folder / "CURRENT").write_bytes(b""),
    "a garbled CURRENT": lambda folder: (folder / "CURRENT").write_bytes(b"\xff\xfe"),
    "a CURRENT of another MANIFEST": lambda folder: (folder / "CURRENT").write_bytes(b"MANIFEST-999999\n"),
    "no CURRENT": lambda folder: (folder / "CURRENT").unlink(),
    "a garbled MANIFEST": lambda folder: spoil(_manifest(folder)),
    "an empty MANIFEST": lambda folder: _manifest(folder).write_bytes(b""),
    "no MANIFEST": lambda folder: _manifest(folder).unlink(),
    "a garbled table": lambda folder: spoil(tables(folder)[1]),
    "a table without its end": lambda folder: os.truncate(tables(folder)[1], 1_000),
    "an empty table": lambda folder: os.truncate(tables(folder)[1], 0),
    "no table": lambda folder: tables(folder)[1].unlink(),
    "a file in the folder's place": _as_file,
    "its own record is no JSON": _local(b"{"),
    "its own record is no object": _local(b"[]"),
    "its own record is no text": _local(b"\xff"),
    "a note of who ended at it": lambda folder: (folder / NOTE).touch(),
}


@pytest.mark.parametrize("kind", AT_OPENING)
def test_a_damaged_store_is_set_aside_and_starts_from_nothing(
    kind: str, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It opens, empty, at position 0; what was damaged is kept, once, and the log names the folder."""
    for _ in range(2):
        folder = shutil.copytree(whole, tmp_path / "s", dirs_exist_ok=True)
        AT_OPENING[kind](folder)
        store = Store(folder)
        assert (store.position, store.get(KEYS[0]), store.between(b"k", b"l")) == (0, None, [])
        store.write({b"k": b"1"}, 7, time.time())
        store.close()
        store = Store(folder)
        assert (store.position, store.get(b"k")) == (7, b"1")
        store.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "s.damaged"]
        assert not (tmp_path / "s.damaged" / NOTE).exists()
        shutil.rmtree(folder)
    said = [record for record in caplog.records if "set aside" in record.getMessage()]
    assert len(said) == 2
    assert all(record.levelname == "ERROR" and str(folder) in str(record.__dict__) for record in said)


def _compact(store: Store) -> None:
    options = CompactOptions()
    store._db.compact_range(None, None, compact_opt=options)
    for number in range(200):  # what compacting met shows at a later write
        store.write({b"k": b"%d" % number}, 9, time.time())
        time.sleep(0.01)


READINGS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get(KEYS[3_001]),
    "get_many": lambda store: store.get_many(KEYS),
    "between": lambda store: store.between(b"k", b"l"),
    "scan": lambda store: store.scan(b"k", 10_000),
    "compact": _compact,
}


@pytest.mark.parametrize("reading", READINGS)
def test_damage_that_shows_while_running_is_left_to_the_next_start(reading: str, whole: Path, tmp_path: Path) -> None:
    """Nothing is left out in silence: the look fails, a note is left, and the next start sets the store aside."""
    folder = shutil.copytree(whole, tmp_path / "s")
    for table in tables(folder):
        spoil(table, head=5_000, tail=20_000)
    store = Store(folder)
    assert store.position == 3
    with pytest.raises(DamagedStoreError, match="Corruption"):
        READINGS[reading](store)
    store.close()
    store = Store(folder)
    assert (store.position, store.between(b"k", b"l")) == (0, [])
    store.close()
    assert (tmp_path / "s.damaged").exists()


def test_a_store_in_use_is_not_damaged(whole: Path, tmp_path: Path) -> None:
    """Whose lock another process, or this one, holds: that is said, and nothing is touched."""
    folder = shutil.copytree(whole, tmp_path / "s")
    store = Store(folder)
    with pytest.raises(Exception, match="lock"):
        Store(folder)
    program = f"from pathlib import Path; from streams.shell.store import Store; Store(Path({str(folder)!r}))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "While lock file" in other.stderr
    assert store.get_many(KEYS).count(None) == 0
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert not (folder / NOTE).exists()


@pytest.mark.parametrize(
    "said",
    [
        "IO error: No space left on device: While appending to file: /s/000012.sst: No space left on device",
        "Corruption: IO error: Permission denied: While open a file for random read: /s/000008.sst: Permission denied",
        "IO error: While mkdir if missing: /s: Permission denied",
        "IO error: While open a file for random read: /s/000008.sst: Too many open files",
        "IO error: While pread offset 5 len 9: /s/000008.sst: Input/output error",
        "IO error: While fsync: /s/000008.sst: Read-only file system",
        "Operation aborted: Write stall",
        "Shutdown in progress: ",
    ],
)
def test_what_the_machine_lacks_is_no_damage(said: str) -> None:
    """A full or failing disk and missing rights are the operator's to mend, and the store is good when they are."""
    assert not is_damage(Exception(said))


def test_leftovers_are_cleared(whole: Path, tmp_path: Path) -> None:
    """What a killed process left of a store that it deleted, a folder or a file, stands in nobody's way."""
    folder = shutil.copytree(whole, tmp_path / "s")
    for leave in lambda path: path.write_bytes(b""), lambda path: shutil.copytree(whole, path):
        leave(tmp_path / "s.gone")  # type: ignore[no-untyped-call]
        leave(tmp_path / "s.damaged") if not (tmp_path / "s.damaged").exists() else None  # type: ignore[no-untyped-call]
        store = Store(folder)
        store.wipe()
        assert store.position == 0
        store.close()
        assert not (tmp_path / "s.gone").exists()
        (folder / "CURRENT").write_bytes(b"")
        Store(folder).close()


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe{", b"[]", b'{"state-person": 7}', None])
def test_a_damaged_note_of_the_changelogs_costs_the_stores(damage: bytes | None, whole: Path, tmp_path: Path) -> None:
    """Nobody knows of which changelogs they are then: they are removed, and the note is written anew."""
    ids = {"state-person": "a", "state-venue": "b"}
    assert not keep_only_stores_of(tmp_path, ids)
    for _ in range(2):
        shutil.copytree(whole, tmp_path / "person-0", dirs_exist_ok=True)
        assert not keep_only_stores_of(tmp_path, ids)
    (tmp_path / "venue-1.damaged").write_bytes(b"")
    note = tmp_path / "changelogs.json"
    note.unlink()
    note.mkdir() if damage is None else note.write_bytes(damage)
    assert keep_only_stores_of(tmp_path, ids)
    assert json.loads(note.read_bytes()) == ids
    assert [path.name for path in tmp_path.iterdir()] == ["changelogs.json"]


def test_a_worker_goes_on_with_damaged_stores(settings: SettingsFactory, tmp_path: Path) -> None:
    """Stores that do not open and one that cannot be read: no crash loop, and every row as if nothing had happened."""
    case = DATA / "10-exposures"
    with Stack(settings(partitions=2), workers=1, own_broker=False) as stack:
        feed, drain = Feed(stack.settings), Drain(stack)
        for kind in VENUES, SCANS:
            feed.send(kind.topic, read_lines(case / "in" / kind.file_name, kind))
            drain.wait(drain.processed)
        stack.stop_worker(0)
        stores = {path.name: path for path in stack.settings.state_dir.glob("**/*-[01]") if (path / "CURRENT").exists()}
        assert stores.keys() == {"person-0", "person-1", "venue-0", "venue-1"}
        (stores["venue-0"] / "CURRENT").write_bytes(b"")
        spoil(_manifest(stores["venue-1"]))
        for name in "person-0", "person-1":
            for table in tables(stores[name]):
                spoil(table, tail=table.stat().st_size - 40)
        stack.start_worker(0)
        feed.send(CASES.topic, read_lines(case / "in" / CASES.file_name, CASES))
        for _ in range(2):  # one store after the other may show that it cannot be read
            restored = [path.with_name(f"{path.name}.damaged") for path in stores.values()]
            if not all(path.exists() for path in restored) and wait_until(
                lambda: any((path / NOTE).exists() for path in stores.values()), 5.0
            ):
                stack.kill_worker(0)
                stack.start_worker(0)
        drain.wait(drain.settled)
        drain.close()
        assert {path.name for path in stores["venue-0"].parent.glob("*.damaged")} == {
            f"{name}.damaged" for name in stores
        }
        with open_reader(stack.settings) as reader:
            export_tables(reader, tmp_path / "out")
    assert not compare(case, tmp_path / "out", ("scans", "visits", "cases", "exposures", "rejects"))
