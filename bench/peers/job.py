"""What all contenders in Python share: the events, the join, the counts, and where things are.

The same code for everyone, and the fastest decoder there is: what is compared is the library around it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.core.inbound import Direction, Source

COUNTS_SECONDS = 1.0
"""How often contenders send the counts that have changed: so much later than the last scan, the last ones may come."""

Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
PersonId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]


class Scan(msgspec.Struct):
    """A scan event, with the rules of its schema."""

    scan_id: Id
    person_id: PersonId
    venue_id: Id
    direction: Direction
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)]
    source: Source


class Venue(msgspec.Struct):
    """What a scan takes from its venue."""

    venue_id: str
    ward_code: str
    district_code: str
    province_code: str
    category: str
    lat: float
    lon: float


class Enriched(msgspec.Struct):
    """An accepted scan with its venue's attributes."""

    scan_id: str
    person_id: str
    venue_id: str
    direction: str
    occurred_at: str
    source: str
    category: str
    province_code: str
    district_code: str
    ward_code: str
    lat: float
    lon: float


@dataclass(frozen=True)
class Task:
    """Where a contender reads and writes in this round."""

    brokers: str
    scans: str
    venues: str
    enriched: str
    counts: str
    group: str
    directory: str
    """A folder of this round alone, for what the contender keeps on disk."""
    partitions: int


def task() -> Task:
    """The round's task, from the environment."""
    names = ("brokers", "scans", "venues", "enriched", "counts", "group", "directory")
    values = {name: os.environ["BENCH_" + name.upper()] for name in names}
    return Task(**values, partitions=int(os.environ["BENCH_PARTITIONS"]))


decode_scan = msgspec.json.Decoder(Scan).decode
"""A scan of its bytes; raises ``msgspec.DecodeError`` where they are none."""
encode = msgspec.json.Encoder().encode
decode_venue = msgspec.json.Decoder(Venue).decode


def utc_text(moment: datetime) -> str:
    """As the pipeline writes times: UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def enrich(scan: Scan, venue: Venue) -> Enriched:
    """The scan with its venue's attributes."""
    return Enriched(
        scan.scan_id,
        scan.person_id,
        scan.venue_id,
        scan.direction,
        utc_text(scan.occurred_at),
        scan.source,
        venue.category,
        venue.province_code,
        venue.district_code,
        venue.ward_code,
        venue.lat,
        venue.lon,
    )


def count_key(occurred_at: str, ward_code: str) -> str:
    """Minute and ward of an accepted scan."""
    return f"{occurred_at[:16]}|{ward_code}"


def count_value(key: str, counts: list[int]) -> bytes:
    """The counts of a minute and ward (ins, outs, passes) as an event."""
    minute, _, ward = key.partition("|")
    ins, outs, passes = counts
    return encode(
        {
            "minute": minute + ":00.000Z",
            "ward_code": ward,
            "scans": ins + outs + passes,
            "ins": ins,
            "outs": outs,
            "passes": passes,
        }
    )


WAYS = {"in": 0, "out": 1, "pass": 2}
"""Where each direction is counted."""


@dataclass
class Counts:
    """Counts by minute and ward, in memory; knows which have changed."""

    cells: dict[str, list[int]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    def add(self, key: str, direction: str) -> None:
        """Counts one accepted scan by its ``count_key``."""
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = [0, 0, 0]
        cell[WAYS[direction]] += 1
        self.changed.add(key)

    def take_changed(self) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of each that has changed since the last time."""
        changed, self.changed = self.changed, set()
        for key in changed:
            yield key.encode(), count_value(key, self.cells[key])


def load_venues(where: Task) -> dict[str, Venue]:
    """The register, read from its topic to the end.

    Raises:
        KafkaException: the broker does not give it.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": where.brokers,
            "group.id": where.group + "-venues",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition(where.venues, number, 0) for number in range(where.partitions)])
    venues: dict[str, Venue] = {}
    left = where.partitions
    while left:
        for message in consumer.consume(1000, 0.1):
            error = message.error()
            if error is None:
                venue = decode_venue(message.value() or b"")
                venues[venue.venue_id] = venue
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own codes begin with _
                left -= 1
            else:
                raise KafkaException(error)
    consumer.close()
    return venues
