"""The statements that make database, tables and views, the same on every backend (SPEC, section 9).

Written for the oldest server that must take the sink's rows (18.16): no TTL, DateTime64, window functions
or CREATE OR REPLACE. Views are dropped and made anew at each start, so that they follow the code.
"""

from collections.abc import Iterator

from sinks.tables import CLICKHOUSE_TYPES, TABLES, TableSpec
from sinks.views import VIEWS

AREAS_TABLE = "areas"
"""The administrative list beside the data: without it no query could name a ward that has no row."""
IDENTITY_TABLE = "identity"
"""One random text, made with the database: the sink's consumer group is named after it, so that a database
made anew is filled from the topics' beginning and never waits behind the offsets of the one before."""
FORGETTING_TABLE = "forgetting"
"""Whom an erasure under way removes, in memory only: what a statement that changes rows says stays on disk for long, so
it names this table instead of the person. Empty, it removes nothing."""
REGISTERS_TABLE = "registers"
"""The broker's ids of the ``venues`` topics that this database was filled from, and the order in which it met them."""
OLD_PARTS_SECONDS = 40
"""How long files stay that a merge or a deletion has replaced. ClickHouse keeps them (480 s unless it is told) in case
the machine dies before the new ones are on its disk; Linux writes those out within 35 s."""


def quoted(name: str) -> str:
    """A name of the project's own as a ClickHouse identifier (``partition`` and ``offset`` are words of SQL)."""
    return f"`{name}`"


def place(database: str, table: str) -> str:
    """The table's full name."""
    return f"{quoted(database)}.{quoted(table)}"


def create_table(database: str, spec: TableSpec, name: str | None = None) -> str:
    """The statement that makes one table if it is not there; under another name if one is given."""
    columns = ", ".join(f"{quoted(column.name)} {CLICKHOUSE_TYPES[column.type]}" for column in spec.columns)
    key = ", ".join(map(quoted, spec.key))
    partition = f" PARTITION BY {quoted(spec.partition)}" if spec.partition else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(database)}.{quoted(name or spec.name)} ({columns})"
        f" ENGINE = ReplacingMergeTree(revision){partition} ORDER BY ({key})"
        f" SETTINGS old_parts_lifetime = {OLD_PARTS_SECONDS}"
    )


def columns_of(database: str) -> str:
    """The query for the columns that are there: table, name, type."""
    return f"SELECT table, name, type FROM system.columns WHERE database = '{database}'"


def statements(database: str) -> Iterator[str]:
    """Everything that a new or an older database needs, in order; each may be repeated."""
    home = quoted(database)
    yield f"CREATE DATABASE IF NOT EXISTS {home}"
    for spec in TABLES.values():
        yield create_table(database, spec)
    yield (
        f"CREATE TABLE IF NOT EXISTS {home}.{AREAS_TABLE} (level String, code String, name String,"
        " district_code String, province_code String, revision UInt64)"
        " ENGINE = ReplacingMergeTree(revision) ORDER BY code"
    )
    yield (
        f"CREATE TABLE IF NOT EXISTS {home}.{IDENTITY_TABLE} (id String, revision UInt64)"
        " ENGINE = ReplacingMergeTree(revision) ORDER BY id"
    )
    yield (
        f"CREATE TABLE IF NOT EXISTS {home}.{REGISTERS_TABLE} (topic_id String, generation UInt64)"
        " ENGINE = ReplacingMergeTree(generation) ORDER BY topic_id"
    )
    yield f"CREATE TABLE IF NOT EXISTS {home}.{FORGETTING_TABLE} (run String, person_id String) ENGINE = Memory"
    for name in reversed(list(VIEWS)):
        yield f"DROP TABLE IF EXISTS {home}.{name}"
    for name, select in VIEWS.items():
        # The database's name stands once, in braces, wherever a view reads a table or another view.
        yield f"CREATE VIEW IF NOT EXISTS {home}.{name} AS {select.replace('{db}', home)}"
