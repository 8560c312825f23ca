"""A real Apache Kafka broker (KRaft), run from plain jars; alone, or one node of an ``infra.cluster.KafkaCluster``.

`./do` fetches the jars with Maven into ``var/kafka/jars``, then runs this module once: it makes the archive
of loaded classes that halves a broker's start (6.3 to 2.8 CPU-seconds). The data folder is formatted once and
kept: a broker started again on the same folder and port has everything that was committed.
"""

import base64
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from infra.ports import free_port
from infra.processes import RUNTIME_DIR, ProcessError, log_tail, spawn
from infra.server import Server

JARS_DIR = RUNTIME_DIR / "kafka" / "jars"
ARCHIVE = RUNTIME_DIR / "kafka" / "classes.jsa"
LOG4J_CONFIG = Path(__file__).with_name("kafka") / "log4j2.xml"

HEAP_MIB = 768

_PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data_dir}
auto.create.topics.enable=false
# Every node has every internal topic, and more than half must have what is acknowledged; few partitions, so that it
# starts quickly.
default.replication.factor={nodes}
min.insync.replicas={majority}
offsets.topic.replication.factor={nodes}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={nodes}
transaction.state.log.min.isr={majority}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={nodes}
share.coordinator.state.topic.min.isr={majority}
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
# Unbounded, it takes most of a core for seconds at a time, and everybody who waits for the broker notices.
log.cleaner.io.max.bytes.per.second=10485760
# Topics say their own retention (infra/topics.py); the log of a topic that does not is kept.
log.retention.ms=-1
"""


@dataclass(frozen=True)
class Quorum:
    """What the nodes of one cluster know of each other: who they are, and where their controllers listen."""

    controller_ports: tuple[int, ...]
    """By node; the first node has the number 1."""
    cluster_id: str = field(
        default_factory=lambda: base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    )

    @property
    def voters(self) -> str:
        """The controllers as Kafka's setting names them."""
        return ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(self.controller_ports, 1))


class KafkaBroker(Server):
    """One broker in ``directory``; a context manager, or ``start`` and ``stop``.

    Args:
        directory: Holds configuration, data and log; kept when the broker stops.
        port: Where clients connect; None takes a free one. A broker started again must keep its port.
        die_with_parent: The broker is killed when this process is gone; False leaves it running.
        heap_mib: Bound of the Java heap.
        node: Its number in ``quorum``.
        quorum: The cluster's nodes; None makes a cluster of this one.
        long_lived: Lets Java's optimising compiler work: it takes a core for most of a minute, and pays after some.
    """

    name = "kafka"

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        die_with_parent: bool = True,
        heap_mib: int = HEAP_MIB,
        node: int = 1,
        quorum: Quorum | None = None,
        long_lived: bool = False,
    ) -> None:
        super().__init__(directory, port=port, die_with_parent=die_with_parent)
        self._quorum = quorum or Quorum((free_port(),))
        self._node = node
        self._heap_mib = heap_mib
        self._long_lived = long_lived

    @property
    def brokers(self) -> str:
        """What clients take as ``bootstrap.servers``."""
        return f"127.0.0.1:{self.port}"

    def _prepare(self) -> list[str]:
        if not any(JARS_DIR.glob("kafka_*.jar")):
            raise ProcessError(f"{JARS_DIR}: the broker's jars are missing; any verb of `./do` fetches them")
        config = self._write_config()
        if not (self.directory / "data" / "meta.properties").exists():
            self._format(config)
        options = f"-Xms128m -Xmx{self._heap_mib}m -XX:+UseG1GC"
        if not self._long_lived:
            # In a broker that lives for a minute or two on cores it shares, the optimising compiler took more CPU time
            # than handling the requests did, and gave nothing back.
            options += " -XX:TieredStopAtLevel=1"
        return [*_java(options), "kafka.Kafka", str(config)]

    def _write_config(self) -> Path:
        config = self.directory / "server.properties"
        config.write_text(
            _PROPERTIES.format(
                port=self.port,
                controller_port=self._quorum.controller_ports[self._node - 1],
                node=self._node,
                voters=self._quorum.voters,
                nodes=len(self._quorum.controller_ports),
                majority=len(self._quorum.controller_ports) // 2 + 1,
                data_dir=self.directory / "data",
                heap_mib=self._heap_mib,
            ),
            encoding="utf-8",
        )
        return config

    def _format(self, config: Path) -> None:
        tool = [*_java("-XX:+UseSerialGC -XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool"]
        popen = spawn([*tool, "format", "-t", self._quorum.cluster_id, "-c", str(config)], log_path=self.log_path)
        if popen.wait() != 0:
            raise ProcessError(f"kafka cannot format its data folder: {log_tail(self.log_path)}")


def _java(options: str) -> list[str]:
    # Java leaves an archive aside that another Java or other jars made.
    archive = [f"-XX:SharedArchiveFile={ARCHIVE}"] if ARCHIVE.exists() else []
    return [
        "java",
        *options.split(),
        *archive,
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={LOG4J_CONFIG}",
        "-cp",
        f"{JARS_DIR}/*",
    ]


class _ArchivingBroker(KafkaBroker):
    """Writes the classes that it loaded into the archive when it stops."""

    def _prepare(self) -> list[str]:
        java, *rest = super()._prepare()
        return [java, f"-XX:ArchiveClassesAtExit={ARCHIVE}", *rest]


def make_archive() -> None:
    """Starts and stops a broker once, so that later ones start from its loaded classes.

    Raises:
        ProcessError: the broker cannot be started.
    """
    ARCHIVE.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as directory, _ArchivingBroker(Path(directory)) as broker:
        # A topic, so that what serves requests is loaded too.
        admin = AdminClient({"bootstrap.servers": broker.brokers})
        admin.create_topics([NewTopic("archive", 1)])["archive"].result()
    if not ARCHIVE.exists():
        raise ProcessError(f"{ARCHIVE}: Java did not write it")


if __name__ == "__main__":
    make_archive()
