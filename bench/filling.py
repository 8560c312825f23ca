"""Fills the stores of a person room with the scans of millions of people, without taking them one by one.

Some people's history is taken by the room's own ``take_scans``; what that leaves in state under their names is then
written under millions of other names, as sorted RocksDB files with the store's own options. So nothing here knows the
state's layout, but that the keys of a person are a letter, its 16 bytes, and perhaps more. Cells of the past are those
of the people that were really taken: a scan of today touches none of them.

The changelog stays empty. A store that holds all of it, up to its end, which is its beginning, is believed by a worker.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from rocksdict import SstFileWriter

from bench.workload import Shape, history_lines, person_ids, venue_lines
from producers.simulate.arrays import Ints, stream
from schemas.areas import load_areas
from streams.core.decode import decode_venues
from streams.core.directory import Directory
from streams.core.inbound import BadEvent
from streams.core.partition import partitions_of_persons
from streams.core.person import take_scans
from streams.core.room import PERSON_ROOM, RoomPartition
from streams.core.step import Record
from streams.core.times import LocalClock
from streams.shell import store as stores
from truyvet.config import Settings
from truyvet.rulesets import load_rulesets

HISTORY_DAYS: Final = 28
_ID_BYTES: Final = 16
_STEP_RECORDS: Final = 10_000
_IDS_AT_ONCE: Final = 500_000
_FILE_BYTES: Final = 64 * 1024 * 1024
Pair = tuple[bytes, bytes]


class MemoryState:
    """A state that a step can read, in a dictionary."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of ``key``, or None."""
        return self.data.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of ``keys``, in their order."""
        return [self.data.get(key) for key in keys]

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[Pair]:
        """Up to ``limit`` pairs of that prefix, past ``after``."""
        found = sorted(key for key in self.data if key.startswith(prefix) and key > after)
        return [(key, self.data[key]) for key in found[:limit]]

    def between(self, first: bytes, stop: bytes, limit: int | None = None) -> list[Pair]:
        """The pairs with ``first`` <= key < ``stop``; the first ``limit``."""
        return [(key, self.data[key]) for key in sorted(self.data) if first <= key < stop][:limit]

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Takes a step's changes in."""
        for key, value in changes.items():
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value


def directory_of(shape: Shape) -> Directory:
    """The register of a workload."""
    directory = Directory()
    for venue in decode_venues([line.value for line in venue_lines(shape)], load_areas()):
        assert not isinstance(venue, BadEvent), "a venue of the workload is a good one"
        directory.put(venue)
    return directory


def room_of(settings: Settings, partition: int, partitions: int) -> RoomPartition:
    """A room partition as a worker makes it."""
    return RoomPartition(
        partition=partition,
        partitions=partitions,
        topic_prefix=settings.topic_prefix,
        retention_ms=settings.retention_ms,
        clock=LocalClock(ZoneInfo(settings.report_timezone)),
        rulesets=load_rulesets(settings.rulesets_dir, shipped=settings.rulesets_shipped),
    )


class Models:
    """What state holds of some people after four weeks: theirs, by person, and the rest."""

    def __init__(self, settings: Settings, shape: Shape, scans_per_person: int) -> None:
        """``shape`` says how many people are taken; each has about ``scans_per_person`` scans."""
        state = MemoryState()
        room, directory = room_of(settings, 0, 1), directory_of(shape)
        lines = history_lines(shape, shape.people * scans_per_person, HISTORY_DAYS)
        records = [Record(number, line.timestamp_ms, line.key, line.value) for number, line in enumerate(lines)]
        for number, start in enumerate(range(0, len(records), _STEP_RECORDS), 1):
            batch = records[start : start + _STEP_RECORDS]
            step = take_scans(room, number, batch, state, directory)
            assert step.counts == {"accepted": len(batch)}, f"of the history all is good: {step.counts}"
            state.apply(step.changes)
        of_person: dict[bytes, list[tuple[bytes, bytes, bytes]]] = {
            bytes.fromhex(name): [] for name in person_ids(shape)
        }
        self.others: list[Pair] = []
        for key, value in sorted(state.data.items()):
            kept = of_person.get(key[1 : 1 + _ID_BYTES])
            if kept is None:
                self.others.append((key, value))
            else:
                kept.append((key[:1], key[1 + _ID_BYTES :], value))
        self.people = [kept for kept in of_person.values() if kept]
        """Of each person its pairs, the key without the person: letter, what follows, value."""
        self.letters = sorted({letter for kept in self.people for letter, _, _ in kept})


def pairs(models: Models, ids: Sequence[bytes], chosen: Sequence[int]) -> Iterator[Pair]:
    """The state of these people in key order; ``ids`` are sorted, ``chosen`` says whose history each one has."""
    others = iter([*models.others, (b"\xff" * 64, b"")])
    other = next(others)
    for letter in models.letters:
        for person, index in zip(ids, chosen, strict=True):
            for mine, rest, value in models.people[index]:
                if mine == letter:
                    key = letter + person + rest
                    while other[0] < key:
                        yield other
                        other = next(others)
                    yield key, value
    yield from (pair for pair in (other, *others) if pair[1])


def write_store(directory: Path, contents: Iterator[Pair]) -> int:
    """Makes the store of one room partition of sorted pairs; returns its size in bytes."""
    store = stores.Store(directory)
    store.write({}, 0, time.time())
    files = _files(directory.with_name(f"{directory.name}.files"), contents)
    store._db.ingest_external_file([str(path) for path in files])  # noqa: SLF001 - a store is otherwise written by steps
    for path in files:
        path.unlink()
    size = store.size_bytes()
    store.close()
    return size


def _files(folder: Path, contents: Iterator[Pair]) -> list[Path]:
    folder.mkdir(parents=True)
    files: list[Path] = []
    left = 0
    writer = SstFileWriter()
    for key, value in contents:
        if left <= 0:
            if files:
                writer.finish()
            files.append(folder / f"{len(files):05d}.sst")
            # With the filters that the store itself writes: options that are read back from a folder lack them.
            writer = SstFileWriter(stores._options())  # noqa: SLF001 - the same options are the point
            writer.open(str(files[-1]))
            left = _FILE_BYTES
        writer[key] = value
        left -= len(key) + len(value)
    if files:
        writer.finish()
    return files


def fill(settings: Settings, directory: Path, models: Models, people: int, seed: int) -> int:
    """Writes the stores of all partitions for so many people; returns their size in bytes.

    The first people are those of every workload of the seed, whatever ``people`` is.
    """
    whole = np.frombuffer(bytes.fromhex("".join(person_ids(Shape(people=people, seed=seed)))), dtype=np.uint8)
    ids = whole.reshape(people, _ID_BYTES)
    homes = _homes(ids, settings.partitions)
    chosen = stream(seed, "bench models").integers(0, len(models.people), people)
    size = 0
    for partition in range(settings.partitions):
        rows = np.flatnonzero(homes == partition)
        halves = np.ascontiguousarray(ids[rows]).view(">u8").reshape(len(rows), 2)
        rows = rows[np.lexsort((halves[:, 1], halves[:, 0]))]
        mine = [row.tobytes() for row in ids[rows]]
        contents = pairs(models, mine, chosen[rows].tolist())
        size += write_store(directory / f"{PERSON_ROOM}-{partition}", contents)
    return size


def _homes(ids: npt.NDArray[np.uint8], partitions: int) -> Ints:
    """The partition of each person."""
    found = []
    for start in range(0, len(ids), _IDS_AT_ONCE):
        keys = [row.tobytes().hex().encode() for row in ids[start : start + _IDS_AT_ONCE]]
        found.append(partitions_of_persons(keys, partitions))
    return np.concatenate(found)
