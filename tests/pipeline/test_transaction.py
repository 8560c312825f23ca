"""What a room's producer makes of the client's errors, where the real ones are hard to come by."""

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.core.step import Step
from streams.shell import transaction
from streams.shell.transaction import FencedError, TransactionalProducer
from truyvet.config import Settings


class _Producer:
    """Does what it is told to at its first produce(), and remembers the calls."""

    def __init__(self, first: Callable[[], None]) -> None:
        self.calls: list[str] = []
        self._first: Callable[[], None] | None = first

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*_: object, **__: object) -> None:
            self.calls.append(name)
            if name == "produce" and self._first is not None:
                first, self._first = self._first, None
                first()

        return call


def _failing(code: int) -> Callable[[], None]:
    def fail() -> None:
        raise KafkaException(KafkaError(code))

    return fail


def _commit(monkeypatch: pytest.MonkeyPatch, code: int) -> list[str]:
    fake = _Producer(_failing(code))
    monkeypatch.setattr(transaction, "Producer", lambda _: fake)
    producer = TransactionalProducer(Settings(), "person", 0, "state-person")
    producer.commit(Step(number=1, timestamp_ms=0, changes={b"k": b"v"}))
    return fake.calls


def test_a_transaction_that_has_failed_under_way_starts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that could not be delivered fails the transaction while records still come: abort, then all again."""
    once = ["begin_transaction", "produce"]
    assert _commit(monkeypatch, KafkaError._STATE) == [
        *("list_topics", "init_transactions", *once, "abort_transaction"),
        *(*once, "commit_transaction"),
    ]


@pytest.mark.parametrize(
    ("code", "error"), [(KafkaError._FATAL, FencedError), (KafkaError._INVALID_ARG, KafkaException)]
)
def test_other_errors_are_no_reason_to_start_over(
    monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    """A producer that was fenced, or a record that no broker would take, ends it."""
    with pytest.raises(error):
        _commit(monkeypatch, code)
