"""A running sink on a real broker meets records that it cannot take: each costs itself, and no other one."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from infra.clickhouse import ClickHouseServer
from infra.topics import ensure_topics
from sinks import backends
from sinks.backends import RowsRefusedError, StorageError, open_backend
from streams.core.partition import partition_of
from tests.conftest import SettingsFactory
from tests.sinks import data
from tests.sinks.conftest import SinkFactory, SinkProcess
from tests.sinks.failing_sink import poison
from tests.sinks.test_taking import STRAY, WHOLE, bad_values
from truyvet.config import Settings

SKIPPED = (
    "SELECT topic, `partition`, `offset`, record_at, reason, status, key IS NULL, payload IS NULL"
    " FROM rejects FINAL WHERE reason IN ('foreign_record', 'failed') ORDER BY topic, `partition`, `offset`"
)
AT_MS = 1_634_174_130_000
FLOOD = 300


class Sent:
    """What is sent to a partition, and where it stands."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = Producer(settings.librdkafka() | {"acks": "all"})
        self._next: dict[str, int] = {}

    def put(
        self, topic: str, value: bytes | None, *, key: str = "k", headers: dict[str, bytes] | None = None
    ) -> tuple[str, int]:
        """Sends a record to partition 0; its topic and offset."""
        name, offset = self._settings.topic(topic), self._next.get(topic, 0)
        self._next[topic] = offset + 1
        sent: Any = headers or {}
        self._client.produce(name, value, key, partition=0, timestamp=AT_MS + offset, headers=sent)
        self._client.poll(0)
        return name, offset

    def flush(self) -> None:
        """Waits until the broker has all of it."""
        assert self._client.flush(15) == 0


def skipped(sink: SinkProcess) -> list[tuple[str, int, str]]:
    """Topic, offset and reason of the rows of records that were skipped; all else in them follows from these."""
    rows = sink.rows(SKIPPED)
    assert all(row[1:2] + row[3:4] + row[5:] == (0, AT_MS + row[2], "open", 1, 1) for row in rows), rows
    return [(topic, offset, reason) for topic, _, offset, _, reason, *_ in rows]


def test_foreign_records_on_every_topic(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """Nulls and stray bytes on each of the pipeline's own topics: a row and an error each; all others are stored."""
    own = settings(sink_batch_ms=20)
    ensure_topics(own)
    sent, foreign, good = Sent(own), [], 0
    for topic, whole in WHOLE.items():
        for bad in [*STRAY, *bad_values(topic)]:
            value = json.loads(data.encoded(whole)) | {"revision": good + 2**42}
            good += 1
            sent.put(topic, data.encoded(value))
            name, offset = sent.put(topic, bad, headers={"odd": b"\xff" * 10})
            foreign.append((name, offset, "foreign_record"))
    sent.flush()
    sink = sink_process(own).start()
    sink.wait()
    assert skipped(sink) == sorted(foreign)
    for table in ("scans", "visits", "cases", "exposures", "area_day"):
        assert sink.rows(f"SELECT count() FROM {table} FINAL") == [(1,)]
    log = sink.log.read_text()
    errors = [line for line in log.splitlines() if "a foreign record is skipped" in line]
    assert len(errors) >= len(foreign)
    assert all(
        any(f"topic={name} partition=0 offset={offset} " in line for line in errors) for name, offset, _ in foreign
    )
    assert "moon" not in log
    assert 'truyvet_rejects_total{reason="foreign_record"}' in sink.get("/metrics")[1]
    assert sink.get("/healthz")[0] == 200
    # Those that come one by one meanwhile are skipped, too, and it is not begun anew for each.
    for _ in range(3):
        sent.put("enriched", None)
        sent.put("enriched", data.encoded(data.scan(77)))
        sent.flush()
        sink.wait()
    assert len(skipped(sink)) == len(foreign) + 3
    assert sink.rows("SELECT count() FROM scans FINAL") == [(2,)]
    assert sink.log.read_text().count("reading again") < 5
    assert sink.end() == 0


BUGS = {
    "columns.cut": "enriched",
    "columns._checked": "visits",
    "columns._EventDecoder.__call__": "exposures",
    "columns._EventDecoder._read": "case-states",
    "columns._EventDecoder._columns": "rejects",
    "columns._values": "case-states",
    "columns._bring_up": "rejects",
    "venue_rows.judge_versions": "venues",
    "venue_rows.VenueDecoder.__call__": "venues",
    "embedded.arrow_arrays": "enriched",
    "embedded.ChdbBackend.prepare": "visits",
}
"""Places in the code, and the topic of the record at which a bug there is met."""
PASSES_ALONE = "columns.cut"
"""Only a run is cut up: a record by itself is read as JSON, and stored."""
FIELDS = {"case-states": "ruleset", "rejects": "detail", "venues": "name"}


def test_bugs_cost_the_records_that_meet_them(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """An exception at each of many places: a row and an error for the one record, and all others are stored."""
    own = settings(sink_batch_ms=20)
    ensure_topics(own)
    sent, failed = Sent(own), []
    makes: dict[str, Callable[[int], dict[str, Any]]] = {
        "visits": data.visit,
        "enriched": data.scan,
        "exposures": data.exposure,
        "rejects": data.reject,
    }

    def put(topic: str, number: int, **changes: object) -> tuple[str, int]:
        made = makes[topic](number) if topic in makes else data.case_state(f"C{number}")
        whole = data.venue(f"V{number}") if topic == "venues" else made
        return sent.put(topic, data.encoded(whole | changes), key=f"V{number}")

    at_home = 0  # of a venue only what lies on its own partition counts

    def fill(topic: str, start: int) -> None:
        nonlocal at_home
        for number in range(start, start + 20):
            put(topic, number)
            at_home += topic == "venues" and partition_of(f"V{number}".encode(), own.partitions) == 0

    for number, (place, topic) in enumerate(BUGS.items()):
        fill(topic, 40 * number)
        where = put(topic, 999, **{FIELDS.get(topic, "ward_code"): poison(number)})
        failed += [] if place == PASSES_ALONE else [(*where, "failed")]
        fill(topic, 40 * number + 20)
    sent.flush()
    sink = sink_process(own)
    sink.command = ["tests.sinks.failing_sink", *BUGS]
    sink.start().wait()
    assert skipped(sink) == sorted(failed)
    tables = {"enriched": "scans", "case-states": "cases"}
    for topic in set(BUGS.values()):
        wanted = 40 * list(BUGS.values()).count(topic) + (topic == BUGS[PASSES_ALONE])
        wanted = at_home if topic == "venues" else wanted
        where_not = "reason != 'failed'" if topic == "rejects" else "1"
        table = tables.get(topic, topic)
        assert sink.rows(f"SELECT count() FROM {table} FINAL WHERE {where_not}") == [(wanted,)], topic
    details = {detail for (detail,) in sink.rows("SELECT detail FROM rejects WHERE reason = 'failed'")}
    assert all(detail.startswith("KeyError in ") for detail in details)
    log = sink.log.read_text()
    assert log.count("ERROR sink the sink failed at a record") >= len(failed)
    assert "of a person" not in log
    assert sink.end() == 0


@pytest.mark.parametrize("kind", ["embedded", "server"])
def test_rows_that_clickhouse_refuses_are_told_apart(
    settings: SettingsFactory, sink_process: SinkFactory, kind: str, clickhouse_server: ClickHouseServer
) -> None:
    """An insert that fails for what some rows hold is made in halves; what remains has a row, the rest is stored."""
    own = settings(sink_batch_ms=20, **({"clickhouse": clickhouse_server.url} if kind == "server" else {}))
    ensure_topics(own)
    place = f"`{own.database}`"
    with open_backend(own) as backend:
        backend.ensure_schema()
        backend.maintain(
            f"CREATE MATERIALIZED VIEW {place}.numbers ENGINE = Memory AS"
            f" SELECT toUInt64(venue_code) AS number FROM {place}.scans"
        )
    sent, failed = Sent(own), []
    for number in range(FLOOD):
        bad = number % 100 == 50
        name, offset = sent.put("enriched", data.encoded(data.scan(number, venue_code="x" if bad else "7")))
        failed += [(name, offset, "failed")] if bad else []
        sent.put("visits", data.encoded(data.visit(number)))
    sent.flush()
    sink = sink_process(own).start()
    sink.wait()
    assert skipped(sink) == failed
    assert sink.rows("SELECT count() FROM visits FINAL") == [(FLOOD,)]
    # Parts of an insert may be stored before another part of it is refused, the row at fault among them.
    [(stored,)] = sink.rows("SELECT count() FROM scans FINAL WHERE venue_code = '7'")
    assert stored == FLOOD - len(failed)
    assert sink.get("/healthz")[0] == 200
    assert sink.end() == 0


def test_what_clickhouse_says_of_rows_and_of_itself_is_told_apart() -> None:
    """Too large, of another type, not to be parsed: the row's fault. Memory, disk, parts, networks: tried again."""
    for code in (6, 53, 69, 70, 117, 131, 349, 469):
        assert isinstance(backends.storage_error("x", code), RowsRefusedError)
    for code in (0, 16, 60, 159, 164, 209, 210, 241, 243, 252, 999):
        assert type(backends.storage_error("x", code)) is StorageError
