"""The register's copy on disk: a restart reads what came since, and trusts nothing that is not of its topic."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.topics import ensure_topics, topic_ids
from producers.feed import Feed, make_producer
from producers.lines import VENUES, Line
from schemas.areas import load_areas
from streams.core.directory import CATEGORY_NAMES, unpack_kept
from streams.core.partition import partition_of
from streams.shell import register as module
from streams.shell.register import Register
from streams.shell.register_copy import DELETE_RETENTION_MS, RegisterCopy
from tests.conftest import SettingsFactory, wait_until
from tests.pipeline.months import venues
from tests.sinks import data
from truyvet.config import Settings

COUNT = 500


@pytest.fixture
def filled(settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A broker with a small register; copies are made after a few venues."""
    monkeypatch.setattr(module, "_COPY_RECORDS", 100)
    made = settings()
    ensure_topics(made)
    Feed(made).send(VENUES.topic, _some(COUNT))
    return made


def _some(stop: int, start: int = 0) -> list[Line]:
    lines = list(venues())[start:stop]
    code = b'"codes":["OLD-%d"],"venue_id"'
    return [
        line._replace(value=(line.value or b"").replace(b'"venue_id"', code % n, 1))
        for n, line in enumerate(lines, start)
    ]


def _resolved(register: Register, stop: int) -> list[tuple[bytes, tuple[bytes, bytes] | None]]:
    codes = [line.key for line in _some(stop)]
    return [(code, register.directory.resolve(code)) for code in codes if code is not None]


@contextmanager
def reader(settings: Settings, path: Path, topic_id: str = "") -> Iterator[Register]:
    """A register that has read everything, copying to ``path``."""
    register = Register(settings, load_areas())
    known = topic_id or topic_ids(settings, [VENUES.topic])[VENUES.topic]
    register.start(lambda: None, RegisterCopy(path, known))
    register.catch_up()
    yield register
    register.stop()


def test_a_restart_reads_only_what_came_since(filled: Settings, tmp_path: Path) -> None:
    """The second reader knows all that the first one did, old codes too, and has read only what is new."""
    path = tmp_path / "register"
    with reader(filled, path) as first:
        assert first.records_read == COUNT
        assert wait_until(path.exists)
        newest_ms = first.newest_ms
    Feed(filled).send(VENUES.topic, _some(COUNT + 20, COUNT))
    with reader(filled, path) as second:
        assert second.records_read == 20
        assert len(second.directory) == COUNT + 20
        assert second.newest_ms == newest_ms
        for code in (b"V00003", b"OLD-3", b"OLD-510"):
            assert second.directory.resolve(code) is not None
    with reader(filled, tmp_path / "none") as fresh:
        # The table of venues stands first; the claims stand in the order in which they were read.
        assert sorted(fresh.directory.contents[1]) == sorted(second.directory.contents[1])
        assert all(fresh.directory.resolve(code) == found for code, found in _resolved(second, COUNT + 20))


def test_it_is_made_again_once_much_has_come(filled: Settings, tmp_path: Path) -> None:
    """So that what a restart reads stays little."""
    path = tmp_path / "register"
    with reader(filled, path) as register:
        assert wait_until(path.exists)
        Feed(filled).send(VENUES.topic, _some(COUNT + 100, COUNT))
        before = path.stat().st_mtime_ns
        assert wait_until(lambda: path.stat().st_mtime_ns > before)
        assert register.records_read == COUNT + 100
    with reader(filled, path) as again:
        assert again.records_read == 0
        assert len(again.directory) == COUNT + 100


@pytest.mark.parametrize("harm", ["cut", "changed", "empty", "other topic", "ahead", "other build", "old"])
def test_what_cannot_be_trusted_is_thrown_away(
    filled: Settings, tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that is damaged, old, of another topic or build, or ahead of its topic: the topic is read anew."""
    path = tmp_path / "register"
    with reader(filled, path):
        assert wait_until(path.exists)
    packed = path.read_bytes()
    if harm == "cut":
        path.write_bytes(packed[:-1])
    elif harm == "changed":
        path.write_bytes(packed[:-10] + bytes((packed[-10] ^ 1,)) + packed[-9:])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "ahead":
        ends = {p: end + 1 for p, end in Register(filled, load_areas()).end_offsets().items()}
        copy = RegisterCopy(path, topic_ids(filled, [VENUES.topic])[VENUES.topic])
        copied = copy.load()
        assert copied is not None
        copied.positions = ends
        copy.save(copied)
    elif harm == "other build":
        monkeypatch.setattr("streams.shell.register_copy._reading", lambda: "another")
    elif harm == "old":
        later_ms = int(time.time() * 1000) + DELETE_RETENTION_MS // 2 + 1
        monkeypatch.setattr("streams.shell.register_copy._now_ms", lambda: later_ms)
    before = path.stat().st_mtime_ns
    with reader(filled, path, "another" if harm == "other topic" else "") as register:
        assert register.records_read == COUNT
        assert len(register.directory) == COUNT
        assert wait_until(lambda: path.stat().st_mtime_ns > before)
    with reader(filled, path, "another" if harm == "other topic" else "") as again:
        assert again.records_read == 0, "it was not replaced"


def test_a_copy_is_made_again_before_it_is_too_old(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing comes: a restart within hours need not read everything."""
    path = tmp_path / "register"
    with reader(filled, path):
        assert wait_until(path.exists)
        before = path.stat().st_mtime_ns
        later_ms = int(time.time() * 1000) + DELETE_RETENTION_MS // 4
        monkeypatch.setattr("streams.shell.register_copy._now_ms", lambda: later_ms)
        assert wait_until(lambda: path.stat().st_mtime_ns > before)


def test_only_what_lies_on_a_venue_s_own_partition_counts(settings: SettingsFactory, tmp_path: Path) -> None:
    """Versions and null records elsewhere change nothing, whichever partition is read first; a null one removes."""
    own = settings(partitions=2)
    ensure_topics(own)
    producer = make_producer(own)

    def put(venue_id: str, partition: int, value: bytes | None) -> None:
        producer.produce(own.topic(VENUES.topic), value, venue_id.encode(), partition)

    ids = [f"W{number}" for number in range(8)]
    for venue_id in ids:
        home = partition_of(venue_id.encode(), 2)
        value = data.encoded(data.venue(venue_id, category="hospital", codes=["ALL", f"OLD-{venue_id}"]))
        put(venue_id, home, value)
        put(venue_id, 1 - home, value.replace(b"hospital", b"market"))
        put(venue_id, 1 - home, None)
    put(ids[0], partition_of(ids[0].encode(), 2), None)
    producer.flush()
    with reader(own, tmp_path / "register") as register:
        resolve = register.directory.resolve
        assert resolve(b"W0") is None
        assert resolve(b"OLD-W0") is None
        for venue_id in ids[1:]:
            for code in (venue_id.encode(), b"OLD-" + venue_id.encode()):
                found = resolve(code)
                assert found is not None
                assert found[0] == venue_id.encode()
                assert CATEGORY_NAMES[unpack_kept(found[1])[3]] == "hospital"
        assert (resolve(b"ALL") or (b"",))[0] == b"W1"
        assert register.directory.contested == 1
