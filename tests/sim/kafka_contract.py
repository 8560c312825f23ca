"""The two Kafkas that the contract is held against, the fake and the real one, and how a test calls them."""

import itertools
import logging
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from unittest.mock import patch

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.kafka import KafkaBroker
from infra.processes import send_signal
from streams.shell import requests
from streams.shell.requests import UNREACHABLE
from tests.sim.kafka import Broker
from tests.sim.outside import Alone
from truyvet.config import Settings

if TYPE_CHECKING:
    from tests.sim.kafka_writer import Writer

CALLS_MAX = 200
CALL_SECONDS = 0.1
QUIET_CALLS = 10
"""So many empty answers in a row, a second of the real one's time, count as nothing more to come."""
LONG_SECONDS = 30.0
PARTITIONS = 8
"""As many as any topic here has, or more."""

serial = itertools.count(1)


class Kafka(Protocol):
    """What a test may do with either of the two."""

    real: bool

    def topic(self, partitions: int = 1, *, log_append_time: bool = False) -> str:
        """A new topic."""
        ...

    def requests(self, name: str, timeout_ms: int) -> Any:
        """The requests of this ``transactional.id``."""
        ...

    def consumer(self, **options: object) -> Any:
        """A consumer."""
        ...

    def commit_without_answer(self, writer: "Writer") -> None:
        """Asks for a commit that may happen, and whose answer is lost."""
        ...

    def pass_time(self, seconds: float) -> None:
        """Lets time pass for the broker."""
        ...

    def take_for_dead(self, group: str, seconds: float, /) -> None:
        """Makes the group lose its first member, which lives, and asks nothing for so long."""
        ...

    def delete_before(self, topic: str, offset: int) -> None:
        """Deletes the first records of partition 0."""
        ...

    def set_available(self, *, available: bool) -> None:
        """Takes the broker away or brings it back."""
        ...


class Fake:
    """The fake, alone in its world."""

    real = False

    def __init__(self, seed: int) -> None:
        self.world = Alone(seed)
        self.broker = Broker(self.world)

    def topic(self, partitions: int = 1, *, log_append_time: bool = False) -> str:
        name = f"topic-{next(serial)}"
        self.broker.create_topic(name, partitions, log_append_time=log_append_time)
        return name

    def requests(self, name: str, timeout_ms: int) -> Any:
        return self.broker.requests(Settings(), name, timeout_ms)

    def consumer(self, **options: object) -> Any:
        return self.broker.consumer(_CONSUMER | options)

    def commit_without_answer(self, writer: "Writer") -> None:
        self.broker.fail_next("commit lost")
        assert writer.requests.commit_transaction(writer.owner) == UNREACHABLE

    def pass_time(self, seconds: float) -> None:
        self.world.now += seconds
        self.broker.end_of_time()

    def take_for_dead(self, group: str, seconds: float) -> None:
        self.broker.group(group).kick(self.broker.group(group).members[0])
        self.world.now += seconds

    def delete_before(self, topic: str, offset: int) -> None:
        self.broker.delete_before(topic, 0, offset)

    def set_available(self, *, available: bool) -> None:
        self.broker.available = available


class Real:
    """The real broker and the real library."""

    real = True

    def __init__(self, server: KafkaBroker) -> None:
        self._server = server
        self._base: dict[str, Any] = {"bootstrap.servers": server.brokers, "logger": _quiet}
        self._admin = AdminClient(dict(self._base))
        self._topics: list[str] = []
        self._consumers: list[confluent_kafka.Consumer] = []
        self._requests: list[requests.Requests] = []

    def topic(self, partitions: int = 1, *, log_append_time: bool = False) -> str:
        name = f"contract-{next(serial)}"
        kind = "LogAppendTime" if log_append_time else "CreateTime"
        new = NewTopic(name, partitions, 1, config={"message.timestamp.type": kind})
        self._admin.create_topics([new])[name].result()
        self._topics.append(name)
        consumer = self.consumer()
        deadline = time.monotonic() + LONG_SECONDS

        def unknown(partition: int) -> bool:
            place = TopicPartition(name, partition)
            return failed(lambda: consumer.get_watermark_offsets(place, timeout=5)) is not None

        while any(map(unknown, range(partitions))):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return name

    def requests(self, name: str, timeout_ms: int) -> Any:
        settings = Settings(brokers=self._server.brokers, partitions=PARTITIONS)
        self._requests.append(requests.Requests(settings, f"contract-{name}-{id(self)}", timeout_ms))
        return self._requests[-1]

    def consumer(self, **options: object) -> Any:
        made = confluent_kafka.Consumer(self._base | {"fetch.wait.max.ms": 10} | _CONSUMER | options)
        self._consumers.append(made)
        return made

    def commit_without_answer(self, writer: "Writer") -> None:
        # A broker that stands still cannot answer in time, however fast it is.
        with patch.object(requests, "_ANSWER_SECONDS", 0.5):
            writer.requests._disconnect()
            writer.add()
            send_signal(self._server.process, signal.SIGSTOP)
            try:
                assert writer.requests.commit_transaction(writer.owner) == UNREACHABLE
            finally:
                send_signal(self._server.process, signal.SIGCONT)

    def pass_time(self, seconds: float) -> None:
        time.sleep(seconds)

    def take_for_dead(self, _group: str, seconds: float) -> None:
        time.sleep(seconds)  # who does not poll for so long is taken out by its own library: max.poll.interval.ms

    def delete_before(self, topic: str, offset: int) -> None:
        self._admin.delete_records([TopicPartition(topic, 0, offset)])[TopicPartition(topic, 0, offset)].result()

    def set_available(self, *, available: bool) -> None:
        if available:
            self._server.start()
        else:
            self._server.stop()

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.close()
        for one in self._requests:
            one.close()
        if self._topics:
            self._admin.delete_topics(self._topics)


_quiet = logging.getLogger("truyvet.contract")
_quiet.setLevel(logging.CRITICAL + 1)
_CONSUMER: dict[str, object] = {
    "group.id": "truyvet-unused",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
}


class Failure(NamedTuple):
    """What a caller can tell errors apart by."""

    code: int
    fatal: bool = False
    retriable: bool = False
    abort: bool = False


def failed(call: Callable[[], object]) -> Failure | None:
    """How the call failed, or None."""
    try:
        call()
    except KafkaException as exception:
        error = exception.args[0]
        return Failure(error.code(), error.fatal(), error.retriable(), error.txn_requires_abort())
    return None


def error_of(call: Callable[[], object]) -> Failure:
    """How the call failed, as it must."""
    failure = failed(call)
    assert failure is not None
    return failure


class Seen:
    """What a consumer has brought so far: records by partition, and the ends told."""

    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer
        self.records: dict[int, list[tuple[int, bytes]]] = {}
        self.ends: dict[int, list[int]] = {}
        self.errors: list[KafkaError] = []

    def until(self, done: Callable[[], bool]) -> None:
        """Reads until it is so."""
        for _ in range(CALLS_MAX):
            if done():
                return
            self._read()
        raise AssertionError(f"only {self.records}, ends {self.ends}, errors {self.errors}")

    def all(self) -> "Seen":
        """Reads until nothing comes any more."""
        quiet = 0
        while quiet < QUIET_CALLS:
            quiet = 0 if self._read() else quiet + 1
        return self

    def to_end(self, offset: int, partition: int = 0) -> "Seen":
        """Reads until the end of the partition is told of as ``offset``."""
        self.until(lambda: offset in self.ends.get(partition, []))
        return self

    def _read(self) -> int:
        messages = self.consumer.consume(100, CALL_SECONDS)
        for message in messages:
            error = message.error()
            if error is None:
                self.records.setdefault(message.partition(), []).append((message.offset(), message.value()))
            elif error.code() == KafkaError._PARTITION_EOF:
                self.ends.setdefault(message.partition(), []).append(message.offset())
            else:
                self.errors.append(error)
        return len(messages)


def reader(kafka: Kafka, topic: str, offset: int = 0, *, partitions: int = 1, uncommitted: bool = False) -> Seen:
    """A consumer without a group, from ``offset`` of each partition."""
    consumer = kafka.consumer(**UNCOMMITTED) if uncommitted else kafka.consumer()
    consumer.assign([TopicPartition(topic, p, offset) for p in range(partitions)])
    return Seen(consumer)


UNCOMMITTED: dict[str, object] = {"isolation.level": "read_uncommitted"}


def ends(consumer: Any, topic: str) -> tuple[int, int]:
    """The watermarks of partition 0, asked of the broker."""
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10.0)
    return low, high


def settled(kafka: Kafka, topic: str, end: int) -> None:
    """Waits until partition 0 ends there for who reads committed: markers may come after the commit is answered."""
    consumer = kafka.consumer()
    for _ in range(CALLS_MAX):
        if ends(consumer, topic)[1] == end:
            return
    raise AssertionError(ends(consumer, topic))


class Member:
    """A consumer of a group, with what it was told."""

    def __init__(self, kafka: Kafka, topic: str, group: str, **options: object) -> None:
        self.told: list[tuple[str, list[int]]] = []
        self.commits: list[tuple[int | None, list[tuple[int, int]]]] = []
        self.topic = topic
        options = {
            "group.id": group,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 1_500,
            "heartbeat.interval.ms": 100,
            "on_commit": self._on_commit,
        } | options
        self.consumer = kafka.consumer(**options)
        self.seen = Seen(self.consumer)
        self.consumer.subscribe(
            [topic], on_assign=self._told("assigned"), on_revoke=self._told("revoked"), on_lost=self._told("lost")
        )

    def _told(self, what: str) -> Callable[[object, list[TopicPartition]], None]:
        return lambda _consumer, partitions: self.told.append((what, sorted(one.partition for one in partitions)))

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        code = None if error is None else error.code()
        self.commits.append((code, sorted((one.partition, one.offset) for one in offsets)))

    def joined(self) -> "Member":
        """Reads until it has partitions."""
        self.seen.until(lambda: bool(self.told) and self.told[-1][0] == "assigned")
        return self

    def commit(self, **offsets: int) -> None:
        """Commits ``p0=…, p1=…`` and reads until there is an answer."""
        before = len(self.commits)
        self.send(**offsets)
        self.seen.until(lambda: len(self.commits) > before)

    def send(self, **offsets: int) -> None:
        """Commits, and waits for no answer."""
        places = [TopicPartition(self.topic, int(name[1:]), offset) for name, offset in offsets.items()]
        self.consumer.commit(offsets=places, asynchronous=True)

    def stored(self) -> list[int]:
        """What is committed in the group, by partition."""
        places = [TopicPartition(self.topic, p) for p in range(2)]
        return [one.offset for one in self.consumer.committed(places, timeout=10.0)]
