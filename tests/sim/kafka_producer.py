"""The fake transactional producer: what ``confluent_kafka.Producer`` does, as far as the project uses it.

``produce`` only queues, and costs next to nothing. Everything is sent within ``flush`` and ``commit_transaction``,
partition by partition in any order, with a step before, between and after: a process that dies there leaves part
of its transaction open at the broker, as one would whose batches were sent earlier.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException

from tests.sim.kafka_log import Headers, Log, Transaction, Unsent
from tests.sim.outside import World

if TYPE_CHECKING:
    from tests.sim.kafka import Broker

_TRANSACTION_TIMEOUT_MS: Final = 60_000
_ASKS_AGAIN_SECONDS: Final = 0.5
"""After so long the client asks again where the broker is still aborting what an older producer left open."""
_INIT: Final = "Init"
_READY: Final = "Ready"
_OPEN: Final = "InTransaction"
_COMMITTING: Final = "BeginCommit"
_ABORTING: Final = "BeginAbort"


class Producer:
    """A transactional producer; made by ``Broker.producer``."""

    def __init__(self, broker: "Broker", world: World, config: Mapping[str, Any]) -> None:
        self._broker = broker
        self._world = world
        self._identity = broker.identity(config["transactional.id"])
        self._timeout = config.get("transaction.timeout.ms", _TRANSACTION_TIMEOUT_MS) / 1000
        self._epoch = -1
        self._state = _INIT
        self._fatal: KafkaError | None = None
        self._abortable: KafkaError | None = None
        self._queue: dict[Log, list[Unsent]] = {}
        self._queued_at = 0.0
        self._transaction: Transaction | None = None
        self._decided = False

    # What the library's class has.

    def init_transactions(self, timeout: float) -> None:
        """Fences older producers of the id, aborts what they left open, waits for markers that are due."""
        self._expect(_INIT)
        self._world.step("init sent")
        self._reach(timeout)
        identity = self._identity
        identity.epoch += 1
        self._epoch = identity.epoch
        current = identity.current
        if current is not None and not current.decided:
            self._broker.decide(identity, aborted=True)
            self._finish_current()
            self._world.wait(lambda: False, min(timeout, _ASKS_AGAIN_SECONDS))
            if timeout < _ASKS_AGAIN_SECONDS:
                reason = "Another transaction of this producer is being ended"
                raise KafkaException(KafkaError(KafkaError.CONCURRENT_TRANSACTIONS, reason, retriable=True))
        self._finish_current()
        self._world.step("init done")
        self._state = _READY

    def list_topics(self, _topic: str, timeout: float) -> None:
        """Waits until the broker answers, for so long."""
        self._world.step("topics asked")
        if not self._broker.available and not self._world.wait(lambda: self._broker.available, timeout):
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, "Failed to get metadata"))

    def begin_transaction(self) -> None:
        """Begins one; the broker hears of it with the first record."""
        self._expect(_READY)
        self._state = _OPEN
        self._transaction = None
        self._decided = False
        self._world.step("transaction begun")

    def produce(  # noqa: PLR0913, PLR0917 - the library's signature
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        on_delivery: Callable[..., None] | None = None,
        callback: Callable[..., None] | None = None,
        timestamp: int = 0,
        headers: Headers = (),
    ) -> None:
        """Queues a record; not a step."""
        assert on_delivery is None
        assert callback is None
        if self._state is not _OPEN or self._fatal is not None or self._abortable is not None:
            self._refuse_record()
        if self._broker.faults and self._broker.takes_fault("produce queue full"):
            raise BufferError("Local: Queue full")
        log = self._broker.log(topic, partition, key)
        queued = self._queue.get(log)
        if queued is None:
            if not self._queue:
                self._queued_at = self._world.time()
            queued = self._queue[log] = []
        queued.append((key, value, timestamp, headers))

    def poll(self, timeout: float) -> int:
        """Serves callbacks, of which there are none; waits."""
        self._world.wait(lambda: False, timeout)
        return 0

    def flush(self, timeout: float) -> int:
        """Sends what is queued; how many records could not be sent in time."""
        self._raise_if_failed()
        if self._broker.available or self._world.wait(lambda: self._broker.available, timeout):
            self._send(timeout)
        return sum(map(len, self._queue.values()))

    def commit_transaction(self, timeout: float) -> None:
        """Sends what is queued and commits. After a time-out, call again: it goes on where it was."""
        self._expect(_OPEN, _COMMITTING)
        self._state = _COMMITTING
        if self._transaction is None and not self._queue:
            self._state = _READY  # nothing was produced: the broker never hears of it
            return
        if not self._decided:
            self._send(timeout)
            self._world.step("commit sent")
            self._reach(timeout)
            self._take_abort_fault()
        self._decide(aborted=False)
        if self._broker.faults and self._broker.takes_fault("commit timed out but decided"):
            self._world.wait(lambda: False, timeout)
            raise _timed_out()
        self._world.step("commit heard")
        self._end()

    def abort_transaction(self, timeout: float) -> None:
        """Drops what is queued and aborts. After a time-out, call again."""
        self._raise_if_fatal()
        if self._abortable is None:
            if self._state is _COMMITTING:
                reason = "Conflicting commit_transaction API call is already in progress"
                raise KafkaException(KafkaError(KafkaError._CONFLICT, reason, retriable=True))
            self._expect(_OPEN, _ABORTING)
        self._state = _ABORTING
        self._abortable = None
        self._world.step("abort sent")
        if self._queue and self._broker.available:
            self._register()  # partitions are the transaction's from their first record on, sent or not
        self._queue.clear()
        if self._transaction is not None:
            self._reach(timeout)
            self._decide(aborted=True)
        self._world.step("abort heard")
        self._end()

    # How it does it.

    def _decide(self, *, aborted: bool) -> None:
        """The coordinator hears of the end, once; some of the markers are written before the answer comes."""
        if self._decided:
            # Decided before the time-out. The answer may have come since; if it was lost, the request was repeated.
            if self._epoch != self._identity.epoch and self._world.rng.random() < 0.5:
                self._fence("Failed to end transaction")
            return
        if self._epoch != self._identity.epoch:
            self._fence("Failed to end transaction")
        assert self._transaction is self._identity.current
        self._broker.decide(self._identity, aborted=aborted)
        self._decided = True
        self._world.step("abort decided" if aborted else "commit decided")
        transaction = self._transaction
        assert transaction is not None
        for _ in range(self._world.rng.randint(0, len(transaction.logs))):
            if not (transaction.logs and self._broker.available):
                break  # written meanwhile, or to be written later
            self._broker.write_marker(self._identity, transaction)
            self._world.step("marker written")

    def _end(self) -> None:
        self._transaction = None
        self._state = _READY

    def _send(self, timeout: float) -> None:
        """Sends all that is queued, partition by partition, with a step somewhere in between."""
        if not self._queue:
            return
        self._world.step("records sent")
        self._reach(timeout)
        self._register()
        order = list(self._queue)
        self._world.rng.shuffle(order)
        pause_before = self._world.rng.randrange(len(order))
        for i, log in enumerate(order):
            if i == pause_before and i > 0:
                self._world.step("records sent")
                self._reach(timeout)
                self._check_epoch("ProduceRequest failed")
            log.extend(self._queue.pop(log), self._world.time(), self._transaction)
            self._broker.changes += 1
        self._world.step("records sent")

    def _register(self) -> None:
        """Makes the queued partitions part of the transaction at the coordinator, which begins it if need be."""
        if self._epoch == self._identity.epoch and self._transaction is None:
            self._finish_current()
        self._check_epoch("Failed to add partitions to transaction")
        if self._transaction is None:
            self._transaction = Transaction(self._world.time(), self._timeout)
            self._identity.current = self._transaction
        self._transaction.logs.update(dict.fromkeys(self._queue))

    def _finish_current(self) -> None:
        """Waits until the id's former transaction has all its markers: the coordinator lets none begin before."""
        while (current := self._identity.current) is not None and current.decided:
            self._world.wait(lambda: self._broker.available)
            if current.logs:
                self._broker.write_marker(self._identity, current)
                self._world.step("marker written")

    def _reach(self, timeout: float) -> None:
        """Returns if the broker answers within the time.

        Raises:
            KafkaException: it does not; retriable, or, once queued records are too old, to be aborted.
        """
        if self._broker.available:
            return
        left = self._queued_at + self._timeout - self._world.time() if self._queue else timeout
        if self._world.wait(lambda: self._broker.available, min(timeout, max(left, 0.0))):
            return
        if left < timeout:
            reason = "message(s) failed delivery (see individual delivery reports)"
            self._abortable = KafkaError(KafkaError._INCONSISTENT, reason, txn_requires_abort=True)
            raise KafkaException(self._abortable)
        raise _timed_out()

    def _take_abort_fault(self) -> None:
        if self._broker.faults and self._broker.takes_fault("transaction must be aborted"):
            reason = (
                "Failed to end transaction: Broker: Producer attempted a transactional operation in an invalid state"
            )
            self._abortable = KafkaError(KafkaError.INVALID_TXN_STATE, reason, txn_requires_abort=True)
            raise KafkaException(self._abortable)

    def _check_epoch(self, what: str) -> None:
        if self._epoch != self._identity.epoch:
            self._fence(what)

    def _fence(self, what: str) -> None:
        reason = f"{what}: Local: This instance has been fenced by a newer instance"
        self._fatal = KafkaError(KafkaError._FENCED, reason, fatal=True)
        raise KafkaException(self._fatal)

    def _refuse_record(self) -> None:
        if self._fatal is not None:
            # The real one's error for a record says that there is a fatal one, and is none itself.
            raise KafkaException(KafkaError(KafkaError._FATAL, "Unable to produce message: Local: Fatal error"))
        raise KafkaException(KafkaError(KafkaError._STATE, "Unable to produce message: Local: Erroneous state"))

    def _raise_if_fatal(self) -> None:
        if self._fatal is not None:
            raise KafkaException(self._fatal)

    def _raise_if_failed(self) -> None:
        self._raise_if_fatal()
        if self._abortable is not None:
            raise KafkaException(self._abortable)

    def _expect(self, *states: str) -> None:
        self._raise_if_failed()
        if self._state not in states:
            raise KafkaException(KafkaError(KafkaError._STATE, f"Operation not valid in state {self._state}"))


def _timed_out() -> KafkaException:
    reason = "Timed out waiting for operation to finish, retry call to resume"
    return KafkaException(KafkaError(KafkaError._TIMED_OUT, reason, retriable=True))
