"""``truyvet purge``: retention in ClickHouse. Whole days go, from the tables of whatever database the settings name."""

import argparse
import json
import sys

import msgspec

from sinks.backends import QueryFailedError, StorageError
from sinks.client import maintain
from sinks.maintenance import PurgeAction, RefusedError
from sinks.retention import Purge, Purged
from truyvet.config import load_settings
from truyvet.days import local_day
from truyvet.query import print_rows

_MIB = 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's own arguments."""
    parser.add_argument("--as-of", type=local_day, metavar="DAY", help="reckon from this local day (default: today's)")
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and leave it")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Drops what is past its retention and says what that was; a second time there is nothing to drop."""
    try:
        done = maintain(load_settings(), PurgeAction(args.as_of, args.dry_run))
    except RefusedError as error:
        print(f"truyvet purge: {error}", file=sys.stderr)
        return 2
    except (StorageError, QueryFailedError) as error:
        print(f"truyvet purge: {error}; what went until then is gone, run it again for the rest", file=sys.stderr)
        return 1
    assert isinstance(done, Purge), "that is what this action answers"
    if args.json:
        print(json.dumps(msgspec.to_builtins(done)))
    else:
        _print(done)
    return 0


def _print(done: Purge) -> None:
    columns = ("table", "kept for days", "days", "first", "last", "rows", "rows left", "MiB", "MiB left")
    print_rows(columns, [_row(one) for one in done.tables])
    rows = sum(one.rows_dropped for one in done.tables)
    if not rows:
        print(f"as of {done.as_of} nothing is past its retention")
    elif done.dry_run:
        print(f"as of {done.as_of} {rows:,} rows would go; nothing was changed")
    else:
        print(f"as of {done.as_of} {rows:,} rows went")


def _row(one: Purged) -> tuple[str | int | float | None, ...]:
    first, last = (one.days[0].isoformat(), one.days[-1].isoformat()) if one.days else (None, None)
    sizes = (round((one.bytes_before - one.bytes_after) / _MIB, 1), round(one.bytes_after / _MIB, 1))
    kept = "for ever" if one.retention_days is None else str(one.retention_days)
    return one.table, kept, len(one.days), first, last, one.rows_dropped, one.rows_left, *sizes
