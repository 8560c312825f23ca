"""The fake of what a room's producer asks of the brokers, in place of ``streams.shell.requests.Requests``.

The coordinator and the partitions keep to their rules at once, one request after the other; a step before, between and
after, where the process may die, or others come in between. A request or its answer may get lost, or the request comes
late (``late.py``); some of a request's partitions may refuse, and partitions take their batches in any order.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from aiokafka.record.memory_records import MemoryRecords

from streams.core.step import KAFKA_TIMESTAMP_MIN_MS
from streams.shell.requests import LEADER_NOT_AVAILABLE, NOBODY, NONE, UNREACHABLE, Owner, Place
from tests.sim.kafka_log import Batch, Log, Transaction
from tests.sim.late import Kind
from tests.sim.outside import Unattended, World

if TYPE_CHECKING:
    from tests.sim.kafka import Broker, Identity

Fault = Literal[
    "init lost",
    "partitions lost",
    "records lost",
    "commit lost",
    "init late",
    "partitions late",
    "records late",
    "commit late",
    "not the leader",
    "not the coordinator",
    "transaction takes too long",
]
"""What is lost is the request, or its answer; what is late comes after its sender has given up."""

UNKNOWN_TOPIC_OR_PARTITION: Final = 3
NOT_LEADER: Final = 6
NOT_COORDINATOR: Final = 16
NOT_ENOUGH_REPLICAS: Final = 19
INVALID_PRODUCER_EPOCH: Final = 47
INVALID_TXN_STATE: Final = 48
INVALID_PRODUCER_ID_MAPPING: Final = 49
CONCURRENT_TRANSACTIONS: Final = 51
_ANSWER_SECONDS: Final = 30.0
_REFUSED_SECONDS: Final = 0.1


class _Call(NamedTuple):
    """A request to the coordinator: its steps, once it was sent and once it was heard that it is done."""

    sent: str
    lost: Fault
    late: Fault
    kind: Kind
    done: str


_INIT: Final = _Call("init sent", "init lost", "init late", "init", "init done")
_ADD: Final = _Call("partitions sent", "partitions lost", "partitions late", "partitions", "transaction begun")
_COMMIT: Final = _Call("commit sent", "commit lost", "commit late", "commit", "commit heard")


class Requests:
    """The requests of one ``transactional.id``; made by ``Broker.requests``."""

    def __init__(self, broker: "Broker", world: World, identity: "Identity", timeout_ms: int) -> None:
        self._broker = broker
        self._world = world
        self._identity = identity
        self._timeout = timeout_ms / 1000
        self.refused: Place | None = None

    def close(self) -> None:
        """There are no connections."""

    # The coordinator.

    def init_producer_id(self, owner: Owner = NOBODY) -> tuple[int, Owner]:
        """Aborts what is open, whoever's it is, and waits for none of its markers: then it must be asked again."""
        code = self._sent(_INIT, lambda late: late._init(owner))
        if code is not None:
            return code, NOBODY
        code, given = self._init(owner)
        code = self._heard(_INIT, code)
        return code, given if code == NONE else NOBODY

    def _init(self, owner: Owner) -> tuple[int, Owner]:
        identity = self._identity
        known = owner != NOBODY and identity.epoch >= 0
        if known and owner.producer_id != identity.producer_id:
            return INVALID_PRODUCER_EPOCH, NOBODY
        current = identity.current
        if current is not None:
            # Who asks is looked at only once nothing is open: until then an older owner fences a newer one.
            if not current.decided:
                self._broker.fence(identity)
                self._world.step("abort decided")
            self._write_some_markers(current)
            return CONCURRENT_TRANSACTIONS, NOBODY
        if not known or owner.epoch == identity.epoch:
            identity.last_epoch = owner.epoch if known else -1
            identity.epoch += 1
        elif owner.epoch != identity.last_epoch:
            return INVALID_PRODUCER_EPOCH, NOBODY
        identity.committed = False
        return NONE, Owner(identity.producer_id, identity.epoch)

    def add_partitions(self, owner: Owner, places: Sequence[Place]) -> int:
        """Begins the owner's transaction with these partitions, or adds them to it; all of them or none."""
        code = self._sent(_ADD, lambda late: late._add(owner, places))
        return code if code is not None else self._heard(_ADD, self._add(owner, places))

    def _add(self, owner: Owner, places: Sequence[Place]) -> int:
        logs = [self._log(place) for place in places]
        if None in logs:
            return UNKNOWN_TOPIC_OR_PARTITION
        identity = self._identity
        current = identity.current
        ending = current is not None and current.decided
        refusal = self._refusal(owner)
        if refusal != NONE:
            # A coordinator that is just noting an end says so to anybody, and looks at who it is the next time.
            return CONCURRENT_TRANSACTIONS if ending and self._world.rng.random() < 0.5 else refusal
        if current is not None and current.decided:
            self._write_some_markers(current)
            return CONCURRENT_TRANSACTIONS
        if current is None:
            identity.begun += 1
            current = identity.current = Transaction(owner.epoch, self._world.time(), self._timeout)
            identity.committed = False
        current.logs.update(dict.fromkeys(log for log in logs if log is not None))
        return NONE

    def commit_transaction(self, owner: Owner) -> int:
        """Decides, for good; some of the markers are written before the answer comes, others after it."""
        code = self._sent(_COMMIT, lambda late: late._commit(owner))
        return code if code is not None else self._heard(_COMMIT, self._commit(owner))

    def _commit(self, owner: Owner) -> int:
        identity = self._identity
        self._perhaps_take_too_long()
        refusal = self._refusal(owner)
        if refusal != NONE:
            return refusal
        current = identity.current
        if current is None:
            return NONE if identity.committed else INVALID_TXN_STATE
        if current.decided:
            self._write_some_markers(current)
            return CONCURRENT_TRANSACTIONS
        self._broker.decide(identity, aborted=False)
        self._world.step("commit decided")
        self._write_some_markers(current)
        return NONE

    def _refusal(self, owner: Owner) -> int:
        if owner.producer_id != self._identity.producer_id:
            return INVALID_PRODUCER_ID_MAPPING
        return NONE if owner.epoch == self._identity.epoch else INVALID_PRODUCER_EPOCH

    def _write_some_markers(self, transaction: Transaction) -> None:
        for _ in range(self._world.rng.randint(0, len(transaction.logs))):
            if not (transaction.logs and self._broker.available):
                break  # written meanwhile, or to be written later
            self._broker.write_marker(self._identity, transaction)
            self._world.step("marker written")

    def _perhaps_take_too_long(self) -> None:
        current = self._identity.current
        if current is not None and not current.decided and self._takes("transaction takes too long"):
            self._broker.fence(self._identity)

    # The partitions.

    def produce(self, batches: Mapping[Place, bytes]) -> dict[Place, int]:
        """Each partition takes its batch or does not, with a step somewhere in between; the code of each."""
        self._world.step("records sent")
        if not self._reached():
            return dict.fromkeys(batches, UNREACHABLE)
        rng = self._world.rng
        order = list(batches)
        rng.shuffle(order)
        if self._takes("records late"):
            # Each partition may have another leader: the batches of some, at least, are on their way for long.
            late = [place for place in order[1:] if rng.random() < 0.5] + order[:1]
            codes = self._late("records", lambda one: [one._append(place, batches[place]) for place in late])
            return dict.fromkeys(late, codes) | self._produce(batches, [place for place in order if place not in late])
        return self._produce(batches, order)

    def _produce(self, batches: Mapping[Place, bytes], order: Sequence[Place]) -> dict[Place, int]:
        rng = self._world.rng
        pause_before = rng.randrange(len(order)) if order else 0
        # A leader may be out of reach before it takes the batch, or after.
        reached, answered = 1.0, 1.0
        if self._takes("records lost"):
            reached, answered = rng.choice([0.0, 0.5, 1.0, 1.0]), rng.choice([0.0, 0.5])
        led = rng.choice([0.0, 0.5]) if self._takes("not the leader") else 1.0
        codes = {}
        for i, place in enumerate(order):
            if i == pause_before and i > 0:
                self._world.step("records sent")
                if not self._broker.available:
                    reached, answered = 0.0, rng.choice([0.0, 0.5])
            code = UNREACHABLE
            if reached > rng.random():
                self._broker.late.pass_by(self._identity)
                code = self._append(place, batches[place]) if led > rng.random() else NOT_LEADER
            codes[place] = code if answered > rng.random() else UNREACHABLE
        self._world.step("records sent")
        if answered < 1.0:
            self._unanswered()
        elif rng.random() < 0.5:
            self._perhaps_take_too_long()
        return codes

    def _append(self, place: Place, data: bytes) -> int:
        log = self._log(place)
        if log is None:
            return LEADER_NOT_AVAILABLE
        batch = read_batch(data)
        transaction = self._identity.current
        if transaction is None or transaction.epoch != batch.epoch or not log.holds(transaction):
            # A partition asks the coordinator only about the first batch of a transaction: what an owner that was
            # fenced sends later is taken, until the marker comes, and aborted with the rest.
            refusal = self._refusal(Owner(batch.producer_id, batch.epoch))
            if refusal != NONE:
                return refusal
            if transaction is None or log not in transaction.logs:
                return INVALID_TXN_STATE
            if transaction.decided:
                return NOT_ENOUGH_REPLICAS
        self._broker.changes += 1
        return log.take(batch, self._world.time(), transaction)

    def _log(self, place: Place) -> Log | None:
        topic, partition = place
        logs = self._broker.topics.get(topic, [])
        return logs[partition] if partition < len(logs) else None

    # The way there and back.

    def _sent(self, call: _Call, carry_out: Callable[["Requests"], object]) -> int | None:
        """None if the request has come to the coordinator; else what is heard instead of an answer."""
        self._world.step(call.sent)
        if not self._reached():
            return UNREACHABLE
        if self._broker.faults.get(call.lost) and self._world.rng.random() < 0.5:
            self._broker.takes_fault(call.lost)
            return self._unanswered()
        if self._takes(call.late):
            return self._late(call.kind, carry_out)
        if self._takes("not the coordinator"):
            return NOT_COORDINATOR
        self._broker.late.pass_by(self._identity)
        return None

    def _late(self, kind: Kind, carry_out: Callable[["Requests"], object]) -> int:
        """Holds the request until its sender has given up, and longer; nobody hears what comes of it."""
        nobody = Requests(self._broker, Unattended(self._world), self._identity, int(self._timeout * 1000))
        held = self._broker.late.hold(kind, self._identity, lambda: carry_out(nobody))
        try:
            return self._unanswered()
        finally:
            held.given_up = True

    def _heard(self, call: _Call, code: int) -> int:
        if self._takes(call.lost):
            return self._unanswered()
        if code == NONE:
            self._world.step(call.done)
        return code

    def _reached(self) -> bool:
        if self._broker.available:
            return True
        # A machine that is away gives no answer; a broker that is being started refuses connections.
        seconds = self._world.rng.choice([_REFUSED_SECONDS, _ANSWER_SECONDS])
        return self._world.wait(lambda: self._broker.available, seconds)

    def _unanswered(self) -> int:
        self._world.step("answer lost")
        self._world.wait(lambda: False, self._world.rng.choice([_REFUSED_SECONDS, _ANSWER_SECONDS]))
        return UNREACHABLE

    def _takes(self, fault: Fault) -> bool:
        return bool(self._broker.faults) and self._broker.takes_fault(fault)


def read_batch(data: bytes) -> Batch:
    """A batch as aiokafka's own reader reads it, which holds what our writer makes to the format in every run."""
    found = MemoryRecords(data)
    batch = found.next_batch()
    assert batch is not None
    assert not found.has_next()
    assert batch.validate_crc()
    assert batch.is_transactional
    records = [(record.key, record.value, record.timestamp, record.headers) for record in batch]
    assert batch.next_offset == len(records)
    stamps = [record[2] for record in records]
    assert min(stamps) >= KAFKA_TIMESTAMP_MIN_MS  # a log would take 0 for now, as some clients do and no broker does
    assert (batch.first_timestamp, batch.max_timestamp) == (stamps[0], max(stamps))
    return Batch(batch.producer_id, batch.producer_epoch, batch.base_sequence, records)
