"""What the sink reads while its partitions change hands; the rest of it is held by real parts and the simulator."""

from typing import Any, cast

import pytest

from sinks import consuming as module
from sinks.backends import Backend
from sinks.consuming import Consuming
from sinks.status import Status
from truyvet.config import Settings


def test_what_was_read_before_partitions_are_given_back_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be stored with its offsets, though what came before it is not: whoever reads on skips that."""
    before: list[Any] = [b"before"] * module._CONSUME_AT_ONCE
    after: list[Any] = [b"after"]

    class Client:
        """A client that tells in its second call that the partitions are given back."""

        def __init__(self, _options: object) -> None:
            self._answers = [before, after]

        def consume(self, _number: int, _seconds: float) -> list[Any]:
            if len(self._answers) == 1:
                sink._on_revoke(cast("Any", self), [])
            return self._answers.pop(0)

    class Named:
        def identity(self) -> str:
            return "x"

    monkeypatch.setattr(module, "Consumer", Client)
    sink = Consuming(Settings(), cast("Backend", Named()), {}, Status())
    assert sink._consume(10_000) == after
    sink._inserter.stop(1.0)
