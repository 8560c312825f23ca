"""The register's reader: fills one directory per worker from the ``venues`` topic and keeps it current.

It reads every partition, from the start, in a thread of its own. The directory is loaded whole before the
first scan is processed, and a room that opens waits until the reader has passed what was there then: so a
new owner knows at least what the old one knew. A copy on disk spares it what it has read before.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from streams.core.decode import decode_venues
from streams.core.directory import Directory
from streams.core.inbound import AreaList, BadEvent
from streams.core.person import VENUES
from streams.shell.raw_log import Fetched, Message, RawLog, messages
from streams.shell.register_copy import Copied, RegisterCopy
from streams.shell.restore import all_watermarks, log_consumer
from truyvet import logs
from truyvet.config import Settings
from truyvet.metrics import REGISTER_VENUES

_POLL_SECONDS: Final = 0.1
_FETCH_WAIT_MS: Final = 250
"""What is new comes at once; a shorter wait would only keep an idle broker busy."""
_CHANGES_MAX: Final = 200_000
"""So many changed codes are remembered; past that, rooms look at everything that waits."""
_COPY_RECORDS: Final = 20_000
_COPY_SHARE: Final = 50
"""What is read beyond the copy before it is made again: a quarter of a second's reading, or so small a part of it."""

log = logs.get("register")


class Register:
    """One worker's view of the register. ``lock`` guards the directory while a step reads it."""

    def __init__(self, settings: Settings, areas: AreaList) -> None:
        self.records_read = 0
        self.directory = Directory()
        self.newest_ms = 0
        self._settings = settings
        self._areas = areas
        self._topic = settings.topic(VENUES)
        self._positions: dict[int, int] = {}
        self._changes: deque[bytes] = deque()
        self._changed_in_all = 0
        self._on_change: Callable[[], None] = lambda: None
        self._copy: RegisterCopy | None = None
        self._records_copied = 0
        self._stopping = threading.Event()
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="register", daemon=True)
        self.failed: BaseException | None = None
        """Why the reader has ended, where it was not told to."""

    def start(self, on_change: Callable[[], None], copy: RegisterCopy | None = None) -> None:
        """Starts reading, from where ``copy`` ends; its file is kept up to date.

        ``on_change`` is called, in the reader's thread, after codes came to mean something.
        """
        self._on_change = on_change
        self._copy = copy
        self._thread.start()

    def stop(self) -> None:
        """Stops reading."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def positions(self) -> dict[int, int]:
        """Next offset to read, by partition of ``venues``."""
        with self._moved:
            return dict(self._positions)

    def changes_since(self, sequence: int) -> tuple[set[bytes] | None, int]:
        """(codes that changed since ``sequence``, or None where that is no longer known; the sequence now)."""
        with self._moved:
            count = self._changed_in_all - sequence
            if count > len(self._changes):
                return None, self._changed_in_all
            changed = {self._changes[-i] for i in range(1, count + 1)}
            return changed, self._changed_in_all

    def wait_until_read(self, targets: dict[int, int]) -> None:
        """Returns once every partition is read up to its target offset.

        Raises:
            RuntimeError: the reader has failed.
        """
        with self._moved:
            self._moved.wait_for(
                lambda: (
                    self.failed is not None
                    or self._stopping.is_set()
                    or all(self._positions.get(partition, 0) >= target for partition, target in targets.items())
                )
            )
            if self.failed is not None:
                raise RuntimeError("the register's reader has failed") from self.failed

    def end_offsets(self) -> dict[int, int]:
        """Where the register ends now, by partition; waits for the broker."""
        return {partition: high for partition, (_, high) in self._watermarks().items()}

    def catch_up(self) -> None:
        """Returns once everything is read that the topic holds now; waits for the broker.

        Raises:
            RuntimeError: the reader has failed.
        """
        self.wait_until_read(self.end_offsets())

    def _watermarks(self) -> dict[int, tuple[int, int]]:
        consumer = log_consumer(self._settings)
        try:
            return all_watermarks(consumer, self._topic, self._settings.partitions)
        finally:
            consumer.close()

    def _read(self) -> None:
        log_reader = RawLog(self._settings, wait_ms=_FETCH_WAIT_MS)
        try:
            starts = self._take_up(self._watermarks())
            with self._moved:
                self._positions = dict(starts)
            log_reader.assign({(self._topic, p): offset for p, offset in starts.items()})
            while not self._stopping.is_set():
                fetched = log_reader.poll(_POLL_SECONDS)
                self._take(fetched)
                if not fetched:
                    self._keep()
        except BaseException as error:
            log.exception("the register cannot be read any further")
            self.failed = error
            raise
        finally:
            with self._moved:
                self._moved.notify_all()
            log_reader.close()

    def _take_up(self, marks: dict[int, tuple[int, int]]) -> dict[int, int]:
        """Where to read from, by partition: where the copy ends, unless the topic cannot be the one it is of."""
        copied = None if self._copy is None else self._copy.load()
        if copied is not None:
            positions = copied.positions
            if all(low <= positions.get(p, -1) <= high for p, (low, high) in marks.items()):
                self.directory.take_up(copied.contents)
                self.newest_ms = copied.newest_ms
                REGISTER_VENUES.set(len(self.directory))
                return positions
            log.warning("the copy of the register is ahead of its topic, or behind it; it is read from its start")
        return {p: low for p, (low, _) in marks.items()}

    def _keep(self) -> None:
        """Makes the copy again, where much has come since; to be called while nothing is there to be read."""
        enough = max(_COPY_RECORDS, len(self.directory) // _COPY_SHARE)
        if self._copy is not None and self.records_read - self._records_copied >= enough:
            self._copy.save(Copied(self._positions, self.newest_ms, self.directory.contents))
            self._records_copied = self.records_read

    def _take(self, fetched: list[Fetched]) -> None:
        # What the gate refused is no version of a venue; the person room writes its reject.
        records = [message for one in fetched for message in messages(one) if message.fault is None]
        positions = {one.partition: one.next for one in fetched}
        if not positions:
            return
        touched = self._put(records)
        with self._moved:
            self._positions |= positions
            self.records_read += len(records)
            self._changes.extend(touched)
            self._changed_in_all += len(touched)
            while len(self._changes) > _CHANGES_MAX:
                self._changes.popleft()
            self._moved.notify_all()
        REGISTER_VENUES.set(len(self.directory))
        self._on_change()

    def _put(self, records: list[Message]) -> list[bytes]:
        touched: list[bytes] = []
        for record, venue in zip(records, decode_venues([r.value() for r in records], self._areas), strict=True):
            # Of what is none of its own, a tombstone too, nothing is held; the person room writes its reject.
            if not isinstance(venue, BadEvent) and record.key() == venue.venue_id.encode():
                self.newest_ms = max(self.newest_ms, record.timestamp()[1])
                touched += self.directory.put(venue)
        return touched
