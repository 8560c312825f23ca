"""The sink's readers: records of every topic that it stores, cut up where they lie, and read as JSON."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, cast

from sinks import columns as columns_module
from sinks.backends import Backend, ColumnValues, arrow_arrays, as_list
from sinks.columns import decoder_of
from sinks.records import Records
from sinks.tables import SINK_TOPICS, TABLES
from sinks.taking import Taking
from streams.core.step import Record
from tests.fuzz import events, rooms
from tests.fuzz.calls import Answer, Call, Reader
from tests.fuzz.chance import Chance
from tests.fuzz.events import AREAS, HOSTILE, ONE, SEVERAL, VALID, Draft
from tests.fuzz.rooms import shown, size_of
from tests.fuzz.values import hostile_value, odd_value
from tests.sinks.test_backends import ZONE

_RUN_MAX: Final = 120
_FOREIGN_SECONDS_MAX: Final = 2e-3
"""A record that is none of ours is found by halving, and columns are made anew for each half."""
_EPISODES: Final = 12
_STORED: Final = "row"
_FOREIGN: Final = "foreign_record"
_FAILED: Final = "failed"


class _Plain:
    """A backend that takes rows as they are."""

    def prepare(self, table: str, columns: Mapping[str, ColumnValues]) -> list[tuple[Any, ...]]:
        """The rows."""
        arrow_arrays(TABLES[table], columns)
        return list(zip(*(as_list(columns[column.name]) for column in TABLES[table].columns), strict=True))


class _Message:
    """A record as the Kafka client hands it out."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def key(self) -> bytes | None:
        return self._record.key

    def value(self) -> bytes | None:
        return self._record.value

    def offset(self) -> int:
        return self._record.offset

    def partition(self) -> int:
        return 3

    def timestamp(self) -> tuple[int, int]:
        return 1, self._record.timestamp


@cache
def stored() -> dict[str, list[Record]]:
    """Records of each topic that is stored, as the rooms write them."""
    return rooms.corpus("sink", _EPISODES)


@cache
def _taking() -> Taking:
    decoders = {f"t.{topic}": decoder_of(topic, AREAS, ZONE) for topic in SINK_TOPICS}
    return Taking(cast("Backend", _Plain()), decoders, "t.rejects")


def _rows(topic: str, records: Sequence[Record]) -> dict[str, list[Any]]:
    messages = Records([_Message(record) for record in records], keyed=topic == "venues", timed=True)
    found: dict[str, list[Any]] = {}
    for table, _, block in _taking().each(f"t.{topic}", messages):
        found.setdefault(table, []).extend(block)
    return {table: sorted(rows, key=repr) for table, rows in found.items()}


def _as_json(topic: str, records: Sequence[Record]) -> dict[str, list[Any]]:
    before, columns_module._CUT_MIN = columns_module._CUT_MIN, len(records) + 1  # type: ignore[misc]
    try:
        return _rows(topic, records)
    finally:
        columns_module._CUT_MIN = before  # type: ignore[misc]


def _drawn(chance: Chance, topic: str, good: Sequence[Record]) -> tuple[list[Record], Counter[str]]:
    """A run of records of a topic, some of them bent."""
    records, hows = [], Counter[str]()
    at = chance.below(len(good))
    bent_share = chance.pick((0.0, 0.05, 0.6))
    for offset in range(1 + chance.below(_RUN_MAX)):
        if topic == "venues":
            record, how = events.made(chance, topic, offset)
        else:
            record, how = good[(at + offset) % len(good)]._replace(offset=offset), VALID
            if chance.random() < bent_share:
                record, how = _bent(chance, record)
        records.append(record)
        hows[how] += 1
    return records, hows


def _bent(chance: Chance, record: Record) -> tuple[Record, str]:
    value = record.value or b""
    turn = chance.below(40)
    if turn == 0:
        return record._replace(value=hostile_value(chance)), HOSTILE
    if turn == 1:
        return record._replace(value=None), ONE
    if turn < 12:
        draft = Draft([], record.key, record.timestamp, [], value)
        events.bend(chance, draft)
        return draft.record(record.offset), ONE
    if turn < 24:
        # One field's value by another: texts and numbers stand between a colon and a comma.
        start = value.find(b":", chance.below(len(value) or 1)) + 1
        end = value.find(b",", start)
        if start and end > 0:
            return record._replace(value=value[:start] + odd_value(chance) + value[end:]), ONE
    many = turn >= 36
    for _ in range(3 if many else 1):
        value = chance.bend(value)
    return record._replace(value=value), SEVERAL if many else ONE


def reader(topic: str) -> Reader:
    """The sink's reader of one topic."""

    def case(chance: Chance) -> Iterator[Call]:
        good = stored().get(topic, [])
        records, hows = _drawn(chance, topic, good or [Record(0, 0, None, b"{}")])

        def read() -> Answer:
            rows = _rows(topic, records)
            skipped = failed = 0
            if topic != "venues":
                reasons = [row[_REASON] for row in rows.get("rejects", []) if row[_PARTITION] == _OWN_PARTITION]
                skipped, failed = reasons.count(_FOREIGN), reasons.count(_FAILED)
            whole = sum(map(len, rows.values())) - skipped - failed
            found = +Counter({_STORED: whole, _FOREIGN: skipped, _FAILED: failed})
            if topic == "venues":
                found[_PASSED_OVER] = len(records) - whole
            return Answer(found, rows)

        call = Call(read, len(records), size_of(records), shown(records), hows)
        call.twin = lambda: _as_json(topic, records)
        call.record_seconds_max = _FOREIGN_SECONDS_MAX
        yield call

    verdicts = {_STORED, _PASSED_OVER if topic == "venues" else _FOREIGN}
    return Reader(f"sink {topic}", case, frozenset(verdicts))


_PASSED_OVER: Final = "passed over"
_OWN_PARTITION: Final = 3
_NAMES: Final = [column.name for column in TABLES["rejects"].columns]
_REASON: Final = _NAMES.index("reason")
_PARTITION: Final = _NAMES.index("partition")
