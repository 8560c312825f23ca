"""Statements that take rows out of the tables for good, the same on every backend from ClickHouse 18.16 on.

A deletion is a mutation: ClickHouse writes the parts anew that it touches, in the background, and inserts go on. What
is inserted later is not touched by it. Files that were replaced stay for ``ddl.OLD_PARTS_SECONDS``.
"""

import time
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from sinks.backends import Backend, Rows, StorageError
from sinks.ddl import quoted

CHANGE_SECONDS_MAX: Final = 1500.0
"""How long one deletion or merge may take before it is given up; run again, it goes on."""
_POLL_SECONDS: Final = 0.1
_POLL_SECONDS_MAX: Final = 1.0
_NO_PARTITION: Final = "none"
"""The id of a partition that no table has."""


class Stored(NamedTuple):
    """What a partition holds, replaced rows too."""

    name: str
    rows: int
    bytes: int


class Changing:
    """Changes one database."""

    def __init__(self, backend: Backend, database: str) -> None:
        self._backend = backend
        self._database = database

    def place(self, table: str) -> str:
        """The table's full name."""
        return f"{quoted(self._database)}.{quoted(table)}"

    def rows(self, sql: str) -> Rows:
        """Rows of one statement."""
        return self._backend.maintain(sql)

    def count(self, table: str, where: str = "1", *, final: bool = False) -> int:
        """Rows of a table; ``final`` leaves out those that are replaced."""
        ((rows,),) = self.rows(f"SELECT count() FROM {self.place(table)}{' FINAL' if final else ''} WHERE {where}")
        return int(rows)

    def stored(self, table: str) -> list[Stored]:
        """The table's partitions; a table without has one."""
        found = self.rows(
            f"SELECT partition, sum(rows), sum(bytes_on_disk) FROM system.parts WHERE active AND {self._of(table)}"
            " GROUP BY partition HAVING sum(rows) > 0 ORDER BY partition"
        )
        return [Stored(name, int(rows), int(size)) for name, rows, size in found]

    def drop_day(self, table: str, day: int) -> None:
        """Drops the partition of a day (yyyymmdd), files and all."""
        self.rows(f"ALTER TABLE {self.place(table)} DROP PARTITION {day}")

    def mutate(self, table: str, command: str) -> None:
        """Runs ``DELETE WHERE ...`` or ``UPDATE ...`` over the rows that are there now, and waits until it is done.

        Raises:
            StorageError: ClickHouse refused, is away or has not finished in time.
        """
        self.rows(f"ALTER TABLE {self.place(table)} {command}")
        unfinished = f"SELECT count() FROM system.mutations WHERE is_done = 0 AND {self._of(table)}"
        self._wait(lambda: self.rows(unfinished) == [(0,)], f"a deletion in {table}")

    def merge(self, table: str, merged: Callable[[], bool], day: int | None = None) -> None:
        """Merges a table, or one day of it, until ``merged`` says that what it is done for is reached.

        Raises:
            StorageError: as for ``mutate``.
        """

        def merge() -> bool:
            if not merged():
                # ClickHouse may find the parts busy and do nothing.
                partition = "" if day is None else f" PARTITION {day}"
                self.rows(f"OPTIMIZE TABLE {self.place(table)}{partition} FINAL")
            return merged()

        self._wait(merge, f"a merge of {table}")

    def wait_until_off_disk(self, tables: Collection[str]) -> None:
        """Waits until all files are gone that changes so far have replaced.

        Raises:
            StorageError: as for ``mutate``.
        """
        left = {(table, part) for table in tables for part in self._old_parts(table)}

        def gone() -> bool:
            for table in {table for table, _ in left}:
                # Dropping what does not exist makes ClickHouse look for files whose time is over.
                self.rows(f"ALTER TABLE {self.place(table)} DROP PARTITION ID '{_NO_PARTITION}'")
                still = self._old_parts(table)
                left.difference_update({one for one in left if one[0] == table and one[1] not in still})
            return not left

        self._wait(gone, "the removal of replaced files")

    def _of(self, table: str) -> str:
        return f"database = '{self._database}' AND table = '{table}'"

    def _old_parts(self, table: str) -> set[str]:
        return {name for (name,) in self.rows(f"SELECT name FROM system.parts WHERE NOT active AND {self._of(table)}")}

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        deadline, pause_seconds = time.monotonic() + CHANGE_SECONDS_MAX, _POLL_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise StorageError(f"{what} has not finished in {CHANGE_SECONDS_MAX:.0f} s; run it again")
            time.sleep(pause_seconds)
            pause_seconds = min(1.5 * pause_seconds, _POLL_SECONDS_MAX)
