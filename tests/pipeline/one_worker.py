"""One worker on the session's broker, without sink and database: what it is sent, and what it makes of it."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, KafkaError, Producer, TopicPartition

from infra.topics import ensure_topics
from streams.core.partition import partition_of
from streams.core.times import format_ms
from streams.shell.restore import log_consumer
from tests.conftest import wait_until
from truyvet.config import Settings
from truyvet.drain import Drain
from truyvet.members import Kind, fetch
from truyvet.stack import Stack

SECONDS_MAX = 40.0
AT_MS = 1_634_000_000_000
Row = dict[str, Any]


def person(name: object) -> str:
    """A person_id."""
    return hashlib.blake2b(str(name).encode(), digest_size=16).hexdigest()


def venue(venue_id: str) -> Row:
    """A venue event."""
    return {
        "venue_id": venue_id, "name": "x", "category": "cafe", "province_code": "01", "district_code": "001",
        "ward_code": "00001", "lat": 21.0, "lon": 105.8, "registered_at": "2021-09-23T09:00:00+07:00",
        "status": "active", "codes": [],
    }  # fmt: skip


def scan(scan_id: str, person_id: str, venue_id: str = "V1", at_ms: int = AT_MS) -> Row:
    """A scan event."""
    return {
        "scan_id": scan_id, "person_id": person_id, "venue_id": venue_id, "direction": "in",
        "occurred_at": format_ms(at_ms), "source": "pc_covid",
    }  # fmt: skip


def case(case_id: str, person_id: str) -> Row:
    """A case report."""
    return {
        "case_id": case_id, "person_id": person_id, "status": "confirmed", "onset_at": format_ms(AT_MS),
        "sampled_at": format_ms(AT_MS), "reported_at": format_ms(AT_MS), "ruleset": "vn-2021-07",
    }  # fmt: skip


class OneWorker(Stack):
    """The worker; ``module`` and its arguments stand for ``truyvet worker`` where they are given."""

    def __init__(self, settings: Settings, directory: Path, *module: str) -> None:
        super().__init__(settings, directory, own_broker=False)
        self.module: Sequence[str] = module
        ensure_topics(self.settings)
        self.drain = Drain(self)
        self.connect()

    def connect(self) -> None:
        """Connects a new producer, which knows the topics as they are now."""
        self._producer = Producer({"bootstrap.servers": self.settings.brokers, "linger.ms": 5})

    def __enter__(self) -> Self:
        self.start_worker(0)
        assert wait_until(lambda: len(self.drain.rooms()) == 2 * self.settings.partitions, SECONDS_MAX), self.log
        return self

    def __exit__(self, *_: object) -> None:
        self.drain.close()
        self.stop()

    def _command(self, kind: Kind) -> list[str]:
        return [sys.executable, "-m", *self.module] if self.module else super()._command(kind)

    def send(self, topic: str, key: str, event: Row | bytes, partition: int | None = None) -> None:
        """Produces an event to its key's partition, or to another."""
        value = event if isinstance(event, bytes) else json.dumps(event).encode()
        home = partition_of(key.encode(), self.settings.partitions) if partition is None else partition
        self._producer.produce(self.settings.topic(topic), value, key, home, timestamp=AT_MS + 60_000)
        self._producer.poll(0)

    def flush(self) -> None:
        """Waits until the broker has everything."""
        assert self._producer.flush(10) == 0

    def rows(self, topic: str) -> list[Row]:
        """All that is committed on a topic now, as JSON, with key."""
        name = self.settings.topic(topic)
        consumer = log_consumer(self.settings)
        places = [TopicPartition(name, p, OFFSET_BEGINNING) for p in range(self.settings.partitions)]
        rows, ended = [], set[int]()
        consumer.assign(places)
        until = time.monotonic() + SECONDS_MAX
        while len(ended) < len(places) and time.monotonic() < until:
            for message in consumer.consume(1_000, 0.05):
                error = message.error()
                if error is None:
                    rows.append(json.loads(message.value() or b"{}"))
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition() or 0)
        consumer.close()
        return rows

    def until(self, condition: Callable[[], bool], seconds_max: float = SECONDS_MAX) -> None:
        """Waits for a condition, with the worker alive."""
        deadline = time.monotonic() + seconds_max
        while not condition():
            self.check()
            assert time.monotonic() < deadline, self.log[-3_000:]
            time.sleep(0.1)

    def settled(self, *topics: str) -> bool:
        """Whether these inputs are read to their ends."""
        ends = self.drain.ends(topics)
        rooms = self.drain.rooms()
        reached: dict[tuple[str, int], int] = {}
        for part, state in rooms.items():
            for name, offset in state["next"].items():
                reached[name, int(part.rpartition("-")[2])] = offset
        return all(reached.get((name, p), -1) >= end for name, of_topic in ends.items() for p, end in of_topic.items())

    @property
    def log(self) -> str:
        """What the worker has said."""
        path = self.directory / "worker-0.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def health(self) -> tuple[int, str]:
        """Status and text of ``/healthz``."""
        return fetch(self.worker_urls()[0] + "/healthz")

    def metric(self, name: str) -> float:
        """The sum of a metric's series."""
        lines = fetch(self.worker_urls()[0] + "/metrics")[1].splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"truyvet_{name}"))
