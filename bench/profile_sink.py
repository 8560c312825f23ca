"""The sink's work in one process, stage by stage: what is committed on its topics, to columns, to ClickHouse.

Topic after topic, as many records at a time as the sink decodes, as many rows at a time as it inserts at most.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec
from clickhouse_driver import Client
from confluent_kafka import Message, TopicPartition

from bench.floors import columns_struct
from bench.stages import Ledger
from schemas.areas import load_areas
from sinks.backends import Columns, as_list, open_backend
from sinks.columns import decoder_of
from sinks.consuming import CONSUME_RECORDS_MAX
from sinks.records import Records
from sinks.tables import SINK_TOPICS, TABLES
from streams.shell.restore import log_consumer, watermarks
from truyvet.config import Settings

_CONSUME_SECONDS: Final = 0.05
_FLOOR_DATABASE: Final = "floor"


def chunks(settings: Settings, topic: str, ledger: Ledger) -> Iterator[list[Message]]:
    """All records of a topic, as the sink's client hands them out; what that costs is charged to the ledger."""
    consumer = log_consumer(settings)
    name = settings.topic(topic)
    marks = {number: watermarks(consumer, name, number) for number in range(settings.partitions)}
    consumer.assign([TopicPartition(name, number, low) for number, (low, _) in marks.items()])
    waiting = {number for number, (low, high) in marks.items() if low < high}
    while waiting:
        with ledger.stage("sink: fetch (consume)"):
            messages = consumer.consume(CONSUME_RECORDS_MAX, _CONSUME_SECONDS)
        waiting -= {message.partition() for message in messages if message.error() is not None}
        records = [message for message in messages if message.error() is None]
        if records:
            ledger.spent["sink: fetch (consume)"].records += len(records)
            yield records
    consumer.close()


class SinkProfile:
    """One database that the decoded columns go to."""

    def __init__(self, settings: Settings, name: str, ledger: Ledger, floor: Ledger) -> None:
        """``name`` says which kind of backend the settings name."""
        self._ledger, self._floor, self._name = ledger, floor, name
        self._rows_max = settings.sink_batch_rows_max
        self._blocks: dict[str, list[Columns]] = {}
        self._rows: Counter[str] = Counter()
        self._backend = open_backend(settings)
        self._backend.ensure_schema()
        self._client = None
        if name == "server":
            open_backend(settings.model_copy(update={"database": _FLOOR_DATABASE})).ensure_schema()
            url = urlsplit(settings.clickhouse)
            self._client = Client(url.hostname, port=url.port, settings={"allow_experimental_low_cardinality_type": 1})

    def add(self, table: str, columns: Columns) -> None:
        """Takes decoded rows; stores them once there are as many as the sink gathers at most."""
        self._blocks.setdefault(table, []).append(columns)
        self._rows[table] += len(next(iter(columns.values())))
        if self._rows[table] >= self._rows_max:
            self._insert(table, self._blocks.pop(table), self._rows.pop(table))

    def flush(self) -> None:
        """Stores the rest."""
        for table in list(self._blocks):
            self._insert(table, self._blocks.pop(table), self._rows.pop(table))

    def _insert(self, table: str, block: list[Columns], rows: int) -> None:
        with self._ledger.stage(f"sink: prepare, {self._name}", rows):
            prepared = [self._backend.prepare(table, columns) for columns in block]
        with self._ledger.stage(f"sink: insert, {self._name}", rows):
            self._backend.insert_blocks(table, prepared)
        if self._client is not None:
            names = [column.name for column in TABLES[table].columns]
            ready = [list(chain.from_iterable(as_list(columns[name]) for columns in block)) for name in names]
            listed = ", ".join(f"`{name}`" for name in names)
            sql = f"INSERT INTO {_FLOOR_DATABASE}.{table} ({listed}) VALUES"
            with self._floor.stage(f"sink: insert, {self._name}"):
                self._client.execute(sql, ready, columnar=True)

    def close(self) -> None:
        """Closes both connections."""
        self._backend.close()
        if self._client is not None:
            self._client.disconnect()


def sink(settings: Settings, databases: dict[str, Settings], ledger: Ledger, floor: Ledger) -> None:
    """All of the sink's topics into each of the databases, which are named by their kind."""
    areas, zone = load_areas(), ZoneInfo(settings.report_timezone)
    sinks = [SinkProfile(one, name, ledger, floor) for name, one in databases.items()]
    for topic in [name for name in SINK_TOPICS if name != "venues"]:
        decode = decoder_of(topic, areas, zone)
        for records in chunks(settings, topic, ledger):
            with ledger.stage("sink: columns", len(records)):
                tables = decode(Records(records, keyed=decode.keyed))
            for table, columns in tables:
                for one in sinks:
                    one.add(table, columns)
            _decode_alone(records, floor)
        for one in sinks:
            one.flush()
    for one in sinks:
        one.close()


def _decode_alone(records: list[Message], floor: Ledger) -> None:
    values = [value for record in records if (value := record.value())]
    text = b"[%b]" % b",".join(values)
    names: dict[str, Any] = {}
    for event in msgspec.json.decode(text):
        names |= event
    decode = msgspec.json.Decoder(list[columns_struct([names])]).decode  # type: ignore[misc]  # made at run time
    with floor.stage("sink: columns"):
        decode(text)
