"""One contract for Kafka and its fake: the same calls, the same records, offsets and errors.

Whoever uses the fake relies on what stands here. The fake is tried with many seeds, since chance decides there what
the real broker and client do in the background.
"""

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, TopicPartition

from streams.core.partition import partition_of
from tests.sim.kafka_contract import (
    CALL_SECONDS,
    CALLS_MAX,
    CONCURRENT,
    CONFLICT,
    FATAL,
    FENCED,
    LONG_SECONDS,
    STATE,
    TIMED_OUT,
    UNCOMMITTED,
    Failure,
    Fake,
    Kafka,
    ends,
    error_of,
    failed,
    reader,
    ready,
    send,
    settled,
    transaction,
)

# What readers see.


def test_a_commit_shows_all_and_its_marker_takes_an_offset(kafka: Kafka) -> None:
    """Nothing before the commit, everything after it, in every partition; the end is behind the marker."""
    topic = kafka.topic(2)
    producer = ready(kafka, "a")
    producer.begin_transaction()
    send(producer, topic, b"0", b"1", partition=0)
    send(producer, topic, b"2", partition=1)
    seen = reader(kafka, topic, partitions=2)
    assert seen.all().records == {}
    assert seen.ends == {0: [0], 1: [0]}
    assert reader(kafka, topic, partitions=2, uncommitted=True).all().records == {
        0: [(0, b"0"), (1, b"1")],
        1: [(0, b"2")],
    }
    producer.commit_transaction(LONG_SECONDS)
    seen.to_end(3).to_end(2, 1)
    assert seen.records == {0: [(0, b"0"), (1, b"1")], 1: [(0, b"2")]}
    transaction(producer, topic, b"3")
    assert seen.to_end(5).records[0] == [(0, b"0"), (1, b"1"), (3, b"3")]


def test_what_is_aborted_is_never_shown(kafka: Kafka) -> None:
    """An aborted transaction leaves records for those who read everything, a marker, and nothing else."""
    topic = kafka.topic()
    producer = ready(kafka, "a")
    seen = reader(kafka, topic)
    producer.begin_transaction()
    send(producer, topic, b"gone")
    producer.abort_transaction(LONG_SECONDS)
    transaction(producer, topic, b"stays")
    assert seen.to_end(4).records == {0: [(2, b"stays")]}
    assert reader(kafka, topic, uncommitted=True).to_end(4).records == {0: [(0, b"gone"), (2, b"stays")]}


def test_nothing_is_shown_beyond_an_open_transaction(kafka: Kafka) -> None:
    """What was committed later waits for what was begun earlier, and comes in the order of the log."""
    topic = kafka.topic()
    slow, quick = ready(kafka, "slow"), ready(kafka, "quick")
    transaction(quick, topic, b"first")
    settled(kafka, topic, 2)
    slow.begin_transaction()
    send(slow, topic, b"slow")
    transaction(quick, topic, b"quick")
    seen = reader(kafka, topic)
    assert seen.all().records == {0: [(0, b"first")]}
    assert seen.ends == {0: [2]}
    slow.commit_transaction(LONG_SECONDS)
    assert seen.to_end(6).records == {0: [(0, b"first"), (2, b"slow"), (3, b"quick")]}


def test_where_a_partition_ends_depends_on_who_asks(kafka: Kafka) -> None:
    """Asked of the broker, it ends at the open transaction for who reads committed; cached, it never does."""
    topic = kafka.topic()
    producer = ready(kafka, "a")
    committed, everything = reader(kafka, topic), reader(kafka, topic, uncommitted=True)
    place = TopicPartition(topic, 0)
    assert ends(committed.consumer, topic) == (0, 0)
    assert kafka.consumer().get_watermark_offsets(place, cached=True) == (-1001, -1001)
    transaction(producer, topic, b"0")
    producer.begin_transaction()
    send(producer, topic, b"1")
    assert ends(everything.consumer, topic) == (0, 3)
    committed.to_end(2)
    assert ends(committed.consumer, topic) == (0, 2)
    assert committed.consumer.get_watermark_offsets(place, cached=True) == (0, 3)
    producer.commit_transaction(LONG_SECONDS)
    committed.to_end(4)
    assert ends(committed.consumer, topic) == (0, 4)
    assert error_of(lambda: committed.consumer.get_watermark_offsets(TopicPartition(topic, 9), timeout=5.0)) == Failure(
        KafkaError._UNKNOWN_PARTITION
    )


def test_a_reader_may_begin_anywhere(kafka: Kafka) -> None:
    """From a marker's offset, an aborted record's or the end it goes on with what follows; outside it fails."""
    topic = kafka.topic()
    producer = ready(kafka, "a")
    transaction(producer, topic, b"0", b"1")
    producer.begin_transaction()
    send(producer, topic, b"aborted")
    producer.abort_transaction(LONG_SECONDS)
    transaction(producer, topic, b"5")
    for offset, expected in ((1, [(1, b"1"), (5, b"5")]), (2, [(5, b"5")]), (3, [(5, b"5")]), (4, [(5, b"5")])):
        assert reader(kafka, topic, offset).to_end(7).records == {0: expected}
    assert reader(kafka, topic, 6).to_end(7).records == {}
    assert reader(kafka, topic, 7).to_end(7).records == {}
    kafka.delete_before(topic, 2)
    for outside in (0, 8):
        seen = reader(kafka, topic, outside).all()
        assert [error.code() for error in seen.errors] == [KafkaError._AUTO_OFFSET_RESET]
        assert (seen.records, seen.ends) == ({}, {})
    assert ends(kafka.consumer(), topic) == (2, 7)
    assert reader(kafka, topic, 2).to_end(7).records == {0: [(5, b"5")]}


def test_a_reader_beyond_an_open_transaction_waits(kafka: Kafka) -> None:
    """Who stands behind the last stable offset gets neither records nor an end until the transaction is over."""
    topic = kafka.topic()
    producer = ready(kafka, "a")
    producer.begin_transaction()
    send(producer, topic, b"0", b"1", b"2")
    seen = reader(kafka, topic, 2).all()
    assert (seen.records, seen.ends, seen.errors) == ({}, {}, [])
    producer.commit_transaction(LONG_SECONDS)
    assert seen.to_end(4).records == {0: [(2, b"2")]}


def test_records_keep_what_they_were_sent_with(kafka: Kafka) -> None:
    """Key, value, timestamp and headers come back; a timestamp of 0 means now; the key decides the partition."""
    topic, stamped = kafka.topic(4), kafka.topic(log_append_time=True)
    producer = ready(kafka, "a", partitioner="murmur2_random")
    producer.begin_transaction()
    producer.produce(topic, b"value", b"key", -1, None, None, 5)
    producer.produce(topic, key=b"key", value=None, partition=-1, timestamp=0, headers=[("h", b"1")])
    producer.produce(stamped, b"value", b"key", 0, None, None, 5)
    producer.commit_transaction(LONG_SECONDS)
    consumer = kafka.consumer()
    consumer.assign([TopicPartition(topic, p, 0) for p in range(4)] + [TopicPartition(stamped, 0, 0)])
    found, at = [], partition_of(b"key", 4)
    for _ in range(CALLS_MAX):
        found += [message for message in consumer.consume(100, CALL_SECONDS) if message.error() is None]
        if len(found) == 3:
            break
    (one,) = (m for m in found if m.topic() == stamped)
    first, second = (m for m in found if m.topic() == topic)
    assert (first.key(), first.value(), first.partition(), first.timestamp(), first.headers()) == (
        b"key", b"value", at, (1, 5), None,
    )  # fmt: skip
    assert (second.key(), second.value(), second.partition(), second.headers()) == (b"key", None, at, [("h", b"1")])
    assert len(first) == 5
    for kind, at_ms in (second.timestamp(), one.timestamp()):
        assert at_ms > 1_700_000_000_000, kind
    assert (second.timestamp()[0], one.timestamp()[0]) == (1, 2)


# What producers are told.


def test_calls_out_of_order_are_refused(kafka: Kafka) -> None:
    """Each call has its state; a transaction without records is nothing to the broker."""
    topic = kafka.topic()
    producer = kafka.producer("a")
    assert error_of(producer.begin_transaction) == STATE
    producer.init_transactions(LONG_SECONDS)
    for call in (
        lambda: producer.init_transactions(LONG_SECONDS),
        lambda: producer.commit_transaction(LONG_SECONDS),
        lambda: producer.abort_transaction(LONG_SECONDS),
        lambda: producer.produce(topic, b"x", b"k", 0),
    ):
        assert error_of(call) == STATE
    producer.begin_transaction()
    assert error_of(producer.begin_transaction) == STATE
    producer.commit_transaction(LONG_SECONDS)
    producer.begin_transaction()
    producer.abort_transaction(LONG_SECONDS)
    assert ends(kafka.consumer(**UNCOMMITTED), topic) == (0, 0)


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("how", ["commit", "abort", "flush"])
def test_a_later_producer_fences(kafka: Kafka, how: str, *, sent: bool) -> None:
    """Whatever the older one calls next is refused for good, and nothing of what it did counts."""
    topic = kafka.topic()
    old = ready(kafka, "a")
    transaction(old, topic, b"before")
    old.begin_transaction()
    if sent:
        send(old, topic, b"lost")
    else:
        old.produce(topic, b"lost", b"key", 0)
    new = ready(kafka, "a")
    if how == "flush":
        failed(lambda: old.produce(topic, b"lost", b"key", 0))  # refused only if it has heard of it
        failed(lambda: old.flush(LONG_SECONDS))
    end = old.abort_transaction if how == "abort" else old.commit_transaction
    assert error_of(lambda: end(LONG_SECONDS)) == FENCED
    assert error_of(lambda: old.produce(topic, b"x", b"key", 0)) == FATAL
    for call in (old.commit_transaction, old.abort_transaction, old.init_transactions):
        assert error_of(lambda call=call: call(LONG_SECONDS)) == FENCED  # type: ignore[misc]
    assert error_of(old.begin_transaction) == FENCED
    transaction(new, topic, b"after")
    seen = reader(kafka, topic)
    seen.until(lambda: len(seen.records.get(0, [])) == 2)
    assert [value for _, value in seen.all().records[0]] == [b"before", b"after"]


def test_a_producer_fenced_at_rest_hears_of_it_at_its_next_commit(kafka: Kafka) -> None:
    """It may begin and produce; the commit is refused."""
    topic = kafka.topic()
    old = ready(kafka, "a")
    ready(kafka, "a")
    old.begin_transaction()
    old.produce(topic, b"lost", b"key", 0)
    for _ in range(2):
        assert error_of(lambda: old.commit_transaction(LONG_SECONDS)) == FENCED
    assert error_of(old.begin_transaction) == FENCED
    assert ends(kafka.consumer(**UNCOMMITTED), topic) == (0, 0)


def test_whoever_is_initialised_finds_everything_settled(kafka: Kafka) -> None:
    """After ``init_transactions`` what the older one had committed can be read, and what it left open is aborted."""
    topic = kafka.topic(8)
    old = ready(kafka, "a")
    old.begin_transaction()
    for partition in range(8):
        old.produce(topic, b"committed", b"key", partition)
    old.commit_transaction(LONG_SECONDS)
    new = ready(kafka, "a")
    consumer = kafka.consumer()
    assert [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10.0) for p in range(8)] == [(0, 2)] * 8
    new.begin_transaction()
    for partition in range(8):
        send(new, topic, b"open", partition=partition)
    ready(kafka, "a")
    assert [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10.0) for p in range(8)] == [(0, 4)] * 8
    for logical, offset in ((OFFSET_BEGINNING, 0), (OFFSET_END, 4)):
        places = [TopicPartition(topic, p, logical) for p in range(8)]
        assert [one.offset for one in consumer.offsets_for_times(places, timeout=10.0)] == [offset] * 8


def test_a_new_producer_need_not_wait_for_one_that_was_given_up(kafka: Kafka) -> None:
    """It finds settled what the other one, which had no time for it, began to settle."""
    topic = kafka.topic()
    old = ready(kafka, "a")
    old.begin_transaction()
    send(old, topic, b"open")
    given_up = kafka.producer("a")
    # Of the real one, how far it comes in that time depends on the machine.
    expected = {CONCURRENT, TIMED_OUT, None} if kafka.real else {CONCURRENT}
    assert failed(lambda: given_up.init_transactions(0.15)) in expected
    given_up = None
    new = ready(kafka, "a")
    transaction(new, topic, b"new")
    assert error_of(lambda: old.commit_transaction(LONG_SECONDS)) == FENCED
    assert [value for _, value in reader(kafka, topic).to_end(4).records[0]] == [b"new"]


def test_a_commit_is_called_again_after_a_time_out(kafka: Kafka) -> None:
    """It then succeeds, and the records are there once; until then the producer does nothing else."""
    topic = kafka.topic()
    producer = ready(kafka, "a")
    producer.begin_transaction()
    send(producer, topic, b"once")
    kafka.commit_without_answer(producer)
    # Of the real one, which of the two depends on whether the answer has come meanwhile.
    expected = {CONFLICT, STATE} if kafka.real else {CONFLICT}
    assert error_of(lambda: producer.abort_transaction(LONG_SECONDS)) in expected
    producer.commit_transaction(LONG_SECONDS)
    transaction(producer, topic, b"next")
    assert reader(kafka, topic).to_end(4).records == {0: [(0, b"once"), (2, b"next")]}


def test_a_transaction_that_was_open_too_long_is_aborted_and_fences_its_producer(kafka: Kafka) -> None:
    """The coordinator ends it; its producer can do nothing more, and a new one goes on."""
    topic = kafka.topic()
    producer = ready(kafka, "a", **{"transaction.timeout.ms": 1_000})
    producer.begin_transaction()
    send(producer, topic, b"late")
    consumer = kafka.consumer()
    for _ in range(40):
        if ends(consumer, topic) == (0, 2):
            break
        kafka.pass_time(0.6)
    assert ends(consumer, topic) == (0, 2)
    assert error_of(lambda: producer.commit_transaction(LONG_SECONDS)) == FENCED
    transaction(ready(kafka, "a"), topic, b"new")
    assert reader(kafka, topic).to_end(4).records == {0: [(2, b"new")]}


# What the real broker does only after minutes, and the fake when it is told.


@pytest.mark.parametrize("seed", range(12))
def test_the_fake_cleans_as_the_log_cleaner_does(seed: int) -> None:
    """Below the last stable offset the newest record of a key stays where it was; the rest, and old tombstones, go."""
    kafka = Fake(seed)
    topic = kafka.topic()
    producer = ready(kafka, "a")
    for number, (key, value) in enumerate([(b"a", b"0"), (b"b", b"1"), (b"a", b"2"), (b"c", b"3"), (b"c", None)]):
        kafka.broker.append(topic, 0, key, value, number + 1)
    producer.begin_transaction()
    producer.produce(topic, b"5", b"b", 0)
    assert producer.flush(LONG_SECONDS) == 0
    kafka.broker.append(topic, 0, b"a", b"6", 7)
    kafka.broker.compact(topic, 0, tombstones_before=0.0)
    assert reader(kafka, topic, uncommitted=True).to_end(7).records == {
        0: [(1, b"1"), (2, b"2"), (4, None), (5, b"5"), (6, b"6")]
    }
    producer.abort_transaction(LONG_SECONDS)
    kafka.pass_time(1.0)
    kafka.broker.compact(topic, 0, tombstones_before=kafka.world.now)
    assert reader(kafka, topic, uncommitted=True).to_end(8).records == {0: [(1, b"1"), (6, b"6")]}
    assert reader(kafka, topic).to_end(8).records == {0: [(1, b"1"), (6, b"6")]}
