"""A broker in memory that keeps to Kafka's contract, for the simulator: logs, transactions, groups, faults.

``tests/sim/test_kafka_contract.py`` holds it to the real one. What the real one does in the background happens here
at a moment that chance decides: which part of a transaction is sent when, and when markers are written after the
coordinator has decided. A decision stands, whoever dies afterwards.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from infra.topics import BrokerAwayError, Described
from streams.core.partition import partition_of
from tests.sim.groups import Assignor, Group, by_range
from tests.sim.kafka_consumer import Consumer
from tests.sim.kafka_log import Headers, Log, Record, Transaction
from tests.sim.kafka_producer import Fault, Requests
from tests.sim.kafka_raw import RawLog
from tests.sim.late import LateRequests
from tests.sim.outside import World
from truyvet.config import Settings


class Identity:
    """What the coordinator knows of one ``transactional.id``; ``current`` is open, or lacks markers still.

    ``committed`` is whether the transaction that its owner has ended last was; False for one who has ended none.
    ``last_epoch`` is the one that the owner itself had before, -1 if it had none; ``begun`` counts transactions.
    """

    __slots__ = ("begun", "committed", "current", "epoch", "last_epoch", "producer_id")

    def __init__(self, producer_id: int) -> None:
        self.producer_id = producer_id
        self.epoch = -1
        self.last_epoch = -1
        self.begun = 0
        self.current: Transaction | None = None
        self.committed = False


class Broker:
    """The broker. ``changes`` grows with everything that a reader may see, so that waiting is cheap."""

    def __init__(self, world: World) -> None:
        self.changes = 0
        self.topics: dict[str, list[Log]] = {}
        self._made: Counter[str] = Counter()
        self._world = world
        self._available = True
        self._identities: dict[str, Identity] = {}
        self._members = 0
        self._unfinished: list[tuple[Identity, Transaction]] = []
        self._groups: dict[str, Group] = {}
        self.faults: dict[str, int] = {}
        self.late = LateRequests(world)
        self._partitions: dict[tuple[bytes, int], int] = {}

    # What the simulator does with it.

    def create_topic(self, name: str, partitions: int, *, log_append_time: bool = False) -> None:
        """Creates a topic, or makes it anew; its timestamps are the producer's unless ``log_append_time``."""
        self._made[name] += 1
        self.topics[name] = [Log(name, p, log_append_time=log_append_time) for p in range(partitions)]

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Headers = (),
    ) -> Record:
        """One record of a producer outside of the simulation, at once; partition -1 is decided by the key."""
        log = self.log(topic, partition, key)
        log.extend([(key, value, timestamp, headers)], self._world.time())
        self.changes += 1
        return log.last

    @property
    def available(self) -> bool:
        """Whether the broker answers. While it does not, time-outs pass and nothing changes."""
        return self._available

    @available.setter
    def available(self, value: bool) -> None:
        if value and not self._available:
            for group in self._groups.values():
                group.begin_sessions_anew()
        self._available = value
        self.changes += 1

    def fail_next(self, kind: Fault) -> None:
        """The next request of any producer that this can happen to fails so."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def end_of_time(self) -> None:
        """What happens as time passes: transactions open for too long end, and fence their producers.

        What was on its way for long comes, and markers that are due are written, too.
        """
        if not self._available:
            return
        now = self._world.time()
        for identity in self._identities.values():
            current = identity.current
            if current is not None and not current.decided and now - current.began > current.timeout:
                self.fence(identity)
        self.late.come_in_the_end()
        self.finish()

    def compact(self, topic: str, partition: int, *, tombstones_before: float) -> None:
        """The log cleaner's work; tombstones appended before ``tombstones_before`` (epoch seconds) go, too."""
        self.topics[topic][partition].compact(tombstones_before)

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Retention's work: the log begins at ``offset`` from now on."""
        self.topics[topic][partition].delete_before(offset)

    def committed(self, topic: str, partition: int) -> list[Record]:
        """All that a reader of committed records would read."""
        log = self.topics[topic][partition]
        return log.read(log.first, log.end + 1, committed=True)[0]

    def first(self, topic: str, partition: int) -> int:
        """The first offset."""
        return self.topics[topic][partition].first

    def end(self, topic: str, partition: int) -> int:
        """The next offset to be given."""
        return self.topics[topic][partition].end

    def lso(self, topic: str, partition: int) -> int:
        """The last stable offset."""
        return self.topics[topic][partition].lso

    def fetch(self, topic: str, partition: int, position: int, records_max: int) -> tuple[list[Record], int]:
        """What one fetch of committed records brings: any part of what is there; and the position behind it."""
        self.tick()
        rng = self._world.rng
        count = records_max if rng.random() < 0.5 else rng.randint(1, records_max)
        return self.topics[topic][partition].read(position, count, committed=True)

    def describe(self, settings: Settings, names: Iterable[str]) -> dict[str, Described]:
        """In place of ``infra.topics.describe``."""
        self._world.step("topics asked")
        if not self._available:
            raise BrokerAwayError("the broker does not answer")
        full = {name: settings.topic(name) for name in names}
        return {
            name: Described(f"{topic}.{self._made[topic]}", len(self.topics[topic])) for name, topic in full.items()
        }

    def topic_ids(self, settings: Settings, names: Iterable[str]) -> dict[str, str]:
        """In place of ``infra.topics.topic_ids``."""
        return {name: described.topic_id for name, described in self.describe(settings, names).items()}

    def group(self, name: str, session_seconds: float = 45.0, assignor: Assignor = by_range) -> Group:
        """The group of that name; session and assignor are those of its first mention."""
        if name not in self._groups:
            self._groups[name] = Group(self._world, session_seconds, assignor)
        return self._groups[name]

    def check_groups(self) -> None:
        """Takes out members of any group whose session has run out; called as time passes."""
        if self._available:
            for group in self._groups.values():
                group.check()

    # What stands in for clients.

    def requests(self, _settings: Settings, transactional_id: str, transaction_timeout_ms: int) -> Requests:
        """In place of ``streams.shell.requests.Requests``."""
        return Requests(self, self._world, self.identity(transactional_id), transaction_timeout_ms)

    def consumer(self, config: Mapping[str, Any]) -> Consumer:
        """In place of ``confluent_kafka.Consumer``."""
        return Consumer(self, self._world, config)

    def raw_log(self, _settings: Settings, *, wait_ms: int) -> RawLog:
        """In place of ``streams.shell.raw_log.RawLog``."""
        assert wait_ms > 0
        return RawLog(self, self._world)

    # What producers and consumers ask for.

    def log(self, topic: str, partition: int, key: bytes | None) -> Log:
        """The partition that a record goes to."""
        logs = self.topics[topic]
        if partition >= 0:
            return logs[partition]
        if key is None:
            return self._world.rng.choice(logs)
        known = self._partitions.get((key, len(logs)))
        if known is None:
            known = self._partitions[key, len(logs)] = partition_of(key, len(logs))
        return logs[known]

    def identity(self, transactional_id: str) -> Identity:
        """What is known of a ``transactional.id``."""
        if transactional_id not in self._identities:
            self._identities[transactional_id] = Identity(len(self._identities))
        return self._identities[transactional_id]

    def new_member_id(self) -> str:
        """A name for a new member of a group."""
        self._members += 1
        return f"member-{self._members}"

    def takes_fault(self, kind: Fault) -> bool:
        """Whether such a fault was asked for; it counts as having happened."""
        left = self.faults.pop(kind, 0)
        if left > 1:
            self.faults[kind] = left - 1
        return left > 0

    def fence(self, identity: Identity) -> None:
        """The coordinator aborts the open transaction, and takes nothing more from the owner that began it."""
        identity.last_epoch = identity.epoch
        identity.epoch += 1
        self.decide(identity, aborted=True)

    def decide(self, identity: Identity, *, aborted: bool) -> None:
        """The coordinator decides on the open transaction, for good; markers follow."""
        current = identity.current
        assert current is not None
        assert not current.decided
        current.decided = True
        current.aborted = aborted
        identity.committed = not aborted
        if current.logs:
            self._unfinished.append((identity, current))
        else:
            identity.current = None

    def tick(self) -> None:
        """Perhaps one of the markers that are due is written."""
        if self._unfinished and self._available and self._world.rng.random() < 0.5:
            self.write_marker(*self._world.rng.choice(self._unfinished))

    def finish(self) -> None:
        """Writes all markers that are due."""
        while self._unfinished:
            self.write_marker(*self._unfinished[0])

    def write_marker(self, identity: Identity, transaction: Transaction) -> None:
        """Writes one marker of a transaction that is decided and lacks some, in any of its partitions."""
        log = self._world.rng.choice(list(transaction.logs))
        del transaction.logs[log]
        log.mark(transaction)
        self.changes += 1
        if not transaction.logs:
            identity.current = None
            self._unfinished.remove((identity, transaction))
