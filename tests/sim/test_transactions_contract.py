"""The contract's part on transactions: what their owners are told, and what comes of what they are not."""

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, TopicPartition

from streams.shell.requests import LEADER_NOT_AVAILABLE, NOBODY, NONE, Owner
from tests.sim.kafka_contract import UNCOMMITTED, Kafka, ends, reader
from tests.sim.kafka_producer import (
    CONCURRENT_TRANSACTIONS,
    INVALID_PRODUCER_EPOCH,
    INVALID_PRODUCER_ID_MAPPING,
    INVALID_TXN_STATE,
    NOT_ENOUGH_REPLICAS,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tests.sim.kafka_writer import Writer, ready, send, transaction

OUT_OF_ORDER_SEQUENCE_NUMBER = 45


def test_a_transaction_has_its_order(kafka: Kafka) -> None:
    """Nothing is to be committed before something was added; what was not, or comes after the end, is not taken."""
    topic = kafka.topic(2)
    writer = ready(kafka, "a")
    assert writer.commit() == INVALID_TXN_STATE
    assert writer.produce(writer.batch(topic, b"x")) == {INVALID_TXN_STATE}
    writer = ready(kafka, "a")
    for _ in range(2):
        assert writer.add((topic, 0)) == NONE
    assert writer.produce(writer.batch(topic, b"x", partition=1)) == {INVALID_TXN_STATE}
    assert writer.produce(writer.batch(topic, b"0")) == {NONE}
    for _ in range(2):  # with the second answer the end is marked everywhere; before it more might be taken
        assert writer.commit() == NONE
    assert writer.produce(writer.batch(topic, b"x")) == {INVALID_TXN_STATE}
    assert reader(kafka, topic, partitions=2, uncommitted=True).all().records == {0: [(0, b"0")]}


def test_what_does_not_exist_is_refused(kafka: Kafka) -> None:
    """A partition or an owner that nobody knows; of the partitions asked for together, none is added."""
    topic = kafka.topic()
    writer = ready(kafka, "a")
    for unknown in ((topic, 5), ("unknown", 0)):
        places = [(topic, 0), unknown]
        assert writer.requests.add_partitions(writer.owner, places) == UNKNOWN_TOPIC_OR_PARTITION
        assert writer.requests.produce({unknown: b""}) == {unknown: LEADER_NOT_AVAILABLE}
    assert writer.commit() == INVALID_TXN_STATE
    stranger = Owner(writer.owner.producer_id + 1_000_000, writer.owner.epoch)
    assert writer.requests.add_partitions(stranger, [(topic, 0)]) == INVALID_PRODUCER_ID_MAPPING
    assert writer.requests.commit_transaction(stranger) == INVALID_PRODUCER_ID_MAPPING


@pytest.mark.parametrize("sent", [True, False])
def test_a_later_owner_fences(kafka: Kafka, *, sent: bool) -> None:
    """Whatever the older one asks next is refused for good, and nothing of what it did counts."""
    topic = kafka.topic(2)
    old = ready(kafka, "a")
    transaction(old, topic, b"before")
    if sent:
        send(old, topic, b"lost")
    new = ready(kafka, "a")

    def old_is_fenced() -> None:
        for _ in range(2):
            assert old.add((topic, 0)) == INVALID_PRODUCER_EPOCH
            for partition in range(2):
                assert old.produce(old.batch(topic, b"lost", partition=partition)) == {INVALID_PRODUCER_EPOCH}
            assert old.commit() == INVALID_PRODUCER_EPOCH

    old_is_fenced()
    send(new, topic, b"after")
    old_is_fenced()
    assert new.commit() == NONE
    old_is_fenced()
    seen = reader(kafka, topic)
    seen.until(lambda: len(seen.records.get(0, [])) == 2)
    assert [value for _, value in seen.all().records[0]] == [b"before", b"after"]


def test_what_an_owner_sends_while_it_is_being_fenced_never_counts(kafka: Kafka) -> None:
    """Where a partition has a record of its transaction it may still take more, until that is marked as aborted."""
    topic = kafka.topic(2)
    old = ready(kafka, "a")
    send(old, topic, b"lost")
    heir = kafka.requests("a", 60_000)
    assert heir.init_producer_id() == (CONCURRENT_TRANSACTIONS, NOBODY)
    late, elsewhere = old.batch(topic, b"late"), old.batch(topic, b"late", partition=1)
    taken = old.requests.produce(late)[topic, 0]
    assert taken in {NONE, INVALID_PRODUCER_EPOCH}
    assert old.requests.produce(elsewhere)[topic, 1] in {INVALID_PRODUCER_EPOCH, NOT_ENOUGH_REPLICAS}
    assert old.requests.add_partitions(old.owner, [(topic, 0)]) in {INVALID_PRODUCER_EPOCH, CONCURRENT_TRANSACTIONS}
    assert old.commit() == INVALID_PRODUCER_EPOCH
    new = ready(kafka, "a")
    assert old.produce(late) == {INVALID_PRODUCER_EPOCH}
    transaction(new, topic, b"new")
    end = 5 if taken == NONE else 4
    assert [value for _, value in reader(kafka, topic).to_end(end).records[0]] == [b"new"]
    assert ends(kafka.consumer(**UNCOMMITTED), topic)[1] == end


def test_whoever_is_the_owner_finds_everything_settled(kafka: Kafka) -> None:
    """Once it is told so, what the older one had committed can be read, and what it left open is aborted."""
    topic = kafka.topic(8)
    old = ready(kafka, "a")
    for partition in range(8):
        send(old, topic, b"committed", partition=partition)
    assert old.commit() == NONE
    new = ready(kafka, "a")
    consumer = kafka.consumer()
    assert [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10.0) for p in range(8)] == [(0, 2)] * 8
    for partition in range(8):
        send(new, topic, b"open", partition=partition)
    ready(kafka, "a")
    assert [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10.0) for p in range(8)] == [(0, 4)] * 8
    for logical, offset in ((OFFSET_BEGINNING, 0), (OFFSET_END, 4)):
        places = [TopicPartition(topic, p, logical) for p in range(8)]
        assert [one.offset for one in consumer.offsets_for_times(places, timeout=10.0)] == [offset] * 8


def test_an_owner_asks_again_until_an_open_transaction_is_aborted(kafka: Kafka) -> None:
    """The first answer is always that it is being ended, whoever asks next; the older owner is fenced from then on."""
    topic = kafka.topic()
    old = ready(kafka, "a")
    send(old, topic, b"open")
    given_up = kafka.requests("a", 60_000)
    assert given_up.init_producer_id() == (CONCURRENT_TRANSACTIONS, NOBODY)
    new = ready(kafka, "a")
    assert new.owner.producer_id == old.owner.producer_id
    assert new.owner.epoch > old.owner.epoch + 1
    transaction(new, topic, b"new")
    assert old.commit() == INVALID_PRODUCER_EPOCH
    assert [value for _, value in reader(kafka, topic).to_end(4).records[0]] == [b"new"]


def test_a_commit_is_asked_for_again(kafka: Kafka) -> None:
    """The first answer comes once it is decided; the next are to wait until it is marked everywhere, then the same."""
    topic = kafka.topic(8)
    writer = ready(kafka, "a")
    for number in range(3):
        for partition in range(8):
            send(writer, topic, b"%d" % number, partition=partition)
        assert writer.requests.commit_transaction(writer.owner) == NONE
        for _ in range(2):
            assert writer.commit() == NONE
    assert reader(kafka, topic, partitions=8).to_end(6).all().records == {
        p: [(0, b"0"), (2, b"1"), (4, b"2")] for p in range(8)
    }


def test_a_commit_without_an_answer_is_asked_for_again(own_kafka: Kafka) -> None:
    """It then succeeds, whether it was done or not, and the records are there once."""
    kafka = own_kafka
    topic = kafka.topic()
    writer = ready(kafka, "a")
    send(writer, topic, b"once")
    kafka.commit_without_answer(writer)
    assert writer.commit() == NONE
    transaction(writer, topic, b"next")
    assert reader(kafka, topic).to_end(4).records == {0: [(0, b"once"), (2, b"next")]}


def test_a_batch_that_comes_again_counts_once(kafka: Kafka) -> None:
    """Each of the last five is known by its numbers; what went before is out of order, what comes too late refused."""
    topic = kafka.topic()
    writer = ready(kafka, "a")
    batches = [writer.batch(topic, b"%d" % number) for number in range(6)]
    assert writer.add((topic, 0)) == NONE
    for batch in batches:
        for _ in range(2):
            assert writer.produce(batch) == {NONE}
    for batch in batches[1:]:
        assert writer.produce(batch) == {NONE}
    assert writer.produce(batches[0]) == {OUT_OF_ORDER_SEQUENCE_NUMBER}
    for _ in range(2):
        assert writer.commit() == NONE
    assert writer.produce(batches[5]) == {INVALID_TXN_STATE}
    # After that the real one would take nothing of this owner's: its next batch is out of order.
    transaction(ready(kafka, "a"), topic, b"7")
    values = [*((number, b"%d" % number) for number in range(6)), (7, b"7")]
    assert reader(kafka, topic).to_end(9).records == {0: values}


def test_a_gap_between_batches_is_refused(kafka: Kafka) -> None:
    """As is what overlaps; then what comes next is taken. Each partition counts by itself, each owner begins anew."""
    topic = kafka.topic(2)
    writer = ready(kafka, "a")
    send(writer, topic, b"0", b"1")
    for sequence in (0, 1, 3):
        writer._sequences[topic, 0] = sequence
        assert writer.produce(writer.batch(topic, b"x")) == {OUT_OF_ORDER_SEQUENCE_NUMBER}
    writer._sequences[topic, 0] = 2
    send(writer, topic, b"2")
    send(writer, topic, b"3", partition=1)
    assert writer.commit() == NONE
    heir = ready(kafka, "a")
    assert heir.add((topic, 0)) == NONE
    heir._sequences[topic, 0] = 3
    assert heir.produce(heir.batch(topic, b"x")) == {OUT_OF_ORDER_SEQUENCE_NUMBER}
    heir._sequences[topic, 0] = 0
    transaction(heir, topic, b"4")
    assert reader(kafka, topic, partitions=2).to_end(6).to_end(2, 1).records == {
        0: [(0, b"0"), (1, b"1"), (2, b"2"), (4, b"4")],
        1: [(0, b"3")],
    }


def test_a_transaction_that_was_open_too_long_is_aborted_and_fences_its_owner(kafka: Kafka) -> None:
    """The coordinator ends it; its owner can do nothing more, and a new one goes on."""
    topic = kafka.topic()
    writer = ready(kafka, "a", timeout_ms=1_000)
    send(writer, topic, b"late")
    consumer = kafka.consumer()
    for _ in range(40):
        if ends(consumer, topic) == (0, 2):
            break
        kafka.pass_time(0.6)
    assert ends(consumer, topic) == (0, 2)
    assert writer.produce(writer.batch(topic, b"later")) == {INVALID_PRODUCER_EPOCH}
    assert writer.add((topic, 0)) == INVALID_PRODUCER_EPOCH
    assert writer.commit() == INVALID_PRODUCER_EPOCH
    transaction(ready(kafka, "a"), topic, b"new")
    assert reader(kafka, topic).to_end(4).records == {0: [(2, b"new")]}


def _renewed(writer: Writer, owner: Owner) -> tuple[int, Owner]:
    """What this owner is told in the end when it asks for a new epoch."""
    given = NOBODY

    def ask() -> int:
        nonlocal given
        code: int
        code, given = writer.requests.init_producer_id(owner)
        return code

    return writer.answer(ask), given


def _renew(writer: Writer) -> Owner:
    """Gives the writer a new epoch; the owner that it was."""
    before = writer.owner
    code, writer._owner = _renewed(writer, before)
    assert (code, writer.owner) == (NONE, Owner(before.producer_id, before.epoch + 1))
    writer._sequences.clear()
    return before


def test_an_owner_takes_a_new_epoch(kafka: Kafka) -> None:
    """Whenever nothing of it is open; asked again as before it is told the same; its batches begin anew."""
    topic = kafka.topic()
    writer = ready(kafka, "a")
    for number in range(3):
        before = _renew(writer)
        for _ in range(2):
            assert _renewed(writer, before) == (NONE, writer.owner)
        assert writer.commit() == INVALID_TXN_STATE
        transaction(writer, topic, b"%d" % number)
        if number > 0:
            assert _renewed(writer, Owner(before.producer_id, before.epoch - 1)) == (INVALID_PRODUCER_EPOCH, NOBODY)
    assert reader(kafka, topic).to_end(6).records == {0: [(0, b"0"), (2, b"1"), (4, b"2")]}


def test_a_new_epoch_is_for_the_owner_alone(kafka: Kafka) -> None:
    """Who is none any more, or never was one, is refused and fences nobody; where nobody was one yet anybody may."""
    topic = kafka.topic()
    old, new = ready(kafka, "a"), ready(kafka, "a")
    assert _renewed(old, old.owner) == (INVALID_PRODUCER_EPOCH, NOBODY)
    stranger = Owner(new.owner.producer_id + 1_000_000, new.owner.epoch)
    assert _renewed(old, stranger) == (INVALID_PRODUCER_EPOCH, NOBODY)
    send(new, topic, b"0")
    assert _renewed(old, stranger) == (INVALID_PRODUCER_EPOCH, NOBODY)
    for _ in range(2):
        assert new.commit() == NONE
    assert _renewed(old, old.owner) == (INVALID_PRODUCER_EPOCH, NOBODY)
    transaction(new, topic, b"1")
    assert reader(kafka, topic).to_end(4).records == {0: [(0, b"0"), (2, b"1")]}
    first = kafka.requests("b", 60_000).init_producer_id(Owner(new.owner.producer_id + 1_000_000, 3))
    assert (first[0], first[1].epoch) == (NONE, 0)


@pytest.mark.parametrize("own", [True, False])
def test_a_new_epoch_aborts_what_is_open(kafka: Kafka, *, own: bool) -> None:
    """Whoever asks: the broker does not look at the epoch first. Then the owner gets one, and a former one does not."""
    topic = kafka.topic()
    old = ready(kafka, "a")
    new = old if own else ready(kafka, "a")
    send(new, topic, b"open")
    assert old.requests.init_producer_id(old.owner) == (CONCURRENT_TRANSACTIONS, NOBODY)
    after = Owner(new.owner.producer_id, new.owner.epoch + 1)
    assert _renewed(old, old.owner) == ((NONE, after) if own else (INVALID_PRODUCER_EPOCH, NOBODY))
    assert new.produce(new.batch(topic, b"x")) == {INVALID_PRODUCER_EPOCH}
    assert new.commit() == INVALID_PRODUCER_EPOCH
    transaction(ready(kafka, "a"), topic, b"1")
    assert reader(kafka, topic).to_end(4).records == {0: [(2, b"1")]}


def test_what_comes_late_meets_the_next_transaction(kafka: Kafka) -> None:
    """In the same epoch a commit ends it as it is, partitions begin it, and a batch is known by its number."""
    topic = kafka.topic(2)
    writer = ready(kafka, "a")
    assert writer.add((topic, 0)) == NONE
    batch = writer.batch(topic, b"0")
    assert writer.produce(batch) == {NONE}
    for _ in range(2):
        assert writer.commit() == NONE
    assert writer.requests.add_partitions(writer.owner, [(topic, 0)]) == NONE  # late: it begins one
    send(writer, topic, b"half")
    assert writer.requests.produce(batch)[topic, 0] == NONE  # late: it was there
    assert writer.requests.commit_transaction(writer.owner) == NONE  # late: it was not meant for this one
    assert reader(kafka, topic).to_end(4).records == {0: [(0, b"0"), (2, b"half")]}
    assert writer.produce(writer.batch(topic, b"the other half")) == {INVALID_TXN_STATE}


def test_what_comes_late_bears_the_old_epoch(kafka: Kafka) -> None:
    """After a new one whatever was asked for before it is refused, between transactions and within the next."""
    topic = kafka.topic(2)
    writer = ready(kafka, "a")
    assert writer.add((topic, 0)) == NONE
    batch = writer.batch(topic, b"0")
    assert writer.produce(batch) == {NONE}
    assert writer.commit() == NONE
    assert writer.requests.add_partitions(writer.owner, [(topic, 0)]) in {NONE, CONCURRENT_TRANSACTIONS}
    before = _renew(writer)

    def late_is_refused() -> None:
        assert writer.requests.add_partitions(before, [(topic, 0), (topic, 1)]) == INVALID_PRODUCER_EPOCH
        assert writer.requests.produce(batch)[topic, 0] == INVALID_PRODUCER_EPOCH
        assert writer.requests.commit_transaction(before) == INVALID_PRODUCER_EPOCH

    late_is_refused()
    assert writer.add((topic, 0), (topic, 1)) == NONE
    late_is_refused()
    send(writer, topic, b"1", partition=1)
    late_is_refused()
    send(writer, topic, b"2")
    late_is_refused()
    for _ in range(2):
        assert writer.commit() == NONE
    late_is_refused()
    seen = reader(kafka, topic, partitions=2).all().records
    assert {p: [value for _, value in records] for p, records in seen.items()} == {0: [b"0", b"2"], 1: [b"1"]}
