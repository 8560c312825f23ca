"""The sink as a process, on a real broker."""

import json
import signal
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from infra.clickhouse import ClickHouseServer
from infra.kafka import KafkaBroker
from infra.topics import delete_topics, ensure_topics
from sinks.client import open_reader
from tests.conftest import SettingsFactory
from tests.sinks import data
from tests.sinks.conftest import SinkFactory, SinkProcess
from truyvet.config import Settings

SCANS = "SELECT scan_id, status, revision FROM scans FINAL ORDER BY scan_id"
COUNT = "SELECT count(), uniqExact(scan_id) FROM v_scans"


def test_every_topic_reaches_its_tables(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """Records of every topic become rows, and the position ends at the high watermark."""
    own = settings()
    ensure_topics(own)
    sink = sink_process(own).start()
    data.put(own, "enriched", [data.scan(1), data.scan(2), data.retraction(1)])
    data.put(own, "aggregates", [data.ward_minute("2021-10-14T01:15:00.000Z", "00262", "person-0", (2, 0, 1))])
    data.put(own, "aggregates", [data.venue_hour("2021-10-14T01:00:00.000Z", "CAFE", "person-0", (2, 0, 1))])
    data.put(own, "aggregates", [data.area_day("2021-10-14", "VN", "person-0", (3, 2, 0))])
    data.put(own, "rejects", [data.reject(7), data.reject(8, key=None, payload=None)])
    data.put(own, "venues", [data.venue("CAFE", capacity=30)])
    data.put(own, "case-states", [data.case_state("HN-1")])
    data.put(own, "visits", [data.visit(1), data.visit(2), data.bare("visits", data.visit(1, revision=2))])
    data.put(own, "exposures", [data.exposure(2)])
    sink.wait()
    assert sink.rows(SCANS) == [("s1", "erased", 2), ("s2", "active", 1)]
    assert sink.rows("SELECT visit_id, ended_at FROM v_visits") == [(f"{2:032x}", "2021-10-14T02:15:30.002Z")]
    assert sink.rows("SELECT exposure_id, level, score FROM v_exposures") == [(f"{2:032x}", "medium", 30)]
    assert sink.rows("SELECT scan_id, occurred_at, day FROM v_scans") == [
        ("s2", "2021-10-14T01:15:30.002Z", "2021-10-14")
    ]
    assert sink.rows("SELECT minute, ward_code, scans, ins, outs, passes FROM v_ward_minute") == [
        ("2021-10-14T01:15:00.000Z", "00262", 3, 2, 0, 1)
    ]
    assert sink.rows("SELECT hour, venue_id, scans FROM v_venue_hour") == [("2021-10-14T01:00:00.000Z", "CAFE", 3)]
    assert sink.rows("SELECT * FROM v_area_day") == [("2021-10-14", "nation", "VN", 3, 2, 0)]
    assert sink.rows("SELECT offset, key, payload, day FROM rejects FINAL ORDER BY offset") == [
        (7, data.PERSON.format(1), "eyI=", 20211014),
        (8, None, None, 20211014),
    ]
    assert sink.rows("SELECT venue_id, name, capacity, codes, registered_day, dwell_minutes FROM venues FINAL") == [
        ("CAFE", "Điểm CAFE", 30, ["OLD"], 20210901, None)
    ]
    assert sink.rows("SELECT case_id, sampled_at, onset_at, status FROM cases FINAL") == [
        ("HN-1", 1634169600000, None, "confirmed")
    ]
    assert sink.progress()["rows"] == {
        "scans": 3,
        "ward_minute": 1,
        "venue_hour": 1,
        "area_day": 1,
        "rejects": 2,
        "venues": 1,
        "cases": 1,
        "visits": 3,
        "exposures": 1,
    }
    assert sink.end() == 0


def test_what_it_shows_of_itself(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """Health, metrics and progress are served, and the query route answers, refuses and explains."""
    own = settings()
    ensure_topics(own)
    sink = sink_process(own).start()
    data.put(own, "enriched", [data.scan(1)])
    sink.wait()
    assert sink.get("/healthz") == (200, "0 records wait\n")
    assert 'truyvet_rows_stored_total{table="scans"} 1.0' in sink.get("/metrics")[1]
    lag = f'truyvet_lag_records{{partition="0",topic="{own.topic("enriched")}"}} 0.0'
    sink.wait(lambda: lag in sink.get("/metrics")[1])
    assert sink.progress()["newest_insert_ms"] > 1_600_000_000_000
    assert sink.get("/query")[0] == 404

    def ask(body: bytes) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{sink.settings.query_port}/query", body, timeout=10) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    status, text = ask(b'{"sql": "SELECT count() FROM scans", "format": "JSONCompact"}')
    assert (status, json.loads(text)["data"]) == (200, [[1]])
    assert ask(b'{"sql": "SELECT 1 AS a", "format": "CSVWithNames"}') == (200, '"a"\n1\n')
    for body in (b"", b"[]", b"{}", b"\xff", b'{"sql": "DROP TABLE scans"}', b'{"sql": "SELECT 1", "format": "Arrow"}'):
        assert ask(body)[0] == 400, body
    assert sink.get("/query")[0] == 404
    assert sink.end(signal.SIGINT) == 0


def test_reads_about_persons_are_logged(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """A query that reads visits leaves a line with the tables and its shape, not with whom it asked for."""
    own = settings()
    ensure_topics(own)
    sink = sink_process(own).start()
    sink.wait()
    sink.rows("SELECT count() FROM v_area_day")
    sink.rows(f"SELECT venue_id FROM v_visits WHERE person_id = '{data.PERSON.format(77)}'")
    assert sink.end() == 0
    (line,) = [line for line in sink.log.read_text().splitlines() if "about persons" in line]
    assert "v_visits" in line
    assert "person_id = ?" in line
    assert data.PERSON.format(77) not in sink.log.read_text()


def test_aborted_transactions_do_not_show(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """Rows of an aborted transaction never appear, and the position passes the markers behind it."""
    own = settings()
    ensure_topics(own)
    sink = sink_process(own).start()
    client = data.producer(own, transactional_id="test")
    client.init_transactions(15)
    for number, commit in enumerate([True, False, True, False, False]):
        client.begin_transaction()
        data.produce(client, own, "enriched", [data.scan(10 * number + place) for place in range(3)])
        client.flush(15)
        if commit:
            client.commit_transaction(15)
        else:
            client.abort_transaction(15)
    sink.wait()
    assert [row[0] for row in sink.rows(SCANS)] == ["s0", "s1", "s2", "s20", "s21", "s22"]
    # An open transaction is waited for, not read.
    client.begin_transaction()
    data.produce(client, own, "enriched", [data.scan(100)])
    client.flush(15)
    time.sleep(1.0)
    assert sink.rows("SELECT count() FROM scans WHERE scan_id = 's100'") == [(0,)]
    client.commit_transaction(15)
    sink.wait()
    assert sink.rows("SELECT count() FROM scans WHERE scan_id = 's100'") == [(1,)]


def test_killed_sinks_leave_the_same_rows(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """SIGKILL in the middle, several times, loses nothing and doubles nothing, and a restart reads on at once."""
    own = settings(sink_batch_rows_max=500, sink_batch_ms=20, session_timeout_ms=30_000)
    ensure_topics(own)
    sink = sink_process(own).start()
    for part in range(3):
        numbers = range(part * 3000, (part + 1) * 3000)
        data.put(own, "enriched", [data.scan(number, day=1 + number % 3) for number in numbers])
        sink.wait(lambda: bool(sink.progress().get("rows")))
        time.sleep(0.1 * part)
        sink.end(signal.SIGKILL)
        sink.start()
    sink.wait()
    assert sink.rows(COUNT) == [(9000, 9000)]
    assert sink.end() == 0


@pytest.mark.parametrize(("rows_max", "batch_ms"), [(1, 10), (7, 10), (1000, 2000)])
def test_batch_boundaries_do_not_matter(
    settings: SettingsFactory, sink_process: SinkFactory, rows_max: int, batch_ms: int
) -> None:
    """However the same records are cut into inserts, the final rows are the same."""
    own = settings(sink_batch_rows_max=rows_max, sink_batch_ms=batch_ms)
    ensure_topics(own)
    sink = sink_process(own).start()
    versions = [
        data.scan(number, revision=revision, venue_id=f"V{revision}") for revision in (1, 3, 2) for number in range(20)
    ]
    data.put(own, "enriched", versions)
    sink.wait()
    assert sink.rows("SELECT DISTINCT venue_id FROM v_scans") == [("V3",)]
    assert sink.rows(COUNT) == [(20, 20)]


def test_a_new_database_is_filled_from_the_beginning(
    settings: SettingsFactory, sink_process: SinkFactory, tmp_path: Path
) -> None:
    """Where the database is gone, the offsets committed for it count no more."""
    own = settings()
    ensure_topics(own)
    data.put(own, "enriched", [data.scan(number) for number in range(10)])
    first = sink_process(own).start()
    first.wait()
    assert first.end() == 0
    second = sink_process(own.model_copy(update={"embedded_dir": tmp_path / "another"})).start()
    second.wait()
    assert second.rows(COUNT) == [(10, 10)]


def test_clickhouse_away(settings: SettingsFactory, sink_process: SinkFactory, tmp_path: Path) -> None:
    """A server that dies and comes back: nothing is committed meanwhile, it is said once, and nothing is missing."""
    server = ClickHouseServer(tmp_path / "server")
    own = settings(clickhouse=server.url, sink_batch_ms=20)
    ensure_topics(own)
    sink = sink_process(own).start()
    sink.wait(lambda: "does not take rows" in sink.log.read_text())
    server.start()
    try:
        data.put(own, "enriched", [data.scan(number) for number in range(100)])
        sink.wait()
        before = sink.progress()["topics"]
        server.kill()
        data.put(own, "enriched", [data.scan(number) for number in range(100, 300)])
        sink.wait(lambda: "truyvet_insert_retries_total 0.0" not in sink.get("/metrics")[1])
        time.sleep(2.0)
        assert sink.progress()["topics"] == before
        server.start()
        sink.wait()
        with open_reader(sink.settings) as reader:
            assert reader.query(COUNT)[1] == [(300, 300)]
        log = sink.log.read_text()
        assert log.count("does not take rows") == log.count("takes rows again") == 2
        server.kill()
        data.put(own, "enriched", [data.scan(1000)])
        time.sleep(1.0)
        began = time.monotonic()
        assert sink.end() == 0
        assert time.monotonic() - began < 5
    finally:
        server.stop()


def test_more_than_it_may_hold(settings: SettingsFactory, sink_process: SinkFactory, tmp_path: Path) -> None:
    """While ClickHouse is away no more than a batch or two is read, and the sink keeps its place in the group."""
    server = ClickHouseServer(tmp_path / "server")
    server.start()
    try:
        own = settings(clickhouse=server.url, sink_batch_ms=20, sink_batch_rows_max=100, session_timeout_ms=2_000)
        ensure_topics(own)
        sink = sink_process(own).start()
        sink.wait()
        server.kill()
        data.put(own, "enriched", [data.scan(number) for number in range(2000)])
        time.sleep(4.0)
        assert sink.progress()["lag"] == 2000
        server.start()
        sink.wait()
        with open_reader(sink.settings) as reader:
            assert reader.query(COUNT)[1] == [(2000, 2000)]
        assert sink.log.read_text().count("partitions assigned") == 1
    finally:
        server.stop()


def test_two_sinks_share_a_server(
    settings: SettingsFactory, sink_process: SinkFactory, clickhouse_server: ClickHouseServer
) -> None:
    """Sinks of one server share the partitions; one that leaves hands its over, and the rows are the same."""
    own = settings(clickhouse=clickhouse_server.url, sink_batch_ms=20, session_timeout_ms=3_000, partitions=4)
    ensure_topics(own)
    sinks = [sink_process(own).start() for _ in range(2)]
    for part in range(4):
        data.put(own, "enriched", [data.scan(number) for number in range(part * 500, part * 500 + 500)])
        time.sleep(0.7)
    sinks[0].wait(lambda: sum(sink.progress().get("lag", 1) for sink in sinks) == 0)
    assert sinks[0].end(signal.SIGKILL) == -signal.SIGKILL
    data.put(own, "enriched", [data.scan(number) for number in range(2000, 3000)])
    with open_reader(own) as reader:
        sinks[1].wait(lambda: reader.query(COUNT)[1] == [(3000, 3000)])
    assert sinks[1].end() == 0


def test_broker_away(sink_process: SinkFactory, tmp_path: Path) -> None:
    """A broker that dies and comes back: the sink waits, says so once, answers queries meanwhile, and goes on."""
    broker = KafkaBroker(tmp_path / "kafka")
    values = {"brokers": broker.brokers, "partitions": 2, "restating": True, "embedded_dir": tmp_path / "db"}
    own = Settings.model_validate(values)
    broker.start()
    try:
        ensure_topics(own)
        sink = sink_process(own).start()
        data.put(own, "enriched", [data.scan(1)])
        sink.wait()
        broker.kill()
        sink.wait(lambda: "the broker is away" in sink.log.read_text())
        assert sink.rows(COUNT) == [(1, 1)]
        time.sleep(2.0)
        broker.start()
        data.put(own, "enriched", [data.scan(2)])
        sink.wait()
        assert sink.rows(COUNT) == [(2, 2)]
        log = sink.log.read_text()
        assert log.count("the broker is away") == log.count("the broker is back") == 1
        broker.kill()
        began = time.monotonic()
        assert sink.end() == 0
        assert time.monotonic() - began < 8
    finally:
        broker.stop()


def test_wrong_configuration_is_exit_2(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """A taken port is one sentence that names the setting, before anything starts."""
    own = settings()
    first = sink_process(own).start()
    first.wait(lambda: first.get("/healthz")[0] != 0)
    other: SinkProcess = sink_process(own)
    other.settings = first.settings
    other.start()
    assert other._process is not None
    assert other._process.wait(30) == 2
    assert "TRUYVET_HTTP" in other.log.read_text()
    delete_topics(own)
