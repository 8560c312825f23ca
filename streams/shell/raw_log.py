"""A reader of the project's own for topics that others write: batches as the broker has them, through the gate.

librdkafka inflates a batch before anybody sees it, whatever it becomes. Here Fetch requests go out over aiokafka's
client, which keeps connections, logins and metadata, and ``batch_gate.py`` judges what they bring. What is committed is
read, from offsets that the caller gives; a leader that changes or a broker that is away is waited for, and said once.

A plain object for one thread: its event loop runs while ``poll`` does, and what is under way waits meanwhile.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NodeNotReadyError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from streams.core.records import Records
from streams.core.step import InRecord
from streams.shell.batch_gate import Doubts, committed
from truyvet import logs
from truyvet.config import Settings
from truyvet.metrics import BROKER_ERRORS

Place = tuple[str, int]
"""A topic's full name and a partition of it."""

POLL_RECORDS_MAX: Final = 10_000
POLL_BYTES_MAX: Final = 8 * 1024 * 1024
"""About what one call hands out: a megabyte that is fetched may hold 64."""
_PARTITION_BYTES: Final = 1024 * 1024
_FETCH_BYTES: Final = 16 * 1024 * 1024
_ANSWER_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 0.2
_CLOSE_SECONDS: Final = 5.0
_ONCE_WAIT_MS: Final = 10
_ONCE_SECONDS: Final = 0.5
_READ_COMMITTED: Final = 1
_OUT_OF_RANGE: Final = 1
_TOLD_ABORTED: Final = 4
"""From this version of the answer on the broker tells which transactions were aborted."""

log = logs.get("raw-log")


class Fetched(NamedTuple):
    """Records of one partition that follow each other, perhaps none; reading goes on at ``next``."""

    topic: str
    partition: int
    records: Records
    next: int
    at_end: bool = False
    """Whether there is nothing more to read for now; told once for each end."""


class OffsetGoneError(Exception):
    """The broker has nothing at the offset from which a partition is read."""

    def __init__(self, place: Place, offset: int) -> None:
        super().__init__(f"{place[0]}, partition {place[1]}: the broker has nothing at offset {offset}")
        self.place = place
        self.offset = offset


class RawLogError(Exception):
    """The broker refuses for a reason that does not pass by itself; one sentence."""


class RawLog:
    """Reads partitions from offsets that it is given."""

    def __init__(self, settings: Settings, *, wait_ms: int, bounded: bool = True) -> None:
        """``wait_ms`` is how long the broker lets a fetch wait where there is nothing.

        Not ``bounded``, it hands out keys and values whatever their size; a batch that inflates to more than 64 MiB,
        and a record with more headers than anybody needs, is refused all the same.
        """
        self._settings = settings
        self._bounded = bounded
        self._wait_ms = wait_ms
        self._loop = asyncio.new_event_loop()
        self._client: AIOKafkaClient | None = None
        self._positions: dict[Place, int] = {}
        self._pending: dict[Place, Iterator[Fetched]] = {}
        self._asked: dict[int, asyncio.Task[Any]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._told_ends: dict[Place, int] = {}
        self._doubts = Doubts()
        self._failure: Exception | None = None
        self._said_away = False
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self.ends: dict[Place, int] = {}
        """Where partitions ended for a reader of what is committed, when they were fetched last."""

    def assign(self, positions: Mapping[Place, int]) -> None:
        """Reads these partitions from these offsets on, and no others."""
        self._positions = dict(positions)
        self._pending.clear()
        self._told_ends.clear()
        self._failure = None
        self.ends = {place: end for place, end in self.ends.items() if place in positions}
        self._changed.set()

    def leave(self, places: Iterable[Place]) -> None:
        """Reads no more of these partitions, and the others as before."""
        for place in places:
            self._positions.pop(place, None)
            self._pending.pop(place, None)
            self._told_ends.pop(place, None)

    def poll(self, seconds: float) -> list[Fetched]:
        """What there is, of as many partitions as do; waits up to ``seconds`` for something.

        Raises:
            OffsetGoneError: a partition cannot be read on from where it is; ``assign`` decides.
            RawLogError: the broker refuses.
        """
        if not self._positions:
            return []
        self._loop.run_until_complete(self._wait(0.0 if self._pending else seconds))
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        fetched: list[Fetched] = []
        count = size_bytes = 0
        for place, coming in list(self._pending.items()):
            while count < POLL_RECORDS_MAX and size_bytes < POLL_BYTES_MAX:
                one = next(coming, None)
                if one is None:
                    del self._pending[place]
                    self._changed.set()
                    break
                fetched.append(one)
                count += len(one.records)
                size_bytes += one.records.fitting(0, len(one.records), POLL_BYTES_MAX)[1]
        return fetched

    def close(self) -> None:
        """Gives the connections back."""
        with contextlib.suppress(TimeoutError):
            self._loop.run_until_complete(asyncio.wait_for(self._stop(), _CLOSE_SECONDS))
        self._loop.close()

    # How it reads.

    async def _wait(self, seconds: float) -> None:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), max(seconds, 0.0) or 1e-4)

    async def _read(self) -> None:
        while True:
            try:
                await self._ask_round()
            except (KafkaError, OSError, TimeoutError) as error:
                await self._away(error)

    async def _ask_round(self) -> None:
        """Asks every leader that is not being asked, and waits for any answer, or for something else to ask."""
        client = await self._connected()
        self._changed.clear()
        by_leader: defaultdict[int, dict[Place, int]] = defaultdict(dict)
        unled = False
        for place, position in self._positions.items():
            if place not in self._pending:
                leader = client.cluster.leader_for_partition(TopicPartition(*place))
                if leader is None or leader < 0:
                    unled = True
                else:
                    by_leader[leader][place] = position
        for leader, positions in by_leader.items():
            if leader not in self._asked:
                self._asked[leader] = asyncio.create_task(self._fetch(client, leader, positions))
        if unled:
            await self._look_again(client)
            return
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({changed, *self._asked.values()}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        for leader, task in list(self._asked.items()):
            if task.done():
                del self._asked[leader]
                if task.result():
                    await self._look_again(client)

    async def _look_again(self, client: AIOKafkaClient) -> None:
        """Asks anew who leads, after a moment."""
        await asyncio.sleep(_AGAIN_SECONDS)
        await client.force_metadata_update()

    async def _fetch(self, client: AIOKafkaClient, leader: int, positions: Mapping[Place, int]) -> bool:
        """Asks one leader; whether somebody else may lead by now."""
        topics: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for (topic, partition), position in positions.items():
            topics[topic].append((partition, position, _PARTITION_BYTES))
        request = FetchRequest(self._wait_ms, 1, _FETCH_BYTES, _READ_COMMITTED, list(topics.items()))
        try:
            response = await client.send(leader, request)
        except (KafkaError, OSError, TimeoutError) as error:
            self._say_away(error)
            return True
        stale = False
        for topic, partitions in response.topics:
            for partition, code, _, *rest in partitions:
                place = (topic, partition)
                if self._positions.get(place) != positions[place]:
                    continue  # assigned anew meanwhile
                if code:
                    stale |= self._refused(place, code)
                    continue
                self._say_back()
                aborted = rest[1] if response.API_VERSION == _TOLD_ABORTED else rest[2]
                self.ends[place] = rest[0]
                if rest[-1] or self._told_ends.get(place) != positions[place]:
                    self._pending[place] = self._cut(place, rest[-1] or b"", aborted or [])
                    self._news.set()
        return stale

    def _refused(self, place: Place, code: int) -> bool:
        """Whether to ask anew who leads; where that would not help the caller is told."""
        if code == _OUT_OF_RANGE:
            self._failure = OffsetGoneError(place, self._positions.pop(place))
        elif not for_code(code).retriable and not for_code(code).invalid_metadata:
            self._failure = RawLogError(f"{place[0]}, partition {place[1]}: {for_code(code).__name__}")
            del self._positions[place]
        else:
            self._say_away(for_code(code)())
            return True
        self._news.set()
        return False

    def _cut(self, place: Place, data: bytes, aborted: Sequence[tuple[int, int]]) -> Iterator[Fetched]:
        for batch, counts in committed(data, aborted, self._doubts):
            for piece in batch.pieces(self._positions[place], bounded=self._bounded) if counts else ():
                start = 0
                while start < len(piece):
                    stop, _ = piece.fitting(start, POLL_RECORDS_MAX, POLL_BYTES_MAX)
                    records, start = piece.part(start, stop), stop
                    following = batch.next_offset if batch.refused else records[-1].offset + 1
                    self._positions[place] = following
                    yield Fetched(*place, records, following)
            self._positions[place] = batch.next_offset
        position = self._positions[place]
        if position >= self.ends[place] and self._told_ends.get(place) != position:
            self._told_ends[place] = position
            yield Fetched(*place, Records.of([]), position, at_end=True)

    # The connection.

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            client = AIOKafkaClient(
                **self._settings.aiokafka(),
                client_id="truyvet-reader",
                request_timeout_ms=int(_ANSWER_SECONDS * 1000),
            )
            self._client = client  # so that it is closed if it does not come to know anybody
            await client.bootstrap()
            if not client.cluster.brokers():
                raise NodeNotReadyError("the broker does not say yet who there is")
        topics = {topic for topic, _ in self._positions}
        if topics - self._client._topics:
            await self._client.set_topics(topics)
        return self._client

    async def _away(self, error: BaseException) -> None:
        self._say_away(error)
        await self._disconnect()
        await asyncio.sleep(_AGAIN_SECONDS)

    def _say_away(self, error: BaseException) -> None:
        BROKER_ERRORS.inc()
        if not self._said_away:
            self._said_away = True
            topics = sorted({topic for topic, _ in self._positions})
            log.warning("waits for the broker", topics=topics, error=type(error).__name__)

    def _say_back(self) -> None:
        if self._said_away:
            self._said_away = False
            log.info("the broker answers again")

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        asked, self._asked = list(self._asked.values()), {}
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        if client is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.close(), _CLOSE_SECONDS)

    async def _stop(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await self._disconnect()


def read_through(
    settings: Settings, topic: str, partition: int, start: int, end: int, *, bounded: bool = True
) -> Generator[InRecord, None, None]:
    """What is committed of a partition (full name of its topic) from one offset up to another, through the gate.

    There must be no transaction under way before ``end``. Waits for the broker.

    Raises:
        OffsetGoneError: there is nothing at ``start``.
        RawLogError: the broker refuses.
    """
    reader = RawLog(settings, wait_ms=_ONCE_WAIT_MS, bounded=bounded)
    try:
        reader.assign({(topic, partition): start})
        while start < end:
            for fetched in reader.poll(_ONCE_SECONDS):
                yield from (record for record in fetched.records if record.offset < end)
                start = fetched.next
    finally:
        reader.close()
