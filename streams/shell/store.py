"""The store of one room partition: RocksDB as a cache of its changelog, and memory as a cache of RocksDB.

It may be behind the changelog, or gone, but never ahead: a step's changes are written after its
transaction committed, in one WriteBatch together with the changelog position they belong to. It is written
without RocksDB's own log, and mixing writes with and without that log is what breaks it; so there is none.

A write never waits inside RocksDB, but outside. The binding keeps Python's lock while it writes: with one store waiting
for a flush the whole process stood still, heartbeats included. Nor did it ever go on where the disk was full: RocksDB
flushes when there is room again, but first waits for writes to end that wait for that flush.

A store whose files are damaged is set aside and restored: the changelog has all of it. Where that shows only when a
block is read, the process ends, since the step must be done again, and leaves a note for the next start.
"""

import errno
import json
import shutil
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, Final, cast
from weakref import WeakSet

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from streams.shell.damage import NOTE, DamagedStoreError, NotingDamage, is_damage
from truyvet import logs
from truyvet.disk import NO_SPACE, complaint

LAYOUT_VERSION: Final = 2
"""Of what this module itself keeps; a store of another one is thrown away and restored."""
STALE_SECONDS_MAX: Final = 12 * 3600
"""Half of the changelog's ``delete.retention.ms``: an older store could have missed tombstones."""

_FLUSH_SECONDS: Final = 60.0
"""Without RocksDB's log, what a kill costs is what is in its memory: at low rates that would be minutes or hours."""

_STALLED: Final = "Write stall"
"""How RocksDB says that it takes nothing until it has flushed, or compacted."""
_STALL_LOOK_SECONDS: Final = 0.005
_STALL_SECONDS_MAX: Final = 5.0
"""Longer is not as usual, and with a full disk it has no end."""

_LOCAL: Final = b"~local"
_WRITE_BUFFER_BYTES: Final = 4 * 1024 * 1024
_LEVEL_0_FILES: Final = 8
"""So many memtables are compacted at once: a timeline that grew in each of them is then written once."""
_LEVELS: Final = [DBCompressionType.none()] * 2 + [DBCompressionType.lz4()] * 5
"""The upper two are written over and over, and hold little; LZ4 took half of what compaction cost."""
_MEMTABLE_BLOOM_SHARE: Final = 0.01
"""Of a memtable: 25 bits a key. A tenth of it would be flushed that much sooner, and compacted more."""
_CACHE_BYTES: Final = 192 * 1024 * 1024
"""For what was read or changed lately, in all stores of the process together: each has two generations of it."""
_STORES_MIN: Final = 4
"""A worker that holds few partitions does not fill the memory with them; nor does one that has only begun to open."""
_BLOCK_CACHE_BYTES: Final = 64 * 1024 * 1024
_ENTRY_OVERHEAD_BYTES: Final = 200
"""Of a cached pair beside its value: the key, two object heads, the table."""
_UNKNOWN: Final = object()

log = logs.get("store")

_block_cache = Cache(_BLOCK_CACHE_BYTES)
_open_stores: "WeakSet[Store]" = WeakSet()


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)  # noqa: FBT003 - rocksdict takes it by position
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    # Half of what is asked for is new and nowhere: each memtable says so without being searched.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(_MEMTABLE_BLOOM_SHARE)
    options.set_compression_per_level(_LEVELS)
    options.set_level_zero_file_num_compaction_trigger(_LEVEL_0_FILES)
    options.set_keep_log_file_num(1)
    options.set_max_background_jobs(1)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(_block_cache)
    blocks.set_bloom_filter(10, False)  # noqa: FBT003 - same
    options.set_block_based_table_factory(blocks)
    return options


class _Pending:
    """A step's changes on their way to the disk."""

    def __init__(self, changes: Mapping[bytes, bytes | None]) -> None:
        self.changes = changes
        self.made_at = time.time()

    @cached_property
    def sorted_keys(self) -> list[bytes]:
        """Its keys in order: sorted once, and only if somebody asks for a range."""
        return sorted(self.changes)

    def between(self, first: bytes, stop: bytes) -> dict[bytes, bytes | None]:
        """What it changes of ``first`` <= key < ``stop``."""
        in_order = self.sorted_keys
        start = bisect_left(in_order, first)
        return {key: self.changes[key] for key in in_order[start : bisect_left(in_order, stop, start)]}


class Store:
    """State of one room partition. Not thread-safe but for ``written``, which the committer calls."""

    def __init__(self, directory: Path) -> None:
        """Opens the store, or starts it from nothing where what is there cannot serve; what is damaged is kept.

        Raises:
            Exception: RocksDB's own, where another process holds the lock, or may not read what it must.
        """
        self._directory = directory
        self._gone = directory.with_name(f"{directory.name}.gone")
        self._noting_damage = NotingDamage(directory)
        self._damaged = directory.with_name(f"{directory.name}.damaged")
        self._pending: deque[_Pending] = deque()
        self._fresh: dict[bytes, bytes | None] = {}
        self._older: dict[bytes, bytes | None] = {}
        self._fresh_bytes = 0
        self._write_options = WriteOptions()
        setattr(self._write_options, "disable_wal", True)  # noqa: B010 - the stub calls it a method; it is a property
        setattr(self._write_options, "no_slowdown", True)  # noqa: B010 - same
        local = self._open_or_set_aside()
        _remove(self._gone)
        if local and (local.get("layout") != LAYOUT_VERSION or self.stale):
            self.wipe()

    def _open_or_set_aside(self) -> dict[str, Any]:
        """Opens what is there, or an empty store if that is damaged; what the store says of itself."""
        if (self._directory / NOTE).exists():
            self._set_aside("a process ended at it")
        elif self._directory.is_file():
            self._set_aside("it is no folder")
        try:
            self._open()
        except Exception as error:  # RocksDB has one for everything
            if not is_damage(error):
                raise
            self._set_aside(str(error))
            self._open()
        try:
            return self._local()
        except (DamagedStoreError, ValueError) as error:
            with suppress(Exception):
                self._db.close()
            self._set_aside(str(error))
            self._open()
            return {}

    def _set_aside(self, why: str) -> None:
        """Makes room for an empty store; of those that were damaged the last one is kept."""
        _remove(self._damaged)
        self._directory.rename(self._damaged)
        with suppress(OSError):
            (self._damaged / NOTE).unlink(missing_ok=True)
        log.error(
            "a store is damaged: it is set aside, and restored from its changelog",
            folder=self._directory,
            kept=self._damaged,
            error=why,
        )

    def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._db = Rdict(str(self._directory), _options())
        self._db.set_write_options(self._write_options)
        _open_stores.add(self)
        self._flushed_at = time.monotonic()

    def _local(self) -> dict[str, Any]:
        with self._noting_damage:
            packed = self._db.get(_LOCAL)
        local: object = json.loads(packed) if packed else {}
        if not isinstance(local, dict):
            raise ValueError("what the store says of itself is no object")  # noqa: TRY004 - as where it is no JSON
        return local

    def wipe(self) -> None:
        """Starts from nothing."""
        try:
            self._db.close()
        except Exception as error:  # RocksDB has one for everything; closed it is all the same
            if not is_damage(error):
                raise
        # Out of the way first: a folder of which a killed process has deleted some files would never open again.
        self._directory.rename(self._gone)
        shutil.rmtree(self._gone)
        self._pending.clear()
        self._fresh, self._older, self._fresh_bytes = {}, {}, 0
        self._open()

    @property
    def position(self) -> int:
        """The changelog offset up to which (exclusive) everything is in the store."""
        return int(self._local().get("position", 0))

    @property
    def as_of(self) -> float | None:
        """When (epoch seconds) nobody had written more to the changelog than the store holds; None while it is new."""
        moment: float | None = self._local().get("as_of")
        return moment

    @property
    def stale(self) -> bool:
        """Whether tombstones that the store has not seen may have gone from its changelog."""
        return self.as_of is not None and not 0 <= time.time() - self.as_of <= STALE_SECONDS_MAX

    def get(self, key: bytes) -> bytes | None:
        """The newest value of ``key``, committed or on its way there."""
        return self.get_many((key,))[0]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The newest values of ``keys``, in their order."""
        fresh = self._fresh
        values = list(map(fresh.get, keys, repeat(_UNKNOWN)))
        places = [place for place, value in enumerate(values) if value is _UNKNOWN]
        if places:
            wanted = [keys[place] for place in places]
            found = self._look_farther(wanted)
            for place, value in zip(places, found, strict=True):
                values[place] = value
            self._remember(dict(zip(wanted, found, strict=True)))
        return cast("list[bytes | None]", values)

    def _look_farther(self, keys: list[bytes]) -> list[bytes | None]:
        """The values of keys that were not read or changed lately."""
        values = list(map(self._older.get, keys, repeat(_UNKNOWN)))
        # What is on its way is looked at before the disk: the committer takes it off only once it is there.
        for pending in reversed(tuple(self._pending)):
            changes = pending.changes
            values = [
                changes.get(key, _UNKNOWN) if value is _UNKNOWN else value
                for key, value in zip(keys, values, strict=True)
            ]
        places = [place for place, value in enumerate(values) if value is _UNKNOWN]
        if places:
            with self._noting_damage:
                stored = cast("list[bytes | None]", self._db.get([keys[place] for place in places]))
            for place, value in zip(places, stored, strict=True):
                values[place] = value
        return cast("list[bytes | None]", values)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Up to ``limit`` committed pairs of that prefix, past ``after``.

        Raises:
            AssertionError: changes are still on their way, so the answer would miss them.
        """
        if self._pending:
            raise AssertionError("a scan of the store while steps are in flight")
        pairs = self._stored(max(prefix, after), prefix[:-1] + bytes((prefix[-1] + 1,)), limit + 1)
        return pairs[1:] if pairs and pairs[0][0] <= after else pairs[:limit]

    def between(self, first: bytes, stop: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        """The first ``limit`` pairs with ``first`` <= key < ``stop``, in key order, changes on their way included."""
        # What is on its way is looked at first: the committer takes it off only once it is on the disk, so what
        # it takes off from here on is found there. What is found in both is the same or newer in the first.
        on_way: dict[bytes, bytes | None] = {}
        for pending in tuple(self._pending):
            on_way |= pending.between(first, stop)
        # Each change on its way may take one away: so many more are read, and the first ones are still whole.
        committed = self._stored(first, stop, None if limit is None else limit + len(on_way))
        if not on_way:
            return committed
        merged = dict(committed) | on_way
        return sorted((key, value) for key, value in merged.items() if value is not None)[:limit]

    def _stored(self, first: bytes, stop: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        """Up to ``limit`` pairs with ``first`` <= key < ``stop`` that are in RocksDB, in key order."""
        options = ReadOptions()
        options.set_iterate_upper_bound(stop)
        pairs: list[tuple[bytes, bytes]] = []
        with self._noting_damage:
            at = self._db.iter(options)
            at.seek(first)
            while at.valid() and len(pairs) != limit:
                pairs.append((at.key(), at.value()))
                at.next()
            # At a block that cannot be read it ends, as at the end: only this says which it is.
            at.status()
        return pairs

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Makes a step's changes visible to later steps, before they are committed."""
        self._pending.append(_Pending(changes))
        self._remember(changes)

    def _remember(self, entries: Mapping[bytes, bytes | None]) -> None:
        """Keeps what was read or changed in memory, until as much again has come twice."""
        fresh = self._fresh
        known = len(fresh)
        fresh.update(entries)
        # What is read and then changed counts twice: looking up what is replaced would cost more than it is worth.
        size_bytes = sum(map(len, filter(None, entries.values())))
        self._fresh_bytes += size_bytes + (len(fresh) - known) * _ENTRY_OVERHEAD_BYTES
        if self._fresh_bytes > _CACHE_BYTES // (2 * max(len(_open_stores), _STORES_MIN)):
            self._older, self._fresh, self._fresh_bytes = fresh, {}, 0

    def written(self, position: int) -> None:
        """Writes the oldest changes on their way, now that they are committed; ``position`` as the property."""
        # As of when they were made, which is before they were sent: this process may have been stopped since, for as
        # long as it takes others to go on and their tombstones to go.
        self.write(self._pending[0].changes, position, self._pending[0].made_at)
        if time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()
        # Last: where the disk is full all of it is done again, and the next changes may not be committed yet.
        self._pending.popleft()

    def flush(self) -> None:
        """Has what is in memory written to disk, without waiting for it."""
        self._flushed_at = time.monotonic()
        with self._noting_damage:
            self._db.flush(wait=False)

    def write(self, changes: Mapping[bytes, bytes | None], position: int, as_of: float) -> None:
        """One WriteBatch: the changes, and ``position`` and ``as_of`` as the properties; waits while RocksDB is behind.

        Raises:
            OSError: the disk is full, and RocksDB takes nothing any more.
            Exception: RocksDB's own, for the same or any other reason.
        """
        local = {"layout": LAYOUT_VERSION, "position": position, "as_of": as_of}
        packed = json.dumps(local).encode()
        began, said = time.monotonic(), False
        while not self._write_at_once(changes, packed):
            if time.monotonic() - began > _STALL_SECONDS_MAX:
                if complaint(self._directory) is not None:
                    raise OSError(errno.ENOSPC, NO_SPACE, str(self._directory))
                if not said:
                    log.warning("a store takes nothing until it has flushed or compacted", folder=self._directory)
                    said = True
            time.sleep(_STALL_LOOK_SECONDS)

    def _write_at_once(self, changes: Mapping[bytes, bytes | None], local: bytes) -> bool:
        """Whether RocksDB took it; it keeps nothing of what it did not take, and a batch serves once."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(_LOCAL, local)
        try:
            with self._noting_damage:
                self._db.write(batch)
        except Exception as error:  # RocksDB has one for everything
            if _STALLED not in str(error):
                raise
            return False
        return True

    def size_bytes(self) -> int:
        """About how much the store holds, on disk and in memtables."""
        names = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        return sum(int(self._db.property_int_value(name) or 0) for name in names)

    def close(self) -> None:
        """Gives the lock back, and has what is in memory flushed where the disk has room for it."""
        _open_stores.discard(self)
        try:
            with self._noting_damage:
                self._db.close()
        except DamagedStoreError:
            return
        except Exception as error:  # RocksDB has one for everything; closed it is all the same
            if NO_SPACE not in str(error):
                raise
            log.warning("a store could not be flushed: what it lacks will be restored", folder=self._directory)


def _remove(path: Path) -> None:
    """Deletes a folder, or a file in its place, as far as it can."""
    if path.is_file():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
