"""The server backend: ClickHouse over its native protocol, through clickhouse-driver, column by column (``native``).

The oldest server that must take the rows is Debian's 18.16: settings it does not know end a query there, so each
is sent only to servers that list it. Queries go through a connection of their own with ``readonly = 1``.
"""

import contextlib
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import NetworkError, ServerException, SocketTimeoutError

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
from sinks.native import BlockClient, Blocks, NativeBlock, column_bytes
from sinks.paging import rows_of_keys
from sinks.readonly import check_read_only
from sinks.schema_steps import take_steps
from sinks.tables import TABLES
from truyvet.config import Settings

CONNECT_SECONDS_MAX = 5
ANSWER_SECONDS_MAX = 120
MAINTENANCE_SECONDS_MAX = 1800
"""How long a merge of a whole day may take."""
_READER_SETTINGS: Final = {"max_read_buffer_size": 65_536, "readonly": 1}
"""FINAL opens every column of every part, with a buffer each: of a mebibyte, a month takes over two gibibytes."""
_PORT_DEFAULT = 9000

WRITER_SETTINGS: Final = {
    "allow_experimental_low_cardinality_type": 1,
    "async_insert": 0,
    "max_partitions_per_insert_block": 0,
    "mutations_sync": 0,
    "log_queries": 0,
}
"""Sent where the server knows them: labels on the oldest server; an insert that is acknowledged is stored; a block of
cells may be of any number of days; a deletion is not waited for; whom it names goes to no log of queries."""

# A lost connection shows as any of these; the driver connects anew at the next call.
_AWAY = (NetworkError, SocketTimeoutError, OSError, EOFError)


class ClickHouseBackend(Closing):
    """The database on the server that ``settings.clickhouse`` names; connects at the first call."""

    def __init__(self, settings: Settings, answer_seconds_max: int = ANSWER_SECONDS_MAX) -> None:
        self._answer_seconds_max = answer_seconds_max
        self._url = urlsplit(settings.clickhouse)
        self._database = settings.database
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._writer: BlockClient | None = None
        self._reader: BlockClient | None = None

    def ensure_schema(self) -> None:
        """Makes database, tables and views that are missing, and fills in the administrative list."""
        take_steps(self.maintain, self._database)
        for statement in ddl.statements(self._database):
            self._write(statement)
        check_columns(self._database, self._write(ddl.columns_of(self._database)))
        rows = list(area_rows())
        ((stored,),) = self._write(f"SELECT count() FROM {self._table(ddl.AREAS_TABLE)} FINAL")
        if stored != len(rows):
            names = "level, code, name, district_code, province_code, revision"
            self._write(f"INSERT INTO {self._table(ddl.AREAS_TABLE)} ({names}) VALUES", rows)
        if not self._write(f"SELECT id FROM {self._table(ddl.IDENTITY_TABLE)} LIMIT 1"):
            # Two sinks that make one database at once may each write one; all then read the smallest.
            self._write(f"INSERT INTO {self._table(ddl.IDENTITY_TABLE)} (id, revision) VALUES", [(uuid.uuid4().hex, 1)])

    def exists(self) -> bool:
        """Whether the database holds anything yet."""
        return bool(self._write(ddl.columns_of(self._database)))

    def identity(self) -> str:
        """The text that names this database for as long as it lives."""
        ((first,),) = self._write(f"SELECT min(id) FROM {self._table(ddl.IDENTITY_TABLE)}")
        return str(first)

    def prepare(self, table: str, columns: Columns) -> NativeBlock:
        """The rows in the bytes that go to the server: a seventh of the memory that Python's objects take."""
        spec = TABLES[table]
        arrays = arrow_arrays(spec, columns)
        encoded = [column_bytes(array, column.type) for array, column in zip(arrays, spec.columns, strict=True)]
        return NativeBlock(len(arrays[0]), encoded)

    def insert_blocks(self, table: str, blocks: Sequence[NativeBlock]) -> None:
        """Inserts prepared blocks; when it returns, they are stored."""
        names = ", ".join(ddl.quoted(column.name) for column in TABLES[table].columns)
        self._write(f"INSERT INTO {self._table(table)} ({names}) VALUES", Blocks(blocks))

    def insert(self, table: str, columns: Columns) -> None:
        """Inserts rows; when it returns, they are stored."""
        self.insert_blocks(table, [self.prepare(table, columns)])

    def final_rows(self, table: str, keys: Sequence[str]) -> Rows:
        """The final rows of some keys of a table whose key is one text, with all columns; those that are there."""
        return self.maintain(rows_of_keys(self._database, TABLES[table], keys))

    def maintain(self, sql: str) -> Rows:
        """Runs one statement of the project's own, whatever it changes, between two inserts; its rows, if any."""
        return self._write(sql)

    def query(self, sql: str) -> tuple[list[str], Rows]:
        """Column names and rows of a read-only query."""
        checked = check_read_only(sql)
        with self._read_lock:
            if self._reader is None:
                self._reader = self._connect(self._database, _READER_SETTINGS)
            try:
                rows, columns = self._reader.execute(checked, with_column_types=True)
            except ServerException as error:
                raise QueryFailedError(_first(error)) from error
            except (*_AWAY, DriverError) as error:
                _hang_up(self._reader)
                self._reader = None
                raise StorageError(f"the ClickHouse server is away ({_first(error)})") from error
        return [name for name, _ in columns], _plain_rows(rows)

    def close(self) -> None:
        """Closes both connections."""
        with self._read_lock:
            _hang_up(self._reader)
            self._reader = None
        with self._write_lock:
            _hang_up(self._writer)
            self._writer = None

    def _connect(self, database: str, settings: dict[str, int]) -> BlockClient:
        return BlockClient(
            self._url.hostname,
            port=self._url.port or _PORT_DEFAULT,
            user=unquote(self._url.username or "default"),
            password=unquote(self._url.password or ""),
            database=database,
            settings=settings,
            client_name="truyvet",
            connect_timeout=CONNECT_SECONDS_MAX,
            send_receive_timeout=self._answer_seconds_max,
            sync_request_timeout=CONNECT_SECONDS_MAX,
        )

    def _open_writer(self) -> BlockClient:
        """A connection with the settings that this server knows. The database may be yet to make."""
        if self._writer is None:
            names = ", ".join(f"'{name}'" for name in WRITER_SETTINGS)
            plain = self._connect("default", {})
            known = {name for (name,) in plain.execute(f"SELECT name FROM system.settings WHERE name IN ({names})")}
            plain.disconnect()
            settings = {name: value for name, value in WRITER_SETTINGS.items() if name in known}
            self._writer = self._connect("default", settings)
        return self._writer

    def _write(self, sql: str, rows: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        with self._write_lock:
            try:
                answer = self._open_writer().execute(sql, rows)
            except (*_AWAY, DriverError) as error:
                _hang_up(self._writer)
                self._writer = None
                if isinstance(error, ServerException):
                    sentence = f"the ClickHouse server refused: {_first(error)}"
                    raise (StorageError(sentence) if rows is None else storage_error(sentence, error.code)) from error
                raise StorageError(f"the ClickHouse server is away: {_first(error)}") from error
        return answer if isinstance(answer, list) else []

    def _table(self, name: str) -> str:
        return f"{ddl.quoted(self._database)}.{ddl.quoted(name)}"


def _hang_up(client: BlockClient | None) -> None:
    if client is not None:
        # It is given up; whether the other side hears of it does not matter.
        with contextlib.suppress(*_AWAY):
            client.disconnect()


_TEXT_OF: Final[dict[type, Callable[[Any], str]]] = {date: date.isoformat, datetime: datetime.isoformat}


def _plain_rows(rows: Sequence[tuple[Any, ...]]) -> Rows:
    """Dates as text, as the embedded database answers them."""
    dated = {index for index, value in enumerate(rows[0]) if type(value) in _TEXT_OF} if rows else set()
    if not dated:
        return list(rows)
    return [tuple(_TEXT_OF[type(value)](value) if type(value) in _TEXT_OF else value for value in row) for row in rows]


def _first(error: BaseException) -> str:
    """The error's first sentence, without the server's stack trace."""
    text = error.message if isinstance(error, ServerException) else str(error)
    return " ".join(text.split("Stack trace:")[0].split())[:300] or type(error).__name__
