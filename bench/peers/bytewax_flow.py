"""Bytewax as documented: a dataflow with its Kafka connector, stateful operators and recovery.

As https://docs.bytewax.io/stable/guide/concepts/recovery.html and
https://docs.bytewax.io/stable/api/bytewax/bytewax.connectors.kafka.html advise; run by ``python -m bytewax.run
bench.peers.bytewax_flow:flow -r DIRECTORY -s SECONDS`` on a folder that ``python -m bytewax.recovery`` prepared.
Durability: operators' state and the source's offsets are written to SQLite by snapshots; outputs since the last one are
sent again after a crash (at-least-once).
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow

from bench.peers import job

task = job.task()
venues = job.load_venues(task)


def decode(message: KafkaSourceMessage) -> tuple[str, job.Scan] | None:
    """A valid scan by its person."""
    try:
        scan = job.decode_scan(message.value)
    except msgspec.DecodeError:
        return None
    return scan.person_id, scan


def only_new(seen: frozenset[str] | None, scan: job.Scan) -> tuple[frozenset[str], Iterable[job.Enriched]]:
    """The scan, unless its person has sent it before. State must be immutable, since snapshots keep it."""
    seen = seen or frozenset()
    if scan.scan_id in seen:
        return seen, ()
    return seen | {scan.scan_id}, (job.enrich(scan, venues[scan.venue_id]),)


class Counting(op.StatefulLogic):
    """The counts of one minute and ward; sent a moment after they have changed."""

    def __init__(self, resumed: tuple[int, int, int] | None) -> None:
        self._counts = list(resumed or (0, 0, 0))
        self._due: datetime | None = None

    def on_item(self, value: job.Enriched) -> tuple[Iterable[list[int]], bool]:
        """Counts a scan."""
        self._counts[job.WAYS[value.direction]] += 1
        if self._due is None:
            self._due = datetime.now(UTC) + timedelta(seconds=job.COUNTS_SECONDS)
        return (), self.RETAIN

    def on_notify(self) -> tuple[Iterable[list[int]], bool]:
        """Sends the counts."""
        self._due = None
        return (list(self._counts),), self.RETAIN

    def notify_at(self) -> datetime | None:
        """When the counts are to be sent."""
        return self._due

    def snapshot(self) -> tuple[int, ...]:
        """The counts, as they are kept."""
        return tuple(self._counts)


brokers = [task.brokers]
options = {"partitioner": "murmur2_random"}
flow = Dataflow("bench")
source = kop.input("scans", flow, brokers=brokers, topics=[task.scans])
by_person = op.filter_map("decode", source.oks, decode)
accepted = op.stateful_flat_map("only_new", by_person, only_new)
messages = op.map("encode", accepted, lambda pair: KafkaSinkMessage(pair[0].encode(), job.encode(pair[1])))
kop.output("enriched", messages, brokers=brokers, topic=task.enriched, add_config=options)
by_cell = op.map("by_cell", accepted, lambda pair: (job.count_key(pair[1].occurred_at, pair[1].ward_code), pair[1]))
counted = op.stateful("count", by_cell, Counting)
upserts = op.map("upsert", counted, lambda pair: KafkaSinkMessage(pair[0].encode(), job.count_value(*pair)))
kop.output("counts", upserts, brokers=brokers, topic=task.counts, add_config=options)
