"""The core alone, over a log in memory: what a worker does, without Kafka, Faust, RocksDB or threads.

Batches may be cut anywhere; every output goes through JSON as a reader would see it, and the final rows are
those that ``truyvet replay`` writes.
"""

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from producers.lines import CASES, ERASURES, SCANS, VENUES, VENUES_LATE, read_lines
from schemas.areas import load_areas
from streams.core import cases, erasure, expiry, keys, person, portions, proximity, venue, waiting
from streams.core.crossing import CASE_VISITS, VISITS
from streams.core.directory import Directory
from streams.core.inbound import VenueIn
from streams.core.partition import partition_of
from streams.core.returned import RETURNS, Returned, by_topic
from streams.core.room import RoomPartition
from streams.core.step import BY_KEY, HeadedMessage, Headers, InRecord, Record, Step
from streams.core.times import LocalClock
from streams.core.versions import Removal, judge_versions
from truyvet.rulesets import load_rulesets

Row = dict[str, Any]
Cut = Callable[[int], Iterable[int]]
AREAS = load_areas()
CLOCK = LocalClock(ZoneInfo("Asia/Ho_Chi_Minh"))
RULESETS = load_rulesets(None)
CROSSING: dict[str, Any] = {
    "venue-marks": venue.take_marks,
    VISITS: proximity.take_visits,
    CASE_VISITS: proximity.take_case_visits,
}
"""What goes from the person room to the venue room."""
PERSONS: dict[str, Any] = {
    person.SCANS: person.take_scans,
    cases.CASES: cases.take_cases,
    erasure.ERASURES: erasure.take_erasures,
    RETURNS: None,
}
"""What comes to the person room, beside the register."""
DAY_MS = 86_400_000
KEYS: dict[str, tuple[str, ...]] = {
    "enriched": ("person_id", "scan_id"),
    "rejects": ("topic", "epoch", "partition", "offset"),
    "case-states": ("case_id", "person_id"),
    "visits": ("visit_id",),
    "exposures": ("exposure_id",),
    "ward_minute": ("minute", "ward_code", "part"),
    "venue_hour": ("hour", "venue_id", "part"),
    "area_day": ("day", "level", "code", "part"),
}
TABLES = {"enriched": "scans", "case-states": "cases"}


class MemoryState:
    """A StateReader over a dictionary."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self._sorted: list[bytes] | None = None

    def get(self, key: bytes) -> bytes | None:
        return self.data.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.data.get(key) for key in keys]

    def _keys(self) -> list[bytes]:
        if self._sorted is None or len(self._sorted) != len(self.data):
            self._sorted = sorted(self.data)
        return self._sorted

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        keys = self._keys()
        start = max(bisect_left(keys, prefix), bisect_right(keys, after))
        return [(key, self.data[key]) for key in keys[start : start + limit] if key.startswith(prefix)]

    def between(self, first: bytes, stop: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        keys = self._keys()
        return [(key, self.data[key]) for key in keys[bisect_left(keys, first) : bisect_left(keys, stop)][:limit]]

    def apply(self, step: Step) -> None:
        if any(value is None or key not in self.data for key, value in step.changes.items()):
            self._sorted = None
        for key, value in step.changes.items():
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value


class Pipeline:
    """Both rooms of ``partitions`` partitions."""

    def __init__(self, partitions: int = 1, retention_days: int = 28) -> None:
        self.partitions = partitions
        self.rooms = [
            RoomPartition(p, partitions, "checkin.", retention_days * DAY_MS, CLOCK, RULESETS)
            for p in range(partitions)
        ]
        self.person_states = [MemoryState() for _ in self.rooms]
        self.venue_states = [MemoryState() for _ in self.rooms]
        self.steps: dict[tuple[str, int], int] = defaultdict(int)
        self.logs: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.directory = Directory()
        self.register_ms = 0
        self.outputs: dict[str, list[Row]] = defaultdict(list)
        self.portions = 0

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        partition: int = BY_KEY,
        headers: Headers = (),
    ) -> None:
        """Appends a record to its partition's log."""
        home = partition if partition >= 0 else partition_of(key or b"", self.partitions)
        log = self.logs[topic, home]
        log.append(Record(len(log), timestamp, key, value, headers))

    def register(self) -> None:
        """Takes everything in ``venues`` that was not taken, then looks at what waits."""
        while any(len(self.logs["venues", p]) > self.steps["next venues", p] for p in range(self.partitions)):
            for room in self.rooms:
                self._take_versions(room, self._fresh("venues", room.partition))
        for room, state in zip(self.rooms, self.person_states, strict=True):
            waits = waiting.waiting_for(None, state, 1_000_000)
            if waits:
                step = person.take_waiting(
                    room, self._number("person", room), waits, self.register_ms, state, self.directory
                )
                self._commit("person", room, step)

    def _take_versions(self, room: RoomPartition, records: list[Record]) -> None:
        for record, verdict in zip(
            records, judge_versions(records, room.partition, self.partitions, AREAS), strict=True
        ):
            if isinstance(verdict, VenueIn):
                self.directory.put(verdict)
            elif not (isinstance(verdict, Removal) and self.directory.remove(verdict.venue_id)):
                continue
            self.register_ms = max(self.register_ms, record.timestamp)
        if records:
            state = self.person_states[room.partition]
            step = person.take_venues(room, self._number("person", room), records, state, AREAS)
            self._commit("person", room, step)

    def run(self, cut: Cut) -> None:
        """Takes everything in the persons' topics and what crosses, in batches of the sizes that ``cut`` gives."""
        moved = True
        while moved:
            moved = False
            for room in self.rooms:
                for topic in (*PERSONS, *CROSSING):
                    for records in _batches(self._fresh(topic, room.partition), cut):
                        self._take(topic, room, records)
                        moved = True

    def _take(self, topic: str, room: RoomPartition, records: Sequence[InRecord]) -> None:
        if topic == RETURNS and not isinstance(records[0], Returned):
            for of, run in by_topic(records):
                self._take(of, room, run)
            return
        name = "venue" if topic in CROSSING else "person"
        state = (self.venue_states if topic in CROSSING else self.person_states)[room.partition]
        number = self._number(name, room)
        if topic == person.SCANS:
            step = person.take_scans(room, number, records, state, self.directory)
        elif topic == person.VENUES:
            step = person.take_venues(room, number, records, state, AREAS, venues=self.directory)
        else:
            step = (PERSONS | CROSSING)[topic](room, number, records, state)
        self._commit(name, room, step)

    def expire(self) -> int:
        """Lets both rooms go of what is too old, as a worker does at the end of its inputs; the number of portions."""
        portions = 0
        for room in self.rooms:
            for name, states in (("person", self.person_states), ("venue", self.venue_states)):
                topics = PERSONS if name == "person" else CROSSING
                newest_ms = max([r.timestamp for topic in topics for r in self.logs[topic, room.partition]], default=0)
                after: bytes | None = b""
                while after is not None:
                    number, state = self._number(name, room), states[room.partition]
                    step, after = expiry.take_expiry(name, room, number, newest_ms, after, state)
                    assert not step.outputs, "expiry is silent"
                    assert not step.headed, "expiry is silent"
                    self._commit(name, room, step)
                    portions += 1
        return portions

    def _fresh(self, topic: str, partition: int) -> list[Record]:
        log = self.logs[topic, partition]
        done = self.steps[f"next {topic}", partition]
        self.steps[f"next {topic}", partition] = len(log)
        return log[done:]

    def _number(self, name: str, room: RoomPartition) -> int:
        self.steps[name, room.partition] += 1
        return self.steps[name, room.partition]

    def _commit(self, name: str, room: RoomPartition, step: Step) -> None:
        states = self.person_states if name == "person" else self.venue_states
        states[room.partition].apply(step)
        for topic, messages in step.outputs.items():
            for key, value, partition, timestamp_ms in messages:
                self._deliver(HeadedMessage(topic, partition, key, value, timestamp_ms, []))
        for message in step.headed:
            self._deliver(message)
        if step.pending:
            self.carry_on(name, room)

    def carry_on(self, name: str, room: RoomPartition) -> None:
        """Does the work that is left of a room partition, as a worker does before it takes another record."""
        state = (self.person_states if name == "person" else self.venue_states)[room.partition]
        first, is_left = keys.PENDING, True
        while is_left and (portion := portions.take_portion(room, self._number(name, room), first, state)):
            step, first = portion
            self.portions += 1
            is_left, step.pending = step.pending, False
            self._commit(name, room, step)
        assert not state.scan(keys.PENDING, 1)

    def _deliver(self, message: HeadedMessage) -> None:
        topic, partition, key, value, timestamp_ms, headers = message
        if topic in (person.VENUES, *PERSONS, *CROSSING):
            self.produce(topic, key, value, timestamp_ms, partition, headers)
        if topic not in (person.VENUES, *PERSONS, CASE_VISITS, "venue-marks"):
            self.outputs[topic].append(json.loads(value or b""))

    def views(self) -> dict[str, list[Row]]:
        """The final rows of every table: of each key the one with the highest revision."""
        newest: dict[str, dict[tuple[Any, ...], Row]] = defaultdict(dict)
        for topic, rows in self.outputs.items():
            for row in rows:
                table = row.get("family", topic)
                key = tuple(row[name] for name in KEYS[table])
                held = newest[table].get(key)
                if held is not None and held["revision"] == row["revision"]:
                    assert held == row, f"two contents of one revision: {held} {row}"
                if held is None or held["revision"] < row["revision"]:
                    newest[table][key] = row
        names = ("scans", "visits", "cases", "exposures", "rejects", "ward_minute", "venue_hour", "area_day")
        tables = {TABLES.get(table, table): list(rows.values()) for table, rows in newest.items()}
        return {name: tables.get(name, []) for name in names}


def _batches(records: list[Record], cut: Cut) -> Iterator[list[Record]]:
    at = 0
    for size in cut(len(records)):
        if at >= len(records):
            break
        yield records[at : at + size]
        at += size
    if at < len(records):
        yield records[at:]


def whole(_: int) -> Iterable[int]:
    """One batch of everything."""
    return ()


def one_by_one(count: int) -> Iterable[int]:
    """A batch per record."""
    return [1] * count


def replayed(directory: Path, partitions: int, cut: Cut) -> "Pipeline":
    """A pipeline that took a folder of input files, in the order ``truyvet replay`` does (SPEC §10)."""
    pipeline = Pipeline(partitions)
    for kinds in ((VENUES,), (SCANS, CASES, ERASURES), (VENUES_LATE,)):
        for kind in kinds:
            for number, line in enumerate(read_lines(directory / kind.file_name, kind)):
                home = number % partitions if line.key is None else BY_KEY
                pipeline.produce(kind.topic, line.key, line.value, line.timestamp_ms, home)
        pipeline.register()
        pipeline.run(cut)
    return pipeline
