"""Two months of scans pushed through at speed: what is held, where, and what a scan costs, by day.

``python -m tests.pipeline.bench_retention [--days N] [--scans N]``: a stack of its own, its topics with CreateTime
and expiry rehearsed by the records' timestamps (``rehearse_expiry``). Each day's scans are sent, settled, expired, and
ClickHouse purged as of that day. Changelogs are compacted as they are in a year, only sooner: small segments,
tombstones kept for a second.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from infra.topics import admin_client
from producers.feed import Feed
from producers.lines import SCANS, VENUES
from sinks.client import maintain, open_reader
from sinks.maintenance import PurgeAction
from sinks.tables import TABLES
from streams.core.times import DAY_MS, format_ms
from tests.pipeline.months import FIRST_MS, scans, venues
from truyvet.config import Settings, load_settings
from truyvet.drain import Drain
from truyvet.stack import Stack

COMPACTION = {
    "segment.bytes": str(4 * 1024 * 1024),
    "segment.ms": "20000",
    "delete.retention.ms": "1000",
    "min.cleanable.dirty.ratio": "0.2",
    "max.compaction.lag.ms": "60000",
}
EXPIRY_SECONDS_MAX = 300.0


def compact_soon(settings: Settings) -> None:
    """Lets the broker compact the changelogs within minutes instead of days."""
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in COMPACTION.items()
    ]
    topics = [settings.topic(f"state-{room}") for room in ("person", "venue")]
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries) for name in topics]
    admin = admin_client(settings)
    for future in admin.incremental_alter_configs(resources).values():
        future.result()


def folder_bytes(folder: Path, pattern: str, files: str = "*") -> int:
    """Bytes of the files below the folders that match."""
    return sum(file.stat().st_size for match in folder.glob(pattern) for file in match.rglob(files) if file.is_file())


def wait_expired(drain: Drain, partitions: int, until_ms: int) -> None:
    """Waits until every room partition has let go of what is from before."""
    deadline = time.monotonic() + EXPIRY_SECONDS_MAX
    wanted = format_ms(until_ms)
    while time.monotonic() < deadline:
        rooms = drain.rooms()
        if len(rooms) == 2 * partitions and all((room["expired"] or "") >= wanted for room in rooms.values()):
            return
        time.sleep(0.2)
    raise TimeoutError(f"no expiry up to {wanted} within {EXPIRY_SECONDS_MAX:.0f} s")


def main() -> None:
    """Prints one line a day, and the figures that are asked for at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--scans", type=int, default=100_000, help="a day")
    parser.add_argument("--partitions", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(restating=True, rehearse_expiry=True, partitions=args.partitions)
        with Stack(settings, workers=1, directory=Path(folder)) as stack:
            rows = list(_days(stack, args.days, args.scans))
    for name in ("state MiB", "changelog MiB", "clickhouse rows", "cpu us a scan"):
        day_30 = sum(row[name] for row in rows[29:33]) / 4
        last = sum(row[name] for row in rows[-4:]) / 4
        sys.stdout.write(f"{name}: {day_30:,.1f} around day 31, {last:,.1f} at the end, ratio {last / day_30:.2f}\n")


def _days(stack: Stack, days: int, count: int) -> Iterator[dict[str, Any]]:
    settings = stack.settings
    compact_soon(settings)
    drain, feed = Drain(stack), Feed(settings)
    feed.send(VENUES.topic, venues())
    drain.wait(drain.settled)
    for day in range(days):
        before = stack.usage()["worker-0"].cpu_seconds
        feed.send(SCANS.topic, scans(day, count))
        drain.wait(drain.settled)
        cutoff_ms = FIRST_MS + (day - settings.retention_days - 1) * DAY_MS
        if day > settings.retention_days:
            wait_expired(drain, settings.partitions, cutoff_ms)
        used = stack.usage()["worker-0"].cpu_seconds - before
        maintain(settings, PurgeAction(date.fromisoformat(format_ms(FIRST_MS + day * DAY_MS + DAY_MS // 2)[:10])))
        with open_reader(settings) as reader:
            held = {
                name: int(reader.query(f"SELECT count() FROM {name}")[1][0][0]) for name in TABLES if name != "venues"
            }
        cells = sum(held[name] for name in ("ward_minute", "venue_hour", "area_day"))
        row = {
            "day": day + 1,
            "state MiB": folder_bytes(stack.directory / "state", "**/*-*") / 2**20,
            "changelog MiB": folder_bytes(stack.directory / "kafka", "**/*state-*", "*.log") / 2**20,
            "clickhouse rows": sum(held.values()) - cells,
            "cells": cells,
            "cpu us a scan": used / count * 1e6,
        }
        sys.stdout.write(", ".join(f"{name} {value:,.1f}" for name, value in row.items()) + "\n")
        sys.stdout.flush()
        yield row
    drain.close()


if __name__ == "__main__":
    main()
