"""A person planted in every place, erased, and searched for: tables, stores, changelogs, logs and metrics."""

import json
import time
from collections.abc import Iterator
from typing import Any, cast

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from rocksdict import Options, Rdict

from infra.topics import admin_client
from producers.feed import Feed
from producers.lines import CASES, SCANS, VENUES, Line
from sinks.client import open_reader
from sinks.tables import TABLES
from streams.core.times import format_ms
from streams.shell.restore import watermarks
from tests.conftest import SettingsFactory, wait_until
from truyvet.config import Settings
from truyvet.drain import Drain
from truyvet.erase import erase
from truyvet.members import fetch
from truyvet.stack import Stack

PARTITIONS = 3
DAY = "2021-10-14T"
NOW_MS = 1_634_212_800_000  # 2021-10-14T19:00:00+07:00
UNTIL_MS = NOW_MS - 1
PLANTED = "5ca1ab1e0ddba11c0ffee15badc0de42"
CASE = "00000000000000000000000000000c42"
FRIEND = "000000000000000000000000000f12ed"
COMPACTION_SECONDS_MAX = 300.0


def _scan(number: int, person: str, venue: str, hour: str, **others: object) -> dict[str, object]:
    event: dict[str, object] = {"scan_id": f"planted-{number}", "person_id": person, "venue_id": venue}
    return event | {"direction": "in", "occurred_at": f"{DAY}{hour}+07:00", "source": "vhd"} | others


def _case(case_id: str, person: str) -> dict[str, object]:
    event: dict[str, object] = {"case_id": case_id, "person_id": person, "status": "confirmed"}
    times = {"sampled_at": f"{DAY}07:00:00+07:00", "reported_at": f"{DAY}18:00:00+07:00"}
    return event | times | {"ruleset": "vn-2021-07"}


def _line(key: str, event: object, now_ms: int = NOW_MS - 3_600_000) -> Line:
    value = event if isinstance(event, bytes) else json.dumps(event).encode()
    return Line(key.encode(), value, now_ms)


def _plant(feed: Feed) -> None:
    """Scans that count, wait, conflict, are malformed, misrouted or under another's key; cases on both sides."""
    venue = {"venue_id": "CAFE", "name": "Cà phê", "category": "cafe", "province_code": "01", "district_code": "007"}
    venue |= {"ward_code": "00262", "registered_at": "2021-09-01T08:00:00+07:00", "status": "active"}
    feed.send(VENUES.topic, [_line("CAFE", venue | {"lat": 21.0, "lon": 105.8})])
    scans = [_line(person, _scan(n, person, "CAFE", "08:00:00")) for n, person in enumerate((PLANTED, CASE, FRIEND))]
    scans += [_line(PLANTED, _scan(3, PLANTED, "CAFE", "10:00:00", direction="out"))]
    scans += [_line(PLANTED, _scan(4, PLANTED, "GHOST", "11:00:00"))]
    scans += [_line(PLANTED, _scan(0, PLANTED, "CAFE", "08:30:00"))]
    scans += [_line(PLANTED, b'{"planted-5": "no scan of ' + PLANTED.encode())]
    scans += [_line(FRIEND, _scan(6, PLANTED, "CAFE", "08:40:00"))]
    feed.send(SCANS.topic, scans)
    feed.send(CASES.topic, [_line(PLANTED, _case("OWN", PLANTED)), _line(CASE, _case("OTHER", CASE))])


def _texts(settings: Settings, table: str) -> Iterator[str]:
    """Every row of a table that is stored anywhere, replaced ones too, dead letters readable."""
    decoded = ", base64Decode(ifNull(payload, ''))" if table == "rejects" else ""
    with open_reader(settings) as reader:
        for row in reader.query(f"SELECT *{decoded} FROM {table}")[1]:
            yield repr(row)


def _active(settings: Settings, table: str) -> list[tuple[Any, ...]]:
    with open_reader(settings) as reader:
        return reader.query(f"SELECT person_id FROM {table} FINAL WHERE status IN ('active', 'confirmed')")[1]


def _compact_now(settings: Settings) -> None:
    wanted = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "0"}
    entries = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in wanted.items()]
    names = [settings.topic(f"state-{room}") for room in ("person", "venue")]
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries) for name in names]
    admin = admin_client(settings)
    for future in admin.incremental_alter_configs(resources).values():
        future.result()


def _changelogs(settings: Settings) -> Iterator[tuple[bytes, bytes]]:
    """Every record that the changelogs still hold, replaced ones too."""
    consumer = Consumer(settings.librdkafka() | {"group.id": "search", "enable.partition.eof": True})
    for room in ("person", "venue"):
        for partition in range(settings.partitions):
            name = settings.topic(f"state-{room}")
            if watermarks(consumer, name, partition)[1] == 0:
                continue
            consumer.assign([TopicPartition(name, partition, 0)])
            while True:
                message = consumer.poll(5.0)
                if message is None or message.error() is not None:
                    break
                yield message.key() or b"", message.value() or b""
    consumer.close()


def _names_planted(text: bytes) -> bool:
    return PLANTED.encode() in text or bytes.fromhex(PLANTED) in text or b"planted-0" in text or b"planted-3" in text


def test_a_planted_person_is_found_nowhere(settings: SettingsFactory) -> None:
    """After an erasure and its certificate nothing names the person but the mark, and others keep what is theirs."""
    chosen = settings(partitions=PARTITIONS)
    with Stack(chosen, workers=1, own_broker=False) as stack:
        drain, feed = Drain(stack), Feed(stack.settings)
        _plant(feed)
        drain.wait(drain.settled)
        assert {row[0] for row in _active(stack.settings, "exposures")} == {PLANTED, CASE, FRIEND}
        assert {row[0] for row in _active(stack.settings, "cases")} == {PLANTED, CASE}
        certificate = erase(stack.settings, PLANTED, UNTIL_MS, 180.0, lambda _: None)
        assert certificate.complete
        feed.send(SCANS.topic, [_line(PLANTED, _scan(0, PLANTED, "CAFE", "08:00:00"), NOW_MS)])
        drain.wait(drain.settled)
        again = erase(stack.settings, PLANTED, UNTIL_MS, 180.0, lambda _: None)
        assert again.complete
        assert [one.rows_removed for one in again.removed if one.table != "rejects"] == [0] * (len(again.removed) - 1)
        drain.wait(drain.settled)
        assert {row[0] for row in _active(stack.settings, "exposures")} == {FRIEND}, "of the other case"
        assert {row[0] for row in _active(stack.settings, "scans")} == {CASE, FRIEND}
        for table in TABLES:
            assert not [text for text in _texts(stack.settings, table) if PLANTED in text], table
        pages = [fetch(f"{url}/metrics")[1] for url in (*stack.worker_urls(), stack.sink_url())]
        assert pages
        assert not [page for page in pages if PLANTED in page]
        assert PLANTED not in "".join(path.read_text() for path in stack.directory.glob("*.log"))
        _compact_now(stack.settings)
        hours = iter(range(1, 1_000))
        assert wait_until(lambda: _compacted(stack.settings, feed, next(hours)), COMPACTION_SECONDS_MAX)
        drain.wait(drain.settled)
        drain.close()
        stack.stop_worker(0)
        _search_stores(stack.settings)


def _search_stores(settings: Settings) -> None:
    for room in ("person", "venue"):
        for partition in range(PARTITIONS):
            [folder] = settings.state_dir.glob(f"**/{room}-{partition}")
            store = Rdict(str(folder), Options(raw_mode=True))
            pairs = cast("list[tuple[bytes, bytes]]", list(store.items()))
            store.compact_range(None, None)
            store.close()
            named = [key[:1] for key, value in pairs if _names_planted(key + value)]
            assert named == ([b"p"] if room == "person" else []), "the mark alone"
            for file in folder.glob("*.sst"):
                text = file.read_bytes()
                assert PLANTED.encode() not in text
                assert b"planted-3" not in text


def _compacted(settings: Settings, feed: Feed, hour: int) -> bool:
    """Whether the marks are all that is left; lets time pass, for only what is written later closes a segment."""
    at_ms = NOW_MS + hour * 3_600_000
    people = [f"{number:032x}" for number in range(20)]
    scans = [
        _scan(hour, person, "CAFE", "08:00:00", occurred_at=format_ms(at_ms), scan_id=f"later-{hour}")
        for person in people
    ]
    feed.send(SCANS.topic, [_line(person, scan, at_ms) for person, scan in zip(people, scans, strict=True)])
    time.sleep(2.0)
    named = [key for key, value in _changelogs(settings) if _names_planted(key + value)]
    return {key[:1] for key in named} == {b"p"}
