"""The register's reader: fills one directory per worker from the ``venues`` topic and keeps it current.

It reads every partition, from the start, in a thread of its own. The directory is loaded whole before the
first scan is processed, and a room that opens waits until the reader has passed what was there then: so a
new owner knows at least what the old one knew. A copy on disk spares it what it has read before.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from streams.core.directory import Directory
from streams.core.hashing import SECRET_BYTES
from streams.core.inbound import AreaList, VenueIn
from streams.core.person import VENUES
from streams.core.step import InRecord
from streams.core.versions import Removal, judge_versions
from streams.shell.raw_log import Fetched, OffsetGoneError, RawLog
from streams.shell.register_copy import Copied, RegisterCopy
from streams.shell.restore import all_watermarks, log_consumer
from streams.shell.steps import take_each
from truyvet import logs
from truyvet.config import Settings
from truyvet.metrics import FAILED_RECORDS, REGISTER_CODES_CONTESTED, REGISTER_VENUES

_POLL_SECONDS: Final = 0.1
_FETCH_WAIT_MS: Final = 250
"""What is new comes at once; a shorter wait would only keep an idle broker busy."""
_CHANGES_MAX: Final = 200_000
"""So many changed codes are remembered; past that, rooms look at everything that waits."""
_COPY_RECORDS: Final = 20_000
_COPY_SHARE: Final = 50
"""What is read beyond the copy before it is made again: a quarter of a second's reading, or so small a part of it."""

_SAY_AGAIN_SECONDS: Final = 3_600.0

log = logs.get("register")


class Register:
    """One worker's view of the register. ``lock`` guards the directory while a step reads it."""

    def __init__(self, settings: Settings, areas: AreaList) -> None:
        self.records_read = 0
        self.directory = Directory(os.urandom(SECRET_BYTES))
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
        self._contested_said: float | None = None
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

    def begin_anew(self, copy: RegisterCopy | None) -> None:
        """Forgets what was read and reads the topic, which was made anew: it counts as it is now."""
        self.stop()
        with self._moved:
            self._stopping = threading.Event()
            self.directory = Directory(os.urandom(SECRET_BYTES))
            self.newest_ms = 0
            self.failed = None
            self._positions = {}
            self._changes.clear()
            self._changed_in_all += 1  # whoever asks hears that it is not known which: all of them
            self._copy = copy
            self._records_copied = self.records_read
        self._thread = threading.Thread(target=self._read, name="register", daemon=True)
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
        except OffsetGoneError as gone:
            # Nothing is ever deleted from its beginning: it is another topic, which the worker is about to see.
            topic, partition = gone.place
            log.warning("the broker does not have what is next", topic=topic, partition=partition, offset=gone.offset)
            self.failed = gone
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
                self._tell()
                return positions
            log.warning("the copy of the register is ahead of its topic, or behind it; it is read from its start")
        return {p: low for p, (low, _) in marks.items()}

    def _keep(self) -> None:
        """Makes the copy again, where much has come since; to be called while nothing is there to be read."""
        if self._copy is None:
            return
        enough = max(_COPY_RECORDS, len(self.directory) // _COPY_SHARE)
        if self.records_read - self._records_copied >= enough or self._copy.ages:
            self._copy.save(Copied(self._positions, self.newest_ms, self.directory.contents))
            self._records_copied = self.records_read

    def _take(self, fetched: list[Fetched]) -> None:
        """Takes what counts of what was read; of what does not nothing is held. The person room writes its reject."""
        if not fetched:
            return
        touched: list[bytes] = []
        for one in fetched:
            take = partial(self._put_run, one.partition, touched)
            take_each(list(one.records), take, partial(self._fails, one.partition))
        with self._moved:
            self._positions |= {one.partition: one.next for one in fetched}
            self.records_read += sum(len(one.records) for one in fetched)
            self._changes.extend(touched)
            self._changed_in_all += len(touched)
            while len(self._changes) > _CHANGES_MAX:
                self._changes.popleft()
            self._moved.notify_all()
        self._tell()
        self._on_change()

    def _fails(self, partition: int, record: InRecord, detail: str) -> None:
        FAILED_RECORDS.labels(VENUES).inc()
        log.error("the table of venues fails at a record", partition=partition, offset=record.offset, error=detail)

    def _put_run(self, partition: int, touched: list[bytes], records: Sequence[InRecord]) -> None:
        """Takes records of one partition, in their order; adds the codes that came to mean something to ``touched``."""
        verdicts = judge_versions(records, partition, self._settings.partitions, self._areas)
        for record, verdict in zip(records, verdicts, strict=True):
            if isinstance(verdict, VenueIn):
                touched += self.directory.put(verdict)
            elif not (isinstance(verdict, Removal) and self.directory.remove(verdict.venue_id)):
                continue
            self.newest_ms = max(self.newest_ms, record.timestamp)

    def _tell(self) -> None:
        """Shows how many venues there are and how many codes are contested; of these the log says so once an hour."""
        contested = self.directory.contested
        REGISTER_VENUES.set(len(self.directory))
        REGISTER_CODES_CONTESTED.set(contested)
        now = time.monotonic()
        if contested and (self._contested_said is None or now - self._contested_said >= _SAY_AGAIN_SECONDS):
            self._contested_said = now
            log.warning("codes are claimed by several venues; v_contested_codes lists them", codes=contested)
