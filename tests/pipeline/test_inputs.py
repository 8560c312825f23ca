"""Inputs that change while a worker reads them, or while none does, on the real broker: each said, and right."""

import argparse
import signal
import time
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from infra.processes import send_signal
from infra.topics import admin_client, answer_of, ensure_topics, remove_topics
from streams.core.partition import partition_of
from tests.conftest import SettingsFactory
from tests.pipeline import forging
from tests.pipeline.one_worker import OneWorker, person, scan, venue
from truyvet import topics
from truyvet.config import Settings


def _made_anew(worker: OneWorker, *names: str) -> None:
    remove_topics(worker.settings, [worker.settings.topic(name) for name in names])
    ensure_topics(worker.settings)


def _delete_before(settings: Settings, topic: str, partition: int, offset: int) -> None:
    places = [TopicPartition(settings.topic(topic), partition, offset)]
    admin = admin_client(settings)  # held until it has answered
    [future] = admin.delete_records(places).values()
    answer_of(future)


def _send(worker: OneWorker, letter: str, count: int) -> set[str]:
    ids = [f"{letter}{number}" for number in range(count)]
    for scan_id in ids:
        worker.send("scans", person(scan_id), scan(scan_id, person(scan_id)))
    worker.flush()
    return set(ids)


def _accepted(worker: OneWorker) -> list[str]:
    return sorted(row["scan_id"] for row in worker.rows("enriched"))


def test_inputs_that_change(
    settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records deleted unread, topics made anew, partitions added, other settings: each is said, and right."""
    with OneWorker(settings(), tmp_path) as worker:
        worker.send("venues", "V1", venue("V1"))
        ids = _send(worker, "a", 100)
        worker.until(lambda: worker.settled("scans", "venues", "visits", "venue-marks"))
        ids |= _deleted_unread(worker)
        ids |= _made_anew_while_read(worker)
        ids |= _more_partitions(worker, monkeypatch, capsys)
        assert _accepted(worker) == sorted(ids), "each once, and nothing else"
        _other_settings(worker)
        _own_made_anew(worker)


def _deleted_unread(worker: OneWorker) -> set[str]:
    """In the midst of reading, and while no worker runs: how many, and the rest is read; an idle topic says nothing."""
    for name, of_topic in worker.drain.ends(("scans", "visits")).items():  # all of it was read
        for partition, end in of_topic.items():
            _delete_before(worker.settings, name.removeprefix(worker.settings.topic_prefix), partition, end)
    [member] = [member for member in worker.members() if member.name == "worker-0"]
    send_signal(member.process, signal.SIGSTOP)
    time.sleep(0.5)  # by then no fetch waits at the broker
    kept = _send_and_delete(worker, "b")
    send_signal(member.process, signal.SIGCONT)
    worker.until(lambda: worker.settled("scans"))
    assert worker.metric("unread_records_total") == 10
    worker.stop_worker(0)
    kept |= _send_and_delete(worker, "c")
    worker.start_worker(0)
    worker.until(lambda: worker.settled("scans"))
    assert worker.metric("unread_records_total") == 10
    assert worker.log.count("records were deleted before they were read") == 4
    assert worker.health()[0] == 200
    return kept


def _send_and_delete(worker: OneWorker, letter: str) -> set[str]:
    """Sends scans, of which five of each partition are deleted at once; returns the others."""
    ends = worker.drain.ends(("scans",))[worker.settings.topic("scans")]
    sent = sorted(_send(worker, letter, 100), key=lambda scan_id: int(scan_id[1:]))
    for partition, end in ends.items():
        _delete_before(worker.settings, "scans", partition, end + 5)
        mine = [scan_id for scan_id in sent if partition_of(person(scan_id).encode(), 2) == partition]
        sent = [scan_id for scan_id in sent if scan_id not in mine[:5]]
    return set(sent)


def _made_anew_while_read(worker: OneWorker) -> set[str]:
    """More is sent to the new topic than was read of the old one: all of it counts, copies do not, it is said."""
    _made_anew(worker, "scans", "venues")
    for venue_id in ("V1", "V2"):
        worker.send("venues", venue_id, venue(venue_id))
    ids = _send(worker, "d", 300) | _send(worker, "a", 100) | {"v2"}
    worker.send("scans", person("v2"), scan("v2", person("v2"), "V2"))
    worker.flush()
    worker.until(lambda: ids <= set(_accepted(worker)))
    worker.until(lambda: worker.settled("scans", "venues"))
    assert worker.log.count("an input topic was made anew") == 4, "two topics of two partitions"
    assert "epoch=1" in worker.log
    assert worker.metric("input_changes_total") == 4 + 2, "and what was deleted before"
    assert worker.metric("register_venues") == 2, "a register counts as it is"
    assert worker.health()[0] == 200
    return ids


def _more_partitions(
    worker: OneWorker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> set[str]:
    """Nobody reads those that came under way, and it is said all the time; ``topics resend`` sends it again."""
    name = worker.settings.topic("scans")
    admin = admin_client(worker.settings)  # held until it has answered
    [future] = admin.create_partitions([NewPartitions(name, 3)]).values()
    future.result()
    worker.until(lambda: worker.health()[0] == 503)
    assert f"{name} has 3 partitions, not 2" in worker.health()[1]
    assert "truyvet topics resend" in worker.health()[1]
    worker.connect()
    lost = {f"l{number}" for number in range(10)}
    for scan_id in lost:
        worker.send("scans", person(scan_id), scan(scan_id, person(scan_id)), partition=2)
    bomb = forging.batch(b"", 1, 4, packed=forging.bomb(2_000 << 20))
    assert forging.send(worker.settings, name, 2, bomb)[0] == 0
    ids = _send(worker, "e", 20)
    worker.kill_worker(0)
    worker.start_worker(0)  # and another one finds it so
    worker.until(lambda: worker.health()[0] == 503 and len(worker.drain.rooms()) == 4)
    worker.until(lambda: worker.settled("scans"))
    assert worker.log.count("an input topic was made anew") == 4, "what was read before is not read again"
    assert not lost & set(_accepted(worker))
    monkeypatch.setattr(topics, "load_settings", lambda: worker.settings)
    assert topics.run(argparse.Namespace(action="resend", json=False)) == 0
    assert f"{name}: 10 records sent again by their keys, 1 too large or damaged cannot be" in capsys.readouterr().out
    worker.until(lambda: lost <= set(_accepted(worker)))
    _made_anew(worker, "scans")
    worker.until(lambda: worker.health()[0] == 200 and worker.log.count("epoch=2") == 2)
    return ids | lost


def _other_settings(worker: OneWorker) -> None:
    """Another zone of reports is refused, with status 2; another retention is taken."""
    worker.stop_worker(0)
    good = worker.settings
    worker.settings = good.model_copy(update={"report_timezone": "Asia/Tokyo"})
    worker._start_worker_process(0)
    assert worker._children["worker-0"].wait(20) == 2
    assert "TRUYVET_REPORT_TIMEZONE: the state of " in worker.log
    assert "Traceback" not in worker.log
    worker._forget("worker-0")
    worker.settings = good.model_copy(update={"retention_days": 20})
    worker.start_worker(0)
    worker.until(lambda: len(worker.drain.rooms()) == 4)
    assert worker.log.count("another retention is taken") == 3, "one has no state"


def _own_made_anew(worker: OneWorker) -> None:
    """The venue stage stands still with a sentence; persons are served."""
    _made_anew(worker, "venue-marks")
    topic = worker.settings.topic("venue-marks")

    def stands() -> bool:
        status, said = worker.health()
        return status == 503 and f"{topic}-" in said and "was made anew" in said

    worker.until(stands)
    ids = _send(worker, "f", 10)
    worker.until(lambda: ids <= set(_accepted(worker)))
