"""The simulator's workloads through the core alone, in any interleaving: the checker agrees; and sees what is wrong."""

import dataclasses
import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from typing import Any

import pytest

from streams.core import held_scans
from streams.core.reasons import REASONS
from streams.core.step import HeadedMessage, Record
from tests.core.pipeline import CROSSING, PERSONS, Pipeline
from tests.golden.compare import CELL_KEYS
from tests.oracle.wire import CASE_TIMES
from tests.sim.checking import Wanted, coverage, differences
from tests.sim.checking_topics import KEYS
from tests.sim.workload import EARLY, Workload, make
from tests.sim.workload_time import QUIET_FROM

Row = dict[str, Any]
Rows = dict[str, list[Row]]
Topics = dict[str, list[Record]]

SEEDS = range(32)
TOPICS = (*PERSONS, *CROSSING)
NO_EVENT = {"too_many_waiting", "corrupt_batch", "failed", "foreign_record"}
"""Reasons that do not lie in an event itself, or that depend on the order."""


class Played(Pipeline):
    """A pipeline that remembers what it wrote to its topics, and takes a workload."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload.partitions, workload.retention_days)
        self.rooms = [dataclasses.replace(room, rulesets=workload.rulesets) for room in self.rooms]
        self.topics: Topics = defaultdict(list)

    def _deliver(self, message: HeadedMessage) -> None:
        super()._deliver(message)
        log = self.topics[message.topic]
        log.append(Record(len(log), message.timestamp, message.key, message.value, message.headers))

    @property
    def is_behind(self) -> bool:
        """Whether an input has records that no step has taken."""
        logs, steps = self.logs, self.steps
        return any(len(log) > steps[f"next {topic}", at] for (topic, at), log in logs.items() if topic in TOPICS)

    def take_some(self, rng: random.Random) -> None:
        """One step over the next few records of one topic, whatever lies in the others."""
        topic, room = rng.choice(TOPICS), rng.choice(self.rooms)
        done = self.steps[f"next {topic}", room.partition]
        records = self.logs[topic, room.partition][done : done + rng.choice([1, 1, 2, 5, 30])]
        if records:
            self.steps[f"next {topic}", room.partition] += len(records)
            self._take(topic, room, records)


def play(workload: Workload, seed: int) -> tuple[Rows, Topics]:
    """The final rows and the committed records of one interleaving."""
    rng = random.Random(f"{workload.seed} {seed}")
    eagerness = rng.choice([0.1, 1.0, 3.0])
    pipeline = Played(workload)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_scans, "CHUNK_BYTES_MAX", workload.chunk_bytes)
        for number, send in enumerate(workload.sends):
            pipeline.produce(send.topic, send.key, send.value, send.timestamp_ms, send.partition, send.headers)
            if send.at > EARLY:
                if workload.sends[number - 1].at == EARLY or (send.topic == "venues" and rng.random() < 0.5):
                    pipeline.register()
                for _ in range(int(rng.expovariate(1 / eagerness))):
                    pipeline.take_some(rng)
                # What is sent when time stands still comes after the last expiry.
                last = workload.sends[number - 1].at <= QUIET_FROM + 1 < send.at
                if workload.expires and (last or rng.random() < 0.05):
                    pipeline.run(lambda _: [3, 20])
                    pipeline.expire()
        pipeline.register()
        while pipeline.is_behind:
            pipeline.take_some(rng)
        pipeline.register()
    rows = {table: [_stored(row) for row in theirs] for table, theirs in pipeline.views().items()}
    return rows, pipeline.topics


def _stored(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "family"}


@pytest.mark.parametrize("seed", SEEDS)
def test_any_interleaving_gives_what_the_workload_must(seed: int) -> None:
    """At least 300 records, and no difference."""
    workload = make(seed)
    assert 300 <= len(workload.sends) <= 450
    assert differences(workload, *play(workload, seed)) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_part_of_a_workload_is_a_workload(seed: int) -> None:
    """Without any of its records it has an answer, too: so what fails can be made smaller."""
    rng = random.Random(seed)
    workload = make(seed)
    count = len(workload.sends)
    part = workload.without(rng.sample(range(count), rng.choice([count // 2, count - 20])))
    assert len(part.sends) < count
    assert differences(part, *play(part, seed)) == []


def test_a_seed_always_says_the_same() -> None:
    """One seed, one workload, whatever order the interpreter keeps sets in; another seed, another one."""
    script = "from tests.sim.workload import make; print(hash_of(*(make(seed) for seed in range(8))))"
    script = "import hashlib; hash_of = lambda *w: hashlib.sha256(repr(w).encode()).hexdigest(); " + script
    said = {
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": order}
        ).stdout
        for order in ("1", "2")
    }
    assert len(said) == 1
    assert make(0).sends != make(2).sends


def test_all_that_the_contract_knows_comes_up() -> None:
    """Every reason of a dead letter, every way to come and go: a workload that lacks one proves nothing about it."""
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        counts += coverage(make(seed), *play(make(seed), seed))
    names = {f"reject {reason}" for reason in REASONS if reason not in NO_EVENT}
    names |= {f"profile {name}" for name in ("bad", "copies", "days", "mixed")}
    names |= {f"scans {status}" for status in ("active", "erased", "expired")}
    names |= {f"cases {status}" for status in ("confirmed", "withdrawn", "erased")}
    names |= {f"{topic} {what}" for topic in ("visits", "exposures") for what in ("active", "retracted", "returned")}
    names |= {"waiting", "waiting resolved", "sent again", "bare dead letters", "erased persons", "long timelines"}
    names |= {"copies", "misrouted and found", "exposures by rule"}
    assert {name for name in names if counts[name] == 0} == set()
    bad, malformed = (sum(rows) for rows in zip(*map(_bad_share, range(1, 33, 8)), strict=True))
    assert 0.45 < malformed / bad < 0.6


def _bad_share(seed: int) -> tuple[int, int]:
    """(records, those that are no event by themselves)."""
    judged = Wanted(make(seed)).judged
    return len(judged), sum(each.line.event is None for each in judged)


# What a run may leave behind that is wrong.

Outcome = tuple[Workload, Rows, Topics]
QUIET = 10
"""A seed that erases nobody, so that nothing is left open."""


@pytest.fixture(scope="module")
def played() -> Outcome:
    """A run that is as it must be."""
    workload = make(QUIET)
    rows, topics = play(workload, QUIET)
    assert coverage(workload, rows, topics)["erased persons"] == 0
    return workload, rows, topics


def _with(rows: Rows, table: str, changed: list[Row]) -> Rows:
    return {**rows, table: changed}


@pytest.mark.parametrize("table", ["scans", "visits", "cases", "exposures", "rejects", *CELL_KEYS])
def test_a_row_that_is_lost_doubled_or_changed_is_seen(played: Outcome, table: str) -> None:
    """Whatever the table, and also where its topic agrees with it."""
    workload, rows, topics = played
    theirs = rows[table]
    for at in range(0, len(theirs), 1 + len(theirs) // 12):
        row = theirs[at]
        assert differences(workload, _with(rows, table, theirs[:at] + theirs[at + 1 :]), topics), row
        assert differences(workload, _with(rows, table, [*theirs, row]), topics), row
        for name, value in row.items():
            other = {**row, name: _other(name, value)}
            found = differences(workload, _with(rows, table, [*theirs[:at], other, *theirs[at + 1 :]]), topics)
            assert found, f"{name} of {row}"
            assert all(len(line) < 2_000 for line in found)


def _other(name: str, value: object) -> object:
    """Another value that a column may have."""
    if name == "category":
        return "hotel" if value != "hotel" else "mall"
    if value is None and name in CASE_TIMES:
        return "1999-01-01T00:00:00.000Z"
    if isinstance(value, int | float):
        return value + 1
    return f"1999{value[4:]}" if isinstance(value, str) and value.endswith("Z") else f"{value}x"


@pytest.mark.parametrize("topic", ["enriched", "visits", "case-states", "exposures", "rejects", "aggregates"])
def test_a_record_that_is_lost_repeated_or_changed_is_seen(played: Outcome, topic: str) -> None:
    """The last record of a key, one with a revision that was used, one that comes too late."""
    workload, rows, topics = played
    log = topics[topic]
    contents = [json.loads(record.value or b"") for record in log]
    last = {_key(topic, row): at for at, row in enumerate(contents)}
    for at in sorted(last.values())[:: 1 + len(last) // 12]:
        lost = {**topics, topic: log[:at] + log[at + 1 :]}
        assert differences(workload, rows, lost), contents[at]
        other = contents[at] | {"status": "other"}
        twice = {**topics, topic: [*log, log[at]._replace(value=json.dumps(other).encode())]}
        assert any("says" in line for line in differences(workload, rows, twice)), contents[at]
        if topic != "rejects":
            again = {**topics, topic: [*log, log[at]]}
            assert any("after" in line for line in differences(workload, rows, again)), contents[at]


def _key(topic: str, row: Row) -> tuple[Any, ...]:
    table = row.get("family", {"enriched": "scans", "case-states": "cases"}.get(topic, topic))
    return table, *(row[name] for name in KEYS[table])


@pytest.mark.parametrize("topic", ["visits", "exposures"])
def test_a_retraction_that_is_missing_is_seen(played: Outcome, topic: str) -> None:
    """Also where it is missing everywhere, so that topic and table agree."""
    workload, rows, topics = played
    [name] = KEYS[topic]
    gone = [row for row in rows[topic] if row["status"] == "retracted"]
    assert gone
    for row in gone[:10]:
        contents = [(json.loads(record.value or b""), record) for record in topics[topic]]
        log = [record for said, record in contents if said[name] != row[name] or said["status"] == "active"]
        [*_, last] = [said for said, _ in contents if said[name] == row[name] and said["status"] == "active"]
        stored = [last if each is row else each for each in rows[topic]]
        found = differences(workload, {**rows, topic: stored}, {**topics, topic: log})
        assert any(row[name] in line and "wanted none" in line for line in found)
