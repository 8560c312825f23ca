"""Python's floor: a consume and produce loop over confluent-kafka, and a set in memory.

As https://docs.confluent.io/kafka-clients/python/current/overview.html shows it (at-least-once: commit after flush),
with ``consume`` of many messages at once. Durability: offsets. What was seen before a restart is forgotten, so copies
that come after one are accepted again, and counts begin anew.
"""

import signal
import time

import msgspec
from confluent_kafka import Consumer, Producer

from bench.peers import job


class _Stop:
    now = False


def _stop(*_: object) -> None:
    _Stop.now = True


def main() -> None:
    """Runs until SIGTERM."""
    signal.signal(signal.SIGTERM, _stop)
    task = job.task()
    venues = job.load_venues(task)
    options = {"bootstrap.servers": task.brokers}
    consumer = Consumer(
        options | {"group.id": task.group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    producer = Producer(
        options
        | {
            "partitioner": "murmur2_random",
            "linger.ms": 50,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
        }
    )
    consumer.subscribe([task.scans])
    seen: set[tuple[str, str]] = set()
    counts = job.Counts()
    due = time.monotonic() + job.COUNTS_SECONDS
    while not _Stop.now:
        for message in consumer.consume(5000, 0.1):
            if message.error() is not None:
                continue
            try:
                scan = job.decode_scan(message.value() or b"")
            except msgspec.DecodeError:
                continue
            identity = (scan.person_id, scan.scan_id)
            if identity in seen:
                continue
            seen.add(identity)
            event = job.enrich(scan, venues[scan.venue_id])
            producer.produce(task.enriched, job.encode(event), message.key())
            counts.add(job.count_key(event.occurred_at, event.ward_code), event.direction)
        producer.poll(0)
        if time.monotonic() >= due:
            due = time.monotonic() + job.COUNTS_SECONDS
            if counts.changed:
                for key, value in counts.take_changed():
                    producer.produce(task.counts, value, key)
                producer.flush()
                consumer.commit(asynchronous=False)
    producer.flush()
    consumer.close()


if __name__ == "__main__":
    main()
