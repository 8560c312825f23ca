"""A sink in a process of its own, and both backends for the tests that hold them to one contract."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from infra.ports import free_port
from sinks.backends import Backend, Reader, open_backend
from sinks.client import open_reader
from sinks.tables import SINK_TOPICS
from tests.oracle.contacts import RULESETS
from tests.sinks.asking import TAILED, Ask
from tests.sinks.world import World
from truyvet import explain
from truyvet.config import Settings

WAIT_SECONDS_MAX = 60.0
PROJECT = Path(__file__).parents[2]
_WORLDS = count(1)


class SinkProcess:
    """``truyvet sink`` under the test's settings."""

    def __init__(self, settings: Settings, log: Path) -> None:
        ports = {"http_port": free_port(), "query_port": free_port()}
        self.settings = settings.model_copy(update=ports)
        self.log = log
        self.command = ["truyvet", "sink"]
        """The module that is run, and its arguments."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Starts it; does not wait."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                cwd=PROJECT,
                env={**os.environ, **self.settings.environment()},
                stderr=log,
            )
        return self

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits; returns the exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(20)

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a GET; status 0 while it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self.settings.http_port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def progress(self) -> dict[str, Any]:
        """What ``/progress`` shows, or nothing."""
        status, text = self.get("/progress")
        return json.loads(text) if status == 200 else {}

    def drained(self) -> bool:
        """Whether every partition of its topics is committed to its end."""
        reached = self.progress().get("topics", {})
        if sum(map(len, reached.values())) < len(SINK_TOPICS) * self.settings.partitions:
            return False
        return all(
            reached.get(topic, {}).get(str(partition)) == end for (topic, partition), end in ends(self.settings).items()
        )

    def wait(self, condition: Callable[[], bool] | None = None) -> None:
        """Waits until the condition (drained, if none) holds."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not (condition or self.drained)():
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"{self.progress()} of {ends(self.settings)}"
            time.sleep(0.05)

    def reader(self) -> Reader:
        """A reader of its database."""
        return open_reader(self.settings)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with self.reader() as reader:
            return reader.query(sql)[1]


def ends(settings: Settings) -> dict[tuple[str, int], int]:
    """The high watermark of every partition of the sink's topics."""
    consumer = Consumer(settings.librdkafka() | {"group.id": "test-ends"})
    places = [(settings.topic(topic), number) for topic in SINK_TOPICS for number in range(settings.partitions)]
    try:
        return {place: end(consumer, *place) for place in places}
    finally:
        consumer.close()


def end(consumer: Consumer, topic: str, partition: int) -> int:
    """The high watermark of one partition; a new topic has no leader for a moment."""
    while True:
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)[1])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            time.sleep(0.1)


SinkFactory = Callable[[Settings], SinkProcess]


@pytest.fixture
def sink_process(tmp_path: Path) -> Iterator[SinkFactory]:
    """Makes sinks (not yet started) that do not outlive the test."""
    made: list[SinkProcess] = []

    def make(settings: Settings) -> SinkProcess:
        made.append(SinkProcess(settings, tmp_path / f"sink{len(made)}.log"))
        return made[-1]

    yield make
    for sink in made:
        if sink._process is not None:
            sink.end(signal.SIGKILL)


@pytest.fixture(params=["embedded", "server"])
def backend_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of either backend, with a database of its own."""
    values: dict[str, object] = {"embedded_dir": tmp_path / "clickhouse", "database": f"b{os.getpid()}"}
    if request.param == "server":
        server = request.getfixturevalue("clickhouse_server")
        values |= {"clickhouse": server.url, "database": f"b_{tmp_path.name}".replace("-", "_")[:60]}
    return Settings.model_validate(values)


@pytest.fixture
def backend(backend_settings: Settings) -> Iterator[Backend]:
    """Either backend with its schema made."""
    opened = open_backend(backend_settings)
    opened.ensure_schema()
    yield opened
    opened.close()


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Two venues and nobody; ``truyvet explain`` reads its database."""
    folder = tmp_path_factory.getbasetemp() / "worlds"
    with open_backend(Settings(embedded_dir=folder, database=f"world{next(_WORLDS)}")) as backend:
        monkeypatch.setattr(explain, "open_reader", lambda _settings: nullcontext(backend))
        made = World(backend, {**RULESETS, "tailed": TAILED})
        made.venue("CAFE", name="Cà phê [red]Phố")
        made.venue("SHOP", "market", dwell_minutes=20)
        yield made


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Asks ``truyvet explain`` in every way."""
    return Ask(capsys)
