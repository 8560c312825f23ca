"""Where a person stands outside ClickHouse, and for how long: the last part of a certificate and of an export."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from infra.topics import TOPICS, TopicSpec
from sinks.tables import CASES_RETENTION_DAYS
from truyvet.config import Settings

HOLDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "scans": "scans as they were sent",
        "cases": "case reports as they were sent",
        "erasures": "requests to be forgotten",
        "returns": "events that were sent on, and dead letters that were sent again",
        "enriched": "accepted scans",
        "visits": "visits, and that they were taken back",
        "case-visits": "visits of cases, with their persons",
        "case-states": "the report that counts for each case",
        "exposures": "warnings, and that they were taken back",
        "rejects": "dead letters with key and payload",
        "state-person": "changes of the person room's state",
        "state-venue": "changes of the venue room's state",
    }
)
"""What the topics hold that name persons, by name without prefix."""
NOBODY: Final = frozenset({"venues", "venue-marks", "aggregates"})
"""The topics that name nobody."""


class Place(NamedTuple):
    """What stays somewhere, and until when."""

    where: str
    what: str
    until: str


def elsewhere(settings: Settings) -> list[Place]:
    """Everything beside the tables that holds, or may hold, something of a person."""
    topics = [
        Place(f"topic {settings.topic(spec.name)}", HOLDS[spec.name], _until(spec, restating=settings.restating))
        for spec in TOPICS
        if spec.name in HOLDS
    ]
    return [
        *topics,
        Place(
            "state of the rooms", "the time of the latest erasure, under the pseudonym", f"{CASES_RETENTION_DAYS} days"
        ),
        Place("stores of the workers", "erased values, until RocksDB compacts the files that hold them", "days"),
        Place("ClickHouse, cells", "numbers in which the person is counted and not named", "their own retention"),
        Place(
            "ClickHouse, bare rows", "that a visit or another person's warning was taken back", "their day's retention"
        ),
        Place("backups", "whatever stood in the above when they were made", "whatever the operator has set"),
    ]


def _until(spec: TopicSpec, *, restating: bool) -> str:
    if restating:
        return "the topic is deleted: nothing expires in a prefix that restates history"
    if spec.retention_days is None:
        return "Kafka compacts the topic, which then keeps the newest value of each key"
    # Kafka deletes whole segments, and closes one after a week.
    return f"{spec.retention_days} days after the record, and at most 7 more"
