"""A Faust transport that delivers runs of records: each fetch of one partition is one Faust message.

Derived from Faust's aiokafka driver and registered as ``batch://`` (entry point ``faust.transports``).
Faust hands agents one event at a time, at tens of microseconds each; so one event here is a whole run,
undecoded. Group membership, assignment and supervision stay Faust's own.

Faust's idea of offsets is a hint for monitoring only: the offsets of record live in the rooms' changelogs,
and ``seek_runs`` puts every partition where its room stands. That is why the stock seeks and gap lists are
switched off here: Faust would seek to its own committed offsets, and list every offset of every gap, of
which transaction markers make one per transaction.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import aiokafka
from aiokafka.errors import IllegalStateError, KafkaError
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.core.records import Records
from streams.shell.fetching import CHUNK_RECORDS_MAX, Chunk, fetch_in_chunks
from truyvet import logs
from truyvet.metrics import BROKER_ERRORS

FETCH_MIN_BYTES = 1024 * 1024
"""Of all partitions together: so much the broker gathers, but for no longer than it may.

Handed on as soon as there is anything, records come in as many transactions as the cores can make, and wait for those.
"""
FETCH_MAX_WAIT_MS = 150
_ACK_POLL_SECONDS = 0.01
_JOIN_AGAIN_SECONDS = 0.5
RUN_BYTES_MAX = 16 * 1024 * 1024
"""About what the values of one fetch may take in all: a megabyte that is fetched may hold hundreds, compressed."""

log = logs.get("transport")


class Run(NamedTuple):
    """Records of one partition, fetched at once.

    ``start`` and ``next`` are the fetch positions before and after: offsets between them that no record has
    (transaction markers, compacted or aborted records) are not missing. ``epoch`` counts the seeks.
    """

    topic: str
    partition: int
    start: int
    next: int
    epoch: int
    records: Records


def _append(runs: list[Run], more: list[Run]) -> None:
    """Adds runs of one partition; one that goes on where the last one ended makes one with it."""
    for run in more:
        if runs and (runs[-1].epoch, runs[-1].next) == (run.epoch, run.start):
            runs[-1].records.extend(run.records)
            runs[-1] = runs[-1]._replace(next=run.next)
        else:
            runs.append(run)


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that fetches; all of its own state is touched in it alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._delivered: dict[TP, int] = {}
        self._epochs: dict[TP, int] = {}
        self._assignments: dict[TP, Any] = {}
        """aiokafka's assignment in which each partition was sought last."""
        self._held: set[TP] = set()
        self.on_out_of_range: Callable[[TP, int], None] = lambda _tp, _offset: None
        """Called in this thread where the broker does not have the offset that was asked for."""
        self.read_to: dict[TP, tuple[int, int]] = {}
        """(last delivered, read to) of each partition, replaced whole after each fetch: read it anywhere."""

    async def on_start(self) -> None:
        """Starts the consumer, and has it say what it would pass over in silence."""
        await super().on_start()
        fetcher = self._ensure_consumer()._fetcher
        fetch = fetcher._proc_fetch_request

        async def fetch_and_tell(assignment: Any, node_id: int, request: Any) -> bool:
            has_news = bool(await fetch(assignment, node_id, request))
            self._tell_out_of_range(assignment, request)
            return has_news

        fetcher._proc_fetch_request = fetch_and_tell

    def _tell_out_of_range(self, assignment: Any, request: Any) -> None:
        """Of what such a partition brings from its beginning on nothing is taken before it is sought."""
        for topic, partitions in request.topics:
            for partition, offset, _ in partitions:
                tp = TP(topic, partition)
                state = assignment.state_value(aiokafka.TopicPartition(topic, partition))
                # aiokafka itself has set it so just now: it asks only where there is a position.
                if state is not None and state.awaiting_reset and self._assignments.get(tp) is assignment:
                    self.out_of_range(tp, offset)

    def out_of_range(self, tp: TP, offset: int) -> None:
        """Takes nothing more of a partition before it is sought, and says that its offset is not there."""
        if self._delivered.pop(tp, None) is not None:
            self.on_out_of_range(tp, offset)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        fetch_in_chunks(consumer._max_poll_records)
        # Faust reads uncommitted unless its own (broken) exactly-once is on, and waits 1.5 s for the first byte.
        consumer._isolation_level = "read_committed"
        consumer._fetch_min_bytes = FETCH_MIN_BYTES
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        return consumer

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> dict[TP, list[Run]]:
        runs: dict[TP, list[Run]] = {}
        records_max = max_records or CHUNK_RECORDS_MAX
        records_left, bytes_left = records_max, RUN_BYTES_MAX
        # A chunk is never larger than what may come at all; one that might be larger than what is left has to wait.
        while records_left >= min(records_max, CHUNK_RECORDS_MAX) and bytes_left > 0:
            some = await super()._fetch_records(consumer, active_partitions, 0.0 if runs else timeout, 1)
            for [chunk] in some.values():
                records_left -= len(chunk.records)
                bytes_left -= chunk.size_bytes
            for tp, found in self._runs(consumer, some).items():
                _append(runs.setdefault(tp, []), found)
            # What is held must not wait while partitions are assigned anew.
            if not some or consumer._subscription.reassignment_in_progress:
                break
        self.read_to = self._read_positions(consumer)
        return runs

    def _runs(self, consumer: Any, fetched: Mapping[TP, list[Chunk]]) -> dict[TP, list[Run]]:
        runs: dict[TP, list[Run]] = {}
        for tp, [chunk] in fetched.items():
            start = self._delivered.get(tp)
            if start is None or self._assignments[tp] is not consumer._subscription.subscription.assignment:
                # Fetched before its room was opened and sought in this assignment: the seek will bring it again. A
                # new assignment begins wherever the group's offsets say, even for a partition that stays here.
                continue
            end = chunk.offset + 1
            self._delivered[tp] = end
            runs[tp] = [Run(tp.topic, tp.partition, start, end, self._epochs[tp], chunk.records)]
        return runs

    async def seek_runs(self, offsets: Mapping[TP, int]) -> dict[TP, int]:
        """Seeks in the fetching thread; returns the epoch of each partition, without those lost meanwhile."""
        return dict(await self.call_thread(self._seek_runs, offsets))

    async def _seek_runs(self, offsets: Mapping[TP, int]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        sought = {}
        for tp, offset in offsets.items():
            try:
                consumer.seek(aiokafka.TopicPartition(tp.topic, tp.partition), offset)
            except IllegalStateError:
                continue  # no longer assigned: the next rebalance, already under way, decides
            self._delivered[tp] = offset
            self._assignments[tp] = consumer._subscription.subscription.assignment
            if tp in self._held:
                self._held.discard(tp)
                consumer.resume(aiokafka.TopicPartition(tp.topic, tp.partition))
            self._epochs[tp] = self._epochs.get(tp, 0) + 1
            sought[tp] = self._epochs[tp]
        return sought

    async def hold(self, partitions: Collection[TP]) -> None:
        """Fetches nothing of these partitions before they are sought again, or assigned anew."""
        await self.call_thread(self._hold, partitions)

    async def _hold(self, partitions: Collection[TP]) -> None:
        consumer = self._ensure_consumer()
        for tp in partitions:
            self._delivered.pop(tp, None)
            try:
                consumer.pause(aiokafka.TopicPartition(tp.topic, tp.partition))
            except IllegalStateError:
                continue  # no longer assigned
            self._held.add(tp)

    async def join_again(self) -> None:
        """Asks the broker for its topics, then for a new assignment; returns before it is there."""
        await self.call_thread(self._join_again)

    async def _join_again(self) -> None:
        consumer = self._ensure_consumer()
        await consumer._client.force_metadata_update()
        consumer._coordinator.request_rejoin()

    def _read_positions(self, consumer: Any) -> dict[TP, tuple[int, int]]:
        """How far each partition was read, past markers that bring no record."""
        assigned = consumer.assignment()
        current = consumer._subscription.subscription.assignment
        read_to = {}
        for tp, delivered in self._delivered.items():
            # What was fetched in an assignment before it was sought there was dropped: its position says nothing.
            if tp in assigned and self._assignments[tp] is current:
                state = current.state_value(tp)
                if state is not None and state.has_valid_position:
                    read_to[tp] = (delivered, max(delivered, state.position))
        return read_to

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commits Faust's offsets, a hint for monitoring; a broker that is away must not stop the worker."""
        return bool(await self.call_thread(self._commit_hint, offsets))

    async def _commit_hint(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        assigned = self.assignment()
        wanted = {
            aiokafka.TopicPartition(tp.topic, tp.partition): offset for tp, offset in offsets.items() if tp in assigned
        }
        try:
            if wanted:
                await consumer.commit(wanted)
        except KafkaError as error:
            BROKER_ERRORS.inc()
            self.log.info("offset hint not committed: %s", type(error).__name__)
            return False
        return True


class OutsideFirst(DefaultSchedulingStrategy):
    """Of what was fetched at once, what came from outside goes before what the rooms send each other."""

    def __init__(self, outside: Collection[str]) -> None:
        """``outside`` are the full names of topics."""
        self._outside = frozenset(outside)

    def iterate(self, records: Mapping[TP, list[Run]]) -> Iterator[tuple[TP, Run]]:
        """First these, then the others; among each, topics and partitions in turn."""
        for first in (True, False):
            yield from super().iterate(
                {tp: runs for tp, runs in records.items() if (tp.topic in self._outside) == first}
            )


class BatchConsumer(driver.Consumer):
    """Hands each run on as one message, and lets nothing move the positions but ``seek_runs``."""

    _thread: BatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asking = asyncio.Lock()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Run) -> ConsumerMessage:
        last = record.records[-1]
        return ConsumerMessage(
            record.topic,
            record.partition,
            last.offset,
            last.timestamp / 1000.0,
            0,
            [],
            None,
            cast("bytes", record),  # Faust hands it on as it is
            None,
            0,
            0,
            tp,
            # Without it Faust drops the message in silence.
            generation_id=self.app.consumer_generation_id,
        )

    async def perform_seek(self) -> None:
        """Does nothing: Faust would seek to its committed offsets, after every rebalance."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Keeps no gaps: a run's own last offset would count as one."""

    def on_buffer_full(self, tp: TP) -> None:
        """Does nothing: a stream whose queue is full holds up whoever puts into it, and that is enough.

        Faust would fetch no more of the partition until the queue is empty. With few runs in a queue that soon holds of
        every partition at once, and then it sleeps for a whole second before it looks again.
        """

    async def _wait_for_ack(self, timeout: float) -> None:  # noqa: ASYNC109 - Faust's signature
        """Waits until all is acknowledged that was handed on, for ``timeout`` seconds at most.

        Faust waits for the next acknowledgement. While it commits, before, the last one may have come; then it waits
        the whole second for nothing, and with it everybody in the group.
        """
        deadline = time.monotonic() + timeout
        # Not an event: acknowledging tells nobody who was not waiting yet.
        while time.monotonic() < deadline and not all(message.acked for message in list(self._unacked_messages)):  # noqa: ASYNC110
            await asyncio.sleep(_ACK_POLL_SECONDS)

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        newest = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return newest + 1

    async def seek_runs(self, offsets: Mapping[TP, int]) -> dict[TP, int]:
        """Seeks and makes Faust expect what comes; returns each partition's epoch."""
        epochs = await self._thread.seek_runs(offsets)
        for tp in epochs:
            self._read_offset[tp] = None
            self._committed_offset[tp] = None
            self._acked[tp].clear()
            self._acked_index[tp].clear()
        return epochs

    async def hold(self, partitions: Collection[TP]) -> None:
        """Fetches nothing of these partitions before they are sought again, or assigned anew."""
        await self._thread.hold(partitions)

    def tell_out_of_range(self, told: Callable[[TP, int], None]) -> None:
        """Has ``told`` called, in the fetching thread, where the broker does not have what is to be read next."""
        self._thread.on_out_of_range = told

    async def ends(self, *partitions: TP) -> Mapping[TP, int] | None:
        """Where these partitions end now, asked of the broker; None if it does not answer.

        One asks at a time: an answer comes behind that to the fetch under way, and Faust lets two calls wait for their
        answers, the next fetch included.
        """
        try:
            async with self._asking:
                return await self.highwaters(*partitions)
        except KafkaError as error:
            BROKER_ERRORS.inc()
            log.info("the broker does not say where inputs end", error=type(error).__name__)
            return None

    async def claim(self, topics: Collection[str]) -> None:
        """Has the group assign anew where its assignment knows nothing of some of ``topics``; else returns at once.

        Such an assignment was made by a leader whose metadata did not know them yet; or before they were subscribed to,
        and a static member that comes back before its session ends is given what it had, whatever it subscribes to now.
        Neither broker nor client would ever come back to it.
        """
        generation = self.app.consumer_generation_id
        left_out = self.left_out(topics)
        if not left_out:
            return
        log.warning("the group's assignment leaves topics to nobody; joining again", topics=left_out)
        await asyncio.sleep(_JOIN_AGAIN_SECONDS)
        if generation == self.app.consumer_generation_id and not self.app.rebalancing:
            await self._thread.join_again()

    def left_out(self, topics: Iterable[str]) -> list[str]:
        """Those of ``topics`` that the group's assignment, as its leader made it, gives to no member at all."""
        return sorted(set(topics) - cast("PartitionAssignor", self.app.assignor)._topic_groups.keys())

    def read_to(self, tp: TP, delivered: int) -> int:
        """How far ``tp`` is read if everything up to ``delivered`` was: beyond it lie only markers."""
        known = self._thread.read_to.get(tp)
        return known[1] if known is not None and known[0] <= delivered <= known[1] else delivered


class Transport(driver.Transport):
    """``batch://host:port``: aiokafka underneath, runs of records on top."""

    Consumer = BatchConsumer
