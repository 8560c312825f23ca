"""What the sink reads while its partitions change hands; the rest of it is held by real parts and the simulator."""

from typing import Any, cast

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from schemas.areas import load_areas
from sinks import consuming as module
from sinks.backends import Backend
from sinks.columns import decoder_of
from sinks.consuming import Consuming
from sinks.records import Fetched
from sinks.status import Status
from tests.sinks.test_backends import ZONE, FakeRecord
from truyvet.config import Settings


class Read(FakeRecord):
    """A record as the client hands it over, of the topic ``t``."""

    def __init__(self, value: bytes, offset: int) -> None:
        super().__init__(b"k", value, offset)

    def topic(self) -> str:
        """The topic."""
        return "t"

    def error(self) -> None:
        """It is none."""


def sink_of(monkeypatch: pytest.MonkeyPatch, client: type) -> Consuming:
    """A sink that reads by this client, of the topic ``t``."""

    class Named:
        """A store that says who it is."""

        def identity(self) -> str:
            return "x"

    monkeypatch.setattr(module, "Consumer", client)
    decoders = {"t": decoder_of("enriched", load_areas(), ZONE)}
    return Consuming(Settings(), cast("Backend", Named()), decoders, Status())


@pytest.mark.parametrize("taken_over", [False, True])
def test_what_was_read_before_partitions_are_given_back_is_dropped(
    monkeypatch: pytest.MonkeyPatch, *, taken_over: bool
) -> None:
    """It would be stored with its offsets, though what came before it is not: whoever reads on skips that."""
    before: list[Any] = [Read(b"{}", offset) for offset in range(module._CONSUME_AT_ONCE)]
    mixed: list[Any] = [Read(b"{}", 7)]
    held = [TopicPartition("t", 0, 7)] if taken_over else []
    assigned: list[TopicPartition] = []

    class Client:
        """A client that tells in its second call that the partitions are given back, and perhaps taken over."""

        def __init__(self, _options: object) -> None:
            self._answers = [before, mixed]

        def assignment(self) -> list[TopicPartition]:
            return held

        def assign(self, partitions: list[TopicPartition]) -> None:
            assigned.extend(partitions)

        def consume(self, _number: int, _seconds: float) -> list[Any]:
            if len(self._answers) == 1:
                sink._on_revoke(cast("Any", self), [])
            return self._answers.pop(0)

    sink = sink_of(monkeypatch, Client)
    assert sink._consume(10_000) == Fetched()
    assert [(one.topic, one.partition, one.offset) for one in assigned] == [("t", 0, OFFSET_INVALID)] * len(held)
    sink._inserter.stop(1.0)


def test_a_broker_is_away_once_it_was_asked(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The client's word that all brokers are down may come after they are back; records of before may come after it."""
    answers = [True, False, False, True, True]

    class Client:
        """A client whose broker answers now and then."""

        def __init__(self, options: dict[str, Any]) -> None:
            self.said = options["error_cb"]

        def assignment(self) -> list[TopicPartition]:
            return []

        def list_topics(self, _topic: str, timeout: float) -> None:
            assert timeout > 0
            if not answers.pop(0):
                raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    monkeypatch.setattr(module, "LOOK_AROUND_SECONDS", 1e-9)
    sink = sink_of(monkeypatch, Client)
    down = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")

    def heard() -> list[str]:
        return [record.message for record in caplog.records if "the broker is" in record.message]

    with caplog.at_level("INFO"):
        cast("Any", sink._consumer).said(down)
        sink._look_around()
        assert heard() == []
        cast("Any", sink._consumer).said(down)
        sink._look_around()
        sink._sort_in(Fetched(ends={("t", 0): 5}))
        sink._look_around()
        assert [one.split(" reason")[0] for one in heard()] == ["the broker is away; waiting for it"]
        sink._look_around()
        cast("Any", sink._consumer).said(down)
        sink._look_around()
        sink._look_around()
    assert answers == []
    assert [" ".join(one.split()[:4]) for one in heard()] == ["the broker is away;", "the broker is back"]
    sink._inserter.stop(1.0)
