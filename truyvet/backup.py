"""``truyvet backup DIR``: copies every topic into files, and goes on there the next time (docs/backup.md).

A copy can be restored as of a moment at which nothing was under way: the pipeline's own topics ended at the same
offsets before and after they were copied, with no transaction open. The inputs may go on growing: their ends are asked
for after those of the topics that tell how far they have been read.
"""

import argparse
import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from confluent_kafka import Message

from infra.topics import BrokerAwayError
from streams.core.step import InRecord
from streams.shell.raw_log import Fetched, OffsetGoneError, RawLog, RawLogError
from truyvet.backup_broker import NAMES, OWN, Broker, Ends, Look, Place
from truyvet.backup_clickhouse import NAME_END, archive
from truyvet.backup_files import (
    BackupError,
    Header,
    Manifest,
    PartitionWriter,
    Point,
    Record,
    TopicCopy,
    cut_off,
    partition_directory,
    read_manifest,
    write_manifest,
)
from truyvet.config import ConfigError, Settings, load_settings
from truyvet.terminal import Teller

HOT: Final = 3
"""Exit status of a copy that goes on from the last one but cannot be restored by itself."""
_PASSES_MAX: Final = 2
"""The first copies the bulk while everything runs, the second what has come meanwhile."""
_POLL_SECONDS: Final = 0.5
_FETCH_WAIT_MS: Final = 10
_SILENT_SECONDS_MAX: Final = 60.0
_SAVE_SECONDS: Final = 60.0
_TELL_SECONDS: Final = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``truyvet backup``."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="folder of the backup; an older one in it goes on")
    parser.add_argument(
        "--without-clickhouse", action="store_true", help="leave the embedded database out: topics can refill it"
    )
    parser.epilog = f"Exit status: 0 if what is in DIR can be restored as of now, {HOT} if something was under way."


def run(args: argparse.Namespace) -> int:
    """Copies what is new; says whether it can be restored as of now."""
    settings = load_settings()
    try:
        backup = Backup(settings, args.directory)
        with backup.owned():
            point = backup.copy(Teller("backup", _TELL_SECONDS))
            print(backup.sentence())
            if point is not None and settings.clickhouse == "embedded" and not args.without_clickhouse:
                print(backup.copy_clickhouse(point))
    except BackupError as error:
        print(f"truyvet backup: {error}", file=sys.stderr)
        return 1
    return HOT if point is None else 0


class Backup:
    """A backup in one folder, of one prefix on one broker."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self._settings = settings
        self._root = root.resolve()
        self._broker = Broker(settings)
        self._moved: list[Place] = []
        self._open: list[Place] = []
        self._copied = 0
        self._refused = 0
        self._manifest = Manifest(settings.topic_prefix, {})

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Keeps a second run off the folder.

        Raises:
            ConfigError: the folder cannot be used, or is no backup.
            BackupError: another run is at it.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(f"{self._root}: cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise BackupError(f"{self._root}: another backup is writing there") from None
        finally:
            os.close(handle)

    def copy(self, tell: Teller) -> Point | None:
        """Copies what is new; returns the point that can be restored, or None where something was under way.

        Raises:
            BackupError: the folder is another pipeline's, or damaged; or records went away while they were copied.
            BrokerAwayError: the broker does not answer.
        """
        self._manifest = self._begin()
        for _ in range(_PASSES_MAX):
            began = self._broker.look()
            self._copy_until(began.read, tell)
            write_manifest(self._root, self._manifest)
            if self._still(began):
                return self._settle(began.read)
        return None

    def _begin(self) -> Manifest:
        topics = self._broker.describe()
        known = read_manifest(self._root)
        if known is None:
            if any(path.name != "lock" for path in self._root.iterdir()):
                raise BackupError(f"{self._root}: is neither empty nor a backup")
            known = Manifest(self._settings.topic_prefix, topics)
            write_manifest(self._root, known)
        if known.prefix != self._settings.topic_prefix:
            raise BackupError(f"{self._root}: is a backup of the prefix {known.prefix!r}; take another folder")
        for name, topic in topics.items():
            before = known.topics.setdefault(name, topic)
            if (before.id, len(before.partitions)) != (topic.id, len(topic.partitions)):
                raise BackupError(f"{self._root}: topic {name} was made anew since; take another folder")
            before.config = topic.config
        cut_off(self._root, known)
        return known

    def _still(self, began: Look) -> bool:
        """Whether all that the pipeline writes stood still from before ``began`` until now."""
        self._open = began.open_places()
        written = self._broker.ends(OWN, committed=False)
        self._moved = sorted(place for place, end in written.items() if end != began.read[place])
        return not self._open and not self._moved

    def _settle(self, ends: Ends) -> Point:
        partitions = range(self._settings.partitions)
        point = Point(
            datetime.now(UTC).isoformat(timespec="seconds"),
            {name: [ends[name, p] for p in partitions] for name in NAMES},
            self._broker.groups(ends),
        )
        self._manifest.consistent = point
        starts = self._broker.starts(NAMES)
        for name, topic in self._manifest.topics.items():
            for p in partitions if _expires(topic) else ():
                part = topic.partitions[p]
                part.segments = [segment for segment in part.segments if segment.next > starts[name, p]]
        self._save()
        return point

    def _save(self) -> None:
        """Writes the manifest, then removes the files that it no longer names."""
        write_manifest(self._root, self._manifest)
        cut_off(self._root, self._manifest)
        point = self._manifest.consistent
        kept = point.clickhouse.name if point is not None and point.clickhouse is not None else ""
        for path in self._root.glob(f"*{NAME_END}"):
            if path.name != kept:
                path.unlink()

    def _copy_until(self, ends: Ends, tell: Teller) -> None:
        """Copies everything before ``ends`` that is not copied yet."""
        wanted: Ends = {}
        writers: dict[Place, PartitionWriter] = {}
        for place, end in ends.items():
            part = self._manifest.topics[place[0]].partitions[place[1]]
            if part.next > end:
                raise BackupError(f"{self._root}: holds more of topic {place[0]} than the broker; take another folder")
            if part.next < end:
                wanted[place] = end
                writers[place] = PartitionWriter(partition_directory(self._root, *place), part)
        if not wanted:
            return
        starts = self._broker.starts({name for name, _ in wanted})
        assigned = {
            (self._settings.topic(name), p): max(starts[name, p], self._manifest.topics[name].partitions[p].next)
            for name, p in wanted
        }
        reader = RawLog(self._settings, wait_ms=_FETCH_WAIT_MS, bounded=False)
        try:
            reader.assign(assigned)
            self._copy_all(reader, wanted, writers, tell)
        except OffsetGoneError as error:
            raise BackupError("records went out of retention while they were copied: run it again") from error
        except RawLogError as error:
            raise BackupError(str(error)) from error
        finally:
            reader.close()

    def _copy_all(self, reader: RawLog, wanted: Ends, writers: dict[Place, PartitionWriter], tell: Teller) -> None:
        """Reads up to the wanted ends; what is copied counts at the latest after a minute."""
        saved_at = time.monotonic()
        for reached in self._read(reader, wanted, writers):
            for place, end in reached.items():
                writers.pop(place).finish(end)
            tell(f"{self._copied} records copied, {len(writers)} partitions to go")
            if time.monotonic() - saved_at > _SAVE_SECONDS:
                for writer in writers.values():
                    writer.finish()
                write_manifest(self._root, self._manifest)
                saved_at = time.monotonic()

    def _read(self, reader: RawLog, wanted: Ends, writers: dict[Place, PartitionWriter]) -> Iterator[Ends]:
        """Hands records to their writers; after each fetch, the partitions that have been read to their wanted ends."""
        places = {(self._settings.topic(name), p): (name, p) for name, p in wanted}
        left, heard_at = dict(wanted), time.monotonic()
        while left:
            reached: Ends = {}
            for fetched in reader.poll(_POLL_SECONDS):
                heard_at = time.monotonic()
                place = places[fetched.topic, fetched.partition]
                if place in left:  # else it is what has come behind the end
                    self._take(fetched, left[place], writers[place])
                    if fetched.next >= left[place]:
                        reached[place] = left.pop(place)
            reader.leave((self._settings.topic(name), p) for name, p in reached)
            if time.monotonic() - heard_at > _SILENT_SECONDS_MAX:
                raise BrokerAwayError(f"the broker has not sent anything for {_SILENT_SECONDS_MAX:.0f} s")
            yield reached

    def _take(self, fetched: Fetched, end: int, writer: PartitionWriter) -> None:
        """Takes the records before ``end``; of a batch that nobody can read nothing can be taken."""
        for record in fetched.records:
            if record.offset >= end:
                return
            if record.fault is not None:
                self._refused += 1
                continue
            writer.add(_taken(record))
            self._copied += 1

    def sentence(self) -> str:
        """What came of it."""
        point = self._manifest.consistent
        if point is not None and not self._moved and not self._open:
            found = f"{self._copied} records were new{self._left_out()}"
            return f"consistent copy as of {point.at}: {found}; DIR can be restored as of now"
        why = f"{len(self._moved)} of the pipeline's partitions moved on"
        if self._open:
            why += f", {len(self._open)} had a transaction open"
        before = f"DIR can be restored as of {point.at}" if point is not None else "DIR cannot be restored yet"
        found = f"{self._copied} records were new{self._left_out()}"
        return f"hot copy: {found}, but {why}: stop the workers and run it again; {before}"

    def _left_out(self) -> str:
        return f", {self._refused} that nobody can read are left out" if self._refused else ""

    def copy_clickhouse(self, point: Point) -> str:
        """Archives the embedded database, if nobody has it open; returns what came of it."""
        if not self._settings.embedded_dir.exists():
            return f"there is no embedded database in {self._settings.embedded_dir}: it would be filled from the topics"
        print("copying the embedded database: workers may start again, the sink when this is done", flush=True)
        try:
            copy = archive(self._settings, self._root, point.at.replace(":", ""))
        except BackupError as error:
            return f"{error}: it is not in the backup, and would be filled from the topics; stop the sink to copy it"
        point.clickhouse = copy
        self._save()
        return f"the embedded database is copied: {copy.size_bytes >> 20} MiB"


def _taken(record: InRecord) -> Record:
    headers: list[Header] = list(record.headers)
    return record.offset, record.timestamp, record.key, record.value, headers or None


def record_of(message: Message, offset: int) -> Record:
    """A message as the files keep it."""
    headers = cast("list[Header] | None", message.headers())  # the client also takes dicts, but gives none
    return offset, message.timestamp()[1], message.key(), message.value(), headers


def _expires(topic: TopicCopy) -> bool:
    return "delete" in topic.config.get("cleanup.policy", "delete")
