"""What the person stage makes of the register's records: rejects, detours, and nothing of what counts."""

import json

import pytest

from streams.core.partition import partition_of
from streams.core.person import take_venues
from streams.core.room import FUTURE_MS_MAX, RoomPartition
from streams.core.step import Record, Step
from streams.shell import metering
from tests.core.pipeline import AREAS, CLOCK, RULESETS, MemoryState
from tests.sinks import data
from truyvet.metrics import DETOURS

PARTITIONS = 4
NOW_MS = 1_634_169_600_000
HOME = partition_of(b"CAFE", PARTITIONS)
ELSEWHERE = (HOME + 1) % PARTITIONS
REGISTERED_MS = 1_630_458_000_000
GOOD = data.encoded(data.venue("CAFE"))


def taken(partition: int, *records: tuple[bytes | None, bytes | None, int]) -> Step:
    """A step over records (key, value, timestamp) of a partition."""
    room = RoomPartition(partition, PARTITIONS, "checkin.", 28 * 86_400_000, CLOCK, RULESETS)
    run = [Record(offset, at_ms, key, value) for offset, (key, value, at_ms) in enumerate(records)]
    return take_venues(room, 1, run, MemoryState(), AREAS)


def test_what_lies_elsewhere_is_produced_again_once() -> None:
    """Versions and null records as they are, with their timestamps, to their own partition; there they stay."""
    sent = [(b"CAFE", GOOD, NOW_MS), (b"CAFE", None, NOW_MS + 1)]
    step = taken(ELSEWHERE, *sent)
    assert step.counts == {"forwarded": 2}
    assert list(step.outputs["venues"]) == [(key, value, HOME, at_ms) for key, value, at_ms in sent]
    there = taken(HOME, *sent)
    assert there.counts == {"accepted": 2}
    assert there.outputs == {}


def test_a_null_record_of_no_venue_is_nothing() -> None:
    """A key that is no venue_id names none, wherever it lies."""
    keys = (None, b"", b"a b", b"x" * 65, b"\xff")
    for partition in range(PARTITIONS):
        step = taken(partition, *((key, None, NOW_MS) for key in keys))
        assert step.counts == {"ignored": len(keys)}
        assert step.outputs == {}


@pytest.mark.parametrize("partition", [HOME, ELSEWHERE])
def test_what_is_bad_is_rejected_where_it_was_written(partition: int) -> None:
    """Under its own origin, also where it lies elsewhere; five minutes ahead of its record is still good."""
    edge_ms = REGISTERED_MS - FUTURE_MS_MAX
    step = taken(
        partition,
        (b"CAFE", b"{", NOW_MS),
        (b"OTHER", GOOD, NOW_MS),
        (b"CAFE", GOOD, edge_ms - 1),
        (b"CAFE", GOOD, edge_ms),
    )
    rows = [json.loads(value or b"") for _, value, _, _ in step.outputs["rejects"]]
    assert [(row["partition"], row["offset"], row["reason"]) for row in rows] == [
        (partition, 0, "malformed_json"),
        (partition, 1, "key_mismatch"),
        (partition, 2, "in_future"),
    ]
    assert step.counts == {"rejected": 3, "accepted" if partition == HOME else "forwarded": 1}


def test_detours_are_counted_by_topic_and_said_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many steps there are with some."""
    now = [1000.0]
    monkeypatch.setattr("streams.shell.metering.time.monotonic", lambda: now[0])
    monkeypatch.setattr(metering, "_said", {})
    said: list[str] = []
    monkeypatch.setattr(metering.log, "warning", lambda _text, **fields: said.append(fields["topic"]))
    before = DETOURS.labels("venues")._value.get()
    for topic, seconds in (("venues", 0), ("venues", 3599), ("scans", 0), ("venues", 2)):
        now[0] += seconds
        metering.committed("person", topic, 2, Step(1, NOW_MS, counts={"forwarded": 2}), 0.1)
    assert said == ["venues", "scans", "venues"]
    assert DETOURS.labels("venues")._value.get() == before + 6
