"""Inputs that change while a worker reads them, or while none does, on the real broker: each said, and right."""

from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from infra.topics import admin_client, answer_of, ensure_topics, remove_topics
from tests.conftest import SettingsFactory, wait_until
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
    ids = {f"{letter}{number}" for number in range(count)}
    for scan_id in ids:
        worker.send("scans", person(scan_id), scan(scan_id, person(scan_id)))
    worker.flush()
    return ids


def _accepted(worker: OneWorker) -> list[str]:
    return sorted(row["scan_id"] for row in worker.rows("enriched"))


def test_inputs_made_anew_while_they_are_read(settings: SettingsFactory, tmp_path: Path) -> None:
    """More is sent to the new topic than was read of the old one: all of it counts, copies do not, it is said."""
    with OneWorker(settings(), tmp_path) as worker:
        worker.send("venues", "V1", venue("V1"))
        ids = _send(worker, "a", 100)
        worker.until(lambda: worker.settled("scans", "venues"))
        _made_anew(worker, "scans", "venues")
        for venue_id in ("V1", "V2"):
            worker.send("venues", venue_id, venue(venue_id))
        ids |= _send(worker, "b", 300) | _send(worker, "a", 100)
        worker.send("scans", person("v2"), scan("v2", person("v2"), "V2"))
        worker.flush()
        worker.until(lambda: len(_accepted(worker)) > len(ids))
        worker.until(lambda: worker.settled("scans", "venues"))
        assert _accepted(worker) == sorted(ids | {"v2"})
        assert worker.log.count("an input topic was made anew") == 4, "two topics of two partitions"
        assert "epoch=1" in worker.log
        assert worker.metric("input_changes_total") == 4
        assert worker.metric("register_venues") == 2, "a register counts as it is"
        assert worker.health()[0] == 200
        worker.kill_worker(0)
        worker.start_worker(0)
        more = _send(worker, "c", 10)
        worker.until(lambda: "c9" in _accepted(worker))
        worker.until(lambda: worker.settled("scans"))
        assert worker.log.count("an input topic was made anew") == 4
        assert more <= set(_accepted(worker))


def test_records_deleted_before_they_were_read(settings: SettingsFactory, tmp_path: Path) -> None:
    """In the midst of reading, and while no worker runs: how many, and the rest is read; an idle topic says nothing."""
    with OneWorker(settings(), tmp_path) as worker:
        worker.send("venues", "V1", venue("V1"))
        _send(worker, "a", 100)
        worker.until(lambda: worker.settled("scans", "venues"))
        ends = worker.drain.ends(("scans", "visits"))
        for name, of_topic in ends.items():  # all of it was read
            for partition, end in of_topic.items():
                _delete_before(worker.settings, name.removeprefix(worker.settings.topic_prefix), partition, end)
        worker.until(lambda: worker.settled("visits"))
        worker.stop_worker(0)
        unread = _send(worker, "b", 100)
        cut = {p: end + 5 for p, end in ends[worker.settings.topic("scans")].items()}
        for partition, offset in cut.items():
            _delete_before(worker.settings, "scans", partition, offset)
        worker.start_worker(0)
        worker.until(lambda: worker.settled("scans"))
        assert worker.metric("unread_records_total") == 10
        assert worker.log.count("records were deleted before they were read") == 2
        assert len(unread & set(_accepted(worker))) == len(unread) - 10
        assert worker.health()[0] == 200


def test_the_pipelines_own_input_made_anew_stops_its_partitions(settings: SettingsFactory, tmp_path: Path) -> None:
    """The venue stage stands still with a sentence; persons are served."""
    with OneWorker(settings(), tmp_path) as worker:
        worker.send("venues", "V1", venue("V1"))
        _send(worker, "a", 10)
        worker.until(lambda: worker.settled("scans", "venues", "visits", "venue-marks"))
        _made_anew(worker, "venue-marks")
        worker.until(lambda: worker.health()[0] == 503)
        assert f"{worker.settings.topic('venue-marks')}-" in worker.health()[1]
        assert "was made anew" in worker.health()[1]
        _send(worker, "b", 10)
        worker.until(lambda: worker.settled("scans"))
        assert len(_accepted(worker)) == 20


def test_an_input_with_more_partitions(
    settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads those that came under way, and it is said all the time; ``topics resend`` sends it again."""
    with OneWorker(settings(), tmp_path) as worker:
        worker.send("venues", "V1", venue("V1"))
        ids = _send(worker, "a", 20)
        worker.until(lambda: worker.settled("scans", "venues"))
        name = worker.settings.topic("scans")
        admin = admin_client(worker.settings)  # held until it has answered
        [future] = admin.create_partitions([NewPartitions(name, 3)]).values()
        future.result()
        worker.until(lambda: worker.health()[0] == 503)
        assert f"{name} has 3 partitions, not 2" in worker.health()[1]
        assert "truyvet topics resend" in worker.health()[1]
        lost = {f"l{number}" for number in range(10)}

        def put() -> bool:
            for scan_id in lost:
                worker.send("scans", person(scan_id), scan(scan_id, person(scan_id)), partition=2)
            worker.flush()
            return True

        assert wait_until(put)
        ids |= _send(worker, "b", 20)
        worker.until(lambda: worker.settled("scans"))
        worker.stop_worker(0)
        worker.start_worker(0)  # and another one finds it so
        worker.until(lambda: worker.health()[0] == 503)
        worker.until(lambda: len(worker.drain.rooms()) == 4)
        assert not lost & set(_accepted(worker))
        monkeypatch.setattr(topics, "load_settings", lambda: worker.settings)
        assert topics.run(topics.argparse.Namespace(action="resend", json=False)) == 0
        worker.until(lambda: lost <= set(_accepted(worker)))
        assert _accepted(worker) == sorted(ids | lost)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"report_timezone": "Asia/Tokyo"}, "TRUYVET_REPORT_TIMEZONE: the state of "),
        ({"retention_days": 20}, ""),
    ],
)
def test_a_state_of_other_settings(
    changed: dict[str, object], sentence: str, settings: SettingsFactory, tmp_path: Path
) -> None:
    """Another zone of reports is refused, with status 2; another retention is taken."""
    with OneWorker(settings(), tmp_path) as worker:
        _send(worker, "a", 10)
        worker.until(lambda: worker.settled("scans"))
        worker.stop_worker(0)
        worker.settings = worker.settings.model_copy(update=changed)
        if not sentence:
            worker.start_worker(0)
            worker.until(lambda: "another retention is taken" in worker.log)
            return
        worker._start_worker_process(0)
        assert worker._children["worker-0"].wait(20) == 2
        assert sentence in worker.log
        assert "Traceback" not in worker.log
