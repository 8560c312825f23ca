"""A real Apache Kafka broker of one node (KRaft), run from plain jars.

`./do` fetches the jars with Maven into ``var/kafka/jars``. The data folder is formatted once and kept:
a broker started again on the same folder and port has everything that was committed.
"""

import base64
import subprocess
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.ports import accepts, free_port
from infra.processes import RUNTIME_DIR, ProcessError, ProcessId, identify, log_tail, spawn, terminate

JARS_DIR = RUNTIME_DIR / "kafka" / "jars"
LOG4J_CONFIG = Path(__file__).with_name("kafka") / "log4j2.xml"

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 15.0
HEAP_MIB = 768
_POLL_SECONDS = 0.05

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data_dir}
auto.create.topics.enable=false
# One node: every internal topic has one replica, and few partitions so that it starts quickly.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Members come and go in tests and demos; nobody should wait for more of them.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# After a crash the controller waits for the old registration to end; 9 s unless told.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
# Two cores, a heap of {heap_mib} MiB: the cleaner's buffer is 128 MiB unless told.
num.network.threads=2
num.io.threads=4
background.threads=4
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=33554432
# Topics say their own retention (infra/topics.py); the log of a topic that does not is kept.
log.retention.ms=-1
"""


class KafkaBroker:
    """One broker in ``directory``; a context manager, or ``start`` and ``stop``.

    Args:
        directory: Holds configuration, data and log; kept when the broker stops.
        port: Where clients connect; None takes a free one.
        die_with_parent: The broker is killed when this process is gone; False leaves it running.
        heap_mib: Bound of the Java heap.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        die_with_parent: bool = True,
        heap_mib: int = HEAP_MIB,
    ) -> None:
        self.directory = directory.resolve()
        self.port = free_port() if port is None else port
        self.log_path = self.directory / "kafka.log"
        self._controller_port = free_port()
        self._die_with_parent = die_with_parent
        self._heap_mib = heap_mib
        self._popen: subprocess.Popen[bytes] | None = None
        self._process: ProcessId | None = None

    @property
    def brokers(self) -> str:
        """What clients take as ``bootstrap.servers``."""
        return f"127.0.0.1:{self.port}"

    @property
    def process(self) -> ProcessId:
        """The running broker's process.

        Raises:
            ProcessError: the broker was not started.
        """
        if self._process is None:
            raise ProcessError("the broker is not running")
        return self._process

    @property
    def pid(self) -> int:
        """The running broker's pid."""
        return self.process.pid

    def start(self) -> None:
        """Formats the data folder if it is new, starts the broker and waits until it answers.

        Raises:
            ProcessError: Java or the jars are missing, or the broker ended or did not answer in time.
        """
        if not any(JARS_DIR.glob("kafka_*.jar")):
            raise ProcessError(f"{JARS_DIR}: the broker's jars are missing; any verb of `./do` fetches them")
        config = self._write_config()
        if not (self.directory / "data" / "meta.properties").exists():
            self._format(config)
        self._popen = spawn(
            [*self._java(f"-Xms128m -Xmx{self._heap_mib}m -XX:+UseG1GC"), "kafka.Kafka", str(config)],
            log_path=self.log_path,
            working_dir=self.directory,
            die_with_parent=self._die_with_parent,
        )
        self._process = identify(self._popen.pid)
        self._wait_ready()

    def stop(self) -> None:
        """Stops the broker cleanly, or kills it after some seconds; its data stay."""
        if self._process is not None:
            terminate(self._process, STOP_SECONDS_MAX)
        self._reap()

    def kill(self) -> None:
        """SIGKILL, as a crash would end it; ``start`` brings it back with its data."""
        if self._process is not None:
            terminate(self._process, 0.0) if self._popen is None else self._popen.kill()
        self._reap()

    def _reap(self) -> None:
        if self._popen is not None:
            self._popen.wait()
        self._popen = None
        self._process = None

    def _java(self, options: str) -> list[str]:
        # Messages of the JVM itself go to the log as they are; the class path takes every jar there is.
        return [
            "java",
            *options.split(),
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={LOG4J_CONFIG}",
            "-cp",
            f"{JARS_DIR}/*",
        ]

    def _write_config(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "server.properties"
        config.write_text(
            _PROPERTIES.format(
                port=self.port,
                controller_port=self._controller_port,
                data_dir=self.directory / "data",
                heap_mib=self._heap_mib,
            ),
            encoding="utf-8",
        )
        return config

    def _format(self, config: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=").replace("-", "A")
        tool = [*self._java("-XX:+UseSerialGC -XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool"]
        popen = spawn([*tool, "format", "-t", cluster_id, "-c", str(config)], log_path=self.log_path)
        if popen.wait() != 0:
            raise ProcessError(f"the broker's data folder cannot be formatted: {log_tail(self.log_path)}")

    def _wait_ready(self) -> None:
        """The port opens once the broker is out of recovery and registered with its controller."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not accepts(self.port):
            if self._popen is None or self._popen.poll() is not None:
                self._reap()
                raise ProcessError(f"the broker ended while starting: {log_tail(self.log_path)}")
            if time.monotonic() > deadline:
                self.kill()
                raise ProcessError(f"the broker was not ready within {READY_SECONDS_MAX:.0f} s; see {self.log_path}")
            time.sleep(_POLL_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
