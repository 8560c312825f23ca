"""The broker of the local stack, the real one."""

import socket
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from infra import kafka
from infra.kafka import KafkaBroker
from infra.ports import accepts
from infra.processes import ProcessError, is_running
from infra.topics import BrokerAwayError, check_topics, ensure_topics
from truyvet.config import Settings


def _produce(settings: Settings, values: list[bytes]) -> None:
    producer = Producer(settings.librdkafka() | {"acks": "all", "enable.idempotence": True})
    for value in values:
        producer.produce(settings.topic("scans"), value=value, partition=0)
    assert producer.flush(20) == 0


def _read(settings: Settings, count: int) -> list[bytes | None]:
    consumer = Consumer(settings.librdkafka() | {"group.id": "reader", "log_level": 0})
    consumer.assign([TopicPartition(settings.topic("scans"), 0, 0)])
    messages = consumer.consume(count, timeout=20)
    consumer.close()
    return [message.value() for message in messages]


def test_a_broker_keeps_its_data_over_a_stop_and_a_crash(tmp_path: Path) -> None:
    """What was acknowledged is there after a clean stop, and after SIGKILL, on the same port."""
    broker = KafkaBroker(tmp_path / "kafka")
    try:
        broker.start()
        settings = Settings(brokers=broker.brokers, partitions=1, restating=True)
        ensure_topics(settings)
        _produce(settings, [b"one"])
        first = broker.process
        broker.stop()
        assert not is_running(first)
        assert not accepts(broker.port)

        broker.start()
        assert broker.pid != first.pid
        assert check_topics(settings) == []
        _produce(settings, [b"two"])
        broker.kill()

        broker.start()
        assert _read(settings, 2) == [b"one", b"two"]
    finally:
        broker.stop()


def test_missing_jars_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the jars the broker says where they should be and who fetches them."""
    monkeypatch.setattr(kafka, "JARS_DIR", tmp_path / "none")
    with pytest.raises(ProcessError, match=r"none: the broker's jars are missing; any verb of `./do` fetches them"):
        KafkaBroker(tmp_path / "kafka").start()


def test_a_taken_port_is_not_taken_for_the_broker(tmp_path: Path) -> None:
    """Whoever listens there is another server; the broker says so instead of seeming ready."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ProcessError, match=rf"kafka cannot listen on 127\.0\.0\.1:{port}: the port is taken"):
            KafkaBroker(tmp_path / "kafka", port=port).start()


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    """One that ends while starting is not waited for; the sentence has the end of its log."""
    broker = KafkaBroker(tmp_path / "kafka", heap_mib=1)
    with pytest.raises(ProcessError, match=r"kafka ended while starting: .*heap"):
        broker.start()
    with pytest.raises(ProcessError, match="kafka is not running"):
        _ = broker.pid


def test_no_broker_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away is told apart from a wrong setting, so that processes can wait for it."""
    monkeypatch.setattr("infra.topics._TIMEOUT_SECONDS", 0.5)
    with pytest.raises(BrokerAwayError, match="the broker does not answer"):
        ensure_topics(Settings(brokers="127.0.0.1:1"))
