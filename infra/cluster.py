"""A Kafka cluster of several nodes on this machine: each is broker and controller, each may be killed alone.

All topics have a replica on every node, and what is acknowledged is on more than half of them: with three nodes, one
may die at any instant without a record lost or a partition without a leader.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.kafka import KafkaBroker, Quorum
from infra.ports import free_port
from infra.processes import ProcessError

HEAP_MIB = 512
IN_SYNC_SECONDS_MAX = 120.0
_ASK_SECONDS = 5.0
_POLL_SECONDS = 0.25


class KafkaCluster:
    """Brokers in ``directory``; a context manager. Nodes are numbered from 1 on.

    Args:
        directory: Holds a folder a node.
        nodes: How many there are.
    """

    def __init__(self, directory: Path, *, nodes: int = 3) -> None:
        quorum = Quorum(tuple(free_port() for _ in range(nodes)))
        self.nodes = {
            node: KafkaBroker(directory / f"node-{node}", heap_mib=HEAP_MIB, node=node, quorum=quorum)
            for node in range(1, nodes + 1)
        }

    @property
    def brokers(self) -> str:
        """What clients take as ``bootstrap.servers``."""
        return ",".join(broker.brokers for broker in self.nodes.values())

    def start(self) -> None:
        """Starts all nodes at once, since none is ready before more than half are.

        Raises:
            ProcessError: one did not become ready.
        """
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(KafkaBroker.start, self.nodes.values()))

    def stop(self) -> None:
        """Kills all nodes: nobody will read their data again."""
        for broker in self.nodes.values():
            broker.kill()

    def in_sync(self) -> bool:
        """Whether every partition has a leader, and all its replicas have what it has."""
        admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        try:
            topics = admin.list_topics(timeout=_ASK_SECONDS).topics
        except KafkaException:
            return False
        parts = [part for topic in topics.values() for part in topic.partitions.values()]
        return all(part.leader >= 0 and len(part.isrs) == len(part.replicas) == len(self.nodes) for part in parts)

    def wait_in_sync(self) -> None:
        """Returns once every node has everything again, so that any one of them may die.

        Raises:
            ProcessError: it takes too long.
        """
        deadline = time.monotonic() + IN_SYNC_SECONDS_MAX
        while not self.in_sync():
            if time.monotonic() > deadline:
                raise ProcessError(f"a node of the cluster lags behind after {IN_SYNC_SECONDS_MAX:.0f} s")
            time.sleep(_POLL_SECONDS)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
