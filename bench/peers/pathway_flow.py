"""Pathway as documented: tables read from Kafka, deduplicated, joined and counted in its engine, with persistence.

As https://pathway.com/developers/user-guide/connectors/kafka_connectors,
https://pathway.com/developers/user-guide/deployment/persistence and
https://pathway.com/developers/api-docs/pathway-table (``deduplicate``) advise. Durability: with
``--persistence inputs`` what was read is kept in files and computed again after a crash; with ``none`` nothing is, and
a restart reads all from the beginning. (The state of operators is kept for those alone who have a license key.) Outputs
since the last snapshot are sent again (at-least-once). Counts are sent as changes: each record has a ``diff``, and they
are added up.
"""

import argparse

import msgspec
import pathway as pw

from bench.peers import job

AUTOCOMMIT_MS = round(job.COUNTS_SECONDS * 1000)
SNAPSHOT_MS = 5000


class ScanSchema(pw.Schema):
    """A scan event."""

    scan_id: str
    person_id: str
    venue_id: str
    direction: str
    occurred_at: str
    source: str


class VenueSchema(pw.Schema):
    """What a scan takes from its venue."""

    venue_id: str = pw.column_definition(primary_key=True)
    ward_code: str
    district_code: str
    province_code: str
    category: str
    lat: float
    lon: float


@pw.udf(deterministic=True)
def checked_utc(scan_id: str, person_id: str, venue_id: str, direction: str, occurred_at: str, source: str) -> str:
    """When a valid scan occurred, in UTC; nothing of one that breaks the rules of its schema."""
    fields = {
        "scan_id": scan_id,
        "person_id": person_id,
        "venue_id": venue_id,
        "direction": direction,
        "occurred_at": occurred_at,
        "source": source,
    }
    try:
        return job.utc_text(msgspec.convert(fields, job.Scan).occurred_at)
    except msgspec.ValidationError:
        return ""


def build(task: job.Task) -> None:
    """The dataflow."""
    settings = {"bootstrap.servers": task.brokers, "group.id": task.group, "auto.offset.reset": "earliest"}
    scans = pw.io.kafka.read(
        settings, task.scans, schema=ScanSchema, format="json", autocommit_duration_ms=AUTOCOMMIT_MS, name="scans"
    )
    venues = pw.io.kafka.read(
        settings | {"group.id": task.group + "-venues"},
        task.venues,
        schema=VenueSchema,
        format="json",
        autocommit_duration_ms=AUTOCOMMIT_MS,
        name="venues",
    )
    checked = scans.with_columns(
        occurred_at=checked_utc(*(pw.this[name] for name in ScanSchema.column_names())),
        identity=pw.this.person_id + "|" + pw.this.scan_id,
    ).filter(pw.this.occurred_at != "")
    accepted = checked.deduplicate(
        value=pw.this.scan_id,
        instance=pw.this.identity,
        acceptor=lambda _new, _old: False,  # the first one stays
        name="seen",
    ).without(pw.this.identity)
    enriched = accepted.join(venues, pw.left.venue_id == pw.right.venue_id).select(
        *(pw.left[name] for name in ScanSchema.column_names()),
        *(pw.right[name] for name in VenueSchema.column_names() if name != "venue_id"),
    )
    pw.io.kafka.write(enriched, settings, task.enriched, format="json", key=enriched.person_id)
    counts = (
        enriched.select(
            minute=pw.this.occurred_at.str.slice(0, 16) + ":00.000Z",
            ward_code=pw.this.ward_code,
            is_in=pw.cast(int, pw.this.direction == "in"),
            is_out=pw.cast(int, pw.this.direction == "out"),
            is_pass=pw.cast(int, pw.this.direction == "pass"),
        )
        .groupby(pw.this.minute, pw.this.ward_code)
        .reduce(
            pw.this.minute,
            pw.this.ward_code,
            scans=pw.reducers.count(),
            ins=pw.reducers.sum(pw.this.is_in),
            outs=pw.reducers.sum(pw.this.is_out),
            passes=pw.reducers.sum(pw.this.is_pass),
        )
    )
    pw.io.kafka.write(counts, settings, task.counts, format="json")


def main() -> None:
    """Runs until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--persistence", choices=("none", "inputs"), default="inputs")
    args = parser.parse_args()
    task = job.task()
    build(task)
    config = None
    if args.persistence == "inputs":
        backend = pw.persistence.Backend.filesystem(task.directory)
        config = pw.persistence.Config(backend, snapshot_interval_ms=SNAPSHOT_MS)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE, persistence_config=config)


if __name__ == "__main__":
    main()
