"""One interface to ClickHouse, two backends: the engine as a library (chDB), and a server.

Inserting is at-least-once by design: a table keeps the row of the highest revision, so an insert that may or may
not have arrived is simply made again. Queries are always read-only (``sinks.readonly``).

A backend is used by two threads: one inserts, others query. Each side has a connection and a lock of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sinks.tables import CLICKHOUSE_TYPES, TABLES, ColumnType, TableSpec
from truyvet.config import ConfigError, Settings

ColumnValues: TypeAlias = list[Any] | npt.NDArray[Any] | pa.Array
"""One column's values: plain numbers as an array of numpy's, texts as one of Arrow's; anything as a list."""
Columns = Mapping[str, ColumnValues]
Rows = list[tuple[Any, ...]]

ARROW_TYPES: Final[Mapping[ColumnType, pa.DataType]] = MappingProxyType(
    {
        ColumnType.TEXT: pa.string(),
        ColumnType.OPTIONAL_TEXT: pa.string(),
        ColumnType.LABEL: pa.string(),
        ColumnType.TEXTS: pa.list_(pa.string()),
        ColumnType.TIME: pa.int64(),
        ColumnType.OPTIONAL_TIME: pa.int64(),
        ColumnType.DAY: pa.uint32(),
        ColumnType.COUNT: pa.uint64(),
        ColumnType.OPTIONAL_COUNT: pa.uint64(),
        ColumnType.INTEGER: pa.int64(),
        ColumnType.NUMBER: pa.float64(),
    }
)

AREA_ROWS_REVISION = 1
"""To be raised when the administrative list changes."""


class StorageError(Exception):
    """ClickHouse refused or is away; trying again may help. One sentence."""


class RowsRefusedError(StorageError):
    """ClickHouse refused an insert for what its rows hold; trying the same again does not help."""


_ROW_FAULTS: Final = frozenset({6, 8, 9, 26, 27, 36, 38, 41, 43, 44, 53, 69, 70, 72, 108, 117, 128, 131, 349, 469})
"""ClickHouse's numbers of errors that lie in the rows: what cannot be parsed or converted, is too large or out of
bounds, or breaks a constraint. Memory, disks, parts, networks and missing tables are not among them."""


def storage_error(sentence: str, code: int) -> StorageError:
    """What an insert raises that ClickHouse answered with this number."""
    return RowsRefusedError(sentence) if code in _ROW_FAULTS else StorageError(sentence)


class QueryFailedError(Exception):
    """ClickHouse could not run the query: it is wrong, or too large. One sentence."""


class Reader(Protocol):
    """Answers queries; a context manager that closes itself."""

    def query(self, sql: str) -> tuple[list[str], Rows]:
        """Column names and rows. Dates and times of day come as text, numbers as numbers, null as None.

        Raises:
            QueryRefusedError: the query is not read-only.
            QueryFailedError: ClickHouse could not run it.
            StorageError: ClickHouse is away.
        """
        ...

    def close(self) -> None:
        """Lets go of the connection; calling again does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Closing:
    """Makes a context manager of a class that has ``close``."""

    def close(self) -> None:
        """Lets go of what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Backend(Reader, Protocol):
    """A database that the sink may write to."""

    def ensure_schema(self) -> None:
        """Makes database, tables and views that are missing.

        Raises:
            StorageError: ClickHouse refused or is away.
            ConfigError: a table that is there has other columns.
        """
        ...

    def identity(self) -> str:
        """The text that names this database for as long as it lives.

        Raises:
            StorageError: ClickHouse is away.
        """
        ...

    def prepare(self, table: str, columns: Columns) -> Any:  # noqa: ANN401 - each backend's own form of a block
        """Rows in the form in which this backend sends them; kept until they are inserted."""
        ...

    def insert_blocks(self, table: str, blocks: Sequence[Any]) -> None:
        """Inserts prepared blocks; when it returns, they are stored.

        Raises:
            RowsRefusedError: ClickHouse refused for what some row holds.
            StorageError: ClickHouse refused or is away; all, some or none of the rows may be stored.
        """
        ...

    def insert(self, table: str, columns: Columns) -> None:
        """Inserts rows; when it returns, they are stored.

        Raises:
            StorageError: as for ``insert_blocks``.
        """
        ...

    def final_rows(self, table: str, keys: Sequence[str]) -> Rows:
        """The final rows of some keys of a table whose key is one text, with all columns; those that are there.

        Raises:
            StorageError: ClickHouse is away.
        """
        ...

    def maintain(self, sql: str) -> Rows:
        """Runs one statement of the project's own, whatever it changes, between two inserts; its rows, if any.

        Raises:
            StorageError: ClickHouse refused or is away.
        """
        ...


def checked_columns(spec: TableSpec, columns: Columns) -> Iterator[tuple[str, ColumnValues]]:
    """The columns in the table's order; all must be there, no other, all of one length."""
    names = [column.name for column in spec.columns]
    assert set(columns) == set(names), f"columns of {spec.name}: {sorted(set(columns) ^ set(names))}"
    assert len({len(values) for values in columns.values()}) == 1, f"columns of {spec.name} differ in length"
    return ((name, columns[name]) for name in names)


def arrow_arrays(spec: TableSpec, columns: Columns) -> list[pa.Array]:
    """The columns in the table's order as Arrow arrays of the table's types."""
    arrays = []
    for column, (_, values) in zip(spec.columns, checked_columns(spec, columns), strict=True):
        wanted = ARROW_TYPES[column.type]
        ready = isinstance(values, pa.Array) and values.type == wanted
        arrays.append(values if ready else pa.array(values, wanted))
    return arrays


def check_columns(database: str, found: Iterable[tuple[str, str, str]]) -> None:
    """Compares the tables that are there with the registry; ``found`` are (table, column, type).

    Raises:
        ConfigError: a table is of another version of the pipeline.
    """
    columns: dict[str, dict[str, str]] = {}
    for table, name, clickhouse_type in found:
        columns.setdefault(table, {})[name] = clickhouse_type
    for spec in TABLES.values():
        wanted = {column.name: CLICKHOUSE_TYPES[column.type] for column in spec.columns}
        if columns.get(spec.name) != wanted:
            raise ConfigError(
                f"TRUYVET_DATABASE: table {database}.{spec.name} has not the columns of this version;"
                " restate into a new database (and a new topic prefix)"
            )


def area_rows() -> Iterable[tuple[str, str, str, str, str, int]]:
    """The administrative list as rows of the ``areas`` table: level, code, name, district, province, revision."""
    from schemas.areas import NATION_CODE, load_areas  # noqa: PLC0415 - a list of 10,599 that readers never need

    areas = load_areas()
    for code, name in areas.names.items():
        level = areas.level(code)
        district, province = {
            "nation": ("", ""),
            "province": ("", code),
            "district": (code, areas.districts.get(code, "")),
            "ward": areas.parents.get(code, ("", "")),
        }[level]
        yield level, code or NATION_CODE, name, district, province, AREA_ROWS_REVISION


def open_backend(settings: Settings) -> Backend:
    """The backend that the settings name. A server need not be there yet; the embedded database is opened.

    Raises:
        StorageError: the embedded database is in use by another process, or cannot be opened.
    """
    # Each engine is loaded only by who uses it: chDB alone is several hundred megabytes.
    if settings.clickhouse == "embedded":
        from sinks.embedded import ChdbBackend  # noqa: PLC0415

        return ChdbBackend(settings)
    from sinks.server import ClickHouseBackend  # noqa: PLC0415

    return ClickHouseBackend(settings)


def as_list(values: ColumnValues) -> list[Any]:
    """Plain Python values."""
    if isinstance(values, np.ndarray):
        return list(values.tolist())
    return values if isinstance(values, list) else list(values.to_pylist())


__all__ = [
    "TABLES",
    "Backend",
    "Closing",
    "ColumnValues",
    "Columns",
    "QueryFailedError",
    "Reader",
    "Rows",
    "RowsRefusedError",
    "StorageError",
    "area_rows",
    "arrow_arrays",
    "as_list",
    "check_columns",
    "checked_columns",
    "open_backend",
    "storage_error",
]
