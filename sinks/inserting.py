"""Batches of rows, and the thread that stores them one after another.

While one batch is on its way into ClickHouse the next one is read and decoded; no third one exists, so memory is
bounded. A batch carries the offsets that its rows reach; they may be committed once it is done, never before.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sinks.backends import Backend, RowsRefusedError, StorageError
from sinks.records import Records
from sinks.status import Status
from sinks.taking import Ready, Taking
from sinks.venue_rows import REMOVALS, VENUES, store_removals
from truyvet import logs, metrics

BATCH_BYTES_MAX = 32 * 1024 * 1024
"""Most bytes of records in a batch, whatever their number: a dead letter may hold megabytes. Until its rows are stored,
a batch takes some eight times that: as texts, as columns, as the message to the engine, in the engine."""
RETRY_SECONDS_MIN = 0.5
RETRY_SECONDS_MAX = 10.0

Place = tuple[str, int]
"""Topic (full name) and partition."""

_log = logs.get("sink")


@dataclass(slots=True)
class Batch:
    """Rows of some records, and for each partition the offset up to which they are all here."""

    generation: int
    """Counts assignments: the offsets of an older one are nobody's to commit."""
    started: float
    """Monotonic seconds."""
    blocks: dict[str, list[Any]] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    removals: dict[str, int] = field(default_factory=dict)
    """Venues that were removed, and the revision of that."""
    records: int = 0
    record_bytes: int = 0
    positions: dict[Place, int] = field(default_factory=dict)
    sources: list[tuple[str, Records]] = field(default_factory=list)
    """The records themselves by topic (full name); only while the sink reads with care."""
    refused: str | None = None
    """Why nothing of it counts as stored: some row cannot be, and without its ``sources`` none can be told apart."""

    def add(self, ready: Iterable[Ready]) -> None:
        """Takes rows in."""
        for table, rows, block in ready:
            if table == REMOVALS:
                self.removals |= block
                continue
            self.blocks.setdefault(table, []).append(block)
            self.rows[table] += rows


class Inserter:
    """Stores one batch at a time in a thread of its own, and tries again for as long as it takes."""

    def __init__(self, backend: Backend, status: Status, taking: Taking) -> None:
        self._backend = backend
        self._taking = taking
        self._status = status
        self._batch: Batch | None = None
        self._done: Batch | None = None
        self._failure: BaseException | None = None
        self._wake = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inserter", daemon=True)
        self._thread.start()

    @property
    def free(self) -> bool:
        """Whether a batch may be given to it: the last one is stored and was taken back."""
        with self._wake:
            return self._batch is None and self._done is None

    def submit(self, batch: Batch) -> None:
        """Gives it a batch; it must be free."""
        with self._wake:
            assert self._batch is None, "one batch at a time"
            assert self._done is None, "a stored batch is taken back first"
            self._batch = batch
            self._wake.notify_all()

    def take_done(self, wait_seconds: float = 0.0) -> Batch | None:
        """The batch that was stored, or ``refused``, since the last call, if any; waits for one under way.

        Raises:
            BaseException: what ended the thread, which is our own bug.
        """
        with self._wake:
            self._wake.wait_for(
                lambda: self._done is not None or self._failure is not None or self._batch is None, wait_seconds
            )
            if self._failure is not None:
                raise self._failure
            done, self._done = self._done, None
            return done

    def stop(self, wait_seconds: float) -> None:
        """Ends the thread; an insert under way has so long to finish, one that is being refused has none."""
        self._stopping.set()
        with self._wake:
            self._wake.notify_all()
        self._thread.join(wait_seconds)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                with self._wake:
                    self._wake.wait_for(lambda: self._batch is not None or self._stopping.is_set())
                    batch = self._batch
                if batch is None or not self._store(batch):
                    return
                with self._wake:
                    self._batch, self._done = None, batch
                    self._wake.notify_all()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread, which ends the process
            with self._wake:
                self._failure = error
                self._wake.notify_all()

    def _store(self, batch: Batch) -> bool:
        """True once every table has its rows, or they are refused; False if the process is to end first."""
        try:
            stored = all(
                self._insert_blocks(table, blocks, batch.rows[table]) for table, blocks in batch.blocks.items()
            )
            # Behind the rows of the same batch: what is removed is the last one of them.
            return stored and self._remove(batch.removals)
        except RowsRefusedError as error:
            if batch.sources:
                return self._store_apart(batch.sources)
            batch.refused = str(error)
            return True

    def _store_apart(self, sources: Iterable[tuple[str, Records]]) -> bool:
        """The same by halves, down to the records whose rows are refused: each is a row of ``rejects`` instead."""
        parts = list(sources)
        while parts:
            topic, part = parts.pop()
            try:
                if not self._insert_ready(self._taking.each(topic, part)):
                    return False
            except RowsRefusedError as error:
                if len(part) > 1:
                    parts += [(topic, half) for half in part.halves()]
                elif not self._insert_ready(self._taking.rejected(topic, part, error)):
                    return False
        return True

    def _insert_ready(self, ready: Iterable[Ready]) -> bool:
        return all(
            self._remove(one.block) if one.table == REMOVALS else self._insert_blocks(one.table, [one.block], one.rows)
            for one in ready
        )

    def _insert_blocks(self, table: str, blocks: list[Any], rows: int) -> bool:
        return self._insert(table, rows, partial(self._backend.insert_blocks, table, blocks))

    def _remove(self, removals: Mapping[str, int]) -> bool:
        remove = partial(store_removals, self._backend, removals)
        return not removals or self._insert(VENUES, len(removals), remove)

    def _insert(self, table: str, rows: int, insert: Callable[[], object]) -> bool:
        """True once the table has these rows; False if the process is to end first.

        Raises:
            RowsRefusedError: it never will.
        """
        pause_seconds = RETRY_SECONDS_MIN
        while True:
            began = time.monotonic()
            try:
                insert()
            except RowsRefusedError:
                raise
            except StorageError as error:
                metrics.INSERT_RETRIES.inc()
                self._status.insert_failed(str(error))
                if self._stopping.wait(pause_seconds):
                    return False
                pause_seconds = min(2 * pause_seconds, RETRY_SECONDS_MAX)
                continue
            metrics.INSERT_SECONDS.labels(table=table).observe(time.monotonic() - began)
            metrics.ROWS_STORED.labels(table=table).inc(rows)
            self._status.stored(table, rows)
            return True
