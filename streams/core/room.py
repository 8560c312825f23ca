"""What every room partition knows about itself: fixed for its life, and all the configuration the core has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from streams.core.ruleset import Ruleset
from streams.core.times import LocalClock

PERSON_ROOM: Final = "person"
VENUE_ROOM: Final = "venue"

FUTURE_MS_MAX: Final = 5 * 60_000
"""An event's own time may be this far ahead of its record's timestamp (SPEC §2)."""
TIMESTAMP_MS_MAX: Final = 4_102_444_799_999
"""The last millisecond of 2099: a record's timestamp outside of 1970 to 2099 counts as the nearest within."""
CASE_AGE_MS_MAX: Final = 90 * 86_400_000
"""A case report may be this much older than its record (SPEC §6)."""
HOPS_MAX: Final = 2
"""A record on a wrong partition is produced again at most this often (SPEC §1)."""


@dataclass(frozen=True, slots=True)
class RoomPartition:
    """One partition of a room. ``retention_ms`` is that of scans."""

    partition: int
    partitions: int
    topic_prefix: str
    retention_ms: int
    clock: LocalClock
    rulesets: Mapping[str, Ruleset]
    """By name; those that are shipped, and the operator's own."""
    counts_only: bool = False
    """Leaves out visits and all cells but ``ward_minute``: the job that the bench shares with others (``bench/``)."""

    @property
    def person_part(self) -> bytes:
        """The ``part`` of this partition's person cells."""
        return b"%b-%d" % (PERSON_ROOM.encode(), self.partition)

    @property
    def venue_part(self) -> bytes:
        """The ``part`` of this partition's venue cells."""
        return b"%b-%d" % (VENUE_ROOM.encode(), self.partition)
