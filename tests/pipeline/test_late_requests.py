"""A request that the real broker carries out after its sender has given up, and behind what was asked for next.

A proxy before the broker holds one request and closes its connection towards the producer, as a time-out does; later it
sends the request on. KIP-890 tells of the hazard.
"""

import asyncio
import os
import re
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, suppress
from typing import Any, Final

import aiokafka.client
import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.kafka import KafkaBroker
from streams.core.step import Step
from streams.shell import transaction
from streams.shell.requests import NONE, InitProducerIdRequest, _code_of
from streams.shell.transaction import FencedError, RefusedError, TransactionalProducer
from tests.conftest import SettingsFactory
from tests.sim.kafka_producer import (
    CONCURRENT_TRANSACTIONS,
    INVALID_PRODUCER_EPOCH,
    INVALID_TXN_STATE,
    NOT_ENOUGH_REPLICAS,
)
from truyvet.config import Settings

PRODUCE, INIT, ADD, END = "produce", "init", "add", "end"
_REQUESTS: Final[dict[int, tuple[str, type[Any]]]] = {
    0: (PRODUCE, ProduceRequest),
    22: (INIT, InitProducerIdRequest),
    24: (ADD, AddPartitionsToTxnRequest),
    26: (END, EndTxnRequest),
}
_SECONDS_MAX: Final = 20.0


class Proxy:
    """Between one producer and the broker: holds a request that it is told to, and sends it on when it is told to."""

    def __init__(self, upstream: int) -> None:
        self.port = 0
        self.answer: Future[int] = Future()
        """The code that the broker gave to the late request."""
        self.hold = ""
        """The next request of this kind is held."""
        self.then_hold = ""
        """Of a second one the sender hears nothing either, and this is the one that is held."""
        self.release = ""
        """It goes on once the next one of this kind is answered, before that answer is handed on."""
        self._upstream = upstream
        self._held: Callable[[], Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(_SECONDS_MAX)

    def close(self) -> None:
        """Ends every connection."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_SECONDS_MAX)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            while True:  # the producer's client has one request at a time on a connection
                request = await _framed(reader)
                key, version = struct.unpack_from(">hh", request, 4)
                kind, of_kind = _REQUESTS.get(key, ("", object))
                if kind and kind == self.hold:
                    self.hold, self.then_hold = self.then_hold, ""
                    self._held = lambda: self._send_late(from_broker, to_broker, request, of_kind, version)  # noqa: B023
                    writer.close()
                    await asyncio.Event().wait()
                to_broker.write(request)
                answer = await _framed(from_broker)
                if kind and kind == self.release and self._held is not None:
                    self.release = ""
                    await self._held()
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            for one in (writer, to_broker):
                one.close()
                with suppress(ConnectionError):
                    await one.wait_closed()

    async def _send_late(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: bytes,
        of_kind: type[Any],
        version: int,
    ) -> None:
        writer.write(request)
        answer = await _framed(reader)
        form = next(one for one in of_kind._CLASSES if version == one.API_VERSION)
        head = 9 if form.FLEXIBLE_VERSION else 8
        response = form.RESPONSE_TYPE.decode(answer[head:])
        if hasattr(response, "topics"):
            self.answer.set_result(response.topics[0][1][0][1])
        else:
            self.answer.set_result(_code_of(response))


async def _framed(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readexactly(4)
    return size + await reader.readexactly(int.from_bytes(size))


@pytest.fixture
def proxy(kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that every producer of the test goes through."""
    made = Proxy(kafka_broker.port)
    plain = aiokafka.client.create_conn
    monkeypatch.setattr(
        aiokafka.client, "create_conn", lambda host, _port, **options: plain(host, made.port, **options)
    )
    monkeypatch.setattr(transaction, "BATCH_BYTES_MAX", 1)  # a step takes as many produce requests as it has records
    yield made
    made.close()


@pytest.fixture
def stage(settings: SettingsFactory) -> Settings:
    """Settings, and the two topics that the steps here are written to."""
    made = settings()
    admin = AdminClient(made.librdkafka())
    topics = [NewTopic(made.topic(name), 2, 1) for name in ("visits", "state-person")]
    for one in admin.create_topics(topics).values():
        one.result()
    return made


def _step(number: int, partitions: int = 2) -> Step:
    """Three records to each of so many partitions, and a change."""
    step = Step(number=number, timestamp_ms=1_634_000_000_000, changes={b"step": b"%d" % number})
    for part in range(3):
        for partition in range(partitions):
            step.emit("visits", b"key", b"%d of step %d" % (part, number), 1_634_000_000_000, partition)
    return step


def _whole(stage: Settings, steps: Mapping[int, int]) -> int:
    """Every step is there in whole, once: each of ``steps`` on so many partitions; returns where the last one ends."""
    TransactionalProducer(stage, "person", 0, "state-person").close()  # waits until every end is marked
    visits, changelog = stage.topic("visits"), stage.topic("state-person")
    options = {"group.id": "unused", "isolation.level": "read_committed", "enable.partition.eof": True}
    consumer = Consumer(stage.librdkafka() | options | {"fetch.wait.max.ms": 10})
    places = [(visits, 0), (visits, 1), (changelog, 0)]
    consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])
    values: dict[tuple[str, int], list[bytes | None]] = {place: [] for place in places}
    ends: dict[tuple[str, int], int] = {}
    while len(ends) < len(places):
        message = consumer.poll(_SECONDS_MAX)
        assert message is not None
        error, place = message.error(), (message.topic() or "", message.partition() or 0)
        if error is None:
            values[place].append(message.value())
        elif error.code() == KafkaError._PARTITION_EOF:
            ends[place] = message.offset() or 0
    consumer.close()
    for partition in range(2):
        there = [number for number, partitions in steps.items() if partition < partitions]
        assert values[visits, partition] == [b"%d of step %d" % (part, number) for number in there for part in range(3)]
    assert values[changelog, 0] == [b"%d" % number for number in steps]
    return ends[visits, 1]


@pytest.mark.parametrize(
    ("held", "release", "codes"),
    [
        # In the midst of the next transaction: a part of its records is taken, or it has just begun.
        (END, PRODUCE, {INVALID_PRODUCER_EPOCH}),
        (ADD, PRODUCE, {INVALID_PRODUCER_EPOCH}),
        (PRODUCE, ADD, {INVALID_PRODUCER_EPOCH}),
        # Between the two: what it does there must not outlive the new epoch.
        (ADD, END, {NONE, CONCURRENT_TRANSACTIONS}),
        (PRODUCE, END, {NONE, NOT_ENOUGH_REPLICAS, INVALID_TXN_STATE}),
    ],
)
def test_a_late_request_changes_nothing(
    proxy: Proxy, stage: Settings, held: str, release: str, codes: set[int]
) -> None:
    """Behind a new epoch it is refused; the step that it meets is there in whole, and so is the one it belongs to."""
    producer = TransactionalProducer(stage, "person", 0, "state-person")
    producer.commit(_step(1))
    proxy.hold = held
    if release == END:
        proxy.release = release
    producer.commit(_step(2))
    proxy.release = release
    producer.commit(_step(3, partitions=1))
    producer.commit(_step(4))
    assert proxy.answer.result(_SECONDS_MAX) in codes
    producer.close()
    end = _whole(stage, {1: 2, 2: 2, 3: 1, 4: 2})
    if release != END:
        assert end == 3 * (3 + 1), "a transaction ends where it was written to, nowhere else"


@pytest.mark.parametrize("renewed", [False, True])
def test_a_late_owner_is_fenced_and_opens_again(proxy: Proxy, stage: Settings, *, renewed: bool) -> None:
    """One that made itself the owner, or took a new epoch, and comes later in the midst of a step: nothing counts."""
    proxy.hold = INIT
    if renewed:
        proxy.hold = ""
    producer = TransactionalProducer(stage, "person", 0, "state-person")
    if renewed:
        proxy.hold, proxy.then_hold = END, INIT
    producer.commit(_step(1))
    proxy.release = PRODUCE
    with pytest.raises(FencedError):
        producer.commit(_step(2))
    assert proxy.answer.result(_SECONDS_MAX) == CONCURRENT_TRANSACTIONS
    producer.close()
    again = TransactionalProducer(stage, "person", 0, "state-person")
    again.commit(_step(2))
    again.close()
    _whole(stage, {1: 2, 2: 2})


def test_a_new_epoch_fences_no_newer_owner(proxy: Proxy, stage: Settings) -> None:
    """An owner that is none any more, and has missed an answer, is told so; the newer one goes on."""
    producer = TransactionalProducer(stage, "person", 0, "state-person")
    newer: list[TransactionalProducer] = []
    plain = producer._renew

    def overtaken() -> int:
        if not newer:
            newer.append(TransactionalProducer(stage, "person", 0, "state-person"))
        return plain()

    producer._renew = overtaken  # type: ignore[method-assign]
    proxy.hold = END
    with pytest.raises(FencedError, match="new epoch"):
        producer.commit(_step(1))
    newer[0].commit(_step(2))
    producer.close()
    newer[0].close()
    _whole(stage, {1: 2, 2: 2})


@pytest.mark.parametrize(
    ("key", "offered", "sentence"),
    [
        (22, (0, 1), r"person-0: opening: the broker offers InitProducerId up to version 1, .* older than Kafka 2.5"),
        (22, (0, 2), r"up to version 2, "),
        (
            24,
            (9, 12),
            r"person-0: commit: the broker and this build have no version of a request in common \(.*AddPart",
        ),
        (
            0,
            (99, 99),
            r"person-0: commit: the broker and this build have no version of a request in common \(.*Produce",
        ),
        (
            10,
            (99, 99),
            r"person-0: opening: the broker and this build have no version of a request in common \(.*Coordi",
        ),
    ],
)
def test_a_broker_of_another_age_is_refused_with_a_sentence(
    stage: Settings, monkeypatch: pytest.MonkeyPatch, key: int, offered: tuple[int, int], sentence: str
) -> None:
    """One that is too old to tell owners apart, or speaks no version of a request that this build knows."""
    plain = AIOKafkaConnection.send

    def send(self: AIOKafkaConnection, *arguments: object, **options: object) -> object:
        self._versions = {**(self._versions or {}), key: offered}
        return plain(self, *arguments, **options)

    monkeypatch.setattr(AIOKafkaConnection, "send", send)

    def begin() -> None:
        # One that cannot be made gives its connections back by itself.
        with closing(TransactionalProducer(stage, "person", 0, "state-person")) as producer:
            producer.commit(_step(1))

    with pytest.raises(RefusedError, match=sentence):
        begin()


def test_a_record_that_is_too_large_is_refused_with_a_sentence(stage: Settings) -> None:
    """Which topic and partition, how large batch and record are, and what to do; on the real broker."""
    producer = TransactionalProducer(stage, "person", 0, "state-person")
    step = _step(1)
    step.emit("visits", b"key", os.urandom(1_200_000), 1_634_000_000_000, 1)
    with pytest.raises(RefusedError) as refusal:
        producer.commit(step)
    producer.close()
    topic = re.escape(stage.topic("visits"))
    assert re.search(
        rf"{topic}, partition 1, a batch of 1,2\d\d,\d{{3}} bytes with 1 records, the largest of 1,200,003 bytes of key"
        r" and value, with error 10: raise the topic's max.message.bytes",
        str(refusal.value),
    )
