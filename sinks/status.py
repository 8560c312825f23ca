"""What the sink shows of itself: positions, rows, lag, and whether it moves on. Shared by its threads.

Changes of state (ClickHouse or the broker away, and back) are said once each, not at every try.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping

from truyvet import logs, metrics
from truyvet.backlog import Backlog, Place
from truyvet.disk import DiskWatch

STUCK_SECONDS_MAX = 60.0
"""Unhealthy after so long with lag and nothing stored, or with the broker away."""
REFUSED_SECONDS_MAX = 10.0
"""Unhealthy after so long of one insert being refused."""
_BACKLOG_RECORDS_MIN = 100_000
"""A few batches are no backlog worth telling of."""

_log = logs.get("sink")


class Status:
    """The sink's state as others see it."""

    def __init__(self, disk: DiskWatch | None = None) -> None:
        """``disk`` is that of the embedded database."""
        self._disk = disk
        self._lock = threading.Lock()
        self._rows: Counter[str] = Counter()
        self._committed: dict[str, dict[int, int]] = {}
        self._lag: dict[tuple[str, int], int] = {}
        self._backlog = Backlog(_BACKLOG_RECORDS_MIN)
        self._newest_insert_ms: int | None = None
        self._moved = time.monotonic()
        self._refused_since: float | None = None
        self._broker_away_since: float | None = None

    def stored(self, table: str, rows: int) -> None:
        """An insert was acknowledged."""
        with self._lock:
            self._rows[table] += rows
            self._newest_insert_ms = time.time_ns() // 1_000_000
            self._moved = time.monotonic()
        self.accepted()

    def accepted(self) -> None:
        """ClickHouse did what it was asked."""
        with self._lock:
            refused, self._refused_since = self._refused_since, None
        if refused is not None:
            _log.info("ClickHouse takes rows again", seconds_refused=round(time.monotonic() - refused, 1))

    def insert_failed(self, reason: str) -> None:
        """ClickHouse refused an insert, or was away; it will be tried again."""
        with self._lock:
            first = self._refused_since is None
            if first:
                self._refused_since = time.monotonic()
        if first:
            _log.warning("ClickHouse does not take rows; nothing is committed, trying again", reason=reason)

    @property
    def refused(self) -> bool:
        """Whether ClickHouse refused the newest insert."""
        return self._refused_since is not None

    def broker_away(self, reason: str) -> None:
        """No broker can be reached; the client library keeps trying."""
        with self._lock:
            first = self._broker_away_since is None
            if first:
                self._broker_away_since = time.monotonic()
        if first:
            _log.warning("the broker is away; waiting for it", reason=reason)

    def broker_back(self) -> None:
        """A broker answered."""
        with self._lock:
            away, self._broker_away_since = self._broker_away_since, None
        if away is not None:
            _log.info("the broker is back", seconds_away=round(time.monotonic() - away, 1))

    def committed(self, topic: str, partition: int, offset: int) -> None:
        """The group's offset of a partition (the next record to read) is now this."""
        with self._lock:
            offsets = self._committed.setdefault(topic, {})
            if offsets.get(partition) != offset:
                self._moved = time.monotonic()
            offsets[partition] = offset

    def forget_positions(self) -> None:
        """The partitions are no longer this sink's; what it knows of them may be out of date."""
        with self._lock:
            self._committed.clear()
            self._backlog.forget()

    def lag(self, lag: Mapping[tuple[str, int], int], stored: int) -> None:
        """Records there and not yet stored, of all partitions this sink has now; ``stored`` sums up their offsets."""
        if self._disk is not None:
            self._disk.look()
        now = time.monotonic()
        with self._lock:
            self._backlog.see(now, Place(stored, stored + sum(lag.values())))
            said, text = self._backlog.due(now), self._backlog.estimate().text()
            gone = self._lag.keys() - lag.keys()
            self._lag = dict(lag)
            if not any(lag.values()):
                self._moved = time.monotonic()
        if said is not None:
            _log.info(said, progress=text)
        for topic, partition in gone:
            metrics.LAG_RECORDS.remove(topic, str(partition))
        for (topic, partition), records in lag.items():
            metrics.LAG_RECORDS.labels(topic=topic, partition=str(partition)).set(records)

    def progress(self) -> dict[str, object]:
        """What ``/progress`` shows; ``topics`` holds the next offset of each partition known so far."""
        with self._lock:
            estimate = self._backlog.estimate()
            return {
                "topics": {
                    topic: {str(partition): offset for partition, offset in sorted(offsets.items())}
                    for topic, offsets in sorted(self._committed.items())
                },
                "rows": dict(self._rows),
                "lag": sum(self._lag.values()),
                "newest_insert_ms": self._newest_insert_ms,
                "backlog": estimate._asdict() | {"text": estimate.text()},
            }

    def healthy(self) -> tuple[bool, str]:
        """Whether the sink moves on, and a sentence."""
        now = time.monotonic()
        with self._lock:
            lag = sum(self._lag.values())
            refused, away, moved = self._refused_since, self._broker_away_since, self._moved
            text = self._backlog.estimate().text()
        if self._disk is not None and self._disk.complaint is not None:
            return False, self._disk.complaint
        if refused is not None and now - refused > REFUSED_SECONDS_MAX:
            return False, f"ClickHouse has not taken a row for {now - refused:.0f} s"
        if away is not None and now - away > STUCK_SECONDS_MAX:
            return False, f"the broker has been away for {now - away:.0f} s"
        if lag and now - moved > STUCK_SECONDS_MAX:
            return False, f"{lag} records wait and nothing was stored for {now - moved:.0f} s"
        return True, text
