"""The contract's part on groups, and on a broker that is away."""

import pytest
from confluent_kafka import KafkaError, TopicPartition

from streams.shell.requests import LEADER_NOT_AVAILABLE, NONE, UNREACHABLE
from streams.shell.restore import _BROKER_AWAY
from tests.sim.kafka_contract import (
    CALL_SECONDS,
    CALLS_MAX,
    Failure,
    Kafka,
    Member,
    error_of,
    serial,
)
from tests.sim.kafka_writer import ready, send, transaction

# Groups.


@pytest.fixture
def fed(kafka: Kafka) -> str:
    """A topic of two partitions with three records in each, an end of 4."""
    topic = kafka.topic(2)
    writer = ready(kafka, "feed")
    for partition in range(2):
        send(writer, topic, b"0", b"1", b"2", partition=partition)
    assert writer.commit() == NONE
    return topic


def group_name() -> str:
    """A group of its own for each test."""
    return f"contract-group-{next(serial)}"


def test_the_next_member_goes_on_where_offsets_were_committed(kafka: Kafka, fed: str) -> None:
    """Without an offset it begins where ``auto.offset.reset`` says; ``close`` gives back and answers commits."""
    group = group_name()
    one = Member(kafka, fed, group).joined()
    assert one.told == [("assigned", [0, 1])]
    assert sorted(place.partition for place in one.consumer.assignment()) == [0, 1]
    assert one.stored() == [-1001, -1001]
    assert one.seen.to_end(4, 0).to_end(4, 1).records == {p: [(0, b"0"), (1, b"1"), (2, b"2")] for p in range(2)}
    one.commit(p0=2)
    one.send(p1=4)
    one.consumer.close()
    assert one.commits == [(None, [(0, 2)]), (None, [(1, 4)])]
    assert one.told[1:] == [("revoked", [0, 1])]
    with pytest.raises(RuntimeError):
        one.consumer.consume(1, CALL_SECONDS)
    two = Member(kafka, fed, group).joined()
    assert two.stored() == [2, 4]
    assert two.seen.to_end(4, 0).to_end(4, 1).records == {0: [(2, b"2")]}


def test_members_share_and_hear_of_each_other(kafka: Kafka, fed: str) -> None:
    """Who was there first gives everything back and gets its share; when the other leaves, it gets all again."""
    group = group_name()
    one = Member(kafka, fed, group).joined()
    two = Member(kafka, fed, group)
    for _ in range(CALLS_MAX):
        one.seen._read()
        two.seen._read()
        if two.told and len(one.told) == 3:
            break
    assert [what for what, _ in one.told] == ["assigned", "revoked", "assigned"]
    assert one.told[1] == ("revoked", [0, 1])
    assert sorted(one.told[2][1] + two.told[-1][1]) == [0, 1]
    two.consumer.close()
    one.seen.until(lambda: one.told[-1] == ("assigned", [0, 1]))
    one.commit(p0=1, p1=1)
    assert one.commits == [(None, [(0, 1), (1, 1)])]


def test_a_member_taken_for_dead_commits_nothing(kafka: Kafka, fed: str) -> None:
    """Its partitions are another's, its commit is refused; it is told that they are lost, and joins again."""
    group = group_name()
    zombie = Member(kafka, fed, group, **{"max.poll.interval.ms": 2_000}).joined()
    zombie.commit(p0=1)
    kafka.take_for_dead(group, 2.5)
    heir = Member(kafka, fed, group).joined()
    assert heir.told == [("assigned", [0, 1])]
    heir.commit(p0=3)
    zombie.send(p0=2)
    zombie.seen.until(lambda: len(zombie.commits) == 2)
    assert zombie.commits[1][0] in (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID)
    assert heir.stored()[0] == 3
    for _ in range(CALLS_MAX):
        zombie.seen._read()
        heir.seen._read()
        if zombie.told[-1][0] == "assigned" and len(zombie.told) > 1:
            break
    assert [what for what, _ in zombie.told] == ["assigned", "lost", "assigned"]


def test_what_is_committed_before_partitions_are_taken_over_counts(kafka: Kafka, fed: str) -> None:
    """A member that was told to give back joins again by itself; it commits as a member before it is told so."""
    group = group_name()
    one = Member(kafka, fed, group).joined()
    two = Member(kafka, fed, group)
    for _ in range(CALLS_MAX):
        two.seen._read()
        one.consumer.poll(0.0)  # a longer call would take the new ones over, too
        if len(one.told) > 1:
            break
    two.seen.until(lambda: bool(two.told))
    # The stand-in may do all of it in one call, and take over before it commits.
    told = [what for what, _ in one.told]
    assert told == ["assigned", "revoked"] or (told == ["assigned", "revoked", "assigned"] and not kafka.real)
    one.commit(p0=2)
    # Of the stand-in, whether it has joined again by then depends on the seed.
    refused = {KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID}
    assert one.commits[0][0] in ({None} if kafka.real else {None, *refused})
    assert one.stored()[0] == (2 if one.commits[0][0] is None else -1001)
    one.joined()


def test_a_static_member_that_comes_back_takes_over(kafka: Kafka, fed: str) -> None:
    """It gets the partitions at once; the older one of the name hears that it is finished, and commits nothing."""
    group = group_name()
    static = {"group.instance.id": "one", "session.timeout.ms": 30_000}
    old = Member(kafka, fed, group, **static).joined()
    old.commit(p0=1)
    new = Member(kafka, fed, group, **static).joined()
    assert new.told == [("assigned", [0, 1])]
    assert new.stored()[0] == 1
    old.seen.until(lambda: bool(old.seen.errors))
    assert [(error.code(), error.fatal()) for error in old.seen.errors] == [
        (KafkaError._FATAL, False)
    ]  # the code says it
    old.commit(p0=3)
    assert old.commits[-1][0] == KafkaError._FATAL
    new.commit(p0=2)
    assert new.stored()[0] == 2
    new.consumer.close()
    newest = Member(kafka, fed, group, **static).joined()
    assert newest.stored()[0] == 2


def test_what_is_paused_brings_nothing(kafka: Kafka, fed: str) -> None:
    """A paused partition goes on from where it was."""
    member = Member(kafka, fed, group_name()).joined()
    member.seen.to_end(4, 0).to_end(4, 1)
    member.consumer.pause(member.consumer.assignment())
    transaction(ready(kafka, "a"), fed, b"later")
    before = len(member.seen.records[0])
    assert len(member.seen.all().records[0]) == before
    member.consumer.resume(member.consumer.assignment())
    assert member.seen.to_end(6).records[0][before:] == [(4, b"later")]


# A broker that is away.


def test_what_is_told_while_the_broker_is_away(own_kafka: Kafka) -> None:
    """Everything can be asked for again, and goes on once the broker is back."""
    kafka = own_kafka
    topic = kafka.topic(2)
    heard: list[int] = []
    away: dict[str, object] = {"error_cb": lambda error: heard.append(error.code())}
    member = Member(kafka, topic, group_name(), **away).joined()
    idle, sent = ready(kafka, "idle"), ready(kafka, "sent")
    send(sent, topic, b"sent")
    more = sent.batch(topic, b"more")
    kafka.set_available(available=False)
    assert kafka.requests("new", 60_000).init_producer_id()[0] == UNREACHABLE
    for _ in range(2):
        assert idle.requests.add_partitions(idle.owner, [(topic, 1)]) == UNREACHABLE
        assert sent.requests.produce(more)[topic, 0] in {UNREACHABLE, LEADER_NOT_AVAILABLE}
        assert sent.requests.commit_transaction(sent.owner) == UNREACHABLE
    member.seen.until(lambda: member.told[-1] == ("lost", [0, 1]))
    assert member.seen.records == {}
    assert heard.count(KafkaError._ALL_BROKERS_DOWN) == 1
    assert (
        error_of(lambda: member.consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=1.0)).code
        in _BROKER_AWAY
    )
    assert error_of(lambda: member.consumer.list_topics(topic, timeout=1.0)) == Failure(KafkaError._TRANSPORT)
    kafka.set_available(available=True)
    assert sent.produce(more) == {NONE}
    assert sent.commit() == NONE
    transaction(idle, topic, b"again", partition=1)
    member.seen.until(lambda: member.seen.records == {0: [(0, b"sent"), (1, b"more")], 1: [(0, b"again")]})
    assert member.told[-1] == ("assigned", [0, 1])
