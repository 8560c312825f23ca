"""Reading a table's final rows page by page in key order, so that no table ever stands in memory at once."""

from collections.abc import Iterator, Sequence
from typing import Final

from sinks.backends import Reader, Rows
from sinks.ddl import place, quoted
from sinks.tables import TableSpec

PAGE_ROWS: Final = 50_000
PAGE_ROWS_OF: Final = {"rejects": 250}
"""Smaller pages where one row may hold a megabyte."""


def pages(reader: Reader, spec: TableSpec, columns: Sequence[str], where: str = "1") -> Iterator[Rows]:
    """Pages of the table's final rows that fulfil ``where``; ``columns`` must hold the key.

    Raises:
        StorageError: the database does not answer.
    """
    limit = PAGE_ROWS_OF.get(spec.name, PAGE_ROWS)
    names = ", ".join(map(quoted, columns))
    key = ", ".join(map(quoted, spec.key))
    places = [columns.index(name) for name in spec.key]
    after = ""
    while True:
        _, rows = reader.query(
            f"SELECT {names} FROM {quoted(spec.name)} FINAL WHERE {where}{after} ORDER BY {key} LIMIT {limit}"
        )
        yield rows
        if len(rows) < limit:
            return
        last = [literal(rows[-1][place]) for place in places]
        # The first comparison follows from the second, and lets ClickHouse skip what lies before.
        after = f" AND {quoted(spec.key[0])} >= {last[0]} AND ({key}) > ({', '.join(last)})"


def rows_of_keys(database: str, spec: TableSpec, keys: Sequence[str]) -> str:
    """The query for the final rows of some keys, all columns in their order; the table's key is one text."""
    (key,) = spec.key
    names = ", ".join(quoted(column.name) for column in spec.columns)
    wanted = ", ".join(map(literal, keys))
    return f"SELECT {names} FROM {place(database, spec.name)} FINAL WHERE {quoted(key)} IN ({wanted})"


def literal(value: str | int) -> str:
    """A text or number as SQL writes it."""
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
