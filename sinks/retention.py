"""Retention in ClickHouse (SPEC, section 8): whole days of a table go, and cases by the time of their report.

A day goes once its retention and a day more have passed since its end, reckoned from the beginning of the day that is
asked about: the margin that the rooms leave in their state. A row's day follows from its key, so a row goes together
with all that it replaced and with what takes it back. Each day goes in one piece, and what is gone is passed over the
next time: killed in the middle and run again, it ends the same.
"""

from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from sinks.backends import Backend
from sinks.changing import Changing
from sinks.tables import DAYS_BEYOND, TABLES, TableSpec
from truyvet.config import Settings

_ERASED: Final = "status = 'erased'"


class Purged(msgspec.Struct, frozen=True):
    """What went of one table, or would go; rows as stored, replaced ones too."""

    table: str
    retention_days: int | None
    days: list[date]
    rows_dropped: int
    rows_left: int
    bytes_before: int
    bytes_after: int


class Purge(msgspec.Struct, frozen=True):
    """What went of all tables."""

    as_of: date
    dry_run: bool
    tables: list[Purged]


def kept_from(as_of: date, retention_days: int) -> date:
    """The first day that stays; the calendar's first where all do."""
    return date.fromordinal(max(as_of.toordinal() - retention_days - DAYS_BEYOND, 1))


def gone_on(day: date, retention_days: int) -> date:
    """The first day on which a purge takes ``day`` away."""
    return day + timedelta(days=retention_days + DAYS_BEYOND + 1)


def purge(backend: Backend, settings: Settings, as_of: date, *, dry_run: bool = False) -> Purge:
    """Drops what is past its retention on the local day ``as_of``; ``dry_run`` only says what that is.

    Raises:
        StorageError: ClickHouse refused or is away; what went until then is gone.
    """
    changing = Changing(backend, settings.database)
    return Purge(
        as_of, dry_run, [_purge_table(changing, settings, spec, as_of, dry_run=dry_run) for spec in TABLES.values()]
    )


def _purge_table(changing: Changing, settings: Settings, spec: TableSpec, as_of: date, *, dry_run: bool) -> Purged:
    days = spec.retention.days(settings.retention_days)
    stored = changing.stored(spec.name)
    rows, size = sum(part.rows for part in stored), sum(part.bytes for part in stored)
    gone: list[date] = []
    rows_gone = bytes_gone = 0
    if days is not None and spec.partition is not None:
        first = int(kept_from(as_of, days).strftime("%Y%m%d"))
        for day, part in sorted((int(part.name), part) for part in stored):
            if day < first:
                if not dry_run:
                    changing.drop_day(spec.name, day)
                gone.append(date(day // 10_000, day // 100 % 100, day % 100))
                rows_gone += part.rows
                bytes_gone += part.bytes
    elif days is not None:
        midnight = datetime.combine(kept_from(as_of, days), datetime.min.time(), ZoneInfo(settings.report_timezone))
        rows_gone = _purge_rows(changing, spec, int(midnight.timestamp() * 1000), dry_run=dry_run)
        bytes_gone = size - sum(part.bytes for part in changing.stored(spec.name))
    return Purged(spec.name, days, gone, rows_gone, rows - rows_gone, size, size - bytes_gone)


def _purge_rows(changing: Changing, spec: TableSpec, first_ms: int, *, dry_run: bool) -> int:
    """Deletes rows by their time, and what an erasure left: that has no time, and nothing to say any more."""
    where = f"ifNull({spec.retention_of} < {first_ms}, 0) OR {_ERASED}"
    found = changing.count(spec.name, where)
    if not found or dry_run:
        return found
    # What an erased row replaced must be gone before it: else it would count again.
    changing.merge(spec.name, lambda: changing.count(spec.name) == changing.count(spec.name, final=True))
    changing.mutate(spec.name, f"DELETE WHERE {where}")
    return found
