"""The transport's own waiting, apart from brokers."""

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from streams.shell.transport import BatchConsumer, OutsideFirst


def _consumer(acked: Sequence[bool]) -> BatchConsumer:
    consumer = object.__new__(BatchConsumer)
    consumer._unacked_messages = [SimpleNamespace(acked=one) for one in acked]  # type: ignore[assignment]
    return consumer


def _seconds(consumer: BatchConsumer, timeout_seconds: float) -> float:
    began = time.monotonic()
    asyncio.run(consumer._wait_for_ack(timeout_seconds))
    return time.monotonic() - began


def test_an_acknowledgement_that_came_before_is_not_waited_for() -> None:
    """A rebalance goes on at once where everything handed on has been acknowledged meanwhile."""
    assert _seconds(_consumer([True, True]), 5.0) < 1.0


def test_what_is_under_way_is_waited_for() -> None:
    """But not longer than asked."""
    assert _seconds(_consumer([True, False]), 0.2) >= 0.2


def test_a_full_queue_takes_no_partition_from_those_that_are_fetched() -> None:
    """Faust sleeps for a second once none is left, and under load all are full at once."""
    consumer = object.__new__(BatchConsumer)
    consumer.app = SimpleNamespace(in_recovery=False)  # type: ignore[assignment]
    consumer._active_partitions, consumer._buffered_partitions = {TP("scans", 0)}, set()
    consumer.on_buffer_full(TP("scans", 0))
    assert consumer._get_active_partitions() == {TP("scans", 0)}


def test_what_comes_from_outside_goes_first() -> None:
    """In turn among themselves, whatever order they were fetched in, and nothing is left out."""
    fetched = {TP("visits", 0): ["v0"], TP("scans", 1): ["s1", "s2"], TP("marks", 0): ["m0"], TP("cases", 1): ["c1"]}
    scheduler: Any = OutsideFirst(["scans", "cases"])
    handed_on = [record for _, record in scheduler.iterate(fetched)]
    assert handed_on == ["s1", "c1", "s2", "v0", "m0"]
