"""One contract for Kafka and its fake: the same calls, the same records, offsets and errors.

Whoever uses the fake relies on what stands here. The fake is tried with many seeds, since chance decides there what
the real broker does in the background.
"""

import pytest
from confluent_kafka import KafkaError, TopicPartition

from streams.core.partition import partition_of
from streams.core.step import BY_KEY, HeadedMessage
from streams.shell.requests import NONE
from tests.sim.kafka_contract import (
    CALL_SECONDS,
    CALLS_MAX,
    Failure,
    Fake,
    Kafka,
    ends,
    error_of,
    reader,
    settled,
)
from tests.sim.kafka_writer import ready, send, transaction

# What readers see.


def test_a_commit_shows_all_and_its_marker_takes_an_offset(kafka: Kafka) -> None:
    """Nothing before the commit, everything after it, in every partition; the end is behind the marker."""
    topic = kafka.topic(2)
    writer = ready(kafka, "a")
    send(writer, topic, b"0", b"1", partition=0)
    send(writer, topic, b"2", partition=1)
    seen = reader(kafka, topic, partitions=2)
    assert seen.all().records == {}
    assert seen.ends == {0: [0], 1: [0]}
    assert reader(kafka, topic, partitions=2, uncommitted=True).all().records == {
        0: [(0, b"0"), (1, b"1")],
        1: [(0, b"2")],
    }
    assert writer.commit() == NONE
    seen.to_end(3).to_end(2, 1)
    assert seen.records == {0: [(0, b"0"), (1, b"1")], 1: [(0, b"2")]}
    transaction(writer, topic, b"3")
    assert seen.to_end(5).records[0] == [(0, b"0"), (1, b"1"), (3, b"3")]


def test_what_is_aborted_is_never_shown(kafka: Kafka) -> None:
    """An aborted transaction leaves records for those who read everything, a marker, and nothing else."""
    topic = kafka.topic()
    writer = ready(kafka, "a")
    seen = reader(kafka, topic)
    send(writer, topic, b"gone")
    writer = ready(kafka, "a")
    transaction(writer, topic, b"stays")
    assert seen.to_end(4).records == {0: [(2, b"stays")]}
    assert reader(kafka, topic, uncommitted=True).to_end(4).records == {0: [(0, b"gone"), (2, b"stays")]}


def test_nothing_is_shown_beyond_an_open_transaction(kafka: Kafka) -> None:
    """What was committed later waits for what was begun earlier, and comes in the order of the log."""
    topic = kafka.topic()
    slow, quick = ready(kafka, "slow"), ready(kafka, "quick")
    transaction(quick, topic, b"first")
    settled(kafka, topic, 2)
    send(slow, topic, b"slow")
    transaction(quick, topic, b"quick")
    seen = reader(kafka, topic)
    assert seen.all().records == {0: [(0, b"first")]}
    assert seen.ends == {0: [2]}
    assert slow.commit() == NONE
    assert seen.to_end(6).records == {0: [(0, b"first"), (2, b"slow"), (3, b"quick")]}


def test_where_a_partition_ends_depends_on_who_asks(kafka: Kafka) -> None:
    """Asked of the broker, it ends at the open transaction for who reads committed; cached, it never does."""
    topic = kafka.topic()
    writer = ready(kafka, "a")
    committed, everything = reader(kafka, topic), reader(kafka, topic, uncommitted=True)
    place = TopicPartition(topic, 0)
    assert ends(committed.consumer, topic) == (0, 0)
    assert kafka.consumer().get_watermark_offsets(place, cached=True) == (-1001, -1001)
    transaction(writer, topic, b"0")
    send(writer, topic, b"1")
    assert ends(everything.consumer, topic) == (0, 3)
    committed.to_end(2)
    assert ends(committed.consumer, topic) == (0, 2)
    assert committed.consumer.get_watermark_offsets(place, cached=True) == (0, 3)
    assert writer.commit() == NONE
    committed.to_end(4)
    assert ends(committed.consumer, topic) == (0, 4)
    assert error_of(lambda: committed.consumer.get_watermark_offsets(TopicPartition(topic, 9), timeout=5.0)) == Failure(
        KafkaError._UNKNOWN_PARTITION
    )


def test_a_reader_may_begin_anywhere(kafka: Kafka) -> None:
    """From a marker's offset, an aborted record's or the end it goes on with what follows; outside it fails."""
    topic = kafka.topic()
    writer = ready(kafka, "a")
    transaction(writer, topic, b"0", b"1")
    send(writer, topic, b"aborted")
    writer = ready(kafka, "a")
    transaction(writer, topic, b"5")
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
    writer = ready(kafka, "a")
    send(writer, topic, b"0", b"1", b"2")
    seen = reader(kafka, topic, 2).all()
    assert (seen.records, seen.ends, seen.errors) == ({}, {}, [])
    assert writer.commit() == NONE
    assert seen.to_end(4).records == {0: [(2, b"2")]}


def test_records_keep_what_they_were_sent_with(kafka: Kafka) -> None:
    """Key, value, timestamp and headers come back; the key decides the partition, as the real client has it."""
    topic, stamped = kafka.topic(4), kafka.topic(log_append_time=True)
    at = partition_of(b"key", 4)
    writer = ready(kafka, "a")
    assert writer.add((topic, at), (stamped, 0)) == NONE
    headed = HeadedMessage(topic, BY_KEY, b"key", None, 7, [("h", b"1"), ("h", b"")])
    assert writer.produce(
        writer.batches(topic, (b"key", b"value", BY_KEY, 5), headed, (None, b"", at, 3), partitions=4)
    ) == {NONE}
    assert writer.produce(writer.batches(stamped, (b"key", b"value", 0, 5))) == {NONE}
    assert writer.commit() == NONE
    consumer = kafka.consumer()
    consumer.assign([TopicPartition(topic, p, 0) for p in range(4)] + [TopicPartition(stamped, 0, 0)])
    found = []
    for _ in range(CALLS_MAX):
        found += [message for message in consumer.consume(100, CALL_SECONDS) if message.error() is None]
        if len(found) == 4:
            break
    (one,) = (m for m in found if m.topic() == stamped)
    assert [(m.key(), m.value(), m.timestamp(), m.headers()) for m in found if m.topic() == topic] == [
        (b"key", b"value", (1, 5), None),
        (b"key", None, (1, 7), [("h", b"1"), ("h", b"")]),
        (None, b"", (1, 3), None),
    ]
    assert {m.partition() for m in found if m.topic() == topic} == {at}
    assert len(one) == 5
    assert one.timestamp()[0] == 2
    assert one.timestamp()[1] > 1_700_000_000_000


def test_what_is_large_comes_back_from_its_compression(kafka: Kafka) -> None:
    """A batch of many blocks of LZ4, which the real broker checks and the real client unpacks."""
    topic = kafka.topic()
    values = [b"%d " % number * 40_000 for number in range(4)]
    transaction(ready(kafka, "a"), topic, *values)
    assert reader(kafka, topic).to_end(5).records == {0: list(enumerate(values))}


# What the real broker does only after minutes, and the fake when it is told.


@pytest.mark.parametrize("seed", range(12))
def test_the_fake_cleans_as_the_log_cleaner_does(seed: int) -> None:
    """Below the last stable offset the newest record of a key stays where it was; the rest, and old tombstones, go."""
    kafka = Fake(seed)
    topic = kafka.topic()
    writer = ready(kafka, "a")
    for number, (key, value) in enumerate([(b"a", b"0"), (b"b", b"1"), (b"a", b"2"), (b"c", b"3"), (b"c", None)]):
        kafka.broker.append(topic, 0, key, value, number + 1)
    assert writer.add((topic, 0)) == NONE
    assert writer.produce(writer.batches(topic, (b"b", b"5", 0, 6))) == {NONE}
    kafka.broker.append(topic, 0, b"a", b"6", 7)
    kafka.broker.compact(topic, 0, tombstones_before=0.0)
    assert reader(kafka, topic, uncommitted=True).to_end(7).records == {
        0: [(1, b"1"), (2, b"2"), (4, None), (5, b"5"), (6, b"6")]
    }
    writer = ready(kafka, "a")
    kafka.pass_time(1.0)
    kafka.broker.compact(topic, 0, tombstones_before=kafka.world.now)
    assert reader(kafka, topic, uncommitted=True).to_end(8).records == {0: [(1, b"1"), (6, b"6")]}
    assert reader(kafka, topic).to_end(8).records == {0: [(1, b"1"), (6, b"6")]}
