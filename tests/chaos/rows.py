"""Rows of two sources held against each other, without either in memory: files of lines, sorted, walked side by side.

A line is a key and its row, both JSON: a stored table as it is, its view (what law 1 promises), or a topic folded by
key and revision. The reading here is naive on purpose; the sink's own is what it checks.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition

from sinks.backends import Reader
from sinks.client import open_reader
from sinks.ddl import quoted
from sinks.export import table_rows
from sinks.paging import literal
from sinks.tables import TABLES, ColumnType, TableSpec, specs_of_topic
from truyvet.config import Settings

FOLDED_TOPICS: Final = ("enriched", "visits", "exposures", "case-states", "aggregates", "rejects")
SHOWN_MAX: Final = 10
_READ_RECORDS: Final = 10_000
_READ_SECONDS: Final = 0.2
_BARE: Final = {"scans": "erased", "visits": "retracted", "exposures": "retracted", "cases": "erased"}
"""Rows of this status say only that they are none."""

Row = dict[str, Any]
_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Row).decode


class FoldError(Exception):
    """A topic says two things of one key and revision; names both."""


@dataclass(frozen=True)
class Difference:
    """A row that only one side has, or that both have differently."""

    table: str
    key: str
    left: str | None
    right: str | None

    def __str__(self) -> str:
        return f"{self.table} {self.key}\n    {self.left or 'nothing'}\n    {self.right or 'nothing'}"


def write_tables(settings: Settings, out: Path) -> dict[str, int]:
    """Writes ``TABLE.rows`` (all) and ``TABLE.view`` (what every run must show) of all tables; returns views' rows."""
    out.mkdir()
    counts = {}
    with open_reader(settings) as reader:
        for name, spec in TABLES.items():
            with (out / f"{name}.rows").open("wb") as rows, (out / f"{name}.view").open("wb") as view:
                counts[name] = 0
                for row in _stored(reader, spec):
                    rows.write(_line(spec, row))
                    shown = _view_line(spec, row)
                    counts[name] += shown is not None
                    view.write(shown or b"")
    for file in out.iterdir():
        _sort(file)
    return counts


def _stored(reader: Reader, spec: TableSpec) -> Iterator[Row]:
    """A table's final rows, a day at a time: in the order of its key each page would be merged from all days."""
    if spec.partition is None:
        yield from table_rows(reader, spec)
        return
    _, days = reader.query(f"SELECT DISTINCT {quoted(spec.partition)} FROM {quoted(spec.name)} ORDER BY 1")
    for (day,) in days:
        yield from table_rows(reader, spec, f"{quoted(spec.partition)} = {literal(day)}")


def write_folded(settings: Settings, out: Path) -> None:
    """Writes ``TABLE.folded`` from the output topics, read from the start: of each key the highest revision.

    Raises:
        FoldError: one key and revision has two contents.
    """
    for topic in FOLDED_TOPICS:
        specs = {spec.name: spec for spec in specs_of_topic(topic)}
        files = {name: (out / f"{name}.folded").open("wb") for name in specs}
        partitions = range(settings.partitions)
        # A key never leaves its partition, but a dead letter may be resolved by another one than wrote it.
        for group in [list(partitions)] if topic == "rejects" else [[p] for p in partitions]:
            for name, row in _folded(settings, topic, group, specs).values():
                files[name].write(_line(specs[name], _decode(row)))
        for file in files.values():
            file.close()
            _sort(Path(file.name))


def _folded(
    settings: Settings, topic: str, partitions: list[int], specs: dict[str, TableSpec]
) -> dict[bytes, tuple[str, bytes]]:
    """By table and key, the table and the newest row's bytes."""
    newest: dict[bytes, tuple[str, bytes]] = {}
    revisions: dict[bytes, int] = {}
    [only, *others] = specs
    for value in _records(settings, settings.topic(topic), partitions):
        row = _decode(value)
        name = row["family"] if others else only
        key = name.encode() + _key(specs[name], row)
        revision = row["revision"]
        if revision == revisions.get(key) and newest[key][1] != value:
            raise FoldError(f"{topic}: {key!r} has two contents of revision {revision}: {newest[key][1]!r}, {value!r}")
        if revision >= revisions.get(key, 0):
            newest[key], revisions[key] = (name, value), revision
    return newest


def _records(settings: Settings, topic: str, partitions: list[int]) -> Iterator[bytes]:
    """Values of all committed records, from the start to the end."""
    consumer = Consumer(
        settings.librdkafka()
        | {
            "group.id": "chaos-unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
    )
    starts = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[0] for p in partitions}
    consumer.assign([TopicPartition(topic, p, offset) for p, offset in starts.items()])
    reading = set(partitions)
    while reading:
        for message in consumer.consume(_READ_RECORDS, _READ_SECONDS):
            error = message.error()
            value = message.value()
            if error is None and value is not None:
                yield value
            elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                reading.discard(message.partition() or 0)
    consumer.close()


def _key(spec: TableSpec, row: Row) -> bytes:
    return _encode([row[name] for name in spec.key])


def _line(spec: TableSpec, row: Row) -> bytes:
    """A row as both topic and table have it."""
    names = [column.name for column in spec.exported]
    if row.get("status") == _BARE.get(spec.name, ""):
        names = [*spec.key, "status", "revision"]
    # Events may say 36 where the table has 36.0.
    numbers = {c.name for c in spec.exported if c.type is ColumnType.NUMBER}
    floats = {name: float(row[name]) for name in names if name in numbers}
    return b"%b\t%b\n" % (_key(spec, row), _encode({name: row[name] for name in names} | floats))


def _view_line(spec: TableSpec, row: Row) -> bytes | None:
    """What law 1 promises of a row: nothing of retracted ones, and not what only says how it came about."""
    left_out = {"revision"}
    if spec.name in ("visits", "exposures") and row["status"] != "active":
        return None
    if spec.name == "exposures":
        left_out |= {"reason", "detected_at"}
    if spec.name != "rejects":
        return b"%b\t%b\n" % (_key(spec, row), _encode({k: v for k, v in row.items() if k not in left_out}))
    if (row["reason"], row["status"]) == ("unknown_venue", "resolved"):
        return None  # whether a scan came before its late venue is chance
    # A line without a key goes to any partition, so where it stood is not the input's.
    row = {k: v for k, v in row.items() if k not in left_out | set(spec.key)}
    return b"%b\t%b\n" % (_encode([row["record_at"], row["key"], row["payload"]]), _encode(row))


def _sort(file: Path) -> None:
    """Sorts a file of lines by their bytes, in a bounded piece of memory."""
    draft = file.with_suffix(".sorting")
    command = ["sort", "--buffer-size=256M", f"--temporary-directory={file.parent}", f"--output={draft}", str(file)]
    subprocess.run(command, check=True, env=os.environ | {"LC_ALL": "C"})
    draft.replace(file)


def differences(table: str, left: Path, right: Path) -> Iterator[Difference]:
    """Where two sorted files of lines differ, in order of keys."""
    with left.open("rb") as left_file, right.open("rb") as right_file:
        left_line, right_line = left_file.readline(), right_file.readline()
        while left_line or right_line:
            if left_line == right_line:
                left_line, right_line = left_file.readline(), right_file.readline()
                continue
            left_key, left_row = _parts(left_line)
            right_key, right_row = _parts(right_line)
            only_left = not right_line or (bool(left_line) and left_key < right_key)
            only_right = not left_line or (bool(right_line) and right_key < left_key)
            key = (right_key if only_right else left_key).decode()
            yield Difference(
                table, key, None if only_right else left_row.decode(), None if only_left else right_row.decode()
            )
            left_line = left_line if only_right else left_file.readline()
            right_line = right_line if only_left else right_file.readline()


def _parts(line: bytes) -> tuple[bytes, bytes]:
    key, _, row = line.rstrip(b"\n").partition(b"\t")
    return key, row


def report(tell: Callable[[str], None], what: str, found: Iterator[Difference]) -> bool:
    """Tells how the sides differ, the first rows with both contents; True if they do not."""
    shown = list(islice(found, SHOWN_MAX))
    rest = sum(1 for _ in found)
    if shown:
        tell(f"{what}: {len(shown) + rest} rows differ; the first {len(shown)}:")
    for one in shown:
        tell(f"  {one}")
    return not shown
