"""Batches that nobody honest sends, through real readers of the real broker: each costs itself and nobody else."""

import json
from collections.abc import Sequence
from pathlib import Path

from infra.topics import delete_topics
from streams.core.partition import partition_of
from tests.conftest import SettingsFactory, wait_until
from tests.pipeline import forging
from tests.pipeline.one_worker import AT_MS, OneWorker, case, person, scan, venue
from tests.pipeline.test_backup_files import TELL, everything
from truyvet.backup import Backup
from truyvet.backup_broker import Broker
from truyvet.restore import restore

MIB = 1024 * 1024
HOLDS_MIB_MAX = 64 + 2 * 2 * 64
"""What a worker's two readers may take beside what it had: a batch of 64 MiB each, and as much again."""
FIRST_MS = AT_MS + 60_000


def peak_mib(pid: int) -> float:
    """The most memory that a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def plain(records: Sequence[bytes]) -> bytes:
    """A batch that is not compressed."""
    return forging.batch(records, len(records), first_ms=FIRST_MS)


def bombs(key: bytes = b"k") -> list[bytes]:
    """Batches of some KB: of a value, of an empty record's many headers."""
    headers = 30 * MIB
    inside = b"\0" + forging.varint(0) + forging.varint(0) + forging.sized(key) + forging.sized(b"")
    inside += forging.varint(headers)
    headed = forging.varint(len(inside) + 2 * headers) + inside
    packed = [
        forging.bomb(2_000 * MIB, key),
        forging.bomb(65 * MIB, key),
        forging.bomb(63 * MIB, key),
        forging.zeros(headed, 2 * headers, b""),
    ]
    return [forging.batch(b"", 1, 4, packed=one, first_ms=FIRST_MS) for one in packed]


def _scan(worker: OneWorker, name: str, partition: int) -> tuple[bytes, bytes]:
    """Key and value of a scan of somebody whose records lie on this partition."""
    people = (person(f"{name}{number}") for number in range(100))
    partitions = worker.settings.partitions
    who = next(one for one in people if partition_of(one.encode(), partitions) == partition)
    return who.encode(), json.dumps(scan(name, who)).encode()


def _send_hostile(worker: OneWorker) -> int:
    """Sends batches of every kind between good ones; the number of those that the gate refuses."""
    scans, venues = worker.settings.topic("scans"), worker.settings.topic("venues")
    key, value = _scan(worker, "jump", 0)
    refused = [
        (scans, plain([forging.record(5_000, key, value)])),
        (scans, plain([forging.record(0, *_scan(worker, "good", 0)), forging.record(-(2**31), key, value)])),
        (scans, plain([forging.record(1, key, value), forging.record(0, key, value)])),
        *((scans, one) for one in bombs()),
        *((venues, one) for one in bombs(b"V1")),
    ]
    for topic, data in refused:
        assert forging.send(worker.settings, topic, 0, data)[0] == 0
    named = forging.record(0, *_scan(worker, "named", 0), headers=[(b"\xff\xfe", b"x"), (b"origin", b'"\\ud800"')])
    assert forging.send(worker.settings, scans, 0, plain([named]))[0] == 0
    return len(refused)


def test_hostile_batches_cost_themselves(settings: SettingsFactory, tmp_path: Path) -> None:
    """A row of rejects each; every scan behind them counts; little memory; and a backup of it all comes back."""
    with OneWorker(settings(session_timeout_ms=6_000), tmp_path) as worker:
        worker.send("venues", "V1", venue("V1"))
        worker.flush()
        worker.until(lambda: worker.settled("venues"))
        [member] = worker.members()
        before_mib = peak_mib(member.process.pid)
        sent = _send_hostile(worker)
        ids = {f"after{number}" for number in range(300)}
        for scan_id in ids:
            worker.send("scans", person(scan_id), scan(scan_id, person(scan_id)))
        worker.send("venues", "V2", venue("V2"))
        worker.send("cases", person("c"), case("c", person("c")))
        worker.flush()
        worker.until(lambda: worker.settled("scans", "venues", "cases"))
        assert {row["scan_id"] for row in worker.rows("enriched")} == ids | {"named"}
        rows = worker.rows("rejects")
        assert len(rows) == sent, [(row["topic"], row["offset"], row["detail"]) for row in rows]
        assert {row["reason"] for row in rows} == {"corrupt_batch", "oversized"}
        assert worker.metric("register_venues") == 2
        assert worker.health()[0] == 200
        assert peak_mib(member.process.pid) - before_mib < HOLDS_MIB_MAX
        worker.stop_worker(0)
        _copy_and_restore(worker, tmp_path / "backup", sent)


def _copy_and_restore(worker: OneWorker, directory: Path, refused: int) -> None:
    """What could be read comes back at its own offset, with names of headers that UTF-8 has."""
    taken = Backup(worker.settings, directory)
    with taken.owned():
        assert taken.copy(TELL) is not None, taken.sentence()
    # Two values of 63 MiB can be read, if not by those who bound them.
    assert f"{refused - 2} that nobody can read are left out" in taken.sentence()
    broker, groups = Broker(worker.settings), [f"{worker.settings.topic_prefix}workers"]
    assert wait_until(lambda: not broker.members(groups), 20.0), "whoever has stopped is a member for a while"
    delete_topics(worker.settings)
    restore(worker.settings, directory, TELL)
    back = everything(worker.settings)
    scans = [record for (name, _), records in back.items() if name == "scans" for record in records]
    assert sum(b'"after' in (record[3] or b"") for record in scans) == 300
    [named] = [record for record in scans if b'"named"' in (record[3] or b"")]
    assert named[4] == [("\ufffd\ufffd", b"x"), ("origin", b'"\\ud800"')]
