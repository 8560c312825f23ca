"""A backup's files and a log's offsets: what is copied comes back the same, gaps included; what is damaged is said."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition

from infra.topics import BrokerAwayError, check_topics, delete_topics, ensure_topics, existing_topics
from streams.shell.restore import log_consumer
from tests.conftest import SettingsFactory
from truyvet import backup, cli, restore_log
from truyvet.backup import Backup, record_of
from truyvet.backup_broker import NAMES, Broker
from truyvet.backup_files import BackupError, PartitionCopy, PartitionWriter, Record, partition_directory, read_blocks
from truyvet.config import Settings
from truyvet.restore import restore
from truyvet.restore_log import LogWriter, windows
from truyvet.terminal import Teller

TELL = Teller("test", 3600.0)
Log = dict[tuple[str, int], list[Record]]


def everything(settings: Settings, attempts: int = 10) -> Log:
    """Every committed record of every topic."""
    ends = {place: end for place, end in Broker(settings).ends(NAMES).items() if end}
    log: Log = {(name, p): [] for name in NAMES for p in range(settings.partitions)}
    consumer = log_consumer(settings)
    starts = Broker(settings).starts(NAMES)
    consumer.assign([TopicPartition(settings.topic(name), p, starts[name, p]) for name, p in ends])
    while ends:
        for message in consumer.consume(10_000, 0.05):
            place = ((message.topic() or "").removeprefix(settings.topic_prefix), message.partition() or 0)
            error, offset = message.error(), message.offset() or 0
            if error is None:
                log[place].append(record_of(message, offset))
            elif error.code() == KafkaError._PARTITION_EOF:
                ends.pop(place, None)
            else:
                # Of a topic that was just made anew the broker may still say that its first offset is not there.
                assert error.code() == KafkaError._AUTO_OFFSET_RESET, error
                assert attempts > 1, error
                consumer.close()
                time.sleep(1.0)
                return everything(settings, attempts - 1)
    consumer.close()
    return log


def _produce_gaps(settings: Settings, seed: int, transactions: int) -> None:
    """Transactions of one to some records over several topics, every fifth aborted; and inputs without any."""
    rng = random.Random(seed)  # noqa: S311 - repeatable
    producer = Producer(settings.librdkafka() | {"transactional.id": f"{settings.topic_prefix}gaps"})
    producer.init_transactions()
    for number in range(transactions):
        producer.begin_transaction()
        for name in ("enriched", "aggregates", "state-person", "rejects"):
            for _ in range(rng.choice([0, 1, 1, 2, 10])):
                producer.produce(
                    settings.topic(name),
                    rng.choice([b"value %d" % number, b"", None]),
                    b"key %d" % rng.randrange(10),
                    rng.randrange(settings.partitions),
                    timestamp=rng.randrange(1, 10**12),
                    headers=[("was", b"x"), ("none", None)] if rng.random() < 0.1 else [],
                )
        # librdkafka may send the end of an abort before the broker knows of the transaction, which is fatal then (its
        # issue 4849).
        producer.flush()
        (producer.commit_transaction if rng.random() < 0.8 else producer.abort_transaction)()
    plain = Producer(settings.librdkafka())
    for number in range(1000):
        plain.produce(settings.topic("scans"), b"scan %d" % number, None, number % settings.partitions, timestamp=1)
    plain.flush()


def _back_up(settings: Settings, directory: Path) -> Backup:
    taken = Backup(settings, directory)
    with taken.owned():
        assert taken.copy(TELL) is not None, taken.sentence()
    return taken


@pytest.fixture
def copied(settings: SettingsFactory, tmp_path: Path) -> Iterator[tuple[Settings, Path, Log]]:
    """Settings, the folder of a consistent backup, and what the topics held; all topics are gone."""
    chosen = settings(partitions=2, restating=False)
    ensure_topics(chosen)
    _produce_gaps(chosen, seed=1, transactions=40)
    Broker(chosen).delete_records(chosen.topic("enriched"), 0, 7)
    Broker(chosen).delete_records(chosen.topic("rejects"), 1, -1)
    log = everything(chosen)
    _back_up(chosen, tmp_path / "backup")
    delete_topics(chosen)
    yield chosen, tmp_path / "backup", log
    delete_topics(chosen)


def test_every_record_comes_back_at_its_own_offset(copied: tuple[Settings, Path, Log]) -> None:
    """Markers, aborted and deleted records are gaps again; topics have their own settings again."""
    settings, directory, log = copied
    assert "at their own offsets" in restore(settings, directory, TELL)
    assert everything(settings) == log
    assert check_topics(settings) == []
    found = Broker(settings).describe()
    assert found["scans"].config["message.timestamp.type"] == "LogAppendTime"
    assert found["state-person"].config["cleanup.policy"] == "compact"
    assert found["state-person"].config["max.message.bytes"] == str(4 * 1024 * 1024)
    assert "retention.ms" not in found["state-person"].config
    ends = Broker(settings).ends(NAMES, committed=False)
    assert ends == Broker(settings).ends(NAMES)
    with pytest.raises(BackupError, match="is there already"):
        restore(settings, directory, TELL)
    with pytest.raises(BackupError, match="was made anew"):
        _back_up(settings, directory)


def test_damage_is_said_before_anything_is_written(copied: tuple[Settings, Path, Log]) -> None:
    """One bit of one file, a file cut short, the manifest: each is one sentence, and no topic was made."""
    settings, directory, _ = copied
    segment = next((directory / "topics" / "state-person").rglob("*.records"))
    for path in (segment, directory / "manifest.json"):
        whole = path.read_bytes()
        for damaged in (whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], whole[:-1]):
            path.write_bytes(damaged)
            if damaged[:-1] == whole[:-2] and path.suffix == ".json":
                continue  # the line end after the checksum
            with pytest.raises(BackupError, match=f"{path.name}: damaged"):
                restore(settings, directory, TELL)
        path.write_bytes(whole)
    assert not [name for name in existing_topics(settings) if name.startswith(settings.topic_prefix)]
    assert restore(settings, directory, TELL)


def test_an_interrupted_restore_is_started_over(
    copied: tuple[Settings, Path, Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes in between is kept off; it goes on only when told to, and then from the beginning."""
    settings, directory, log = copied
    real = LogWriter.write

    def write(self: LogWriter, topic: str, *others: object) -> int:
        if topic == settings.topic("exposures"):
            raise BackupError("the plug was pulled")
        return real(self, topic, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(LogWriter, "write", write)
    with pytest.raises(BackupError, match="plug"):
        restore(settings, directory, TELL)
    monkeypatch.undo()
    for refusing in (ensure_topics, check_topics):
        with pytest.raises(BrokerAwayError, match="--again"):
            refusing(settings)
    with pytest.raises(BackupError, match="--again"):
        restore(settings, directory, TELL)
    restore(settings, directory, TELL, again=True)
    assert everything(settings) == log


def test_a_backup_goes_on_where_an_interrupted_one_left_off(
    settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written beyond the manifest is cut off; new records are appended; readers' offsets are in it."""
    chosen = settings(partitions=2)
    ensure_topics(chosen)
    _produce_gaps(chosen, 2, 10)
    _back_up(chosen, tmp_path / "backup")
    _produce_gaps(chosen, 3, 10)
    monkeypatch.setattr(backup, "write_manifest", _pull_the_plug)
    with pytest.raises(RuntimeError, match="plug"):
        _back_up(chosen, tmp_path / "backup")
    monkeypatch.undo()
    _produce_gaps(chosen, 4, 10)
    Broker(chosen).set_groups({f"{chosen.topic_prefix}sink-x": {"enriched": {0: 5, 1: 10**9}}})
    log, end = everything(chosen), Broker(chosen).ends(NAMES)["enriched", 1]
    taken = _back_up(chosen, tmp_path / "backup")
    for (name, partition), records in log.items():
        folder = partition_directory(tmp_path / "backup", name, partition)
        read = [
            r for block in read_blocks(folder, taken._manifest.topics[name].partitions[partition], 10**9) for r in block
        ]
        assert read == records, (name, partition)
    delete_topics(chosen)
    restore(chosen, tmp_path / "backup", TELL)
    assert everything(chosen) == log
    assert Broker(chosen).groups(Broker(chosen).ends(NAMES)) == {
        f"{chosen.topic_prefix}sink-x": {"enriched": {0: 5, 1: end}}
    }


def _pull_the_plug(*_: object) -> None:
    raise RuntimeError("the plug was pulled")


def test_an_open_transaction_makes_a_copy_hot(
    settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 3 and a sentence; such a folder is not restored; once nothing is under way the same command gives 0."""
    chosen = settings(partitions=1)
    for variable, value in chosen.environment().items():
        monkeypatch.setenv(variable, value)
    ensure_topics(chosen)
    producer = Producer(chosen.librdkafka() | {"transactional.id": f"{chosen.topic_prefix}open"})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(chosen.topic("visits"), b"v", b"k", 0)
    producer.flush()
    assert cli.main(["backup", str(tmp_path / "backup")]) == backup.HOT
    assert "1 had a transaction open: stop the workers and run it again" in capsys.readouterr().out
    assert cli.main(["restore", "--check", str(tmp_path / "backup")]) == 1
    assert "hot copies only" in capsys.readouterr().err
    producer.commit_transaction()
    assert cli.main(["backup", str(tmp_path / "backup")]) == 0
    assert "1 records were new" in capsys.readouterr().out
    assert cli.main(["restore", "--check", str(tmp_path / "backup")]) == 0


def test_what_is_out_of_retention_leaves_the_backup(
    settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files whose records the broker has deleted are removed from the folder, those after them stay."""
    monkeypatch.setattr("truyvet.backup_files.SEGMENT_BYTES_MAX", 1)
    chosen = settings(partitions=1)
    ensure_topics(chosen)
    for _ in range(3):
        _produce_gaps(chosen, 5, 1)
        _back_up(chosen, tmp_path / "backup")
    folder = partition_directory(tmp_path / "backup", "scans", 0)
    assert len(list(folder.iterdir())) == 3
    Broker(chosen).delete_records(chosen.topic("scans"), 0, 1500)
    _back_up(chosen, tmp_path / "backup")
    assert sorted(path.name for path in folder.iterdir()) == [f"{first:020d}.records" for first in (1000, 2000)]
    delete_topics(chosen)
    restore(chosen, tmp_path / "backup", TELL)
    assert Broker(chosen).starts(["scans"]) == {("scans", 0): 1000}


OFFSETS: dict[str, Callable[[random.Random], list[int]]] = {
    "markers": lambda rng: [n for n in range(300) if n % 7 != 6 or rng.random() < 0.3],
    "compacted": lambda rng: sorted(rng.sample(range(400), 60)),
    "one alone": lambda _: [n for n in range(100) if n != 50],
    "long gaps": lambda _: [0, 1, 30, 31, 33, 60, 99],
    "late start": lambda _: [40, 41, 43],
}


@pytest.mark.parametrize("kind", OFFSETS)
def test_any_gaps_are_filled(
    kind: str, settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However offsets lie, readers find the same records at them, and the same end; nobody else does."""
    monkeypatch.setattr(restore_log, "_WINDOW_RECORDS", 9)
    monkeypatch.setattr(restore_log, "_FILLING_MAX", 6)
    chosen = settings(partitions=4)
    ensure_topics(chosen)
    writer = LogWriter(chosen, 0)
    broker, topic = Broker(chosen), chosen.topic("visits")
    for partition, behind in enumerate((0, 1, 2, 50)):
        offsets = OFFSETS[kind](random.Random(partition))  # noqa: S311 - repeatable
        records: list[Record] = [(o, 10**12 + o, b"k", b"%d" % o, None) for o in offsets]
        copy, end = PartitionCopy(), offsets[-1] + 1 + behind
        files = PartitionWriter(tmp_path, copy)
        for record in records:
            files.add(record)
        files.finish(end)
        if offsets[0]:
            writer.fill(topic, partition, offsets[0])
            broker.delete_records(topic, partition, offsets[0])
        assert writer.write(topic, partition, read_blocks(tmp_path, copy, end), offsets[0], end) == len(records)
        assert everything(chosen)["visits", partition] == records
        assert broker.ends(["visits"])["visits", partition] == end
        next(tmp_path.glob("*.records")).unlink()
    writer.close()


def test_somebody_else_who_writes_is_noticed(settings: SettingsFactory) -> None:
    """A record that lands elsewhere than it must is an error, not a log with other offsets."""
    chosen = settings(partitions=1)
    ensure_topics(chosen)
    other = Producer(chosen.librdkafka())
    other.produce(chosen.topic("scans"), b"in between", b"k", 0)
    other.flush()
    writer = LogWriter(chosen, 0)
    with pytest.raises(BackupError, match="somebody else"):
        writer.write(chosen.topic("scans"), 0, [[(0, 10**12, b"k", b"v", None)]], 0, 1)
    writer.close()


def test_windows_hold_everything_once() -> None:
    """Pieces are records without gaps; between and after them lies exactly what is missing."""
    records: list[Record] = [(o, 1, b"k", b"v", None) for o in range(50_000) if o % 1_000 and o % 999]
    found, at = [], 1
    for window in windows([records[:7], records[7:]], 60_000):
        assert sum(len(run) for run, _ in window) <= restore_log._WINDOW_RECORDS
        for run, gap in window:
            assert [record[0] for record in run] == list(range(at, at + len(run)))
            at += len(run) + gap
            found += run
    assert (found, at) == (records, 60_000)
