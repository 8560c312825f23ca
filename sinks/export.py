"""Every table of SPEC, section 9, as JSON lines: one final row per key, ordered by key (``truyvet replay``).

Rows are read page by page in key order, so that a week of scans never stands in memory at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from sinks.backends import Reader, Rows
from sinks.paging import pages
from sinks.tables import TABLES, ColumnType, TableSpec
from streams.core.times import format_ms


def day_text(number: int) -> str:
    """``2021-10-14`` of 20211014."""
    return f"{number // 10_000:04d}-{number // 100 % 100:02d}-{number % 100:02d}"


_SHOWN: Final[Mapping[ColumnType, Callable[[Any], Any]]] = MappingProxyType(
    {
        ColumnType.TIME: format_ms,
        ColumnType.OPTIONAL_TIME: lambda value: None if value is None else format_ms(value),
        ColumnType.DAY: day_text,
        ColumnType.NUMBER: float,
        ColumnType.TEXTS: list,
    }
)
"""What a stored value becomes; one of any other type stays."""


def export_tables(reader: Reader, out_dir: Path) -> dict[str, int]:
    """Writes ``OUT/<table>.jsonl`` for every table; returns the rows of each. Files that exist are replaced.

    Raises:
        StorageError: the database does not answer.
        OSError: a file cannot be written.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    return {name: _write(out_dir / f"{name}.jsonl", table_rows(reader, spec)) for name, spec in TABLES.items()}


def table_rows(reader: Reader, spec: TableSpec, where: str = "1") -> Iterator[dict[str, Any]]:
    """The table's final rows that fulfil ``where`` as SPEC, section 10, shows them, in key order."""
    names = [column.name for column in spec.exported]
    for page in pages(reader, spec, names, where):
        yield from shown_rows(spec, names, page)


def shown_rows(spec: TableSpec, names: Sequence[str], rows: Rows) -> Iterator[dict[str, Any]]:
    """Stored rows of these columns with times and days as text."""
    shown = [_SHOWN.get(spec.column(name).type) for name in names]
    for row in rows:
        yield {
            name: value if show is None else show(value) for name, value, show in zip(names, row, shown, strict=True)
        }


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Writes beside the file and moves it there, so that a half-written one is never taken for whole."""
    count = 0
    draft = path.with_suffix(".jsonl.part")
    encoder = msgspec.json.Encoder()
    with draft.open("wb") as file:
        for row in rows:
            file.write(encoder.encode(row) + b"\n")
            count += 1
    draft.replace(path)
    return count
