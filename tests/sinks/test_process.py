"""The sink as a process, on a real broker."""

import signal
import time

from infra.topics import ensure_topics
from tests.conftest import SettingsFactory
from tests.sinks import data
from tests.sinks.conftest import SinkFactory

SCANS = "SELECT scan_id, status, revision FROM scans FINAL ORDER BY scan_id"


def test_every_topic_reaches_its_tables(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """Records of all five topics become rows, and the position ends at the high watermark."""
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
    sink.wait()
    assert sink.rows(SCANS) == [("s1", "erased", 2), ("s2", "active", 1)]
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
    assert sink.end() == 0


def test_killed_sinks_leave_the_same_rows(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """SIGKILL in the middle, several times, loses nothing and doubles nothing."""
    own = settings(sink_batch_rows_max=500, sink_batch_ms=20)
    ensure_topics(own)
    sink = sink_process(own).start()
    for part in range(4):
        numbers = range(part * 3000, (part + 1) * 3000)
        data.put(own, "enriched", [data.scan(number, day=1 + number % 14) for number in numbers])
        sink.wait(lambda: bool(sink.progress().get("rows")))
        time.sleep(0.1 * part)
        sink.end(signal.SIGKILL)
        sink.start()
    sink.wait()
    assert sink.rows("SELECT count(), uniqExact(scan_id) FROM v_scans") == [(12000, 12000)]
    assert sink.end() == 0
