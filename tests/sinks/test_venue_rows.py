"""Rows of the register: removals keep what was known, whatever is read again, and a topic made anew counts."""

import random
from collections.abc import Iterator, Sequence

import pytest

from infra.topics import ensure_topics, remove_topics
from schemas.areas import load_areas
from sinks.backends import Backend
from sinks.columns import decoder_of
from sinks.inserting import Batch, Inserter
from sinks.records import Records
from sinks.status import Status
from sinks.taking import Taking
from sinks.venue_rows import GENERATION_BIT, generation_of
from streams.core.partition import partition_of
from tests.conftest import SettingsFactory
from tests.sinks import data
from tests.sinks.conftest import SinkFactory
from tests.sinks.test_backends import ZONE, FakeRecord, rows
from truyvet.config import Settings

PARTITIONS = 2
ROWS = "SELECT venue_id, name, status, codes, revision FROM venues FINAL ORDER BY venue_id"


class Read(FakeRecord):
    """A record of some partition; a bad one is of 2021."""

    def __init__(self, key: str, value: bytes | None, partition: int, offset: int, *, bad: bool = False) -> None:
        super().__init__(key.encode(), value, offset)
        self._partition = partition
        self.bad = bad

    def partition(self) -> int | None:
        """The partition."""
        return self._partition

    def timestamp(self) -> tuple[int, int]:
        """Later than any event's own time, or before it."""
        return 1, 1_634_169_600_000 if self.bad else 4_102_444_800_000


def _log(rng: random.Random, ids: Sequence[str], length: int) -> list[list[Read]]:
    """Versions, removals and what is neither, by partition; some lie on another partition than their own."""
    log: list[list[Read]] = [[] for _ in range(PARTITIONS)]
    for number in range(length):
        venue_id = rng.choice(ids)
        home = partition_of(venue_id.encode(), PARTITIONS)
        partition = 1 - home if rng.random() < 0.15 else home
        value = data.encoded(data.venue(venue_id, name=f"name {number}", codes=[f"C{number}"]))
        kind = rng.random()
        if kind < 0.4:
            log[partition].append(Read(venue_id, None, partition, len(log[partition])))
        elif kind < 0.5:
            later = data.venue(venue_id, registered_at="2099-12-31T23:59:59Z")
            bad = rng.choice([b"{", value.replace(b"cafe", b"bar"), data.encoded(later)])
            log[partition].append(Read(venue_id, bad, partition, len(log[partition]), bad=True))
        else:
            log[partition].append(Read(venue_id, value, partition, len(log[partition])))
    return log


def _expected(log: list[list[Read]]) -> list[tuple[object, ...]]:
    """What SPEC says, told plainly: the last good version on its own partition, and whether it was removed since."""
    found: dict[str, tuple[object, ...]] = {}
    for partition, records in enumerate(log):
        for offset, record in enumerate(records):
            key, value = (record.key() or b"").decode(), record.value()
            if partition_of(key.encode(), PARTITIONS) != partition:
                continue
            if value is None:
                if key in found:
                    found[key] = (*found[key][:2], "removed", found[key][3], offset)
            elif not record.bad:
                text = value.decode()
                number = int(text.partition('"name ')[2].partition('"')[0])
                found[key] = (key, f"name {number}", "active", [f"C{number}"], offset)
    return [found[key] for key in sorted(found)]


def _batches(rng: random.Random, log: list[list[Read]]) -> Iterator[list[Read]]:
    """The log in batches, some of which are read again from an earlier place on, as after a crash."""
    at, again = [0] * PARTITIONS, 5
    while at != [len(records) for records in log]:
        batch = []
        for partition, records in enumerate(log):
            size = rng.choice([0, 1, 2, 7])
            batch += records[at[partition] : at[partition] + size]
            at[partition] = min(at[partition] + size, len(records))
        yield batch
        if again and rng.random() < 0.3:
            again -= 1
            at = [rng.randint(0, place) for place in at]


def _store(backend: Backend, batches: Iterator[list[Read]]) -> None:
    decode = decoder_of("venues", load_areas(), ZONE, PARTITIONS)
    taking = Taking(backend, {"venues": decode}, "rejects")
    inserter = Inserter(backend, Status(), taking)
    for records in batches:
        batch = Batch(generation=0, started=0.0)
        for start in range(0, len(records), 3):
            batch.add(taking.all("venues", Records(records[start : start + 3], keyed=True)))
        inserter.submit(batch)
        assert inserter.take_done(30.0) is batch
    inserter.stop(5.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_removed_venue_keeps_its_last_fields(backend: Backend, seed: int) -> None:
    """However the log is cut, and whatever of it is read again: one row a venue, removed or as it was last told."""
    rng = random.Random(seed)  # noqa: S311 - a test's
    log = _log(rng, [f"V{number}" for number in range(6)], 60)
    expected = _expected(log)
    assert {row[2] for row in expected} == {"active", "removed"}
    _store(backend, _batches(rng, log))
    assert rows(backend, ROWS) == expected


def test_a_removal_that_is_stored_late_takes_back_nothing(backend: Backend) -> None:
    """Read again after the venue was registered again, an old removal changes no row; one of an unknown venue none."""
    first, last = (data.encoded(data.venue("V", name=name)) for name in ("first", "last"))
    home = partition_of(b"V", PARTITIONS)
    log = [Read("V", first, home, 0), Read("V", None, home, 1), Read("V", last, home, 2)]
    nobody = Read("NOBODY", None, partition_of(b"NOBODY", PARTITIONS), 9)
    _store(backend, iter([log, [log[1], nobody]]))
    assert rows(backend, ROWS) == [("V", "last", "active", ["OLD"], 2)]


def test_codes_that_several_venues_claim_are_listed(backend: Backend) -> None:
    """With how many they are and who is first; removed venues and repetitions claim nothing."""
    told = {
        "B": {"codes": ["BOTH", "BOTH", "ALONE"], "day": "2021-09-02"},
        "C": {"codes": ["BOTH", "TWO"], "day": "2021-09-01"},
        "A": {"codes": ["BOTH", "TWO"], "day": "2021-09-01"},
        "GONE": {"codes": ["BOTH", "ALONE"], "day": "2021-08-01"},
    }
    records = []
    for offset, (venue_id, changes) in enumerate(told.items()):
        value = data.encoded(data.venue(venue_id, **changes))  # type: ignore[arg-type]  # mixed
        records.append(Read(venue_id, value, partition_of(venue_id.encode(), PARTITIONS), offset))
    records.append(Read("GONE", None, partition_of(b"GONE", PARTITIONS), 9))
    _store(backend, iter([records]))
    found = rows(backend, "SELECT code, claimants, first_claimant FROM v_contested_codes ORDER BY code")
    assert found == [("BOTH", 3, "A"), ("TWO", 2, "A")]


def test_each_new_topic_is_a_new_generation(backend: Backend, backend_settings: Settings) -> None:
    """An empty database begins at 0, one that holds venues of nobody knows which topic at 1; known ones stay."""
    database = backend_settings.database
    assert [generation_of(backend, database, name) for name in ("one", "two", "one", "three")] == [0, 1, 0, 2]
    backend.maintain(f"DROP TABLE {database}.registers")
    backend.ensure_schema()
    value = data.encoded(data.venue("V"))
    _store(backend, iter([[Read("V", value, partition_of(b"V", PARTITIONS), 0)]]))
    assert [generation_of(backend, database, name) for name in ("one", "two")] == [1, 2]


def test_a_register_made_anew_counts(settings: SettingsFactory, sink_process: SinkFactory) -> None:
    """Its offsets begin at 0 again, below those of the old one's rows and of what the group has committed."""
    own = settings(partitions=1)
    ensure_topics(own)
    sink = sink_process(own).start()
    data.put(own, "venues", [data.venue("V", name=f"old {number}") for number in range(20)])
    sink.wait()
    assert sink.rows(ROWS) == [("V", "old 19", "active", ["OLD"], 19)]
    assert sink.end() == 0
    remove_topics(own, [own.topic("venues")])
    ensure_topics(own)
    data.put(own, "venues", [data.venue("V", name="new")])
    data.put(own, "venues", [data.venue(f"W{number}") for number in range(40)])
    again = sink_process(own).start()
    again.wait()
    found = again.rows(ROWS)
    assert found[0] == ("V", "new", "active", ["OLD"], 1 << GENERATION_BIT)
    assert len(found) == 41
    assert again.end() == 0
    third = sink_process(own).start()
    third.wait()
    assert third.rows(ROWS) == found
    assert third.end() == 0
