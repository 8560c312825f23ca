"""One room partition's transactional producer: a step goes out whole or not at all.

A transaction holds the step's outputs, its state changes for the changelog and, as one of those, the new
input offsets. A producer of the same ``transactional.id`` that starts later fences this one for good.

Kafka's protocol for it (KIP-98), as it is used here:

1. The coordinator makes this producer the owner: an id and an epoch, written into every batch. Older owners are
   fenced, what they left open is aborted.
2. It hears which partitions a transaction writes to, before anything is written there.
3. Each partition takes batches in the order of their sequence numbers, so a batch whose answer was lost is sent again
   as it is, and counts once.
4. The coordinator commits. Asked again, it says the same.

Every one of these may be repeated until it is answered, so nothing here is ever aborted: either the transaction is
committed, or this producer has lost its place, and whoever is made the owner next finds it aborted.

Repeating is safe; being late is not. A request without an answer may be on its way still, and be carried out behind
whatever is asked for next. Within its own transaction that is a repetition. In a later one of the same epoch

- a late commit would end that later transaction while only a part of it is written: half of a step would count, and
  the rest never come. The broker cannot tell it from a commit that was meant;
- a late 2 (partitions) would add partitions that are not written to, or, between two transactions, begin one that
  nobody ends: the next step ends it, or the coordinator does once its time is up, and fences its owner for that;
- a late batch is known by its sequence numbers, and is not taken twice; one that is too old to be known is refused as
  out of order. That holds as long as the partition remembers this producer, a day by default. Where one comes before
  the first batch of the later transaction, a broker that looks transactions up (KIP-890) refuses as out of order
  whatever follows it under that epoch, and so fences an owner that has done nothing wrong.

So, whatever it was that had no answer: once the transaction is committed, and before anything else is asked for, the
owner takes a new epoch, and its sequence numbers begin at 0. What is late bears the old epoch and is refused for good,
by coordinators and by partitions. Asked for with the id and epoch that one has (KIP-360), so that who has been fenced
meanwhile is told so, instead of fencing a newer owner; and at once, for the broker looks at the epoch only where no
transaction is open, and aborts one that is, even a newer owner's, first. What a late 2 began in between is aborted by
it, and was empty.

A late 1 has no such remedy: one that makes somebody the owner bumps whatever epoch there is, as is its purpose; and
one that was asked for with an epoch finds the next transaction open. It aborts a transaction as a whole, never commits
one, and its answer reaches nobody: so whoever is the owner is fenced, opens the partition again, and takes the step
from the changelog or does it anew. That costs seconds and no record. A new epoch after an unanswered 1 would change
nothing of this, so none is taken for that alone.
"""

import logging
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import lz4.frame
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

from streams.core.step import KAFKA_TIMESTAMP_MIN_MS, Step
from streams.shell.record_batches import Packing, Section, Written
from streams.shell.requests import NOBODY, NONE, UNREACHABLE, Place, Requests, UnsupportedBrokerError
from truyvet.config import Settings
from truyvet.metrics import BROKER_ERRORS

TRANSACTION_TIMEOUT_MS: Final = 60_000
BATCH_BYTES_MAX: Final = 1_000_000
"""Of a batch before compression; topics take a mebibyte, and larger ones where a single record may be larger."""
_PAUSE_SECONDS_FIRST: Final = 0.002
"""For what passes by itself within milliseconds, such as the end of the transaction before; doubled each time."""
_PAUSE_SECONDS_MAX: Final = 0.5

_FENCED: Final = frozenset({
    45,  # OUT_OF_ORDER_SEQUENCE_NUMBER, 59: the partition has lost what it took from this producer
    47,  # INVALID_PRODUCER_EPOCH, 90 PRODUCER_FENCED: of another owner, or of the coordinator, since it took too long
    48,  # INVALID_TXN_STATE: the transaction has been ended
    49,  # INVALID_PRODUCER_ID_MAPPING: the coordinator has forgotten this one
    59,
    90,
    120,  # TRANSACTION_ABORTABLE
})  # fmt: skip
_PASSING: Final = frozenset({
    2,  # CORRUPT_MESSAGE: on its way
    3, 5, 6, 9, 56, 74, 75, 76,  # who leads the partition is changing
    7,  # REQUEST_TIMED_OUT
    UNREACHABLE,
    14, 15, 16,  # who coordinates is changing
    19, 20,  # too few replicas
    51,  # CONCURRENT_TRANSACTIONS: of the last one
    89,  # THROTTLING_QUOTA_EXCEEDED
})  # fmt: skip
_UNANSWERED: Final = frozenset({UNREACHABLE, 7})
"""After these a request may be carried out later than whatever is asked for next."""
_STILL_ENDING: Final = 51
"""The coordinator is busy with the transaction before: no trouble of the broker's."""
_SEQUENCE_SENT_BEFORE: Final = 46
"""The batch is there already: the answer to an earlier attempt was lost."""
_TOO_LARGE: Final = frozenset({10, 18})
_ADVICE: Final = {
    10: "raise the topic's max.message.bytes to at least the size of the batch, and start again: nothing is lost",
    18: "raise the topic's segment.bytes to more than the size of the batch, and start again: nothing is lost",
    29: "this user needs the right to write to the topic",
    53: "this user needs the right to write as this transactional.id",
}
"""What to do about a refusal, by error code."""

# Base offset, length, leader's epoch, magic, checksum | attributes, last offset delta, first and newest timestamp,
# producer's id and epoch, sequence, records.
_HEAD: Final = struct.Struct(">qiibI")
_CHECKED: Final = struct.Struct(">hiqqqhii")
_LENGTH_FROM: Final = 12
_MAGIC: Final = 2
_TRANSACTIONAL: Final = 0x10
_LZ4: Final = 3
_LZ4_LEVEL: Final = -5
"""Below zero it looks less closely for what repeats: a third less time, and no larger for what is mostly random ids."""
_SEQUENCES: Final = 0x7FFFFFFF

log = logging.getLogger("truyvet.transaction")


class FencedError(Exception):
    """This producer may not write any more: another owner of the partition has started, or it took too long."""


class RefusedError(Exception):
    """The broker refuses for good: rights, configuration, a record that is too large. One sentence that says where."""


class TransactionalProducer:
    """Commits steps of one room partition, one at a time; each call from one thread at a time."""

    def __init__(self, settings: Settings, room: str, partition: int, changelog: str) -> None:
        """Fences older owners and settles what they left open; waits for the broker as long as it takes.

        Raises:
            RefusedError: the broker refuses for good.
        """
        self._topic = settings.topic
        self._partitions = settings.partitions
        self._changelog = settings.topic(changelog)
        self._partition = partition
        self._name = f"{settings.topic_prefix}{room}-{partition}"
        self._sequences: dict[Place, int] = {}
        self._owner = NOBODY
        self._late = False
        """Whether a request of this epoch may still be carried out later than it was given up."""
        self._about = ""
        """What the last code that is an error is about, in words, where that is known."""
        self._requests = Requests(settings, self._name, TRANSACTION_TIMEOUT_MS)
        try:
            self._until_done("opening", self._take_over)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the connections back; nothing may be on its way."""
        self._requests.close()

    def commit(self, step: Step) -> None:
        """Sends the step as one transaction and returns once it is committed, and nothing of it can come late.

        Raises:
            FencedError: another owner has started, or the coordinator has given up; nothing of the step counts, unless
                only the answer to the commit was lost, or it was heard and the new epoch could not be had after it.
            RefusedError: the broker refuses for good.
        """
        waiting = self._packed(step)
        places = list(waiting)
        self._until_done("commit", lambda: self._begin(places))
        while waiting:
            self._until_done("commit", lambda: self._send(waiting))
        self._until_done("commit", lambda: self._requests.commit_transaction(self._owner))
        if self._late:
            self._until_done("new epoch", self._renew)
            self._sequences.clear()
            self._late = False

    def _take_over(self) -> int:
        """Whatever of this attempt comes late fences: see above. So what comes after it need not fear it."""
        code, self._owner = self._requests.init_producer_id()
        self._late = False
        return code

    def _renew(self) -> int:
        """Asked as the same owner until it is answered: who has been given the epoch is told it again."""
        code, owner = self._requests.init_producer_id(self._owner)
        if code == NONE:
            self._owner = owner
        return code

    def _begin(self, places: Sequence[Place]) -> int:
        code = self._requests.add_partitions(self._owner, places)
        self._about = "" if self._requests.refused is None else _named(self._requests.refused)
        return code

    def _until_done(self, what: str, attempt: Callable[[], int]) -> None:
        """Attempts until the answer is that it is done; says once that it waits for the broker, and that it went on."""
        pause_seconds, said = _PAUSE_SECONDS_FIRST, False
        while (code := self._answer(what, attempt)) != NONE:
            if code in _FENCED:
                raise FencedError(f"{self._name}: {what}: the broker answers with error {code}")
            if code not in _PASSING:
                advice = f": {_ADVICE[code]}" if code in _ADVICE else ""
                raise RefusedError(f"{self._name}: {what}: the broker refuses {self._about}with error {code}{advice}")
            if code != _STILL_ENDING:
                BROKER_ERRORS.inc()
                if not said and pause_seconds >= _PAUSE_SECONDS_MAX:
                    log.warning("%s: %s waits for the broker: error %d", self._name, what, code)
                    said = True
            time.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _PAUSE_SECONDS_MAX)
        if said:
            log.warning("%s: %s went on: the broker is back", self._name, what)

    def _answer(self, what: str, attempt: Callable[[], int]) -> int:
        """The code of one attempt; one without an answer may come late."""
        self._about = ""
        try:
            code = attempt()
        except UnsupportedBrokerError as error:
            raise RefusedError(f"{self._name}: {what}: {error}") from error
        self._late = self._late or code in _UNANSWERED
        return code

    def _packed(self, step: Step) -> dict[Place, deque[bytes]]:
        """The step's batches by partition, in the order in which each partition must take them."""
        packings: dict[str, Packing] = {}

        def packing(topic: str) -> Packing:
            if topic not in packings:
                packings[topic] = Packing(self._partitions, BATCH_BYTES_MAX)
            return packings[topic]

        for topic, messages in step.outputs.items():
            packing(self._topic(topic)).add(messages)
        for topic, headed in step.headed.topics.items():
            packing(self._topic(topic)).add(headed)
        timestamp_ms = max(step.timestamp_ms, KAFKA_TIMESTAMP_MIN_MS)
        packing(self._changelog).add_changes(step.changes, self._partition, timestamp_ms)
        batches: dict[Place, deque[bytes]] = {}
        for topic, packed in packings.items():
            for section in packed.sections_of():
                place = (topic, section[0])
                batches.setdefault(place, deque()).append(self._batch(place, section))
        return batches

    def _batch(self, place: Place, section: Section) -> bytes:
        """The record batch of a section, with the next sequence numbers of its partition."""
        _, records, first_ms, newest_ms, written = section
        sequence = self._sequences.get(place, 0)
        self._sequences[place] = (sequence + records) & _SEQUENCES
        attributes = _TRANSACTIONAL
        data: bytes | Written = _compressed(written)
        if len(data) < len(written):
            attributes |= _LZ4
        else:
            data = written
        checked = _CHECKED.pack(attributes, records - 1, first_ms, newest_ms, *self._owner, sequence, records)
        length = _HEAD.size - _LENGTH_FROM + len(checked) + len(data)
        return b"".join([_HEAD.pack(0, length, -1, _MAGIC, crc32c(data, crc32c(checked))), checked, data])

    def _send(self, waiting: dict[Place, deque[bytes]]) -> int:
        """Sends each partition its next batch; what was taken is off ``waiting``. The first code that is an error."""
        worst = NONE
        for place, code in self._requests.produce({place: batches[0] for place, batches in waiting.items()}).items():
            self._late = self._late or code in _UNANSWERED
            if code in {NONE, _SEQUENCE_SENT_BEFORE}:
                waiting[place].popleft()
                if not waiting[place]:
                    del waiting[place]
            elif worst in _PASSING or worst == NONE:
                worst = code
                self._about = _named(place)
                if code in _TOO_LARGE:
                    self._about += _sizes(waiting[place][0])
        return worst


def _named(place: Place) -> str:
    return f"{place[0]}, partition {place[1]}, "


def _sizes(batch: bytes) -> str:
    """What an operator must know of a batch that is too large; how large, and never what is in it."""
    found = MemoryRecords(batch).next_batch()
    sizes = [len(record.key or b"") + len(record.value or b"") for record in found or ()]
    return (
        f"a batch of {len(batch):,} bytes with {len(sizes)} records, the largest of {max(sizes):,} bytes of key and"
        " value, "
    )


def _compressed(records: Written) -> bytes:
    """One LZ4 frame with blocks that stand alone, as Kafka wants them (KIP-57)."""
    frame: bytes = lz4.frame.compress(
        records, compression_level=_LZ4_LEVEL, block_linked=False, content_checksum=False, store_size=False
    )
    return frame
