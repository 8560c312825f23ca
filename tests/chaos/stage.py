"""One run's processes: a Kafka cluster, a ClickHouse server, workers and a sink; and its flow of events."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from infra.clickhouse import ClickHouseServer
from infra.cluster import KafkaCluster
from infra.processes import ProcessError
from producers.feed import Feed
from producers.lines import ERASURES, SCANS, VENUES, Line
from tests.chaos.inputs import Inputs
from truyvet.config import Settings
from truyvet.drain import Drain
from truyvet.stack import Stack

SLICE_RECORDS_MAX: Final = 20_000
PACE_SECONDS: Final = 0.1
SETTLE_SECONDS_MAX: Final = 900.0


@dataclass(frozen=True)
class Shape:
    """How large a stage is."""

    nodes: int
    partitions: int
    workers: int
    session_timeout_ms: int


class Stage:
    """All processes of one run in ``directory``; a context manager. What is in the folder stays."""

    def __init__(self, directory: Path, shape: Shape) -> None:
        self.cluster = KafkaCluster(directory / "kafka", nodes=shape.nodes)
        self.clickhouse = ClickHouseServer(directory / "clickhouse")
        self.settings = Settings.model_validate(
            {
                "brokers": self.cluster.brokers,
                "replication_factor": shape.nodes,
                "partitions": shape.partitions,
                "session_timeout_ms": shape.session_timeout_ms,
                "clickhouse": self.clickhouse.url,
                "restating": True,
                "query_port": 0,
            }
        )
        self.stack = Stack(self.settings, directory / "stack", workers=shape.workers, own_broker=False)
        self.settings = self.stack.settings

    def check(self) -> None:
        """Raises if any process has ended by itself.

        Raises:
            ProcessError: names the process, with the end of its log.
        """
        self.stack.check()
        for server in (self.clickhouse, *self.cluster.nodes.values()):
            server.check()

    def __enter__(self) -> Self:
        try:
            self.cluster.start()
            self.clickhouse.start()
            self.stack.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self.stack.stop()
        self.clickhouse.kill()
        self.cluster.stop()


@dataclass
class Flow:
    """Sends all of an input; ``rate`` is scans a second, None as fast as they are taken.

    ``run`` is made for a thread of its own: it fails by setting ``failure``.
    """

    stage: Stage
    inputs: Inputs
    rate: float | None
    sent: int = 0
    began: float = field(default_factory=time.monotonic)
    failure: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)

    def register(self) -> None:
        """Sends the register and waits until every worker has it."""
        Feed(self.stage.settings).send(VENUES.topic, self.inputs.register)
        self._wait_processed()

    def start(self) -> None:
        """Sends everything else, in a thread."""
        self.began = time.monotonic()
        threading.Thread(target=self.run, name="flow", daemon=True).start()

    def run(self) -> None:
        """Scans with what comes among them; then, when all that is processed, the erasures."""
        try:
            self._send_scans()
            self.done.set()
            self._wait_processed()
            Feed(self.stage.settings).send(ERASURES.topic, self.inputs.erasures)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            self.failure = error
        finally:
            self.done.set()
            self.stopping.set()

    @property
    def seconds_left(self) -> float:
        """How long the scans will still last."""
        return 0.0 if self.rate is None else (self.inputs.scans_count - self.sent) / self.rate

    def wait_settled(self) -> None:
        """Returns once everything is sent, processed and stored.

        Raises:
            ProcessError: a process ended by itself, or it takes too long.
        """
        deadline = time.monotonic() + SETTLE_SECONDS_MAX + self.seconds_left
        while not self.stopping.wait(0.1):
            self.stage.check()
            if time.monotonic() > deadline:
                raise ProcessError(f"not everything was processed after {SETTLE_SECONDS_MAX:.0f} s")
        if self.failure is not None:
            raise self.failure
        drain = Drain(self.stage.stack)
        while not drain.settled():
            self.stage.check()
            if time.monotonic() > deadline:
                raise ProcessError(f"not everything was stored after {SETTLE_SECONDS_MAX:.0f} s")
            time.sleep(0.2)
        drain.close()

    def _send_scans(self) -> None:
        feed, lines = Feed(self.stage.settings), self.inputs.scans()
        extras = iter(self.inputs.extras)
        following = next(extras, None)
        while batch := self._due(lines):
            feed.send(SCANS.topic, batch)
            self.sent += len(batch)
            due: dict[str, list[Line]] = {}
            while following is not None and following[0] <= self.sent / self.inputs.scans_count:
                due.setdefault(following[1].topic, []).append(following[2])
                following = next(extras, None)
            for topic, extra_lines in due.items():
                feed.send(topic, extra_lines)

    def _due(self, lines: Iterator[Line]) -> list[Line]:
        """The lines whose time has come; none at the end."""
        if self.rate is None:
            return list(islice(lines, SLICE_RECORDS_MAX))
        while (due := int((time.monotonic() - self.began) * self.rate) - self.sent) < self.rate * PACE_SECONDS:
            time.sleep(PACE_SECONDS / 2)
        return list(islice(lines, min(due, SLICE_RECORDS_MAX)))

    def _wait_processed(self) -> None:
        """Waits, whatever is down just now; who watches the processes is the main thread."""
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        drain = Drain(self.stage.stack)
        while not drain.processed():
            if time.monotonic() > deadline:
                raise ProcessError(f"what was sent is not processed after {SETTLE_SECONDS_MAX:.0f} s")
            time.sleep(0.2)
        drain.close()
