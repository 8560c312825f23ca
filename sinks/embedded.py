"""The embedded backend: chDB, the ClickHouse engine as a library, with its data in a folder.

Blocks are Arrow record batches, read by chDB's ``Python()`` table function: 400,000 to 600,000 rows of ``scans`` a
second, half of that from JSON lines. Its streaming insert is as fast, but says that rows were written where they were
not: on a full disk it lost them all in silence.

One process at a time owns the folder (chDB locks it); in it, one connection writes and another, read-only for
good, answers queries. They do not wait for each other.
"""

import json
import re
import threading
import uuid
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
from chdb.state.sqlitelike import Connection

from sinks import ddl
from sinks.backends import (
    Closing,
    Columns,
    QueryFailedError,
    Rows,
    StorageError,
    area_rows,
    arrow_arrays,
    check_columns,
    storage_error,
)
from sinks.paging import rows_of_keys
from sinks.readonly import check_read_only
from sinks.schema_steps import take_steps
from sinks.tables import TABLES
from truyvet.config import Settings

_MIB = 1024 * 1024
ENGINE_BYTES_MAX = 4096 * _MIB
QUERY_BYTES_MAX = 2048 * _MIB
QUERY_RESULT_BYTES_MAX = 512 * _MIB
QUERY_SECONDS_MAX = 120
_MARK_CACHE_BYTES = 128 * _MIB

_CODE: Final = re.compile(r"Code: (\d+)")

FORMATS: Final = frozenset(
    {"JSONCompact", "JSON", "JSONEachRow", "JSONCompactEachRow", "CSVWithNames", "TabSeparatedWithNames"}
)
"""What ``query_bytes`` may answer in."""

# 0 is "no limit": a block of cells may be of any number of days. A deletion is not waited for: inserts go on meanwhile.
_WRITER_SETTINGS = (
    "max_partitions_per_insert_block = 0, async_insert = 0, mutations_sync = 0,"
    " output_format_json_quote_64bit_integers = 0"
)
_READER_SETTINGS = (
    f"max_memory_usage = {QUERY_BYTES_MAX}, max_execution_time = {QUERY_SECONDS_MAX},"
    f" max_result_bytes = {QUERY_RESULT_BYTES_MAX}, output_format_json_quote_64bit_integers = 0,"
    # Joins of the views fill what has no partner with zeros and empty texts, as the oldest server does.
    " join_use_nulls = 0"
)


class ChdbBackend(Closing):
    """The database in ``settings.embedded_dir``.

    Raises:
        StorageError: another process has it open, or it cannot be opened.
    """

    def __init__(self, settings: Settings) -> None:
        self._database = settings.database
        directory = settings.embedded_dir.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        options = f"max_server_memory_usage={ENGINE_BYTES_MAX}&mark_cache_size={_MARK_CACHE_BYTES}"
        self._address = f"{directory}?{options}"
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._reader: Connection | None = None
        self._table_functions: frozenset[str] = frozenset()
        try:
            self._writer: Connection | None = Connection(self._address)
        except RuntimeError as error:
            raise StorageError(
                f"the embedded database {directory} cannot be opened; one process at a time owns it ({_first(error)})"
            ) from error
        self._command(f"SET {_WRITER_SETTINGS}")

    def ensure_schema(self) -> None:
        """Makes database, tables and views that are missing, and fills in the administrative list."""
        take_steps(self.maintain, self._database)
        for statement in ddl.statements(self._database):
            self._command(statement)
        check_columns(self._database, self._rows(ddl.columns_of(self._database)))
        rows = list(area_rows())
        (stored,) = self._values(f"SELECT count() FROM {self._table(ddl.AREAS_TABLE)} FINAL")
        if stored != len(rows):
            names = ("level", "code", "name", "district_code", "province_code", "revision")
            arrays = [pa.array(values) for values in zip(*rows, strict=True)]
            arrays[-1] = arrays[-1].cast(pa.uint64())
            self._insert(ddl.AREAS_TABLE, names, [pa.record_batch(arrays, names=list(names))])
        if not self._values(f"SELECT id FROM {self._table(ddl.IDENTITY_TABLE)} LIMIT 1"):
            self._command(f"INSERT INTO {self._table(ddl.IDENTITY_TABLE)} VALUES ('{uuid.uuid4().hex}', 1)")

    def identity(self) -> str:
        """The text that names this database for as long as it lives."""
        (first,) = self._values(f"SELECT min(id) FROM {self._table(ddl.IDENTITY_TABLE)}")
        return str(first)

    def prepare(self, table: str, columns: Columns) -> pa.RecordBatch:
        """The rows as an Arrow record batch: a third of the memory that Python's objects take."""
        spec = TABLES[table]
        return pa.record_batch(arrow_arrays(spec, columns), names=[column.name for column in spec.columns])

    def insert_blocks(self, table: str, blocks: Sequence[pa.RecordBatch]) -> None:
        """Inserts prepared blocks; when it returns, they are stored."""
        self._insert(table, [column.name for column in TABLES[table].columns], blocks)

    def insert(self, table: str, columns: Columns) -> None:
        """Inserts rows; when it returns, they are stored."""
        self.insert_blocks(table, [self.prepare(table, columns)])

    def final_rows(self, table: str, keys: Sequence[str]) -> Rows:
        """The final rows of some keys of a table whose key is one text, with all columns; those that are there."""
        return self.maintain(rows_of_keys(self._database, TABLES[table], keys))

    def maintain(self, sql: str) -> Rows:
        """Runs one statement of the project's own, whatever it changes, between two inserts; its rows, if any."""
        return [tuple(row) for row in self._rows(sql)]

    def query(self, sql: str) -> tuple[list[str], Rows]:
        """Column names and rows of a read-only query."""
        answer = json.loads(self.query_bytes(sql, "JSONCompact"))
        return [column["name"] for column in answer["meta"]], [tuple(row) for row in answer["data"]]

    def query_bytes(self, sql: str, output_format: str) -> bytes:
        """The answer as bytes in one of ``FORMATS``.

        Raises:
            QueryRefusedError: the query is not read-only.
            QueryFailedError: ClickHouse could not run it.
        """
        if output_format not in FORMATS:
            raise QueryFailedError(f"the format must be one of {', '.join(sorted(FORMATS))}")
        with self._read_lock:
            reader = self._open_reader()
            checked = check_read_only(sql, self._table_functions)
            try:
                return bytes(reader.query(checked, output_format).bytes())
            except RuntimeError as error:
                raise QueryFailedError(_first(error)) from error

    def close(self) -> None:
        """Closes both connections; a query under way is waited for."""
        with self._read_lock:
            if self._reader is not None:
                self._reader.close()
            self._reader = None
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
            self._writer = None

    def _open_reader(self) -> Connection:
        if self._writer is None:
            raise StorageError("the embedded database is closed")
        if self._reader is None:
            reader = Connection(self._address)
            names = json.loads(reader.query("SELECT lower(name) FROM system.table_functions", "JSONCompact").bytes())
            self._table_functions = frozenset(name for (name,) in names["data"])
            reader.query(f"USE {ddl.quoted(self._database)}")
            reader.query(f"SET {_READER_SETTINGS}")
            # The last setting that this connection takes.
            reader.query("SET readonly = 1")
            self._reader = reader
        return self._reader

    def _table(self, name: str) -> str:
        return f"{ddl.quoted(self._database)}.{ddl.quoted(name)}"

    def _command(self, sql: str) -> bytes:
        with self._write_lock:
            try:
                return bytes(self._open_writer().query(sql, "JSONCompact").bytes())
            except RuntimeError as error:
                raise StorageError(_first(error)) from error

    def _values(self, sql: str) -> list[Any]:
        """The first column."""
        return [row[0] for row in self._rows(sql)]

    def _rows(self, sql: str) -> list[Any]:
        """Rows of a statement of our own, none where it answers nothing; numbers as numbers."""
        answer = self._command(sql)
        rows: list[Any] = json.loads(answer)["data"] if answer else []
        return rows

    def _insert(self, table: str, names: Sequence[str], blocks: Sequence[pa.RecordBatch]) -> None:
        columns = ", ".join(map(ddl.quoted, names))
        rows = pa.Table.from_batches(blocks)  # noqa: F841 - chDB finds it by its name, in this frame
        with self._write_lock:
            try:
                self._open_writer().query(
                    f"INSERT INTO {self._table(table)} ({columns}) SELECT {columns} FROM Python(rows)"
                )
            except RuntimeError as error:
                code = _CODE.search(str(error))
                raise storage_error(_first(error), int(code[1]) if code else 0) from error

    def _open_writer(self) -> Connection:
        if self._writer is None:
            raise StorageError("the embedded database is closed")
        return self._writer


def _first(error: Exception) -> str:
    """The error's first sentence; ClickHouse adds the query and stack traces."""
    return " ".join(str(error).split())[:300]
