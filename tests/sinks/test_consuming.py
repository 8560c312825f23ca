"""What the sink reads while its partitions change hands; the rest of it is held by real parts and the simulator."""

from typing import Any, cast

import pytest
from confluent_kafka import OFFSET_INVALID, TopicPartition

from schemas.areas import load_areas
from sinks import consuming as module
from sinks.backends import Backend
from sinks.columns import decoder_of
from sinks.consuming import Consuming, Fetched
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

    class Named:
        def identity(self) -> str:
            return "x"

    monkeypatch.setattr(module, "Consumer", Client)
    decoders = {"t": decoder_of("enriched", load_areas(), ZONE)}
    sink = Consuming(Settings(), cast("Backend", Named()), decoders, Status())
    assert sink._consume(10_000) == Fetched()
    assert [(one.topic, one.partition, one.offset) for one in assigned] == [("t", 0, OFFSET_INVALID)] * len(held)
    sink._inserter.stop(1.0)
