"""What brings the tables of an older release to this one's form, before the sink writes to them.

A table's sorting key cannot be changed, so a table whose key changes is filled anew beside the old one, and then both
are renamed in one statement. Which step is due is found by looking at the columns that are there; no record is kept of
it that could be wrong. Killed between any two statements and run again, a step ends the same:

1. Copies have names that no other run knows, so two sinks of one server never write into each other's. One that was
   left behind is dropped once the step is done.
2. The old table gets a name that must be free, which ClickHouse checks in the same statement: of two sinks that have
   made a copy the second is refused, finds the step done, and drops its own.
3. Its rows go after that; it stays, empty, for as long as its name is to be taken.
4. A server that died between the two renamings has the old table under its new name, and none under the old: it is
   copied from there.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sinks.backends import Rows
from sinks.ddl import create_table, quoted
from sinks.tables import TABLES
from truyvet import logs

Run = Callable[[str], Rows]
"""Runs one statement; its rows, if any."""

_log = logs.get("sink")


@dataclass(frozen=True, slots=True)
class Refill:
    """A step: a table that lacks a column is filled anew in this release's form."""

    number: int
    """Steps are taken in this order; the old table is kept under a name with it."""
    table: str
    lacks: str
    """The column by whose absence a table of before is known."""
    values: Mapping[str, str]
    """SQL of the columns that it lacks, and of those that mean something else now."""


_RANK: Final = "multiIf(status = 'resolved', 3, status = 'waiting', 2, 1)"
STEPS: Final = (
    Refill(
        number=1,
        table="rejects",
        lacks="epoch",
        values=MappingProxyType(
            {
                "epoch": "toInt64(0)",
                "attempts": "toUInt64(0)",
                # As ``wire.reject_revision``; it was 1 written, 2 resolved, 3 erased, 4 accepted when sent again.
                "revision": f"toUInt64({_RANK} + if(revision >= 3, {1 << 40}, 0))",
            }
        ),
    ),
)


def take_steps(run: Run, database: str) -> None:
    """Takes every step that is due; nothing where the database is new, or of this release.

    Raises:
        StorageError: ClickHouse refused or is away; taken again, it goes on.
    """
    for step in STEPS:
        _take(step, run, database)


def _take(step: Refill, run: Run, database: str) -> None:
    tables = _tables(run, database, step.table)
    before, copies = f"{step.table}_before_{step.number}", f"{step.table}_copy_{step.number}_"
    source = step.table if step.table in tables else before
    if source in tables and step.lacks not in tables[source] and not _is_done(step, tables):
        copy = copies + uuid.uuid4().hex
        _log.info("a table of an older release is filled anew", table=step.table, step=step.number)
        rows = _copy(step, run, database, source, copy)
        place = quoted(database)
        moved = f"{place}.{quoted(copy)} TO {place}.{quoted(step.table)}"
        if source == step.table:
            moved = f"{place}.{quoted(source)} TO {place}.{quoted(before)}, {moved}"
        run(f"RENAME TABLE {moved}")
        _log.info("a table of an older release is filled anew", table=step.table, step=step.number, rows=rows)
        tables = _tables(run, database, step.table)
    if not _is_done(step, tables):
        return
    if before in tables:
        run(f"TRUNCATE TABLE {quoted(database)}.{quoted(before)}")
    for name in sorted(tables):
        if name.startswith(copies):
            run(f"DROP TABLE IF EXISTS {quoted(database)}.{quoted(name)}")


def _is_done(step: Refill, tables: Mapping[str, set[str]]) -> bool:
    return step.lacks in tables.get(step.table, ())


def _tables(run: Run, database: str, table: str) -> dict[str, set[str]]:
    """The columns of a table, and of those that steps have made beside it."""
    found: dict[str, set[str]] = {}
    sql = "SELECT table, name FROM system.columns"
    for name, column in run(f"{sql} WHERE database = '{database}' AND startsWith(table, '{table}')"):
        found.setdefault(name, set()).add(column)
    return found


def _copy(step: Refill, run: Run, database: str, source: str, copy: str) -> int:
    """Fills a copy in the new form, partition by partition; returns how many rows it has."""
    spec = TABLES[step.table]
    place, names = quoted(database), [column.name for column in spec.columns]
    run(create_table(database, spec, copy))
    columns = ", ".join(map(quoted, names))
    values = ", ".join(step.values.get(name, quoted(name)) for name in names)
    column = quoted(spec.partition) if spec.partition else "1"
    for (part,) in run(f"SELECT DISTINCT {column} FROM {place}.{quoted(source)} ORDER BY {column}"):
        run(
            f"INSERT INTO {place}.{quoted(copy)} ({columns}) SELECT {values}"
            f" FROM {place}.{quoted(source)} WHERE {column} = {part}"
        )
    ((rows,),) = run(f"SELECT count() FROM {place}.{quoted(copy)}")
    return int(rows)
