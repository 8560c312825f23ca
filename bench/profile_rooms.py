"""Both rooms' steps in one process, stage by stage: what a worker does, without Faust, threads and several in flight.

Records come from the real broker, steps go to a real RocksDB store and, as real transactions, back to the broker; the
venue room then reads what the person room wrote. Batches of all partitions take turns, as they do in a worker.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

import aiokafka

from bench.filling import directory_of, room_of
from bench.floors import Floors
from bench.own import PersonStack
from bench.profile_parts import timed_parts, timed_store
from bench.stages import Ledger
from bench.workload import Shape
from infra.processes import ProcessError
from streams.core import person, proximity, venue
from streams.core.crossing import CASE_VISITS, VISITS
from streams.core.room import PERSON_ROOM, VENUE_ROOM, RoomPartition
from streams.core.step import InRecord, Record, Step
from streams.shell import requests, transaction, transport, worker
from streams.shell.store import Store
from truyvet.config import Settings
from truyvet.members import Kind

VENUE_TOPICS: Final = {
    "venue-marks": (venue.take_marks, "active venues"),
    VISITS: (proximity.take_visits, "proximity, visits"),
    CASE_VISITS: (proximity.take_case_visits, "proximity, case visits"),
}
_QUIET_MS: Final = 500
_FETCH_SECONDS_MAX: Final = 600.0
Take = Callable[[RoomPartition, int, Sequence[Any], Store], Step]


class _FetchStack(PersonStack):
    """A stack whose worker fetches and does nothing more."""

    scans = 0

    @property
    def result(self) -> Path:
        return self.directory / "fetched.json"

    def _command(self, kind: Kind) -> list[str]:
        python = super()._command(kind)[0]
        return [python, "-m", "bench.fetch_worker", str(self.result), str(self.scans)]


def fetched(settings: Settings, directory: Path, scans: int) -> dict[str, float]:
    """What a whole worker uses that takes nothing: records, CPU and wall seconds.

    Raises:
        ProcessError: it ended, or does not come to an end.
    """
    stack = _FetchStack(settings, directory, own_broker=False)
    stack.scans = scans
    deadline = time.monotonic() + _FETCH_SECONDS_MAX
    try:
        stack.start_workers()
        while not stack.result.exists():
            stack.check()
            if time.monotonic() > deadline:
                raise ProcessError(f"the worker has not fetched {scans} scans in {_FETCH_SECONDS_MAX:.0f} s")
            time.sleep(0.1)
    finally:
        stack.stop()
    found: dict[str, float] = json.loads(stack.result.read_text(encoding="utf-8"))
    return found


class Batches:
    """aiokafka by itself, set up as in a worker: batches of one partition of a topic, until all is read."""

    def __init__(self, settings: Settings, topic: str, batch: int, ledger: Ledger, stage: str) -> None:
        self._settings, self._batch, self._ledger, self._stage = settings, batch, ledger, stage
        self._loop = asyncio.new_event_loop()
        self._places = [aiokafka.TopicPartition(settings.topic(topic), number) for number in range(settings.partitions)]

    def __iter__(self) -> Iterator[tuple[int, list[InRecord]]]:
        """Partition and records."""
        consumer = self._loop.run_until_complete(self._open())
        held: dict[int, list[InRecord]] = {place.partition: [] for place in self._places}
        more = True
        while more:
            trial = Ledger()
            with trial.stage(self._stage):
                found = self._loop.run_until_complete(
                    consumer.getmany(*self._places, timeout_ms=_QUIET_MS, max_records=self._batch)
                )
            more = bool(found)
            if more:  # the last call waits for what does not come
                self._ledger.add(self._stage, trial.spent[self._stage])
            for place, records in found.items():
                # aiokafka's own records know of no faults, which the rooms ask for.
                held[place.partition] += [Record(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]
                self._ledger.spent[self._stage].records += len(records)
            for partition, records in held.items():
                if len(records) >= self._batch or (records and not more):
                    held[partition] = records[self._batch :]
                    yield partition, records[: self._batch]
        for partition, records in held.items():
            if records:
                yield partition, records
        self._loop.run_until_complete(consumer.stop())
        self._loop.close()

    async def _open(self) -> Any:  # noqa: ANN401 - aiokafka has no types
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self._settings.brokers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=worker.FETCH_BYTES_MAX,
            fetch_min_bytes=transport.FETCH_MIN_BYTES,
            fetch_max_wait_ms=transport.FETCH_MAX_WAIT_MS,
        )
        await consumer.start()
        consumer.assign(self._places)
        return consumer


@contextmanager
def timed_commits(ledger: Ledger, stage: str) -> Iterator[None]:
    """Charges what is asked of the broker to a stage of its own, for producers made inside; what is left is packing."""

    class Timed(requests.Requests):
        def add_partitions(self, *arguments: Any) -> int:  # noqa: ANN401 - handed on
            with ledger.stage(stage):
                return super().add_partitions(*arguments)

        def produce(self, *arguments: Any) -> dict[requests.Place, int]:  # noqa: ANN401 - same
            with ledger.stage(stage):
                return super().produce(*arguments)

        def commit_transaction(self, *arguments: Any) -> int:  # noqa: ANN401 - same
            with ledger.stage(stage, 1):
                return super().commit_transaction(*arguments)

    with mock.patch.object(transaction, "Requests", Timed):
        yield


@contextmanager
def as_in_a_worker() -> Iterator[None]:
    """Collector and threads as a worker sets them, which costs half as much as Python's own; what is held is let be."""
    before = gc.get_threshold(), sys.getswitchinterval()
    worker._tune()  # noqa: SLF001 - whatever a worker does is right here
    gc.freeze()
    yield
    gc.set_threshold(*before[0])
    sys.setswitchinterval(before[1])
    gc.collect()
    gc.freeze()


class RoomProfile:
    """The partitions of one room: their stores, their producers, their steps."""

    def __init__(self, settings: Settings, directory: Path, room: str, ledger: Ledger, floors: Floors) -> None:
        self._name, self._ledger, self._floors = room, ledger, floors
        numbers = range(settings.partitions)
        self._rooms = [room_of(settings, number, settings.partitions) for number in numbers]
        self._stores = [Store(directory / f"{room}-{number}") for number in numbers]
        with timed_commits(ledger, f"{room}: commit"):
            changelog = f"state-{room}"
            self._producers = [
                transaction.TransactionalProducer(settings, room, number, changelog) for number in numbers
            ]
        self._steps = 0
        self.records_out = self.keys_written = 0

    def step(self, partition: int, records: Sequence[InRecord], take: Take, stage: str) -> None:
        """Computes and commits one step, as a worker does."""
        ledger, store, name = self._ledger, self._stores[partition], self._name
        self._steps += 1
        with ledger.stage(stage, len(records)):
            step = take(self._rooms[partition], self._steps, records, store)
        with ledger.stage(f"{name}: store, shown to later steps", len(step.changes)):
            store.apply(step.changes)
        outputs = sum(map(len, step.outputs.values())) + len(step.headed)
        with ledger.stage(f"{name}: produce", outputs + len(step.changes)):
            self._producers[partition].commit(step)
        with ledger.stage(f"{name}: store, write", len(step.changes)):
            store.written(0)
        self._floors.written(name, step)

    def close(self) -> None:
        """Gives stores and connections back."""
        for store, producer in zip(self._stores, self._producers, strict=True):
            store.close()
            producer.close()


def person_room(settings: Settings, directory: Path, shape: Shape, ledger: Ledger, floors: Floors) -> None:
    """All scans through the person room."""
    venues = directory_of(shape)

    def take(where: RoomPartition, number: int, records: Sequence[Any], store: Store) -> Step:
        return person.take_scans(where, number, records, store, venues)

    with timed_parts(ledger), mock.patch(f"{__name__}.Store", timed_store(ledger)):
        room = RoomProfile(settings, directory, PERSON_ROOM, ledger, floors)
        for partition, records in Batches(settings, person.SCANS, settings.batch_records_max, ledger, "floor of fetch"):
            room.step(partition, records, take, "person: what is unusual, and in between")
            floors.decided(records, venues)
        room.close()


def venue_room(settings: Settings, directory: Path, ledger: Ledger, floors: Floors) -> None:
    """All that crosses through the venue room."""
    room = RoomProfile(settings, directory, VENUE_ROOM, ledger, floors)
    for topic, (take, stage) in VENUE_TOPICS.items():
        batches = Batches(settings, topic, settings.batch_records_max, ledger, "venue: fetch (getmany alone)")
        for partition, records in batches:
            room.step(partition, records, take, f"venue: {stage}")
    room.close()
