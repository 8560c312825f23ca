"""No record costs more than itself: what is skipped, what is stored of its neighbours, and the row that says so."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.areas import load_areas
from schemas.outbound import Reject
from sinks.backends import Backend, ColumnValues, arrow_arrays, as_list
from sinks.columns import decoder_of
from sinks.records import Records
from sinks.tables import SINK_TOPICS, TABLES
from sinks.taking import Taking
from streams.core import foreign
from tests.sinks import data
from tests.sinks.test_backends import READ_MS, ZONE, FakeRecord

WHOLE: Final[Mapping[str, dict[str, Any]]] = {
    "enriched": data.scan(1),
    "aggregates": data.area_day("2021-10-14", "VN", "person-0", (1, 1, 0)),
    "rejects": data.reject(1),
    "case-states": data.case_state("C"),
    "visits": data.visit(1),
    "exposures": data.exposure(1),
}
STRAY: Final[Sequence[bytes | None]] = [
    None, b"", b" ", b"\n", b"{}", b"null", b"[]", b"1", b"{},{}", b'{"family":"moon_phase"}', b"{", b'{"scan_id":1}',
    b"]", b"\xff", b'{"a":' * 5_000, b'"\xed\xa0\x80"',
]  # fmt: skip
"""What is no record of any topic."""
_TIMES: Final = {
    "enriched": "occurred_at", "rejects": "record_at", "visits": "first_scan_at", "exposures": "contact_scan_at",
    "aggregates": "day",
}  # fmt: skip


class Plain:
    """A backend that takes rows as they are."""

    def prepare(self, table: str, columns: Mapping[str, ColumnValues]) -> list[tuple[Any, ...]]:
        """The rows."""
        arrow_arrays(TABLES[table], columns)
        return list(zip(*(as_list(columns[column.name]) for column in TABLES[table].columns), strict=True))


DECODERS = {f"t.{topic}": decoder_of(topic, load_areas(), ZONE) for topic in SINK_TOPICS}


def timed(values: Sequence[bytes | None]) -> Records:
    """Records of these values, at the offsets from 0 on."""
    return Records([FakeRecord(b"k", value, offset) for offset, value in enumerate(values)], timed=True)


def taken(topic: str, values: Sequence[bytes | None]) -> dict[str, list[dict[str, Any]]]:
    """The rows by table."""
    taking = Taking(cast("Backend", Plain()), DECODERS, "t.rejects")
    found: dict[str, list[dict[str, Any]]] = {}
    for table, rows, block in taking.each(f"t.{topic}", timed(values)):
        assert rows == len(block)
        names = [column.name for column in TABLES[table].columns]
        found.setdefault(table, []).extend(dict(zip(names, row, strict=True)) for row in block)
    return found


def skipped(found: Mapping[str, list[dict[str, Any]]]) -> list[int]:
    """The offsets of the records that were skipped."""
    return sorted(row["offset"] for row in found.get("rejects", []) if row["reason"] == "foreign_record")


def bad_values(topic: str) -> list[bytes]:
    """A record with one thing wrong that its table could not hold, or no view could show."""
    whole = WHOLE[topic]
    changes: list[dict[str, object]] = [
        {"revision": number} for number in (-1, 1.5, "1", None, 2**53, 2**63, 2**64, 10**30)
    ]
    if topic in _TIMES:
        odd: tuple[object, ...] = (
            "",
            "yesterday",
            "2021-13-14T00:00:00.000Z",
            "0000-01-01T00:00:00.000Z",
            "9999-12-31T23:59:59.999Z",
        )
        odd += ("1960-01-01T00:00:00.000Z", "2021-02-30", "2021-13-01", "2021-1-1-1", "1-1-1", "9999-01-01", None, 7)
        changes += [{_TIMES[topic]: value} for value in odd]
    if topic == "rejects":
        changes += [{"status": "mislaid"}, {"epoch": -1}, {"offset": 2**63}, {"attempts": "1"}, {"partition": 1.5}]
    if topic == "case-states":
        changes += [{"onset_at": "never"}, {"reported_at": "2021-10-14"}, {"ruleset": 1}]
    if topic in ("enriched", "exposures"):
        name = "lat" if topic == "enriched" else "score"
        changes += [{name: "1"}, {name: None}, {name: []}]
    values = [msgspec.json.encode(whole | change) for change in changes]
    lone = msgspec.json.encode(whole | {"status": "@"}).replace(b'"@"', b'"\\ud800"')
    return [*values, lone, msgspec.json.encode(whole)[:-1], msgspec.json.encode(whole) * 2]


@pytest.mark.parametrize("topic", WHOLE)
@pytest.mark.parametrize("around", [1, 20])
def test_each_stray_record_is_one_row_and_nothing_more(topic: str, around: int) -> None:
    """Whatever stands beside it and however many, every whole record is stored, and every other one has its row."""
    good = msgspec.json.encode(WHOLE[topic])
    values: list[bytes | None] = []
    for bad in [*STRAY, *bad_values(topic)]:
        values += [*[good] * around, bad]
    found = taken(topic, values)
    wanted = [offset for offset, value in enumerate(values) if value is not good]
    assert skipped(found) == wanted
    assert sum(map(len, found.values())) == len(values)


@pytest.mark.parametrize("topic", WHOLE)
def test_a_record_s_verdict_is_its_own(topic: str) -> None:
    """Read alone or among others, cut up or as JSON, a record is taken or not; and its row is the same."""
    good = msgspec.json.encode(WHOLE[topic])
    values = [good, *STRAY, *bad_values(topic), good.replace(b"2021-10", b"2021-11"), good + b" "]
    together = taken(topic, [*[good] * 10, *values])
    for offset, value in enumerate(values, 10):
        alone = taken(topic, [None] * offset + [value])
        assert (offset in skipped(alone)) == (offset in skipped(together)), value
        assert [row for row in alone["rejects"] if row["offset"] == offset and row["topic"] == f"t.{topic}"] == [
            row for row in together["rejects"] if row["offset"] == offset and row["topic"] == f"t.{topic}"
        ]


def test_the_parts_of_two_records_are_no_two_records() -> None:
    """What comes to JSON only with its neighbour, or is two events in one record, is foreign, record by record."""
    scan = msgspec.json.encode(data.scan(1))
    split = [scan[:-1] + b',"z":[{}', b"{}]}", scan + b"," + scan, scan + b"\n" + scan, b""]
    for values in (split, split[:2], [*split[3:], scan], [scan, *split, *[scan] * 10]):
        found = taken("enriched", values)
        assert skipped(found) == [offset for offset, value in enumerate(values) if value is not scan]


def test_the_row_is_a_function_of_the_record_alone() -> None:
    """Its place and its timestamp, which counts as the nearest that there may be; nothing of what it holds."""
    [row] = taken("visits", [b'{"secret":"nguyen van a"}'])["rejects"]
    assert row == {
        "topic": "t.visits", "epoch": 0, "partition": 0, "offset": 0, "record_at": READ_MS, "key": None,
        "reason": "foreign_record", "detail": foreign.DETAIL, "payload": None, "attempts": 0, "status": "open",
        "revision": 1, "day": 20990101,
    }  # fmt: skip
    for at_ms, told in ((-1, 0), (-(2**63), 0), (2**63 - 1, 4_102_444_799_999)):
        value = json.loads(foreign.row_of("t.visits", 3, 7, at_ms))
        assert value == Reject.model_validate(value).model_dump()
        assert value["record_at"] == ("1970-01-01T00:00:00.000Z", "2099-12-31T23:59:59.999Z")[told > 0]
        assert taken("rejects", [msgspec.json.encode(value)])["rejects"][0]["record_at"] == told


def test_our_own_bug_costs_the_record_that_meets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row names the kind of the error and where in the code, never what it says; the others are stored."""
    decode = DECODERS["t.enriched"]

    def fails(records: Records) -> Any:  # noqa: ANN401 - as it is called
        if any(b'"s7"' in (value or b"") for value in records.values):
            raise KeyError("nguyen van a")
        return decode(records)

    fails.keyed = False  # type: ignore[attr-defined]
    monkeypatch.setitem(DECODERS, "t.enriched", fails)
    found = taken("enriched", [data.encoded(data.scan(number)) for number in range(100)])
    assert sorted(row["scan_id"] for row in found["scans"]) == sorted(f"s{n}" for n in range(100) if n != 7)
    [row] = found["rejects"]
    assert (row["topic"], row["offset"], row["reason"]) == ("t.enriched", 7, "failed")
    assert row["detail"].startswith("KeyError in tests.sinks.test_taking, line ")


def test_memory_that_is_gone_is_no_record_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the process, as before."""

    def full(_records: Records) -> Any:  # noqa: ANN401 - as it is called
        raise MemoryError

    monkeypatch.setitem(DECODERS, "t.enriched", full)
    with pytest.raises(MemoryError):
        taken("enriched", [b"{}"] * 3)


def test_a_run_of_foreign_records_alone_takes_no_longer_than_it_is_long() -> None:
    """Twice as many take about twice as long, and five thousand less than the time in which a member is missed."""
    began = time.process_time()
    found = taken("enriched", [b'{"n":%d}' % number for number in range(5_000)])
    assert len(skipped(found)) == 5_000
    assert time.process_time() - began < 10


@given(st.lists(st.binary(max_size=40) | st.just(msgspec.json.encode(data.visit(1))), max_size=30))
@settings(max_examples=60)
def test_bytes_of_any_kind_end_nothing(values: list[bytes]) -> None:
    """Each record of whatever bytes is a row of its table or of ``rejects``."""
    found = taken("visits", values)
    assert sum(map(len, found.values())) == len(values)


@given(st.integers(0, 40), st.integers(0, 40), st.booleans())
def test_parts_of_records_are_where_they_were(start: int, stop: int, gaps: bool) -> None:  # noqa: FBT001 - drawn
    """A part has the values, places and times of its records, whether offsets are missing or not."""
    offsets = [offset * (3 if gaps else 1) for offset in range(30)]
    records = Records([FakeRecord(b"k", b"%d" % offset, offset) for offset in offsets[:17]], keyed=True, timed=True)
    records.add([FakeRecord(b"k", b"%d" % offset, offset) for offset in offsets[17:]])
    part = records.part(start, stop)
    assert [place.offset for place in part.places()] == offsets[start:stop]
    assert part.values == [b"%d" % offset for offset in offsets[start:stop]]
    assert [time - READ_MS for time in part.times_ms] == offsets[start:stop]
    assert len(part.keys) == len(part) == len(offsets[start:stop])
