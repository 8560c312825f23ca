"""Erasing and exporting a person, and purging, from the command line, beside a sink that runs; the rooms are played."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from infra.topics import TOPICS, ensure_topics
from sinks import ddl
from sinks.backends import StorageError, open_backend
from sinks.client import maintain
from sinks.maintenance import ForgetAction
from streams.core.keys import META
from streams.core.partition import partition_of
from tests.conftest import SettingsFactory
from tests.sinks import data
from tests.sinks.conftest import SinkFactory, SinkProcess
from tests.sinks.test_forgetting import OTHER, PERSON, UNTIL, UNTIL_MS, WHO, payload
from truyvet import elsewhere, erase
from truyvet.cli import main
from truyvet.config import Settings
from truyvet.erase_passage import Passage

AFTER = "2021-10-14T12:00:00.001Z"


@pytest.fixture(params=["embedded", "server"])
def sink(
    request: pytest.FixtureRequest,
    settings: SettingsFactory,
    sink_process: SinkFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> SinkProcess:
    """A sink with rows of a person and of another one; the environment leads commands to it."""
    server = {"clickhouse": request.getfixturevalue("clickhouse_server").url} if request.param == "server" else {}
    own = settings(sink_batch_ms=20, **server)
    ensure_topics(own)
    monkeypatch.setattr(ddl, "OLD_PARTS_SECONDS", 0)
    with open_backend(own) as backend:
        backend.ensure_schema()
    sink = sink_process(own).start()
    scans = [data.scan(1, person=WHO), data.scan(2, person=WHO, occurred_at=AFTER), data.scan(4, person=2)]
    data.put(own, "enriched", scans)
    data.put(own, "visits", [data.visit(1, person_id=PERSON), data.visit(4, person_id=OTHER)])
    data.put(own, "exposures", [data.exposure(1, person_id=PERSON), data.exposure(2, person_id=OTHER, case_id="HN-7")])
    data.put(own, "case-states", [data.case_state("HN-7", person_id=PERSON)])
    data.put(own, "rejects", [data.reject(1, key=PERSON, payload=payload(person_id=PERSON, occurred_at=UNTIL))])
    sink.wait()
    for name, value in sink.settings.environment().items():
        monkeypatch.setenv(name, value)
    return sink


@pytest.fixture
def rooms(sink: SinkProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Plays the rooms: whatever ``erase`` waits for has been done. Returns the requests that were sent."""
    requests: list[str] = []

    def play(_settings: Settings, _reader: object, person_id: str, *_: object) -> None:
        requests.append(person_id)
        data.put(sink.settings, "enriched", [data.retraction(1) | {"person_id": PERSON}])
        data.put(sink.settings, "visits", [data.bare("visits", data.visit(1, revision=2))])
        exposures = [data.exposure(1, revision=2, person_id=PERSON), data.exposure(2, revision=2, person_id=OTHER)]
        data.put(sink.settings, "exposures", [data.bare("exposures", one) for one in exposures])
        case = {"case_id": "HN-7", "person_id": PERSON, "status": "erased", "revision": 2}
        data.put(sink.settings, "case-states", [case])
        sink.wait()

    monkeypatch.setattr(erase, "_wait", play)
    yield requests
    assert PERSON not in sink.log.read_text()


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    """The JSON that a command prints."""
    assert main(list(arguments)) == status
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


def removed(certificate: dict[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    """The figures of a certificate."""
    names = ("rows_before", "rows_removed", "rows_left", "rows_kept")
    return {one["table"]: tuple(one[name] for name in names) for one in certificate["removed"]}


def test_a_person_is_erased_and_it_is_certified(
    sink: SinkProcess, rooms: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The certificate counts what went; a second one says that there was nothing left; others keep their rows."""
    wanted = ("erase", PERSON, "--requested-at", "2021-10-14T19:00:00+07:00", "--json", "--yes")
    certificate = answer(capsys, *wanted)
    assert certificate["person_id"] == PERSON
    assert certificate["requested_at"] == UNTIL
    assert certificate["complete"] is True
    assert removed(certificate) == {
        "scans": (1, 1, 0, 1),
        "visits": (1, 1, 0, 0),
        "cases": (1, 1, 0, 0),
        "exposures": (1, 1, 0, 0),
        "rejects": (1, 1, 0, 0),
        "exposures of others": (1, 1, 0, 0),
    }
    assert {place["where"] for place in certificate["stays"]} >= {f"topic {sink.settings.topic('scans')}", "backups"}
    assert sink.rows("SELECT scan_id FROM scans ORDER BY scan_id") == [("s2",), ("s4",)]
    again = answer(capsys, *wanted)
    assert {figures[:3] for figures in removed(again).values()} == {(0, 0, 0)}
    assert again["stays"] == certificate["stays"]
    assert rooms == [PERSON, PERSON]
    assert main([*wanted[:4], "--yes"]) == 0
    text = capsys.readouterr().out
    assert "Complete: " in text
    assert PERSON in text


def test_what_the_rooms_refused_is_not_deleted(
    sink: SinkProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that no retraction took back stay, and the command says so and fails."""
    monkeypatch.setattr(erase, "_wait", lambda *_: None)
    assert main(["erase", PERSON, "--requested-at", UNTIL, "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "4 rows were not taken back" in shown.err
    assert sink.rows("SELECT count() FROM v_scans") == [(3,)]


def test_nobody_follows(sink: SinkProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a worker the command gives up after its time, names what it waits for, and has deleted nothing."""
    assert main(["erase", PERSON, "--wait", "0.5"]) == 1
    assert "the person room has not taken the erasure" in capsys.readouterr().err
    assert sink.rows("SELECT count() FROM v_scans") == [(3,)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["erase", "nobody"],
        ["erase", PERSON.upper()],
        ["erase", PERSON + "\n"],
        ["erase", PERSON, "--requested-at", "now"],
        ["subject", "x"],
        ["purge", "--as-of", "yesterday"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    """What is no pseudonym, time or day is exit status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_the_future_cannot_be_erased(capsys: pytest.CaptureFixture[str]) -> None:
    """A request from ahead of the clock is exit status 2 before anything is asked."""
    assert main(["erase", PERSON, "--requested-at", "2099-01-01T00:00:00Z"]) == 2
    assert "requested-at" in capsys.readouterr().err


def test_everything_held_is_exported(sink: SinkProcess, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The export holds the person's rows of every table, and no other's; who holds nothing is exit status 1."""
    export = answer(capsys, "subject", PERSON)
    held = {name: table["rows"] for name, table in export["held"].items()}
    assert [row["scan_id"] for row in held["scans"]] == ["s1", "s2"]
    assert [row["visit_id"] for row in held["visits"]] == [f"{1:032x}"]
    assert [row["exposure_id"] for row in held["exposures"]] == [f"{1:032x}"]
    assert [row["case_id"] for row in held["cases"]] == ["HN-7"]
    assert [json.loads(row["payload"])["person_id"] for row in held["rejects"]] == [PERSON]
    assert {row["gone_on"] for name in ("scans", "visits", "exposures", "rejects") for row in held[name]} == {
        "2021-11-13"
    }
    assert held["cases"][0]["gone_on"] == "2022-01-14"
    assert export["held"]["cases"]["retention_days"] == 90
    assert OTHER not in json.dumps(export)
    data.put(sink.settings, "enriched", [data.retraction(1) | {"person_id": PERSON}])
    sink.wait()
    file = tmp_path / "export.json"
    assert main(["subject", PERSON, "--out", str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    bare = json.loads(file.read_text())["held"]["scans"]["rows"][0]
    assert set(bare) == {"person_id", "scan_id", "occurred_at", "status", "revision", "gone_on"}
    assert main(["subject", data.PERSON.format(12345)]) == 1
    assert "nothing is held" in capsys.readouterr().err
    assert PERSON not in sink.log.read_text()


def test_purge_from_the_command_line(sink: SinkProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """It rehearses, drops, says that there is nothing more, and refuses today's clock where history is restated."""
    assert main(["purge"]) == 2
    assert "--as-of" in capsys.readouterr().err
    rehearsed = answer(capsys, "purge", "--as-of", "2021-11-13", "--dry-run", "--json")
    assert sink.rows("SELECT count() FROM v_scans") == [(3,)]
    done = answer(capsys, "purge", "--as-of", "2021-11-13", "--json")
    assert [one["days"] for one in done["tables"]] == [one["days"] for one in rehearsed["tables"]]
    assert done["tables"][0]["days"] == ["2021-10-14"]
    assert sink.rows("SELECT count() FROM scans") == [(0,)]
    assert sink.rows("SELECT count() FROM cases") == [(1,)]
    assert main(["purge", "--as-of", "2021-11-13"]) == 0
    assert "nothing is past its retention" in capsys.readouterr().out
    sink.end(signal.SIGKILL)
    if sink.settings.clickhouse == "embedded":
        assert main(["purge", "--as-of", "2021-11-13"]) == 1
        assert "does not answer" in capsys.readouterr().err


def test_a_sink_killed_in_the_middle(
    settings: SettingsFactory, sink_process: SinkFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever performs an erasure may be killed while it does; told again, it waits for what the first one began."""
    own = settings(sink_batch_ms=20)
    ensure_topics(own)
    monkeypatch.setattr(ddl, "OLD_PARTS_SECONDS", 6)
    with open_backend(own) as backend:
        backend.ensure_schema()
    sink = sink_process(own).start()
    data.put(own, "enriched", [data.scan(1, person=WHO), data.scan(4, person=2)])
    sink.wait()
    action = ForgetAction(PERSON, UNTIL_MS)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(maintain, sink.settings, action)
        sink.wait(lambda: sink.rows("SELECT count() FROM scans") == [(1,)])
        sink.end(signal.SIGKILL)
        with pytest.raises(StorageError):
            first.result()
    assert any(PERSON.encode() in path.read_bytes() for path in own.embedded_dir.rglob("*.bin"))
    sink.start()
    sink.wait()
    maintain(sink.settings, action)
    assert not any(PERSON.encode() in path.read_bytes() for path in own.embedded_dir.rglob("*.bin"))
    assert sink.rows("SELECT scan_id FROM scans") == [("s4",)]


def test_what_the_route_takes(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """Only JSON that names an action of the list changes anything; a form that a foreign page sends does not."""
    own = settings()
    ensure_topics(own)
    sink = sink_process(own).start()
    sink.wait()

    def post(body: bytes, kind: str = "application/json", port: int = sink.settings.query_port) -> int:
        try:
            with urlopen(Request(f"http://127.0.0.1:{port}/maintenance", body, {"Content-Type": kind})) as response:
                return int(response.status)
        except HTTPError as error:
            return error.code

    good = b'{"action": "purge", "as_of": "2021-10-14"}'
    assert post(good) == 200
    assert post(good, "text/plain") == post(good, "application/x-www-form-urlencoded") == 415
    assert post(good, port=sink.settings.http_port) == 404
    names = ('"purge", "as_of": 5', '"drop"', '"purge", "x": 1', '"forget"', f'"forget", "person_id": "{PERSON}x"')
    for bad in (b"", b"[]", *(f'{{"action": {name}, "until_ms": 1}}'.encode() for name in names)):
        assert post(bad) == 400, bad


class Steps:
    """Plays the rooms' changelogs, in transactions."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = data.producer(settings, transactional_id="steps")
        self._producer.init_transactions(15)

    def step(self, room: str, partition: int, following: dict[str, int], *others: tuple[str, bytes]) -> None:
        """A room partition's step: its position, and outputs."""
        self._producer.begin_transaction()
        for topic, value in others:
            self._producer.produce(self._settings.topic(topic), value, PERSON, partition)
        self._producer.produce(self._settings.topic(f"state-{room}"), b"x", b"other", partition)
        meta = json.dumps({"next": following}).encode()
        self._producer.produce(self._settings.topic(f"state-{room}"), meta, META, partition)
        self._producer.commit_transaction(15)


def waits_for(pending: Iterator[str], what: str) -> bool:
    """Whether a passage comes to wait for this; a step shows a moment after its commit."""
    deadline = time.monotonic() + 10
    while what not in next(pending):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_the_passage_waits_for_every_stage(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """Person room, all its partitions, venue room, sink: each is waited for, and markers of transactions are not."""
    own = settings(sink_batch_ms=20)
    ensure_topics(own)
    home = partition_of(PERSON.encode(), own.partitions)
    other = 1 - home
    steps = Steps(own)
    steps.step("person", home, {"erasures": 0})
    for _ in range(30):
        steps.step("person", other, {"erasures": 0})
    data.put(own, "erasures", [(PERSON, b"{}")])
    passage = Passage(own, "none")
    pending = passage.pending(PERSON)
    assert "not taken" in next(pending)
    time.sleep(0.5)
    assert "not taken" in next(pending)
    visit = data.encoded(data.bare("visits", data.visit(1)))
    steps.step("person", other, {"scans": 7}, ("returns", b"{}"))
    steps.step("person", home, {"erasures": 1}, ("visits", visit))
    assert waits_for(pending, "not told all")
    steps.step("person", other, {"returns": 1})
    assert waits_for(pending, "venue room")
    steps.step("venue", home, {"visits": 1})
    assert waits_for(pending, "sink")
    assert "sink" in next(pending)
    passage.close()
    sink = sink_process(own).start()
    sink.wait()
    with sink.reader() as reader:
        ((identity,),) = reader.query("SELECT min(id) FROM identity")[1]
    passage = Passage(own, identity)
    assert list(passage.pending(PERSON)) == []
    sink.end(signal.SIGKILL)
    data.put(own, "rejects", [data.reject(1)])
    look = passage.pending(PERSON)
    assert "sink" in next(look)
    sink.start()
    deadline = time.monotonic() + 30
    assert all(time.monotonic() < deadline for _ in look)
    passage.close()


def test_the_passage_counts_what_is_not_decided(settings: SettingsFactory) -> None:
    """What an open transaction holds belongs to what is waited for: its partitions show a commit one after another."""
    own = settings()
    ensure_topics(own)
    data.put(own, "erasures", [(PERSON, b"{}")])
    steps = Steps(own)
    for partition in range(own.partitions):
        steps.step("person", partition, {"erasures": 1})
    other = data.producer(own, transactional_id="other")
    other.init_transactions(15)
    other.begin_transaction()
    data.produce(other, own, "visits", [("CAFE", b"{}")])
    other.flush(15)
    passage = Passage(own, "none")
    pending = passage.pending(PERSON)
    assert waits_for(pending, "venue room")
    time.sleep(0.5)
    assert "venue room" in next(pending)
    other.commit_transaction(15)
    time.sleep(0.5)
    assert "venue room" in next(pending)
    steps.step("venue", partition_of(b"CAFE", own.partitions), {"visits": 1})
    assert waits_for(pending, "sink")
    passage.close()


def test_every_topic_is_accounted_for() -> None:
    """A certificate speaks of every topic that may name a person."""
    names = {spec.name for spec in TOPICS}
    assert set(elsewhere.HOLDS) | elsewhere.NOBODY == names
    assert not set(elsewhere.HOLDS) & elsewhere.NOBODY
    until = {place.where: place.until for place in elsewhere.elsewhere(Settings())}
    assert until["topic checkin.scans"].startswith("30 days")
    assert "compacts" in until["topic checkin.state-person"]
