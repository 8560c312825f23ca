"""What one fetch hands on: bounded by records and by bytes, whole and in order."""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.record._crecords import DefaultRecordBatchBuilder
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.core.records import Records
from streams.core.step import Record
from streams.shell import fetching
from streams.shell.fetching import CHUNK_BYTES_MAX, CHUNK_RECORDS_MAX, Chunk
from streams.shell.transport import RUN_BYTES_MAX, BatchConsumerThread, Run
from tests.pipeline import forging

PARTITION = TP("checkin.scans", 0)
MAX_RECORDS = 10_000
ASSIGNMENT = SimpleNamespace(state_value=lambda _: None)


class _Log:
    """Records of one partition that are all there; what aiokafka's consumer would hand out next."""

    def __init__(self, value: bytes, between: Callable[[], None] = lambda: None) -> None:
        self.value = value
        self.next = 0
        self._between = between

    async def fetch(self, *_: object) -> dict[TP, list[Chunk]]:
        if self.next:
            self._between()
        count = min(CHUNK_RECORDS_MAX, -(-CHUNK_BYTES_MAX // len(self.value)))
        start, self.next = self.next, self.next + count
        records = Records.of([Record(start + number, 1, b"k", self.value) for number in range(count)])
        return {PARTITION: [Chunk(self.next - 1, records, count * len(self.value))]}


def _thread() -> BatchConsumerThread:
    thread = object.__new__(BatchConsumerThread)
    thread._delivered, thread._epochs, thread.read_to = {PARTITION: 0}, {PARTITION: 1}, {}
    thread._assignments = {PARTITION: ASSIGNMENT}
    return thread


def _fetch(thread: BatchConsumerThread, log: _Log, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", log.fetch)
    consumer = SimpleNamespace(
        assignment=lambda: {PARTITION},
        _subscription=SimpleNamespace(
            reassignment_in_progress=False, subscription=SimpleNamespace(assignment=ASSIGNMENT)
        ),
    )
    runs: dict[TP, list[Run]] = asyncio.run(thread._fetch_records(cast("Any", consumer), {PARTITION}, 1.0, MAX_RECORDS))
    return runs[PARTITION]


@pytest.mark.parametrize("value_bytes", [200, 60 * 1024])
def test_a_fetch_ends_with_records_or_bytes(value_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small records make one run of 10,000; large ones one of a bound in bytes, and the next goes on after it."""
    thread, log = _thread(), _Log(b"x" * value_bytes)
    [run] = _fetch(thread, log, monkeypatch)
    assert (run.start, run.next) == (0, len(run.records))
    assert [record.offset for record in run.records] == list(range(run.next))
    assert (
        run.next == MAX_RECORDS
        or RUN_BYTES_MAX <= run.next * value_bytes < RUN_BYTES_MAX + CHUNK_BYTES_MAX + value_bytes
    )
    [after] = _fetch(thread, log, monkeypatch)
    assert after.start == run.next


def test_a_seek_in_the_middle_of_a_fetch_parts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched before and after a seek are never one run: the older one is stale."""
    thread = _thread()

    def seek() -> None:
        if thread._epochs[PARTITION] == 1:
            thread._epochs[PARTITION], thread._delivered[PARTITION] = 2, 70
            log.next = 70

    log = _Log(b"x", seek)
    before, after = _fetch(thread, log, monkeypatch)
    assert (before.start, before.epoch, after.start, after.epoch) == (0, 1, 70, 2)
    assert [record.offset for record in after.records] == list(range(70, after.next))


def _batch(first_offset: int, values: list[bytes], *, compressed: bool) -> bytes:
    """A record batch as it is fetched."""
    builder = DefaultRecordBatchBuilder(2, 3 if compressed else 0, 0, -1, -1, -1, 1 << 30)
    for number, value in enumerate(values):
        builder.append(number, 1_000 + number, b"k", value, [])
    packed = bytes(builder.build())
    return first_offset.to_bytes(8, "big") + packed[8:]


def _chunks(data: bytes, at: int = 0, aborted: list[tuple[int, int]] | None = None) -> tuple[list[Chunk], int]:
    """What a fetch of ``data`` from the offset ``at`` on hands out, and where the next one begins."""
    fetched = fetching._Batches(data, CHUNK_RECORDS_MAX)
    records = fetching._ChunkedRecords(None, fetched, aborted, at, None, None, True, "read_committed")  # noqa: FBT003
    chunks = list(records)
    return chunks, records.next_fetch_offset


def test_reading_goes_on_at_the_brokers_next_batch() -> None:
    """A refused batch is one entry, and moves the position to its head's end; what follows comes."""
    good = [_batch(at, [b"v"] * 3, compressed=False) for at in (0, 13)]
    bad = forging.batch([forging.record(at * 5_000) for at in range(10)], 10, base=3)
    for start in (0, 2, 5):
        chunks, following = _chunks(good[0] + bad + good[1] if start < 3 else bad + good[1], start)
        read = [(one.offset, one.fault is not None) for chunk in chunks for one in chunk.records]
        known = [(at, False) for at in range(start, 3)]
        assert read == [*known, (max(start, 3), True), (13, False), (14, False), (15, False)]
        assert [chunk.offset for chunk in chunks[-2:]] == [12, 15]
        assert following == 16


def test_a_damaged_batch_is_fetched_again_and_then_told() -> None:
    """The first time nothing comes of it, and the position stays; found so again it is one entry."""
    damaged = bytearray(_batch(0, [b"value " * 40] * 20, compressed=True))
    damaged[70] ^= 0xFF
    assert _chunks(bytes(damaged)) == ([], 0)
    [chunk], following = _chunks(bytes(damaged))
    assert ([one.fault.reason for one in chunk.records if one.fault], chunk.offset, following) == (
        ["corrupt_batch"], 19, 20,
    )  # fmt: skip


def _fetched_and_joined(seed: int) -> bool:
    """Whether fetches of several batches, cut into chunks and joined, keep their values as long as they are held."""
    rng = random.Random(seed)  # noqa: S311
    for turn in range(80):
        batches, values = b"", list[bytes]()
        for _ in range(rng.randint(1, 5)):
            some = [b"%d-%d " % (turn, rng.getrandbits(60)) * rng.randint(1, 12) for _ in range(rng.randint(1, 900))]
            batches += _batch(len(values), some, compressed=rng.random() < 0.6)
            values += some
        [first, *others] = _chunks(batches)[0]
        for chunk in others:
            first.records.extend(chunk.records)
        del others
        allocated = [bytes(rng.choice([100, 4_000, 60_000])) for _ in range(50)]
        if [record.value for record in first.records] != values or not allocated:
            return False
    return True


def test_what_was_fetched_stays_what_it_is_as_long_as_it_is_held() -> None:
    """Chunks of many batches, joined in several threads, never point into memory that was given back."""
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(_fetched_and_joined, range(4)))
