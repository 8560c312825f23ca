"""Listing, counting and sending again dead letters; the query verb beside it."""

import base64
import json
import time
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from infra.topics import ensure_topics
from tests.conftest import SettingsFactory
from tests.sinks import data
from tests.sinks.conftest import SinkFactory, SinkProcess, end
from truyvet.cli import main
from truyvet.config import Settings

PERSON = data.PERSON.format(7)
PAYLOAD = b'{"scan_id":"\xff'


@pytest.fixture
def sink(settings: SettingsFactory, sink_process: SinkFactory, monkeypatch: pytest.MonkeyPatch) -> SinkProcess:
    """A sink with some dead letters; the environment leads commands to it."""
    own = settings()
    ensure_topics(own)
    sink = sink_process(own).start()
    topic = own.topic("scans")
    payload = base64.b64encode(PAYLOAD).decode()
    data.put(
        own,
        "rejects",
        [
            data.reject(1, topic=topic, key=PERSON, payload=payload),
            data.reject(2, topic=topic, key=None, payload=""),
            data.reject(3, topic=topic, reason="too_old", payload=payload),
            data.reject(4, topic=topic, reason="erased", key=None, payload=None),
            data.reject(5, topic=topic, reason="unknown_venue", status="waiting"),
            data.reject(6, topic=topic, reason="too_old", status="resolved", revision=2),
            data.reject(7, topic=topic, reason="oversized", detail="70000 bytes; payload cut from 3 to 2 bytes"),
            data.reject(8, topic="elsewhere.scans"),
        ],
    )
    sink.wait()
    for name, value in sink.settings.environment().items():
        monkeypatch.setenv(name, value)
    return sink


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines that a command prints."""
    assert main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def arrived(settings: Settings, topic: str) -> list[dict[str, Any]]:
    """Every record of a topic: key, value, partition, headers."""
    consumer = Consumer(settings.librdkafka() | {"group.id": "test-arrived", "auto.offset.reset": "earliest"})
    places = [TopicPartition(settings.topic(topic), partition, 0) for partition in range(settings.partitions)]
    left = sum(end(consumer, place.topic, place.partition) for place in places)
    consumer.assign(places)
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + 20
    while len(found) < left and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            headers: Any = message.headers() or []
            found.append({"key": message.key(), "value": message.value(), "headers": dict(headers)})
    consumer.close()
    assert len(found) == left
    return found


def test_list_and_count(sink: SinkProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows are listed by filter and bounded, and counted by reason and status."""
    assert sink.settings.database
    rows = printed(capsys, "rejects", "--reason", "too_old")
    assert sorted(row["offset"] for row in rows) == [3, 6]
    (row,) = printed(capsys, "rejects", "--reason", "malformed_json", "--status", "open", "--limit", "1")
    assert row["record_at"] == "2021-10-14T01:15:30.000Z"
    assert set(row) >= {"payload", "key", "detail"}
    counts = printed(capsys, "rejects", "--count")
    assert {(row["reason"], row["status"]): row["records"] for row in counts} == {
        ("malformed_json", "open"): 3,
        ("too_old", "open"): 1,
        ("too_old", "resolved"): 1,
        ("erased", "open"): 1,
        ("unknown_venue", "waiting"): 1,
        ("oversized", "open"): 1,
    }
    assert main(["rejects"]) == 0
    table = capsys.readouterr().out
    assert "malformed_json" in table
    assert PERSON not in table
    assert main(["rejects", "--count"]) == 0
    assert "the value is no JSON" in capsys.readouterr().out


def test_redrive(sink: SinkProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """Open ones with a payload are sent again under their key, naming their first time and their row."""
    (done,) = printed(capsys, "rejects", "--redrive", "--reason", "malformed_json")
    assert done == {"sent": 2, "without_payload": 0, "other_topics": 1}
    found = sorted(arrived(sink.settings, "returns"), key=lambda record: record["key"] is None)
    assert [(record["key"], record["value"]) for record in found] == [(PERSON.encode(), PAYLOAD), (None, b"")]
    assert found[0]["headers"]["first-ts"] == b"1634174130000"
    names = ("topic", "epoch", "partition", "offset", "attempt", "hops", "reason")
    said = [found[0]["headers"][name] for name in names]
    assert said == [b"scans", b"0", b"1", b"1", b"1", b"0", b"malformed_json"]
    assert main(["rejects", "--redrive", "--limit", "4"]) == 0
    assert "3 sent again" in capsys.readouterr().out
    (done,) = printed(capsys, "rejects", "--redrive")
    assert done == {"sent": 3, "without_payload": 2, "other_topics": 1}


@pytest.mark.parametrize(
    "arguments",
    [["--reason", "bad_luck"], ["--status", "lost"], ["--limit", "0"], ["--count", "--redrive"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    """Unknown filters are exit status 2."""
    with pytest.raises(SystemExit) as ended:
        main(["rejects", *arguments])
    assert ended.value.code == 2


def test_waiting_ones_are_not_sent_again(capsys: pytest.CaptureFixture[str]) -> None:
    """A waiting scan is taken up by itself; sending it again is refused as wrong usage."""
    assert main(["rejects", "--redrive", "--status", "waiting"]) == 2
    assert "by itself" in capsys.readouterr().err


def test_query_verb(sink: SinkProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows come as a table or as JSON lines; what is refused is exit 2, what fails is exit 1."""
    assert sink.settings.database
    (row,) = printed(capsys, "query", "SELECT count() AS rows, NULL AS nothing, 'Chợ' AS name FROM rejects")
    assert row == {"rows": 8, "nothing": None, "name": "Chợ"}
    assert main(["query", "SELECT '\x1b[2J' AS escape, 3 AS number"]) == 0
    table = capsys.readouterr().out
    assert "escape" in table
    assert "\x1b" not in table
    assert main(["query", "DROP TABLE rejects"]) == 2
    assert main(["query", "SELECT nonsense"]) == 1
    assert "nonsense" in capsys.readouterr().err
