"""What rooms and agents see of Faust and aiokafka, over the simulated broker: fetches, assignments, seeks.

The project's own transport runs as it is; only what it derives from is replaced. Less is promised here than Faust
keeps: records may be delivered while a rebalance is under way, late, and after others were assigned the partition.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

from aiokafka.errors import IllegalStateError, KafkaTimeoutError
from faust.types import TP

from streams.core.records import Records
from streams.shell.fetching import CHUNK_RECORDS_MAX, Chunk
from streams.shell.transport import BatchConsumer, BatchConsumerThread, Run
from tests.sim.groups import Group, Place
from tests.sim.kafka import Broker
from tests.sim.world import World

_BUFFERED_RUNS_MAX = 2
_LATE_SHARE = 0.01
_LATE_SECONDS_MAX = 4.0


class _Position(NamedTuple):
    position: int
    has_valid_position: bool = True


class _Assignment:
    """What aiokafka makes anew with every rebalance: where each partition is read."""

    def __init__(self, positions: dict[TP, int]) -> None:
        self.positions = positions

    def state_value(self, tp: TP) -> _Position | None:
        return _Position(self.positions[tp]) if tp in self.positions else None


class Fetching:
    """aiokafka's consumer, as the transport uses it."""

    def __init__(self, world: World, broker: Broker, fetch_max: int) -> None:
        self.assigned: set[TP] = set()
        self.ends: dict[TP, int] = {}
        self._world = world
        self._broker = broker
        self._fetch_max = fetch_max
        self._paused: set[TP] = set()
        self.on_out_of_range: Callable[[TP, int], None] = lambda _tp, _offset: None
        self._closed = False
        self._late: dict[TP, float] = {}
        """Until when nothing comes of a partition: brokers are several, and one of them may be slow or away."""
        self._max_poll_records = fetch_max
        self._fetcher = SimpleNamespace(
            _closed=False,
            _subscriptions=SimpleNamespace(fetch_context=contextlib.nullcontext),
            fetched_records=self._fetched_records,
        )
        self._subscription = SimpleNamespace(
            subscription=SimpleNamespace(assignment=_Assignment({})), reassignment_in_progress=False
        )

    def assign(self, partitions: set[TP]) -> None:
        """A rebalance: positions become those committed to the group, a hint of any age."""
        self._paused.clear()
        self.assigned = partitions
        chance = self._world.rng.random
        # Where nothing was committed yet, and where something was: both are somewhere before what was delivered.
        positions = self._positions
        self._subscription.subscription.assignment = _Assignment(
            {
                tp: int(positions.get(tp, 0) * chance())
                if chance() < 0.5
                else self._broker.first(tp.topic, tp.partition)
                for tp in sorted(partitions)
            }
        )

    def assignment(self) -> set[TP]:
        return self.assigned

    @property
    def _positions(self) -> dict[TP, int]:
        positions: dict[TP, int] = self._subscription.subscription.assignment.positions
        return positions

    def seek(self, tp: Any, offset: int) -> None:
        if tp not in self.assigned:
            raise IllegalStateError(f"{tp} is not assigned")
        self._positions[TP(*tp)] = offset

    def pause(self, tp: Any) -> None:
        if tp not in self.assigned:
            raise IllegalStateError(f"{tp} is not assigned")
        self._paused.add(TP(*tp))

    def resume(self, tp: Any) -> None:
        self._paused.discard(TP(*tp))

    async def _fetched_records(
        self,
        _partitions: Any,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 - aiokafka's signature
        max_records: int | None = None,  # noqa: ARG002 - same
    ) -> dict[TP, list[Any]]:
        """Some of what is there, of one or several partitions."""
        self._world.step("fetch")
        if not self._broker.available:
            return {}
        rng = self._world.rng
        fetched = {}
        now = self._world.now
        for tp in sorted(self.assigned, key=lambda _: rng.random()):
            if rng.random() < _LATE_SHARE:
                self._late[tp] = now + rng.uniform(0.0, _LATE_SECONDS_MAX)
            if self._late.get(tp, now) > now or tp in self._paused:
                continue
            position = self._positions[tp]
            if not self._broker.first(*tp) <= position <= self._broker.end(*tp):
                self.on_out_of_range(tp, position)
                position = self._broker.first(*tp)
            self.ends[tp] = self._broker.end(tp.topic, tp.partition)
            records, following = self._broker.fetch(tp.topic, tp.partition, position, self._fetch_max)
            self._positions[tp] = following
            if records:
                size_bytes = sum(len(record.value or b"") for record in records)
                fetched[tp] = [Chunk(records[-1].offset, Records.of(records), size_bytes)]
                if rng.random() < 0.5:
                    break
        return fetched


class _Thread(BatchConsumerThread):
    """The fetching thread, without its thread."""

    def __init__(self, fetching: Fetching, app: "App") -> None:
        self._delivered = {}
        self._epochs = {}
        self._assignments = {}
        self.read_to = {}
        self._held = set()
        self.on_out_of_range = lambda _tp, _offset: None
        self._fetching = fetching
        fetching.on_out_of_range = self.out_of_range
        self.consumer = app.flow  # type: ignore[assignment]

    def _ensure_consumer(self) -> Any:
        return self._fetching

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await fun(*args, **kwargs)


class _Consumer(BatchConsumer):
    def __init__(self, world: World, broker: Broker, fetching: Fetching, app: "App") -> None:
        self._world = world
        self._broker = broker
        self._fetching = fetching
        self._thread = _Thread(fetching, app)
        self._read_offset = {}
        self._committed_offset = {}
        self._acked = defaultdict(list)
        self._acked_index = defaultdict(set)
        self._asking = asyncio.Lock()

    def assignment(self) -> set[TP]:
        return set(self._fetching.assigned)

    async def claim(self, topics: Collection[str]) -> None:
        """Here every assignment is one of all topics."""

    def left_out(self, topics: Iterable[str]) -> list[str]:
        """None: here every assignment is one of all topics."""
        del topics
        return []

    def highwater(self, tp: TP) -> int:
        return self._fetching.ends.get(tp)  # type: ignore[return-value] # aiokafka's too, until it has fetched

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        self._world.step("ends asked")
        if not self._broker.available:
            raise KafkaTimeoutError
        return {tp: self._broker.end(tp.topic, tp.partition) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        while not self._broker.available:  # noqa: ASYNC110 - the broker is outside of the loop
            await asyncio.sleep(0.5)
        self._world.step("seek")
        return {tp: self._broker.first(tp.topic, tp.partition) for tp in partitions}


class _Event(NamedTuple):
    message: SimpleNamespace
    ack: Callable[[], None]


class _Stream:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[Run] = asyncio.Queue(_BUFFERED_RUNS_MAX)

    def noack(self) -> "_Stream":
        return self

    async def events(self) -> AsyncIterator[_Event]:
        while True:
            yield _Event(SimpleNamespace(value=await self.queue.get()), lambda: None)


class App:
    """Faust's app: membership, fetching and agents."""

    def __init__(
        self, world: World, broker: Broker, group: Group, member: str, places: list[Place], options: Any
    ) -> None:
        self.flow = SimpleNamespace(flow_active=True)
        self.consumer_generation_id = -1
        self.rebalancing = False
        self._world = world
        self._group = group
        self._member = member
        self._places = places
        self._options = options
        self._fetching = Fetching(world, broker, options.fetch_max)
        self.consumer = _Consumer(world, broker, self._fetching, self)
        self._streams: dict[str, _Stream] = {}
        self._agents: list[Callable[[Any], Any]] = []
        self._tasks: list[asyncio.Task[Any]] = []

    # What ``add_agents`` asks.

    def topic(self, name: str, **_: object) -> str:
        return name

    def agent(self, topic: str, **_: object) -> Callable[[Callable[[Any], Any]], None]:
        def add(take: Callable[[Any], Any]) -> None:
            stream = self._streams[topic] = _Stream()
            self._agents.append(partial(take, stream))

        return add

    # Its life.

    def start(self, on_rebalance_complete: Callable[[], Any]) -> None:
        """Starts agents, fetching and membership."""
        create = asyncio.get_running_loop().create_task
        self._tasks = [create(agent()) for agent in self._agents]  # type: ignore[call-arg]
        self._tasks.append(create(self._fetch()))
        self._tasks.append(create(self._stay(on_rebalance_complete)))

    async def stop(self) -> None:
        """Leaves the group and ends everything."""
        self._group.leave(self._member)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _fetch(self) -> None:
        consumer = self.consumer._thread
        while True:
            records_max = self._world.rng.choice(
                (CHUNK_RECORDS_MAX, 4 * CHUNK_RECORDS_MAX)
            )  # one chunk, or all there is
            runs = await consumer._fetch_records(self._fetching, self._fetching.assigned, max_records=records_max)
            for of_partition in runs.values():
                for run in of_partition:
                    if not self._options.loses():
                        await self._streams[run.topic].queue.put(run)
            if not runs:
                await asyncio.sleep(self._world.rng.uniform(0.02, 0.3))

    async def _stay(self, on_rebalance_complete: Callable[[], Any]) -> None:
        """Is a member of the group, joins again when it is told that it is none, and follows assignments."""
        rng = self._world.rng
        joined = False
        while True:
            if not joined:
                self._world.step("join")
                self._group.join(self._member, self._places, instance_id=self._options.instance_id)
                joined = True
            known = self._group.assignment(self._member)
            if known is None:
                joined = False
            elif known[0] != self.consumer_generation_id:
                await self._rebalance(*known, on_rebalance_complete)
            await asyncio.sleep(rng.uniform(0.02, 0.6))

    async def _rebalance(
        self, generation: int, partitions: set[tuple[str, int]], on_rebalance_complete: Callable[[], Any]
    ) -> None:
        self.rebalancing = True
        rng = self._world.rng
        self.flow.flow_active = rng.random() < self._options.sloppy_share
        if rng.random() >= self._options.sloppy_share:
            for stream in self._streams.values():
                while not stream.queue.empty():
                    stream.queue.get_nowait()
        self._world.step("assigned")
        self._fetching.assign({TP(*place) for place in partitions})
        self.consumer_generation_id = generation
        self.rebalancing = False

        async def complete() -> None:
            await on_rebalance_complete()
            self.flow.flow_active = True

        # Not awaited here: the next rebalance may come while the rooms are still opening.
        task = asyncio.get_running_loop().create_task(complete())
        self._tasks.append(task)
