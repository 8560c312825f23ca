"""Quix Streams as documented: a StreamingDataFrame with state in RocksDB, changelogs in Kafka, exactly-once.

As https://quix.io/docs/quix-streams/advanced/stateful-processing.html and
https://quix.io/docs/quix-streams/configuration.html advise: JSON in and out by the library's own (de)serialisers, state
of a message's own key, the stronger ``processing_guarantee``. Durability of what was seen: state and changelog,
committed with outputs and offsets. State belongs to a message's key, the person, so counts by ward are one of two:

- ``memory``: kept in the process, sent once a second; they do not survive it (the library has no timer, so the last
  ones are sent when it stops);
- ``state``: the accepted scans are grouped anew by minute and ward (``group_by``, a topic of the library's own), and
  each change of a count is sent; durable.
"""

import argparse
import time
from typing import Any

import msgspec
from quixstreams import Application, State

from bench.peers import job

task = job.task()
venues = job.load_venues(task)
counts = job.Counts()
Event = dict[str, Any]


def valid(value: Event) -> job.Scan | None:
    """The event, if it follows the rules of its schema."""
    try:
        return msgspec.convert(value, job.Scan)
    except msgspec.ValidationError:
        return None


def is_new(scan: job.Scan, state: State) -> bool:
    """Whether the person has not sent this scan before."""
    if state.exists(scan.scan_id):
        return False
    state.set(scan.scan_id, 1)
    return True


def enriched(scan: job.Scan) -> Event:
    """The scan with its venue's attributes."""
    return msgspec.structs.asdict(job.enrich(scan, venues[scan.venue_id]))


def cell_of(value: Event) -> str:
    """Minute and ward of an accepted scan."""
    return job.count_key(value["occurred_at"], value["ward_code"])


def count(value: Event, key: object, _timestamp: int, _headers: object, state: State) -> Event:
    """The counts of the cell, one scan more."""
    cell = state.get("counts", default=[0, 0, 0])
    cell[job.WAYS[value["direction"]]] += 1
    state.set("counts", cell)
    return msgspec.json.decode(job.count_value(str(key), cell))


def main() -> None:
    """Runs until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", choices=("memory", "state"), default="memory")
    args = parser.parse_args()
    app = Application(
        broker_address=task.brokers,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=task.directory,
        loglevel="WARNING",
    )
    frame = app.dataframe(app.topic(task.scans, value_deserializer="json"))
    frame = frame.apply(valid).filter(lambda scan: scan is not None).filter(is_new, stateful=True).apply(enriched)
    frame = frame.to_topic(app.topic(task.enriched, value_serializer="json"))
    counted = app.topic(task.counts, key_serializer="str", value_serializer="json")
    if args.counts == "state":
        cells = frame.group_by(cell_of, name="cell", key_serializer="str", key_deserializer="str")
        cells.apply(count, stateful=True, metadata=True).to_topic(counted)
        app.run()
        return
    producer = app.get_producer()
    due = time.monotonic() + job.COUNTS_SECONDS

    def add(value: Event) -> None:
        nonlocal due
        counts.add(cell_of(value), value["direction"])
        if time.monotonic() >= due:
            due = time.monotonic() + job.COUNTS_SECONDS
            send_counts()

    def send_counts() -> None:
        for key, value in counts.take_changed():
            producer.produce(task.counts, value, key)

    frame.update(add)
    app.run()
    send_counts()
    producer.flush()


if __name__ == "__main__":
    main()
