"""``truyvet restore DIR``: brings the topics of a backup back onto a broker that has none of them (docs/backup.md).

Every record comes back at the offset that it had, so the input positions in the changelogs, those in ``rejects`` and
the sink's stay true. Nothing is created before all files are found to be whole; what was written is read back.
"""

import argparse
import contextlib
import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from infra.processes import ProcessError
from infra.topics import LONG_MAX, RESTORING, durability, existing_topics, remove_topics
from sinks.backends import StorageError
from truyvet.backup_broker import NAMES, Broker, Place
from truyvet.backup_clickhouse import occupied, unpack
from truyvet.backup_files import (
    BackupError,
    Manifest,
    Point,
    check_file,
    partition_directory,
    read_blocks,
    read_manifest,
)
from truyvet.config import Settings, load_settings
from truyvet.restore_log import RECORD_BYTES_MAX, LogWriter
from truyvet.terminal import Teller

_WRITERS: Final = 4
_TELL_SECONDS: Final = 2.0
_WHILE_RESTORING: Final = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(RECORD_BYTES_MAX),
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": LONG_MAX,
    "message.timestamp.after.max.ms": LONG_MAX,
}
"""Timestamps stay as they were, and nothing goes before all is there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``truyvet restore``."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="folder that `truyvet backup` wrote")
    parser.add_argument("--check", action="store_true", help="only read the files and say what could be restored")
    parser.add_argument("--again", action="store_true", help="start over: delete the topics of an interrupted restore")
    parser.add_argument(
        "--keep-clickhouse",
        action="store_true",
        help="the database that is there was itself brought back to the time of the backup",
    )


def run(args: argparse.Namespace) -> int:
    """Checks, or restores; says what is there now."""
    settings = load_settings()
    tell = Teller("restore", _TELL_SECONDS)
    try:
        if args.check:
            point = check(settings, args.directory, tell)[1]
            print(f"all files are whole; DIR can be restored as of {point.at}")
        else:
            print(restore(settings, args.directory, tell, again=args.again, keep_clickhouse=args.keep_clickhouse))
    except (BackupError, StorageError) as error:
        print(f"truyvet restore: {error}", file=sys.stderr)
        return 1
    return 0


def check(settings: Settings, root: Path, tell: Teller) -> tuple[Manifest, Point]:
    """Reads every file of a backup.

    Raises:
        BackupError: one is damaged, or nothing can be restored with these settings.
    """
    manifest = read_manifest(root)
    if manifest is None:
        raise BackupError(f"{root}: holds no backup")
    if manifest.consistent is None:
        raise BackupError(f"{root}: holds hot copies only: no state of the pipeline that could be restored")
    if manifest.prefix != settings.topic_prefix:
        raise BackupError(f"{root}: is a backup of the prefix {manifest.prefix!r}, not {settings.topic_prefix!r}")
    if set(manifest.topics) != set(NAMES):
        raise BackupError(f"{root}: holds other topics than this version of truyvet has")
    for name, topic in manifest.topics.items():
        if len(topic.partitions) != settings.partitions:
            raise BackupError(f"{root}: has {len(topic.partitions)} partitions; set TRUYVET_PARTITIONS")
        for partition, part in enumerate(topic.partitions):
            tell(f"checking the files of {name}")
            for segment in part.segments:
                check_file(partition_directory(root, name, partition), segment)
    if manifest.consistent.clickhouse is not None:
        check_file(root, manifest.consistent.clickhouse)
    return manifest, manifest.consistent


def restore(settings: Settings, root: Path, tell: Teller, *, again: bool = False, keep_clickhouse: bool = False) -> str:
    """Restores the backup in ``root`` as of its last consistent copy; returns what came of it.

    Raises:
        BackupError: it is damaged, or the place where it should go is taken; or the broker refuses.
        BrokerAwayError: the broker does not answer.
        StorageError: the ClickHouse server does not answer.
    """
    manifest, point = check(settings, root, tell)
    broker = Broker(settings)
    _require_room(settings, broker, point, again=again)
    if not keep_clickhouse:
        _require_no_database(settings)
    _delete_rest(settings)
    broker.create({settings.topic(RESTORING): (1, {})})
    broker.create(
        {
            settings.topic(name): (settings.partitions, _created(topic.config, settings))
            for name, topic in manifest.topics.items()
        }
    )
    count = _write_all(settings, broker, root, manifest, tell)
    broker.set_groups(point.groups)
    archive = point.clickhouse if settings.clickhouse == "embedded" and not keep_clickhouse else None
    if archive is not None:
        tell("unpacking the embedded database")
        draft = unpack(settings, root, archive)
        if settings.embedded_dir.exists():
            settings.embedded_dir.rmdir()
        draft.rename(settings.embedded_dir)
    broker.configure({name: _afterwards(topic.config) for name, topic in manifest.topics.items()})
    remove_topics(settings, [settings.topic(RESTORING)])
    database = "" if archive is None else ", and the embedded database with them"
    return f"restored as of {point.at}: {count} records at their own offsets{database}"


def restore_first(settings: Settings, root: Path) -> None:
    """Restores before a stack's other processes start.

    Raises:
        ProcessError: it cannot; the stack must not start.
    """
    try:
        print(restore(settings, root, Teller("restore", _TELL_SECONDS)))
    except (BackupError, StorageError) as error:
        raise ProcessError(f"nothing is started: {error}") from error


def _require_room(settings: Settings, broker: Broker, point: Point, *, again: bool) -> None:
    there = sorted(existing_topics(settings).keys() & {settings.topic(name) for name in (*NAMES, RESTORING)})
    if there and settings.topic(RESTORING) not in there:
        raise BackupError(f"topic {there[0]} is there already: restore into a broker that has none of the topics")
    if there and not again:
        raise BackupError(
            "an earlier restore was interrupted, or is still under way; if it is not, --again deletes what it has made,"
            " and what producers may have sent into that, and starts over"
        )
    members = broker.members(point.groups)
    if members:
        raise BackupError(f"group {members[0]} has members: stop workers, sink and readers before restoring")


def _require_no_database(settings: Settings) -> None:
    """What was stored after the backup would contradict what is computed from it.

    Raises:
        BackupError: a database is there.
    """
    if settings.clickhouse == "embedded":
        if occupied(settings):
            raise BackupError(
                f"{settings.embedded_dir}: holds a database, which may know more than the backup: move it away"
            )
        return
    from sinks.server import ClickHouseBackend  # noqa: PLC0415 - loaded only by who uses it

    with ClickHouseBackend(settings) as backend:
        if backend.exists():
            raise BackupError(
                f"the ClickHouse server holds the database {settings.database}, which may know more than the backup:"
                " drop it, and the topics fill it again; or bring it back to the time of the backup yourself, and say"
                " --keep-clickhouse"
            )


def _delete_rest(settings: Settings) -> None:
    """Deletes what an interrupted restore has made: its mark last, so that this can be interrupted too."""
    there = existing_topics(settings).keys()
    remove_topics(settings, there & {settings.topic(name) for name in NAMES})
    remove_topics(settings, there & {settings.topic(RESTORING)})


def _created(config: dict[str, str], settings: Settings) -> dict[str, str]:
    # How many replicas must have a record depends on the brokers that are there now.
    kept = {option: value for option, value in config.items() if option != "min.insync.replicas"}
    return kept | durability(settings) | _WHILE_RESTORING


def _afterwards(config: dict[str, str]) -> dict[str, str | None]:
    return {option: config.get(option) for option in _WHILE_RESTORING}


def _write_all(settings: Settings, broker: Broker, root: Path, manifest: Manifest, tell: Teller) -> int:
    """Writes and reads back every partition, some at a time; returns the number of records."""
    writers: queue.SimpleQueue[LogWriter] = queue.SimpleQueue()
    places = [(name, p) for name in NAMES for p in range(settings.partitions)]
    done = 0
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(_WRITERS, "restore") as pool:

        def write(place: Place) -> int:
            writer = writers.get()
            try:
                return _write(settings, broker, root, manifest, place, writer)
            finally:
                writers.put(writer)

        try:
            for number in range(_WRITERS):
                writer = LogWriter(settings, number)
                stack.callback(writer.close)
                writers.put(writer)
            for number, count in enumerate(pool.map(write, places)):
                done += count
                tell(f"{number + 1} of {len(places)} partitions are back, {done} records")
        except KafkaException as error:
            raise BackupError(f"the broker refused: {error.args[0].str()}") from error
        finally:
            pool.shutdown(cancel_futures=True)
    return done


def _write(settings: Settings, broker: Broker, root: Path, manifest: Manifest, place: Place, writer: LogWriter) -> int:
    name, partition = place
    assert manifest.consistent is not None
    end = manifest.consistent.ends[name][partition]
    part = manifest.topics[name].partitions[partition]
    blocks = read_blocks(partition_directory(root, name, partition), part, end)
    first = next(blocks, None)
    start = first[0][0] if first else end
    topic = settings.topic(name)
    if start:
        writer.fill(topic, partition, start)
        broker.delete_records(topic, partition, start)
    return writer.write(topic, partition, chain([first] if first else [], blocks), start, end)
