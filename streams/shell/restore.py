"""Brings a store up to its changelog: from the position it holds, or from nothing."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from streams.core import reasons
from streams.core.state_form import may_be_state
from streams.shell.store import Store
from truyvet import logs
from truyvet.config import Settings
from truyvet.metrics import BROKER_ERRORS, REJECTS

_BATCH_RECORDS: Final = 10_000
_WRITE_BYTES: Final = 4 * 1024 * 1024
"""So much is gathered before it is written: where steps were small, the same keys come again and again."""
_ENTRY_BYTES: Final = 100
"""About what a change costs beside its value."""
# confluent's consume() waits its whole time-out, and a fetch that waits delays the end of the partition.
_CONSUME_SECONDS: Final = 0.01
_FETCH_WAIT_MS: Final = 10
_QUEUE_BACKOFF_MS: Final = 5
"""By itself the client fetches nothing for a second once enough is queued, which is read in a fraction of that."""
_BROKER_SECONDS: Final = 5.0
_AT_ONCE_SECONDS: Final = 1.0

Answer = TypeVar("Answer")

log = logs.get("restore")


def log_consumer(settings: Settings, **options: str | int | bool) -> Consumer:
    """A consumer without a group that reads what is committed and says where a partition ends."""
    return Consumer(
        settings.librdkafka()
        | {
            "group.id": "truyvet-unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": _FETCH_WAIT_MS,
            "queued.min.messages": 2 * _BATCH_RECORDS,
            "fetch.queue.backoff.ms": _QUEUE_BACKOFF_MS,
        }
        | options
    )


def watermarks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """(first, next) offset of a partition, as readers of committed records see it; waits for the broker."""
    place = TopicPartition(topic, partition)
    return _patiently(consumer, topic, lambda: consumer.get_watermark_offsets(place, timeout=_BROKER_SECONDS))


def end_if_known(consumer: Consumer, topic: str, partition: int) -> int | None:
    """The next offset of a partition, as ``watermarks``; None where the broker does not say so at once."""
    try:
        end: int = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_AT_ONCE_SECONDS)[1]
    except KafkaException:
        BROKER_ERRORS.inc()
        _look_for_leaders(consumer, topic)
        return None
    return end


def all_watermarks(consumer: Consumer, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
    """The same of all partitions of a topic: two requests, instead of two for each."""

    def ask(logical: int) -> dict[int, int]:
        places = [TopicPartition(topic, partition, logical) for partition in range(partitions)]
        answers = consumer.offsets_for_times(places, timeout=_BROKER_SECONDS)
        for one in answers:
            if one.error is not None:
                raise KafkaException(one.error)
        return {one.partition: one.offset for one in answers}

    low, high = (_patiently(consumer, topic, partial(ask, logical)) for logical in (OFFSET_BEGINNING, OFFSET_END))
    return {partition: (low[partition], high[partition]) for partition in range(partitions)}


def _look_for_leaders(consumer: Consumer, topic: str) -> None:
    """A client that reads nothing would ask a leader that has died for as long as that one is away."""
    with contextlib.suppress(KafkaException):
        consumer.list_topics(topic, timeout=_AT_ONCE_SECONDS)


def _patiently(consumer: Consumer, topic: str, ask: Callable[[], Answer]) -> Answer:
    """Asks again as long as the broker merely cannot be reached; says so once."""
    said = False
    while True:
        try:
            return ask()
        except KafkaException as exception:
            error = exception.args[0]
            if not passes(error):
                raise
            BROKER_ERRORS.inc()
            if not said:
                log.warning("waits for the broker", topic=topic, error=error.str())
                said = True
            time.sleep(0.5)
            _look_for_leaders(consumer, topic)


_BROKER_AWAY: Final = (
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._WAIT_COORD,
    KafkaError._DESTROY_BROKER,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.REQUEST_TIMED_OUT,
)
"""Passing troubles: a broker that is away or hands over its partitions, or a topic that not every broker knows yet."""


def passes(error: KafkaError) -> bool:
    """Whether what the client tells of will pass by itself."""
    return bool(error.retriable()) or error.code() in _BROKER_AWAY


IsState = Callable[[bytes | None, bytes | None], bool]
"""Whether a changelog record with this key and value may be one."""


def restore(
    store: Store, consumer: Consumer, topic: str, partition: int, is_state: IsState = lambda key, _value: bool(key)
) -> int:
    """Applies to ``store`` what its changelog holds beyond it; returns how many records that were.

    What is none by ``is_state`` is skipped and said: a record without a key at least.

    ``consumer`` is a ``log_consumer``, which reads nothing before and after. To be called after the partition's
    producer has fenced older owners: nothing is being written then.
    """
    applied = 0
    while True:
        began = time.time()
        applied += _catch_up(store, consumer, TopicPartition(topic, partition), began, is_state)
        if not store.stale:
            break
        log.warning("restoring took so long that it starts from nothing", topic=topic, partition=partition)
        store.wipe()
    store.write({}, store.position, began)
    if applied >= _BATCH_RECORDS:
        store.flush()  # or the next restart would restore them again
    return applied


def _catch_up(store: Store, consumer: Consumer, place: TopicPartition, began: float, is_state: IsState) -> int:
    low, high = watermarks(consumer, place.topic, place.partition)
    if not low <= store.position <= high:
        log.warning(
            "store is not of this changelog and starts from nothing",
            topic=place.topic, partition=place.partition, position=store.position, first=low, next=high,
        )  # fmt: skip
        store.wipe()
    # Until all is read the store is as old as it was: a tombstone may stand among what is left, and go.
    as_of = began if store.as_of is None else store.as_of
    position, applied = max(store.position, low), 0
    consumer.assign([TopicPartition(place.topic, place.partition, position)])
    changes: dict[bytes, bytes | None] = {}
    size_bytes = 0
    while position < high:
        for message in consumer.consume(_BATCH_RECORDS, _CONSUME_SECONDS):
            error = message.error()
            offset = message.offset() or 0
            if error is None:
                key, value = message.key(), message.value()
                if key is not None and is_state(key, value):
                    changes[key] = value
                    size_bytes += len(value or b"") + _ENTRY_BYTES
                else:
                    REJECTS.labels(reasons.FOREIGN_RECORD).inc()
                    log.error(
                        "a foreign record is skipped", topic=place.topic, partition=place.partition, offset=offset
                    )
                position = offset + 1
                applied += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                position = max(position, offset)
            elif not passes(error):
                raise KafkaException(error)
        if size_bytes > _WRITE_BYTES:
            store.write(changes, position, as_of)
            changes, size_bytes = {}, 0
    consumer.assign([])
    store.write(changes, position, as_of)
    return applied


restore_state = partial(restore, is_state=may_be_state)
"""``restore`` of a room's changelog."""
