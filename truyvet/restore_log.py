"""Writes the records of a partition back, each at the offset that it had.

Offsets without a record (a transaction's marker, what was aborted, deleted or compacted away) are filled with records
of a transaction that is aborted: no reader of committed records sees them, and its own marker fills the last of them.
One transaction serves many gaps, record by record between the records that stay. Only where a window of the log lacks
a single offset is that a commit's marker: then the record before it goes out in a transaction of its own. What lies
before the first record is filled and deleted.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from streams.core.step import KAFKA_TIMESTAMP_MIN_MS
from streams.shell.restore import log_consumer, watermarks
from truyvet.backup import record_of
from truyvet.backup_files import BackupError, Record
from truyvet.config import Settings

Piece = tuple[list[Record], int]
"""Records without a gap among them, and how many offsets are missing after them."""

RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
"""More than any topic takes: what was taken once must be taken again."""
_WINDOW_RECORDS: Final = 20_000
_RECORD_BYTES: Final = 1_000
"""A longer record counts as several: windows are held in memory."""
_FILLERS_PER_RECORD: Final = 50
"""So many missing offsets count as a record: one transaction fills those of a window."""
_FILLING_MAX: Final = 1_000_000
"""Most offsets that one transaction fills: it must end before its time is out."""
_TRANSACTION_MS: Final = 600_000
_CALL_SECONDS: Final = 60.0
_SILENT_SECONDS_MAX: Final = 60.0
_POLL_SECONDS: Final = 0.002
_FULL_SECONDS: Final = 0.05
_CONSUME_RECORDS: Final = 10_000
_CONSUME_SECONDS: Final = 0.05
_FILLER_KEY: Final = b"~filler"
_MASK: Final = (1 << 64) - 1


class LogWriter:
    """Writes one partition after another, and reads it back. Belongs to one thread."""

    def __init__(self, settings: Settings, number: int) -> None:
        """``number`` tells writers apart that work at the same time."""
        options = settings.librdkafka() | {
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "message.max.bytes": RECORD_BYTES_MAX,
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 2 * RECORD_BYTES_MAX // 1024,
        }
        # Not idempotent: the log would remember an id that this broker gives to nobody else, but the lost one may have
        # given to a producer that still runs. One request at a time keeps the order, and every offset is compared.
        self._plain = Producer(options | {"enable.idempotence": False, "max.in.flight.requests.per.connection": 1})
        name = f"{settings.topic_prefix}restore-{number}"
        self._filling = Producer(options | {"transactional.id": name, "transaction.timeout.ms": _TRANSACTION_MS})
        self._filling.init_transactions(_CALL_SECONDS)
        self._uncommitted = log_consumer(settings, **{"isolation.level": "read_uncommitted"})
        self._committed = log_consumer(settings)
        self._place = ("", 0)
        self._next = 0
        self._timestamp_ms = KAFKA_TIMESTAMP_MIN_MS
        self._failure: str | None = None

    def close(self) -> None:
        """Ends its connections."""
        self._uncommitted.close()
        self._committed.close()

    def fill(self, topic: str, partition: int, count: int) -> None:
        """Writes ``count`` records at the beginning of an empty partition, to be deleted."""
        self._begin(topic, partition, 0)
        for offset in range(count):
            self._send(self._plain, self._filler(), last=offset == count - 1)
        self._settle(self._plain)

    def write(self, topic: str, partition: int, blocks: Iterable[list[Record]], start: int, end: int) -> int:
        """Writes records to a partition that ends at ``start``, so that it ends at ``end``; returns their number.

        Raises:
            BackupError: somebody else writes there, or the broker refuses.
            KafkaException: the broker cannot be reached.
        """
        self._begin(topic, partition, start)
        summed = _Sum()
        for window in windows(map(summed.add, blocks), end):
            self._write_window(window)
        self._settle(self._plain)
        read = self._read_back(start, end)
        if (read.count, read.digest) != (summed.count, summed.digest):
            raise BackupError(f"{topic}, partition {partition}: what was written reads differently")
        return summed.count

    def _begin(self, topic: str, partition: int, start: int) -> None:
        self._place, self._next, self._failure = (topic, partition), start, None

    def _write_window(self, window: list[Piece]) -> None:
        # A gap too long for one transaction ends its window; whole transactions fill it but for its beginning.
        fillings = max(0, (window[-1][1] - 2) // _FILLING_MAX)
        missing = left = sum(gap for _, gap in window) - fillings * _FILLING_MAX
        for run, gap in window:
            if gap and missing == 1:
                self._send_all(run[:-1])
                self._settle(self._plain)
                self._filling.begin_transaction()
                self._send(self._filling, run[-1], last=True)
                self._end(self._filling.commit_transaction)
                left = 0
                continue
            self._send_all(run)
            if gap and left:
                if left == missing:
                    self._filling.begin_transaction()
                filled = min(gap, left)
                left -= filled
                self._fill_gap(filled, ends=not left)
        for _ in range(fillings):
            self._filling.begin_transaction()
            self._fill_gap(_FILLING_MAX, ends=True)

    def _fill_gap(self, gap: int, *, ends: bool) -> None:
        self._settle(self._plain)
        fillers = gap - 1 if ends else gap
        for number in range(fillers):
            self._send(self._filling, self._filler(), last=number == fillers - 1)
        if ends:
            self._end(self._filling.abort_transaction)
        else:
            self._settle(self._filling)

    def _end(self, call: Callable[[float], object]) -> None:
        """Ends the transaction, and waits for its marker: the broker answers before it has written that."""
        self._settle(self._filling)
        _retry(call)
        self._next += 1
        deadline = time.monotonic() + _CALL_SECONDS
        while (end := watermarks(self._uncommitted, *self._place)[1]) < self._next:
            if time.monotonic() > deadline:
                raise BackupError(f"{self._where()}: a transaction's marker did not come")
            time.sleep(_POLL_SECONDS)
        if end > self._next:
            raise BackupError(f"{self._where()}: somebody else writes there; stop producers while restoring")

    def _filler(self) -> Record:
        # Of the record's time before it: one of 1970 at the beginning of a segment would close that at once.
        return self._next, self._timestamp_ms, _FILLER_KEY, None, None

    def _send_all(self, run: list[Record]) -> None:
        final = len(run) - 1
        for number, record in enumerate(run):
            self._send(self._plain, record, last=number == final)

    def _send(self, producer: Producer, record: Record, *, last: bool) -> None:
        offset, timestamp_ms, key, value, headers = record
        assert offset == self._next, "records are written in order"
        self._next += 1
        self._timestamp_ms = max(timestamp_ms, KAFKA_TIMESTAMP_MIN_MS)  # librdkafka reads 0 as "now"
        heard = self._expecting(offset) if last else None
        while True:
            try:
                producer.produce(
                    self._place[0], value, key, self._place[1], heard, None, self._timestamp_ms,
                    cast("list[tuple[str, str | bytes | None]]", headers or []),
                )  # fmt: skip
            except BufferError:
                producer.poll(_FULL_SECONDS)
            else:
                return

    def _expecting(self, offset: int) -> Callable[[KafkaError | None, Message], None]:
        def heard(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failure = self._failure or f"the broker refused: {error.str()}"
            elif message.offset() != offset:
                self._failure = self._failure or "somebody else writes there; stop producers while restoring"

        return heard

    def _settle(self, producer: Producer) -> None:
        """Returns once the broker has all that was handed over."""
        left = producer.flush(_CALL_SECONDS)
        if self._failure is not None or left:
            raise BackupError(f"{self._where()}: {self._failure or 'the broker does not take records'}")

    def _where(self) -> str:
        return f"{self._place[0]}, partition {self._place[1]}"

    def _read_back(self, start: int, end: int) -> "_Sum":
        """What a reader of committed records finds from ``start`` on, in a partition that must end at ``end``."""
        read, at, heard_at = _Sum(), start, time.monotonic()
        self._committed.assign([TopicPartition(*self._place, start)])
        while at < end:
            records = []
            for message in self._committed.consume(_CONSUME_RECORDS, _CONSUME_SECONDS):
                error, offset = message.error(), message.offset() or 0
                if error is None:
                    records.append(record_of(message, offset))
                    at, heard_at = offset + 1, time.monotonic()
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - that is the constant's public name
                    at = max(at, offset)
            read.add(records)
            if time.monotonic() - heard_at > _SILENT_SECONDS_MAX:
                raise BackupError(f"{self._where()}: ends at {at} instead of {end}")
        self._committed.unassign()
        found = watermarks(self._uncommitted, *self._place)
        if found != (start, end):
            raise BackupError(f"{self._where()}: reaches from {found[0]} to {found[1]}, not from {start} to {end}")
        return read


class _Sum:
    """How many records there were, and what they were, as one number that only this process understands."""

    def __init__(self) -> None:
        self.count = 0
        self.digest = 0

    def add(self, records: list[Record]) -> list[Record]:
        digest = self.digest
        for offset, timestamp_ms, key, value, headers in records:
            stamp = max(timestamp_ms, KAFKA_TIMESTAMP_MIN_MS)
            digest = (digest * 31 + hash((offset, stamp, key, value, tuple(headers or ())))) & _MASK
        self.digest = digest
        self.count += len(records)
        return records


def windows(blocks: Iterable[list[Record]], end: int) -> Iterator[list[Piece]]:
    """Records up to the log's ``end`` in pieces without gaps, a bounded number of them at a time."""
    window: list[Piece] = []
    run: list[Record] = []
    count = 0
    for block in blocks:
        for record in block:
            gap = record[0] - run[-1][0] - 1 if run else 0
            if gap:
                window.append((run, gap))
                run = []
                count += gap // _FILLERS_PER_RECORD
            if run and count >= _WINDOW_RECORDS:
                window.append((run, 0))
                run = []
            if not run and window and (count >= _WINDOW_RECORDS or gap > _FILLING_MAX):
                yield window
                window, count = [], 0
            run.append(record)
            count += 1 + len(record[3] or b"") // _RECORD_BYTES
    if run:
        window.append((run, end - run[-1][0] - 1))
        yield window


def _retry(call: Callable[[float], object]) -> None:
    deadline = time.monotonic() + _CALL_SECONDS
    while True:
        try:
            call(_CALL_SECONDS)
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise
        else:
            return
