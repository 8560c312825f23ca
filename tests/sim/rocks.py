"""RocksDB in memory, as ``streams/shell/store.py`` uses it: what is on disk outlives the process that wrote it.

Written without RocksDB's own log, a store that is killed falls back to what was flushed: some first part of its
WriteBatches since the last flush that was asked for, each whole or not at all.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import cast

from rocksdict import DbClosedError

from tests.sim.outside import Crashed, World

Contents = dict[bytes, bytes]
Snapshot = Mapping[str, Contents]
"""A folder's stores by their path below it (``""`` where the folder is a store itself)."""

_SORTED_ANEW_SHARE = 8
"""A batch with more than this part of all keys is cheaper to sort with them than to sort in one by one."""


class WriteBatch:
    """Changes that are written together; the last of a key counts."""

    def __init__(self, *, raw_mode: bool) -> None:
        assert raw_mode, "keys and values are bytes"
        self.changes: dict[bytes, bytes | None] = {}

    def put(self, key: bytes, value: bytes) -> None:
        self.changes[key] = value

    def delete(self, key: bytes) -> None:
        self.changes[key] = None


class ReadOptions:
    """The one option that the store sets; the real one cannot be asked for it."""

    def __init__(self) -> None:
        self.upper_bound: bytes | None = None

    def set_iterate_upper_bound(self, key: bytes) -> None:
        self.upper_bound = key


class _Disk:
    """One store's folder: what is flushed, and the batches that are only in memory."""

    def __init__(self) -> None:
        self.flushed: Contents = {}
        self.unflushed: list[Mapping[bytes, bytes | None]] = []
        self.data: Contents = {}
        self.torn = False
        """Some of its files are deleted."""
        self.handle: _Rdict | None = None
        self._keys: list[bytes] | None = None

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """One batch, to memory."""
        self.unflushed.append(changes)
        data, keys = self.data, self._keys
        if keys is not None and len(changes) * _SORTED_ANEW_SHARE > len(keys):
            keys = self._keys = None
        for key, value in changes.items():
            if value is not None:
                if keys is not None and key not in data:
                    insort(keys, key)
                data[key] = value
            elif key in data:
                del data[key]
                if keys is not None:
                    del keys[bisect_left(keys, key)]

    def flush(self, batches: int | None = None) -> None:
        """Brings the oldest batches, or all, from memory to the disk."""
        for changes in self.unflushed[:batches]:
            for key, value in changes.items():
                if value is None:
                    self.flushed.pop(key, None)
                else:
                    self.flushed[key] = value
        self.unflushed = [] if batches is None else self.unflushed[batches:]

    def forget_unflushed(self) -> None:
        """What a process that is killed leaves."""
        self.unflushed, self.data, self._keys = [], dict(self.flushed), None

    def between(self, first: bytes, stop: bytes | None) -> list[tuple[bytes, bytes]]:
        """Pairs with ``first`` <= key < ``stop``, in key order."""
        if self._keys is None:
            self._keys = sorted(self.data)
        keys, data = self._keys, self.data
        start = bisect_left(keys, first)
        end = len(keys) if stop is None else bisect_left(keys, stop, start)
        return [(key, data[key]) for key in keys[start:end]]


class _Iterator:
    """Goes over what a store held when it was sought, in key order."""

    def __init__(self, disk: _Disk, stop: bytes | None) -> None:
        self._disk = disk
        self._stop = stop
        self._pairs: list[tuple[bytes, bytes]] = []
        self._at = 0

    def seek(self, key: bytes) -> None:
        self._pairs, self._at = self._disk.between(key, self._stop), 0

    def valid(self) -> bool:
        return self._at < len(self._pairs)

    def key(self) -> bytes:
        return self._pairs[self._at][0]

    def value(self) -> bytes:
        return self._pairs[self._at][1]

    def next(self) -> None:
        self._at += 1

    def status(self) -> None:
        """Raises nothing: these stores are never damaged."""


class _Rdict:
    """An open store. A process that was killed does nothing any more with its own."""

    def __init__(self, world: World, disk: _Disk, on_write: Callable[[Contents], None]) -> None:
        self._world = world
        self._disk = disk
        self._on_write = on_write
        self.owner = world.process()
        self.open = True
        self.killed = False

    def _opened(self) -> _Disk:
        if self.killed:
            raise Crashed
        if not self.open:
            raise DbClosedError("DB instance already closed")
        return self._disk

    def set_write_options(self, options: object) -> None:
        """Only ``disable_wal`` matters, and this store has no log."""

    def get(self, keys: bytes | list[bytes]) -> bytes | list[bytes | None] | None:
        data = self._opened().data
        return data.get(keys) if isinstance(keys, bytes) else list(map(data.get, keys))

    def iter(self, read_opt: ReadOptions) -> "_Iterator":
        return _Iterator(self._opened(), read_opt.upper_bound)

    def write(self, batch: WriteBatch) -> None:
        self._world.step("store write")
        self._opened().write(batch.changes)
        self._on_write(self._disk.data)
        self._world.step("store written")

    def flush(self, wait: bool = True) -> None:  # noqa: FBT001, FBT002 - as the real one has it
        self._world.step("store flush")
        disk = self._opened()
        if wait:
            disk.flush()
        # Else it has only begun: how far it came shows when the process dies.
        self._world.step("store flushed")

    def close(self) -> None:
        """RocksDB flushes what it holds when it is closed."""
        self._world.step("store close")
        disk = self._opened()
        disk.flush()
        disk.handle = None
        self.open = False

    def property_int_value(self, name: str) -> int:
        # Only shown to operators: the number of keys will do for a size.
        return len(self._opened().data) if name == "rocksdb.total-sst-files-size" else 0


class Disks:
    """Every store of every worker, by the path of its folder."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._disks: dict[str, _Disk] = {}
        self.on_write: Callable[[str, Contents], None] = lambda _path, _data: None
        """Told of every batch that a store takes: the store's path, and all that it holds then."""

    def names(self) -> dict[str, object]:
        """What stands in ``streams.shell.store`` in the place of names of the real thing; folders are ``folder``'s."""
        return {
            "Rdict": self.open,
            "WriteBatch": WriteBatch,
            "ReadOptions": ReadOptions,
            "shutil": SimpleNamespace(rmtree=self.rmtree),
        }

    def folder(self, path: str) -> Path:
        """A folder on these disks, with as much of a Path as a store needs."""

        class _Folder(PurePosixPath):
            def mkdir(self, *, parents: bool, exist_ok: bool) -> None:
                assert parents
                assert exist_ok

            def exists(self) -> bool:
                return False  # of a note, and no process leaves one here: these stores are never damaged

            def is_file(self) -> bool:
                return False

            def unlink(self, *, missing_ok: bool) -> None:
                assert missing_ok

            def rename(_self, target: PurePosixPath) -> None:  # noqa: N805 - the disks' own self is needed in it
                self._rename(str(_self), str(target))

        return cast("Path", _Folder(path))

    def open(self, path: str, options: object) -> _Rdict:  # noqa: ARG002 - as Rdict is called
        """A store, made where there is none.

        Raises:
            Exception: as RocksDB's, where it is open already or files of it are missing.
        """
        self._world.step("store open")
        disk = self._disks.setdefault(path, _Disk())
        if disk.handle is not None:
            raise Exception(f"IO error: lock hold by current process: {path}/LOCK: No locks available")  # noqa: TRY002 - RocksDB's own kind
        if disk.torn:
            raise Exception(f"Corruption: IO error: No such file or directory: {path}/000015.sst")  # noqa: TRY002 - same
        disk.handle = _Rdict(self._world, disk, lambda data: self.on_write(path, data))
        self._world.step("store opened")
        return disk.handle

    def rmtree(self, path: object, *, ignore_errors: bool = False) -> None:
        """Deletes a store's files one by one: who dies meanwhile leaves some of them.

        Raises:
            FileNotFoundError: there is none, and errors are not ignored.
        """
        name = str(path)
        if name not in self._disks:
            if ignore_errors:
                return
            raise FileNotFoundError(name)
        self._world.step("store deletion")
        self._disks[name].torn = True
        self._world.step("store deleted in part")
        del self._disks[name]

    def _rename(self, path: str, target: str) -> None:
        self._world.step("store rename")
        assert target not in self._disks, "a folder cannot take the place of one that is not empty"
        self._disks[target] = self._disks.pop(path)

    def crashed(self, process: object) -> None:
        """The process was killed: its locks go, and what was not flushed, from some batch on."""
        for disk in self._disks.values():
            if disk.handle is not None and disk.handle.owner is process:
                disk.handle.killed = True
                disk.handle = None
                self._flush_some(disk)
                disk.forget_unflushed()

    def _flush_some(self, disk: _Disk) -> None:
        """What RocksDB may have flushed by itself: memtables in order, often all, often none."""
        rng = self._world.rng
        batches = len(disk.unflushed)
        disk.flush(rng.choice((0, rng.randint(0, batches), batches)))

    def _within(self, path: str) -> dict[str, _Disk]:
        return {name: disk for name, disk in self._disks.items() if name == path or name.startswith(f"{path}/")}

    def flush(self, path: str) -> None:
        """Everything in this folder has been written to disk, as after a while without writes."""
        for disk in self._within(path).values():
            disk.flush(len(disk.unflushed))

    def lose(self, path: str) -> None:
        """A folder, a store or one of several, is gone while nobody uses it."""
        for name, disk in self._within(path).items():
            assert disk.handle is None, f"{name} is in use"
            del self._disks[name]

    def snapshot(self, path: str) -> Snapshot:
        """A copy of a folder as it is on the disk now; what is in memory only is not in it."""
        stores = self._within(path)
        for disk in stores.values():
            self._flush_some(disk)
        return {name.removeprefix(path): dict(disk.flushed) for name, disk in stores.items()}

    def put_back(self, path: str, snapshot: Snapshot) -> None:
        """An older copy of a folder takes its place while nobody uses it."""
        self.lose(path)
        for name, contents in snapshot.items():
            disk = self._disks[path + name] = _Disk()
            disk.flushed = dict(contents)
            disk.forget_unflushed()

    def contents(self, path: str) -> Contents:
        """What one store holds, as the process that has it open sees it; empty where there is none."""
        disk = self._disks.get(path)
        return {} if disk is None else dict(disk.data)
