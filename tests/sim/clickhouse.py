"""ClickHouse in memory, as the sink's consuming uses it: of each key the row of the highest revision stays.

It outlives the sinks that write to it. An insert is no transaction: whoever dies in it, or hears that it failed, may
have stored all, some or none of its rows.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

from sinks.backends import Closing, Columns, Rows, StorageError, as_list, checked_columns
from sinks.export import shown_rows
from sinks.tables import TABLES, TableSpec
from tests.sim.outside import World

AWAY_SECONDS: Final = 1.0
"""How long an insert takes to find that nobody answers."""

StoredRow = tuple[Any, ...]
Block = list[tuple[StoredRow, StoredRow]]
"""Of each row its key with the revision behind it, and the row."""


class _Table:
    """The rows of one table."""

    def __init__(self, spec: TableSpec) -> None:
        names = [column.name for column in spec.columns]
        self.spec = spec
        self.version_of = itemgetter(*map(names.index, (*spec.key, "revision")))
        self._shown = [column.name for column in spec.exported]
        self._shown_of = itemgetter(*map(names.index, self._shown))
        self._newest: dict[StoredRow, tuple[int, StoredRow]] = {}
        self._inserted: dict[StoredRow, StoredRow] = {}
        self.duplicates: dict[str, None] = {}

    def add(self, rows: Block) -> None:
        """Rows in the order of their insertion: the last of equal revisions counts."""
        for version, row in rows:
            before = self._inserted.setdefault(version, row)
            if before is not row and before != row:
                self.duplicates[f"{self.spec.name} {version}: {before} and {row}"] = None
            key, revision = version[:-1], version[-1]
            held = self._newest.get(key)
            if held is None or held[0] <= revision:
                self._newest[key] = revision, row

    def final(self, keys: Sequence[str]) -> Rows:
        """The final rows of these keys, with all columns."""
        return [self._newest[key,][1] for key in keys if (key,) in self._newest]

    def rows(self) -> list[dict[str, Any]]:
        """The final rows as they are exported, in key order."""
        final = [self._shown_of(row) for _, (_, row) in sorted(self._newest.items(), key=itemgetter(0))]
        return list(shown_rows(self.spec, self._shown, final))


class FakeClickHouse:
    """The database; ``backend`` is a sink's connection to it."""

    def __init__(self, world: World) -> None:
        self.available = True
        self._world = world
        self._fails_next = False
        self._tables = {name: _Table(spec) for name, spec in TABLES.items()}

    def backend(self) -> "FakeBackend":
        """A connection, for one sink process."""
        return FakeBackend(self)

    def fail_next(self) -> None:
        """The next insert that it takes fails, with all, some or none of its rows stored."""
        self._fails_next = True

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The table's final rows in key order, as ``truyvet export`` writes them."""
        return self._tables[table].rows()

    def final(self, table: str, keys: Sequence[str]) -> Rows:
        """The final rows of these keys, with all columns."""
        return self._tables[table].final(keys)

    def duplicates(self) -> list[str]:
        """Keys and revisions that were ever inserted with two different contents: there must be none."""
        return [text for table in self._tables.values() for text in table.duplicates]

    def block(self, table: str, columns: Columns) -> Block:
        """Rows with their keys and revisions."""
        rows = list(zip(*(as_list(values) for _, values in checked_columns(TABLES[table], columns)), strict=True))
        return list(zip(map(self._tables[table].version_of, rows), rows, strict=True))

    def check_available(self) -> None:
        """Waits for an answer that does not come.

        Raises:
            StorageError: it is away.
        """
        if not self.available:
            self._world.wait(lambda: False, AWAY_SECONDS)
            raise StorageError("ClickHouse is away")

    def insert(self, table: str, rows: Block) -> None:
        """Stores rows in two parts, between which the sink or the database may die.

        Raises:
            StorageError: it is away or was told to fail.
        """
        self._world.step("insert sent")
        self.check_available()
        parts = self._two_parts(rows)
        fails_after = self._world.rng.choice((0, 1, 2)) if self._fails_next else None
        self._fails_next = False
        if fails_after == 0:
            raise StorageError("the insert was refused")
        for number, (part, label) in enumerate(zip(parts, ("insert stored in part", "insert stored"), strict=True), 1):
            self._tables[table].add(part)
            self._world.step(label)
            self.check_available()
            if fails_after == number:
                raise StorageError("the insert failed")

    def _two_parts(self, rows: Block) -> tuple[Block, Block]:
        """Any part of the rows, and the others; rows of one key and revision stay together and in order."""
        rng = self._world.rng
        share = rng.random()
        first = {version: rng.random() < share for version, _ in rows}
        return [row for row in rows if first[row[0]]], [row for row in rows if not first[row[0]]]


class FakeBackend(Closing):
    """One sink's connection; a ``sinks.backends.Backend`` of which no query is asked."""

    def __init__(self, clickhouse: FakeClickHouse) -> None:
        self._clickhouse = clickhouse

    def ensure_schema(self) -> None:
        """The tables are there from the beginning."""
        self._clickhouse.check_available()

    def identity(self) -> str:
        self._clickhouse.check_available()
        return "simulated"

    def prepare(self, table: str, columns: Columns) -> Block:
        return self._clickhouse.block(table, columns)

    def insert_blocks(self, table: str, blocks: Sequence[Block]) -> None:
        self._clickhouse.insert(table, [row for block in blocks for row in block])

    def insert(self, table: str, columns: Columns) -> None:
        self.insert_blocks(table, [self.prepare(table, columns)])

    def final_rows(self, table: str, keys: Sequence[str]) -> Rows:
        self._clickhouse.check_available()
        return self._clickhouse.final(table, keys)

    def maintain(self, sql: str) -> Rows:
        raise NotImplementedError(sql)

    def query(self, sql: str) -> tuple[list[str], Rows]:
        raise NotImplementedError(sql)

    def close(self) -> None:
        """Nothing is held."""
