"""Restoring a store from its changelog while the log cleaner is at work."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streams.shell import restore as module
from streams.shell import store as store_module
from streams.shell.requests import NONE
from streams.shell.store import Store
from tests.sim.kafka_contract import Fake
from tests.sim.kafka_writer import ready, transaction

_DAY = 86_400.0


def test_a_restore_that_sleeps_past_tombstones_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has read by then may have been deleted by a tombstone that is gone when it reads on."""
    kafka = Fake(0)
    clock = SimpleNamespace(time=lambda: kafka.world.now, monotonic=lambda: kafka.world.now, sleep=kafka.pass_time)
    for one in (module, store_module):
        monkeypatch.setattr(one, "time", clock)
    monkeypatch.setattr(module, "_BATCH_RECORDS", 1)
    monkeypatch.setattr(module, "_WRITE_BYTES", 0)
    topic = kafka.topic()
    writer = ready(kafka, "a")
    for key, value in ((b"gone", b"1"), (b"kept", b"1"), (b"gone", None), (b"last", b"1")):
        assert writer.add((topic, 0)) == NONE
        assert writer.produce(writer.batches(topic, (key, value, 0, 1))) == {NONE}
        assert writer.commit() == NONE
    slept: list[bytes] = []

    class Sleepy:
        """A consumer whose process is stopped for two days once it has read the first record."""

        def __init__(self, consumer: Any) -> None:
            self._consumer = consumer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._consumer, name)

        def consume(self, number: int, seconds: float) -> list[Any]:
            messages: list[Any] = self._consumer.consume(number, seconds)
            if messages and not slept:
                slept.append(messages[0].key())
                kafka.pass_time(2 * _DAY)
                kafka.broker.compact(topic, 0, tombstones_before=kafka.world.now - _DAY)
                transaction(writer, topic, b"wake")
            return messages

    options = {"enable.partition.eof": True, "isolation.level": "read_committed"}
    store = Store(tmp_path / "s")
    consumer: Any = Sleepy(kafka.consumer(**options))
    module.restore(store, consumer, topic, 0)
    assert slept == [b"gone"]
    assert store.get_many([b"gone", b"kept", b"last"]) == [None, b"1", b"1"]
    assert (store.as_of, store.stale) == (kafka.world.now, False)
    store.close()
