"""Foreign records on every topic of the pipeline's own, changelogs too, before running workers and a running sink."""

import json
from pathlib import Path

from confluent_kafka import Producer

from streams.core.crossing import HEADER_WAS
from tests.conftest import SettingsFactory
from tests.pipeline.running import Feeder, assert_same, small_week, stored_rows
from truyvet.members import fetch
from truyvet.stack import Stack

PARTITIONS = 2
SEED, SCALE = 7, 0.0005
READ_BY_ROOMS = ("visits", "case-visits", "venue-marks")
STORED = ("enriched", "visits", "case-states", "exposures", "rejects", "aggregates")
COMPACTED = ("aggregates", "state-person", "state-venue")
AT_MS = 1_634_174_130_000
STATE = [(b"", b"1"), (b"hello", b"1"), (b"!meta", b"{"), (b"!meta", None), (b"v", b"1"), (b"p" * 17, None)]
"""The last of which may be one: it deletes nobody's timeline."""


def _poison(stack: Stack) -> int:
    """Sends nulls and stray records to each partition of every own topic; returns how many have a row each."""
    settings = stack.settings
    producer = Producer(settings.librdkafka())
    visit = {
        "visit_id": "0" * 32, "first_scan_at": "2021-10-14T01:00:00.000Z", "status": "retracted", "revision": 1,
    }  # fmt: skip
    rows = 0
    for partition in range(PARTITIONS):
        for topic in {*READ_BY_ROOMS, *STORED}:
            values = [b"", b"{}", b"[]", b"\xff", b'{"a":', b"null"] + ([] if topic in COMPACTED else [None])
            for value in values:
                producer.produce(
                    settings.topic(topic), value, b"V", partition, timestamp=AT_MS, headers=[("\u00e9", b"\xff")]
                )
            rows += len(values)
        # The sink looks at no header; what it stores of this takes back a visit that nobody has.
        odd: list[tuple[str, str | bytes | None]] = [(HEADER_WAS, b"\xff" * 7)]
        producer.produce(settings.topic("visits"), json.dumps(visit), b"V", partition, timestamp=AT_MS, headers=odd)
        rows += 1
        for room in ("state-person", "state-venue"):
            for key, value in STATE:
                producer.produce(settings.topic(room), value, key, partition, timestamp=AT_MS)
    assert producer.flush(15) == 0
    return rows


def test_no_foreign_record_ends_anything(settings: SettingsFactory, tmp_path: Path) -> None:
    """A worker that runs, one that restores, and a sink: each record has one row, and all other rows are the same."""
    week = small_week(tmp_path / "week", seed=SEED, scale=SCALE)
    found = []
    for poisoned in (False, True):
        with Stack(settings(partitions=PARTITIONS), workers=1, own_broker=False) as stack:
            feeder = Feeder(stack, week)
            feeder.register()
            expected = _poison(stack) if poisoned else 0
            feeder.scans(1, 2)
            if poisoned:
                stack.kill_worker(0)
                expected += _poison(stack)
                stack.start_worker(0)
            feeder.scans(2, 2)
            feeder.settle()
            stack.check()
            assert stack.wait_healthy(20)
            rows = stored_rows(stack, tmp_path / f"out{poisoned}")
            if poisoned:
                _check_rows(stack, [json.loads(row) for row in rows["rejects"]], expected)
        rows["rejects"] = [row for row in rows["rejects"] if "foreign_record" not in row]
        rows["visits"] = [row for row in rows["visits"] if json.loads(row)["status"] == "active"]
        found.append(rows)
    assert_same(found[1], found[0])
    assert found[0]["exposures"]


def _check_rows(stack: Stack, rejects: list[dict[str, object]], expected: int) -> None:
    """One row a record, though worker and sink read some of them both; and each is said, with its place."""
    foreign = [row for row in rejects if row["reason"] == "foreign_record"]
    assert len(foreign) == expected
    assert all(row["record_at"] == "2021-10-14T01:15:30.000Z" and row["payload"] is None for row in foreign)
    log = (stack.directory / "worker-0.log").read_text()
    for topic in (*READ_BY_ROOMS, "state-person", "state-venue"):
        assert f"a foreign record is skipped topic={stack.settings.topic(topic)} partition=1 offset=" in log, topic
    assert 'truyvet_rejects_total{reason="foreign_record"}' in fetch(f"{stack.worker_urls()[0]}/metrics")[1]
