"""faust-streaming as documented: an agent that takes one event at a time, typed records, tables in RocksDB.

As https://faust-streaming.github.io/faust/userguide/tables.html and
https://faust-streaming.github.io/faust/userguide/agents.html advise: a ``Record`` as the stream's type, tables that are
read and written in the agent, ``store="rocksdb://"``, a timer for what is sent now and then; with the extras ``fast``
and ``uvloop`` of https://faust-streaming.github.io/faust/userguide/installation.html. Durability: tables are written to
changelog topics, at-least-once; a crash between a table's write and the offset's commit counts a scan twice or loses
its output.
"""

from pathlib import Path

import faust
import msgspec

from bench.peers import job

task = job.task()
venues = job.load_venues(task)

app = faust.App(
    task.group,
    broker=f"kafka://{task.brokers}",
    store="rocksdb://",
    datadir=Path(task.directory),
    topic_partitions=task.partitions,
    topic_replication_factor=1,
    web_enabled=False,
)


class Scan(faust.Record, serializer="json"):
    """A scan event."""

    scan_id: str
    person_id: str
    venue_id: str
    direction: str
    occurred_at: str
    source: str


scans = app.topic(task.scans, key_type=bytes, value_type=Scan)
enriched = app.topic(task.enriched, key_type=bytes, value_type=bytes, value_serializer="raw")
counted = app.topic(task.counts, key_type=bytes, value_type=bytes, value_serializer="raw")
seen = app.Table("seen", partitions=task.partitions)
counts = app.Table("counts", partitions=task.partitions)
changed: dict[tuple[int, str], list[int]] = {}


@app.agent(scans)
async def take(stream: faust.StreamT) -> None:
    """Takes scans one by one."""
    async for event in stream.events():
        try:
            scan = msgspec.convert(event.value.asdict(), job.Scan)
        except msgspec.ValidationError:
            continue
        identity = f"{scan.person_id}|{scan.scan_id}"
        if identity in seen:
            continue
        seen[identity] = 1
        accepted = job.enrich(scan, venues[scan.venue_id])
        await enriched.send(key=event.key, value=job.encode(accepted))
        key = job.count_key(accepted.occurred_at, accepted.ward_code)
        cell = list(counts.get(key) or (0, 0, 0))
        cell[job.WAYS[scan.direction]] += 1
        counts[key] = cell
        changed[event.message.partition, key] = cell


@app.timer(interval=job.COUNTS_SECONDS)
async def send_counts() -> None:
    """Sends the counts that have changed, of each partition by itself."""
    cells = dict(changed)
    changed.clear()
    for (partition, key), cell in cells.items():
        await counted.send(key=f"{partition}|{key}".encode(), value=job.count_value(key, cell))


if __name__ == "__main__":
    app.main()
