"""The cluster of three nodes: one may die at any time, and nothing that was acknowledged is lost."""

import time
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource, ResourceType

from infra.cluster import KafkaCluster
from infra.topics import TOPICS, admin_client, ensure_topics
from producers.feed import make_producer
from streams.shell.restore import end_if_known, log_consumer, watermarks
from tests.conftest import wait_until
from truyvet.config import Settings

INTERNAL = ("__transaction_state", "__consumer_offsets")


def _commit(settings: Settings, value: bytes) -> None:
    """Writes one record in a transaction, as a room does."""
    producer = Producer(settings.librdkafka() | {"transactional.id": "one"})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(settings.topic("visits"), value=value, partition=0)
    producer.commit_transaction(60)


def test_each_node_may_die_once(tmp_path: Path) -> None:
    """Every topic has three replicas of which two acknowledge; killing the nodes in turn loses nothing."""
    with KafkaCluster(tmp_path) as cluster:
        settings = Settings(brokers=cluster.brokers, partitions=1, replication_factor=3, restating=True)
        ensure_topics(settings)
        sender = make_producer(settings)
        for node, broker in cluster.nodes.items():
            cluster.wait_in_sync()
            broker.kill()
            assert wait_until(lambda: not cluster.in_sync(), 30)
            sender.produce(settings.topic("scans"), value=b"%d" % node, partition=0)
            assert sender.flush(60) == 0
            _commit(settings, b"%d" % node)
            broker.start()
        cluster.wait_in_sync()
        consumer = Consumer(settings.librdkafka() | {"group.id": "reader", "isolation.level": "read_committed"})
        for topic in ("scans", "visits"):
            consumer.assign([TopicPartition(settings.topic(topic), 0, 0)])
            assert [message.value() for message in consumer.consume(3, timeout=30)] == [b"1", b"2", b"3"]
        consumer.close()
        _all_durable(settings)


def test_who_only_asks_for_ends_hears_of_a_new_leader(tmp_path: Path) -> None:
    """A partition's leader dies and stays away: its end is told by the next one, and a commit does not wait for it."""
    with KafkaCluster(tmp_path) as cluster:
        settings = Settings(brokers=cluster.brokers, partitions=1, replication_factor=3, restating=True)
        ensure_topics(settings)
        _commit(settings, b"1")
        topic = settings.topic("visits")
        consumer = log_consumer(settings)
        # A commit is answered before its marker is written.
        assert wait_until(lambda: watermarks(consumer, topic, 0) == (0, 2), 10)
        cluster.wait_in_sync()
        cluster.nodes[admin_client(settings).list_topics(topic, timeout=10).topics[topic].partitions[0].leader].kill()
        began = time.monotonic()
        end_if_known(consumer, topic, 0)
        assert time.monotonic() - began < 3.0
        assert wait_until(lambda: end_if_known(consumer, topic, 0) == 2, 30)
        assert watermarks(consumer, topic, 0) == (0, 2)
        consumer.close()


def _all_durable(settings: Settings) -> None:
    admin = admin_client(settings)
    topics = admin.list_topics(timeout=10).topics
    names = [settings.topic(spec.name) for spec in TOPICS] + [name for name in INTERNAL if name in topics]
    assert "__transaction_state" in names
    assert {len(part.replicas) for name in names for part in topics[name].partitions.values()} == {3}
    for future in admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names]).values():
        assert future.result()["min.insync.replicas"].value == "2"
