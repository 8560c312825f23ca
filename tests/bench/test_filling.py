"""Stores that are filled in bulk hold what a room would hold, each person in its own partition."""

from pathlib import Path

import pytest

from bench.filling import MemoryState, Models, directory_of, fill, pairs, room_of
from bench.workload import Shape, history_lines, person_ids, scan_lines
from streams.core.partition import partition_of
from streams.core.person import take_scans
from streams.core.step import Record
from streams.shell.store import Store
from truyvet.config import Settings

SHAPE = Shape(scans=400, people=40, venues=30)
SCANS_PER_PERSON = 10
PARTITIONS = 3
PEOPLE = 200


@pytest.fixture(scope="module", name="settings")
def _settings() -> Settings:
    return Settings(partitions=PARTITIONS, restating=True)


@pytest.fixture(scope="module", name="models")
def _models(settings: Settings) -> Models:
    return Models(settings, SHAPE, SCANS_PER_PERSON)


def test_the_first_people_are_always_the_same() -> None:
    """A day of few people goes on a state of many."""
    assert person_ids(Shape(people=1001))[:777] == person_ids(Shape(people=777))


def test_history_lies_before_the_day_and_holds_no_copies() -> None:
    """Four weeks of scans, each once, in order, of the shape's own people."""
    lines = list(history_lines(SHAPE, 500, 28))
    first = min(line.timestamp_ms for line in scan_lines(SHAPE))
    assert [line.timestamp_ms for line in lines] == sorted(line.timestamp_ms for line in lines)
    assert lines[-1].timestamp_ms < first + 86_400_000
    assert len({line.value for line in lines}) == 500
    assert {line.key for line in lines} <= {person.encode() for person in person_ids(SHAPE)}


def test_pairs_come_sorted(models: Models) -> None:
    """RocksDB takes files of sorted keys alone; what is nobody's stands between."""
    ids = sorted(bytes.fromhex(person) for person in person_ids(Shape(people=20)))
    keys = [key for key, _ in pairs(models, ids, [number % len(models.people) for number in range(20)])]
    assert keys == sorted(set(keys))
    assert {key for key, _ in models.others} < set(keys)


def test_filled_stores_are_those_of_a_room(tmp_path: Path, settings: Settings, models: Models) -> None:
    """Everybody is held at home; a day is taken there, and a scan that is held is known again."""
    size = fill(settings, tmp_path, models, PEOPLE, SHAPE.seed)
    assert size > 0
    everyone = person_ids(Shape(people=PEOPLE, seed=SHAPE.seed))
    [(letter, _, _)] = models.people[0][:1]
    directory = directory_of(SHAPE)
    for partition in range(PARTITIONS):
        store = Store(tmp_path / f"person-{partition}")
        home = [person for person in everyone if partition_of(person.encode(), PARTITIONS) == partition]
        assert all(store.get(letter + bytes.fromhex(person)) for person in home)
        lines = [line for line in scan_lines(SHAPE) if line.key is not None and line.key.decode() in home]
        records = [Record(number, line.timestamp_ms, line.key, line.value) for number, line in enumerate(lines)]
        step = take_scans(room_of(settings, partition, PARTITIONS), 1, records, store, directory)
        assert step.counts["accepted"] + step.counts.get("duplicate", 0) == len(lines) > 0
        store.close()


def test_a_held_scan_is_known_again(settings: Settings, models: Models) -> None:
    """What is copied under other names is the state itself, duplicates and all."""
    state = MemoryState()
    lines = list(history_lines(SHAPE, SHAPE.people * SCANS_PER_PERSON, 28))
    line = lines[-1]
    number = person_ids(SHAPE).index(line.key.decode() if line.key else "")
    state.apply(dict(pairs(models, [bytes.fromhex(person_ids(SHAPE)[number])], [number])))
    record = Record(0, line.timestamp_ms, line.key, line.value)
    assert take_scans(room_of(settings, 0, 1), 1, [record], state, directory_of(SHAPE)).counts == {"duplicate": 1}
