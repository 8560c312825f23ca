"""One contract for ClickHouse and its fake: the same inserts, the same final rows."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import pytest

from schemas.areas import load_areas
from sinks.backends import Backend, StorageError, open_backend
from sinks.columns import decoder_of
from sinks.export import export_tables
from sinks.records import Records
from sinks.tables import SINK_TOPICS, TABLES
from tests.sim.clickhouse import FakeClickHouse
from tests.sim.outside import Alone, Crashed
from tests.sinks import data
from tests.sinks.test_backends import FakeRecord
from truyvet.config import Settings

Row = dict[str, Any]


class Event(NamedTuple):
    """A record of a topic; the revision of a venue is its offset."""

    topic: str
    value: Row
    revision: int

    @property
    def table(self) -> str:
        """The table that it fills."""
        named = self.value.get("family")
        return str(named or next(name for name, spec in TABLES.items() if spec.topic == self.topic))

    @property
    def key(self) -> tuple[Any, ...]:
        """The key of its row."""
        return tuple(self.value[name] for name in TABLES[self.table].key)

    def record(self) -> FakeRecord:
        """As it stands on its topic."""
        return FakeRecord(data.key_of(self.topic, self.value).encode(), data.encoded(self.value), self.revision)


ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
DECODERS = {topic: decoder_of(topic, load_areas(), ZONE) for topic in SINK_TOPICS}
KEYS = 12
REVISIONS = 5
NAMES = ("CAFE", "Điểm", "a'b\\", "\ue000", "\U0001f6d2", "a", "aa", "Z")
"""Texts whose order differs between bytes, UTF-16 and languages, or that SQL must escape."""
HOURS = ("2021-10-13T16:59:00.000Z", "2021-10-13T17:00:00.000Z", "2021-12-31T17:00:00.000Z")


def made(rng: random.Random) -> list[Event]:
    """Versions of some keys of every table, retractions among them; each revision has one content."""
    events: dict[tuple[str, tuple[Any, ...], int], Event] = {}
    for number in range(KEYS):
        name, hour, part = rng.choice(NAMES) + str(number), rng.choice(HOURS), f"person-{number % 3}"
        for revision in range(1, 1 + REVISIONS):
            for topic, value in _values(rng, number, revision, name, hour, part):
                event = Event(topic, value, revision)
                events[event.table, event.key, revision] = event
    return list(events.values())


def _values(
    rng: random.Random, number: int, revision: int, name: str, hour: str, part: str
) -> Iterator[tuple[str, Row]]:
    where: Row = {"lat": rng.uniform(8, 23), "lon": rng.choice((105, 105.5, rng.random() * 1e-7))}
    counts = (rng.randrange(100), rng.randrange(100), rng.randrange(2**52))
    scan = data.scan(number, day=10 + number % 5, revision=revision, venue_id=name) | where
    visit = data.visit(number, revision=revision, scan_count=counts[2])
    exposure = data.exposure(number, revision=revision, score=rng.random() * 100)
    venue = data.venue(f"V{number}", name=name, capacity=rng.choice((None, revision)), codes=["A", "Z"][: revision % 3])
    texts = {"key": rng.choice((None, name)), "payload": rng.choice((None, ""))}
    yield "enriched", rng.choice((scan, data.retraction(number, day=10 + number % 5, revision=revision)))
    yield "visits", rng.choice((visit, data.bare("visits", visit)))
    yield "exposures", rng.choice((exposure, data.bare("exposures", exposure)))
    yield "venues", venue | where | {"registered_at": HOURS[0]}
    yield "case-states", data.case_state(name, revision=revision, ruleset=rng.choice((None, "vn-2021-12")))
    yield "rejects", data.reject(number * 7, revision=revision) | texts
    yield "aggregates", data.ward_minute(hour, "00262", part, counts, revision)
    yield "aggregates", data.venue_hour(hour, name, part, counts, revision)
    yield "aggregates", data.area_day("2021-10-14", "VN", f"{part}{number}", counts, revision)


def insert(backend: Backend, rng: random.Random, events: Sequence[Event]) -> None:
    """Events in this order, in inserts of one to three blocks of any size, some of them twice; as often as it takes."""
    by_topic: dict[str, list[Event]] = {}
    for event in events:
        by_topic.setdefault(event.topic, []).append(event)
    for topic, mine in by_topic.items():
        at = 0
        while at < len(mine):
            cuts = sorted(at + rng.randint(1, 15) for _ in range(rng.randint(1, 3)))
            blocks: dict[str, list[Any]] = {}
            for start, end in zip([at, *cuts], cuts, strict=False):
                decoder = DECODERS[topic]
                for table, columns in decoder(Records([one.record() for one in mine[start:end]], keyed=decoder.keyed)):
                    blocks.setdefault(table, []).append(backend.prepare(table, columns))
            for table, prepared in blocks.items():
                stored = False
                while not stored:
                    try:
                        backend.insert_blocks(table, prepared)
                    except StorageError:
                        continue
                    stored = rng.random() < 0.8
            at = rng.randint(at, cuts[-1]) if rng.random() < 0.3 else cuts[-1]


class Database(Protocol):
    """A database, real or not."""

    backend: Backend

    def rows(self) -> dict[str, list[Row]]:
        """The final rows of every table as they are exported."""

    def go_away(self) -> None:
        """From now on it does not answer."""


class RealDatabase:
    """The embedded database in a folder."""

    def __init__(self, backend: Backend, folder: Path) -> None:
        self.backend = backend
        self._folder = folder

    def rows(self) -> dict[str, list[Row]]:
        export_tables(self.backend, self._folder)
        texts = {name: (self._folder / f"{name}.jsonl").read_text(encoding="utf-8") for name in TABLES}
        return {name: [json.loads(line) for line in text.split("\n")[:-1]] for name, text in texts.items()}

    def go_away(self) -> None:
        self.backend.close()


class FakeDatabase:
    """The fake, in a world of its own."""

    def __init__(self, seed: int = 0) -> None:
        self.world = DyingWorld(seed)
        self.clickhouse = FakeClickHouse(self.world)
        self.backend: Backend = self.clickhouse.backend()

    def rows(self) -> dict[str, list[Row]]:
        return {name: self.clickhouse.rows(name) for name in TABLES}

    def go_away(self) -> None:
        self.clickhouse.available = False


class DyingWorld(Alone):
    """A world that does something at one step."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.at: dict[str, Callable[[], None]] = {}

    def step(self, label: str) -> None:
        if label in self.at:
            self.at.pop(label)()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealDatabase]:
    """The embedded database with its schema made."""
    with open_backend(Settings(embedded_dir=tmp_path / "clickhouse")) as backend:
        backend.ensure_schema()
        yield RealDatabase(backend, tmp_path / "out")


@pytest.fixture(params=["real", "fake"])
def database(request: pytest.FixtureRequest) -> Database:
    """Either of the two."""
    found: Database = request.getfixturevalue("real") if request.param == "real" else FakeDatabase()
    return found


def check_newest(rows: dict[str, list[Row]], events: Sequence[Event]) -> None:
    """Of every key there is one row, in key order, which holds what the newest event says."""
    newest: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in TABLES}
    for event in sorted(events, key=lambda event: event.revision):
        newest[event.table][event.key] = event.value
    for name, spec in TABLES.items():
        keys = [tuple(row[field] for field in spec.key) for row in rows[name]]
        assert keys == sorted(newest[name], key=_in_bytes)
        for key, row in zip(keys, rows[name], strict=True):
            assert list(row) == [column.name for column in spec.exported]
            said = {field: value for field, value in newest[name][key].items() if field != "family"}
            assert {field: row[field] for field in said} == said


def _in_bytes(key: tuple[Any, ...]) -> list[bytes | int]:
    """Texts as ClickHouse orders them."""
    return [part.encode() if isinstance(part, str) else part for part in key]


@pytest.mark.parametrize("seed", range(3))
def test_of_each_key_the_highest_revision_stays(database: Database, seed: int) -> None:
    """In whatever order, in whatever blocks and however often events are inserted."""
    rng = random.Random(seed)
    events = made(rng)
    rng.shuffle(events)
    insert(database.backend, rng, events)
    check_newest(database.rows(), events)


@pytest.mark.parametrize("seed", range(3))
def test_both_export_the_same(real: RealDatabase, seed: int) -> None:
    """Every table, every field of every row, retractions and their defaults too, in the same order."""
    rng = random.Random(100 + seed)
    fake = FakeDatabase(seed)
    events = made(rng)
    for backend in (real.backend, fake.backend):
        rng.shuffle(events)
        insert(backend, rng, events)
    rows = real.rows()
    assert all(len(rows[name]) > 1 for name in TABLES)
    assert fake.rows() == rows
    assert json.dumps(fake.rows()) == json.dumps(rows)


def test_of_equal_revisions_the_last_inserted_stays(database: Database) -> None:
    """Two contents of one revision are the pipeline's fault; the later insert hides the earlier one."""
    rng = random.Random(1)
    for lat in (1.0, 2.0, 3.0):
        insert(database.backend, rng, [Event("enriched", data.scan(1, lat=lat), 1)])
    (row,) = database.rows()["scans"]
    assert row["lat"] == 3.0
    if isinstance(database, FakeDatabase):
        assert len(database.clickhouse.duplicates()) == 2


def test_a_database_that_is_away_takes_nothing(database: Database) -> None:
    """Its one answer to everything is a StorageError."""
    columns = dict(DECODERS["enriched"](Records([Event("enriched", data.scan(1), 1).record()])))["scans"]
    block = database.backend.prepare("scans", columns)
    database.go_away()
    calls: list[Callable[[], object]] = [
        database.backend.ensure_schema,
        database.backend.identity,
        partial(database.backend.insert_blocks, "scans", [block]),
        partial(database.backend.insert, "scans", columns),
    ]
    for call in calls:
        with pytest.raises(StorageError):
            call()
    if isinstance(database, FakeDatabase):
        assert database.rows()["scans"] == []
        assert database.world.time() == Alone().time() + len(calls)


def test_identity_is_the_database_s() -> None:
    """Every sink of one database is told the same."""
    database = FakeDatabase()
    assert database.clickhouse.backend().identity() == database.backend.identity()


def test_an_insert_that_fails_stores_all_some_or_none() -> None:
    """Each of them happens; the insert made again makes up for it, and nothing is a duplicate."""
    events = [Event("enriched", data.scan(number), 1) for number in range(10)]
    counts = set()
    for seed in range(50):
        database = FakeDatabase(seed)
        columns = dict(DECODERS["enriched"](Records([event.record() for event in events])))["scans"]
        block = database.backend.prepare("scans", columns)
        database.clickhouse.fail_next()
        with pytest.raises(StorageError):
            database.backend.insert_blocks("scans", [block])
        counts.add(len(database.rows()["scans"]))
        database.backend.insert_blocks("scans", [block])
        check_newest(database.rows(), events)
        assert database.clickhouse.duplicates() == []
    assert {0, 10} < counts
    assert len(counts) > 5


@pytest.mark.parametrize(
    ("label", "fewest", "most"), [("insert sent", 0, 0), ("insert stored in part", 0, 10), ("insert stored", 10, 10)]
)
def test_a_sink_or_the_database_dies_at_any_step(label: str, fewest: int, most: int) -> None:
    """What was stored until then is there; the next sink, with other boundaries, ends with the same rows."""
    events = [Event("enriched", data.scan(number), 1) for number in range(10)]

    def crash() -> None:
        raise Crashed

    for seed in range(20):
        database = FakeDatabase(seed)
        columns = dict(DECODERS["enriched"](Records([event.record() for event in events])))["scans"]
        block = database.backend.prepare("scans", columns)
        for happens, error in ((crash, Crashed), (database.go_away, StorageError)):
            database.world.at[label] = happens
            with pytest.raises(error):
                database.backend.insert_blocks("scans", [block])
            if error is Crashed:
                assert fewest <= len(database.rows()["scans"]) <= most
        database.clickhouse.available = True
        insert(database.clickhouse.backend(), random.Random(seed), events)
        check_newest(database.rows(), events)
        assert database.clickhouse.duplicates() == []
