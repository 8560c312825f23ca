"""Records on the room's own topics that are none of the pipeline's: each is one row, and changes nothing else."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.outbound import Reject
from streams.core import foreign, keys, proximity, state_form, venue
from streams.core.crossing import HEADER_WAS, Interval, encode_case_visit, was_header
from streams.core.state_form import may_be_state
from streams.core.step import Record, Step
from streams.core.times import MINUTE_MS
from tests.core.test_migrate import PARTITIONS, RECORDED, _recorded
from tests.core.test_proximity import CASES, NOON_MS, PLAIN, ROOM, VISITS, Cut, Dictionary, World

Value = bytes | None
SPAN: Final = (NOON_MS, NOON_MS + 90 * MINUTE_MS)
TAKES: Final[Mapping[str, Callable[..., Step]]] = {
    "visits": proximity.take_visits, "case-visits": proximity.take_case_visits, "venue-marks": venue.take_marks,
}  # fmt: skip
STRAY: Final[Sequence[Value]] = [
    None, b"", b" ", b"\n", b"{}", b"null", b"[]", b"7", b"{},{}", b"{", b"]", b"\xff", b'"\xed\xa0\x80"',
    b'{"visit_id":', b'{"a":' * 5_000,
]  # fmt: skip
FAR: Final = "9999-12-31T23:59:59.999Z"
ODD: Final[Mapping[str, Mapping[str, Sequence[object]]]] = {
    "visits": {
        "visit_id": ("", "x", "A" * 32, "0" * 31, "\u0660" * 32, None, 7),
        "person_id": ("", "g" * 32, None),
        "venue_id": ("B", "", "A\x00"),
        "started_at": ("", "now", FAR, "0001-01-02T00:00:00.000Z", "2021-13-01T00:00:00.000Z", None),
        "ended_at": ("", "2021-10-14T00:00:00.000Z", "2021-10-18T00:00:00.000Z", FAR),
        "first_scan_at": ("", FAR),
        "status": ("", "erased", None),
        "category": ("", "moon", None),
        "ward_code": ("", "1", "\u0660" * 5, "123456"),
        "province_code": ("1", "ab\u0660"),
    },
    "case-visits": {
        "case_id": ("", "a b", "x" * 65, "\x00", None),
        "visit_id": ("", "Z" * 32, None),
        "cause": ("", "moon"),
        "was": ([1], [2, 1], [0, 2**70], [-(2**70), 0], "x", [1, 2, 3]),
        "status": ("erased", None),
        "person_id": ("", "x"),
        "from_ms": (2**70, -(2**70), 2**62, "1", 1.5),
        "until_ms": (0, 2**70),
        "anchor_ms": (2**63, 2**60),
        "rule": (None, {}, 7),
    },
    "venue-marks": {
        "venue_id": ("", "B", None, "A\u0660"),
        "day": ("", "2021-13-01", "2021-02-30", "9999-01-01", "20211014", "2021-1-14\u0660", None),
        "ward_code": ("", "1", "\u0660" * 5),
        "district_code": ("12", "1234"),
        "province_code": ("", "012"),
    },
}  # fmt: skip


def whole() -> dict[str, list[Record]]:
    """Good records of each topic, of one venue: what is there, changes and goes."""
    world = World()
    for version in (SPAN, (NOON_MS + 7, SPAN[1]), None, SPAN):
        for visit in VISITS[:3]:
            world.send(visit, version)
        world.send(CASES[3], None if version is None else Cut(*version, NOON_MS, PLAIN))
    logs = {topic: [record for record, _, _ in log] for topic, log in world.logs.items()}
    area = {"ward_code": "00262", "district_code": "007", "province_code": "01"}
    mark = {"venue_id": "A", "day": "2021-10-14", **area}
    logs["venue-marks"] = [Record(0, 5, b"A", msgspec.json.encode(mark))] * 3
    return logs


WHOLE: Final = whole()


def odd(topic: str) -> list[Record]:
    """Records in which one thing is wrong."""
    record = WHOLE[topic][0]
    event = json.loads(record.value or b"")
    found = [record._replace(value=value) for value in STRAY]
    for name, values in ODD[topic].items():
        found += [record._replace(value=msgspec.json.encode(event | {name: value})) for value in values]
        without = {field: value for field, value in event.items() if field != name}
        if name not in ("was", "anchor_ms", "from_ms"):
            found.append(record._replace(value=msgspec.json.encode(without)))
    found += [record._replace(key=key) for key in (None, b"", b"B", b"A\0", b"\xff", b"x" * 65)][
        : 6 - (topic == "case-visits")
    ]
    if topic == "case-visits":
        found = [one for one in found if one.key != b"B"]
        changes: list[dict[str, object]] = [
            {"levels": []},
            {"version": 2**70},
            {"min_overlap_minutes": -(2**60)},
            {"weights": [{"day": 2**60, "weight": 1}]},
        ]
        for change in changes:
            found.append(record._replace(value=msgspec.json.encode(event | {"rule": event["rule"] | change})))
    if topic == "visits":
        odd_was: list[bytes] = [b"", b"x", bytes(15), bytes(17), was_header(Interval(5, 4))[0][1]]
        odd_was += [was_header(Interval(*span))[0][1] for span in ((-(2**63), 2**63 - 1), (0, 10**9), (2**62, 2**62))]
        found += [record._replace(headers=[(HEADER_WAS, value)]) for value in odd_was]
    return found


def taken(topic: str, records: Sequence[Record]) -> tuple[Step, Any]:
    """A step over records at offsets of their own, and what it comes to without its rows of ``rejects``."""
    state = Dictionary()
    step = TAKES[topic](ROOM, 7, records, state)
    outputs = {name: list(out) for name, out in step.outputs.items() if name != "rejects"}
    counts = {name: count for name, count in step.counts.items() if name != "foreign"}
    return step, (outputs, step.changes, counts)


def rows_of(step: Step) -> list[dict[str, Any]]:
    """Its rows of ``rejects``."""
    return [json.loads(value or b"") for _, value, _, _ in step.outputs.get("rejects", [])]


@pytest.mark.parametrize("topic", TAKES)
def test_a_foreign_record_is_a_row_and_nothing_else(topic: str) -> None:
    """Among good records each odd one is skipped, and the rest of the step is what it is without it."""
    good = WHOLE[topic]
    bad = odd(topic)
    assert len(bad) > 30
    mixed: list[Record] = []
    wanted = []
    for number, record in enumerate(bad):
        mixed += [*good[number :: len(bad)], record._replace(timestamp=NOON_MS + number)]
    mixed = [record._replace(offset=offset) for offset, record in enumerate(mixed)]
    strays = {id(record): record for record in mixed if any(record[2:] == one[2:] for one in bad)}
    wanted = [record for record in mixed if id(record) in strays]
    assert len(wanted) == len(bad)
    step, came = taken(topic, mixed)
    _, without = taken(topic, [record for record in mixed if id(record) not in strays])
    assert came[0].keys() == without[0].keys()
    assert came == without
    assert [(row["offset"], row["record_at"]) for row in rows_of(step)] == [
        (json.loads(foreign.row_of("t", 0, one.offset, one.timestamp))["offset"],
         json.loads(foreign.row_of("t", 0, one.offset, one.timestamp))["record_at"]) for one in wanted
    ]  # fmt: skip
    assert step.rejects == {"foreign_record": len(bad)}
    assert step.foreign == [(f"checkin.{topic}", 0, record.offset) for record in wanted]


@pytest.mark.parametrize("topic", TAKES)
def test_a_record_s_verdict_is_its_own(topic: str) -> None:
    """Alone or among others, it is skipped or not, with the same row: what its neighbours are does not matter."""
    for record in [*odd(topic), *WHOLE[topic][:1]]:
        alone = rows_of(taken(topic, [record])[0])
        assert bool(alone) == (record is not WHOLE[topic][0]), record
        assert alone == rows_of(taken(topic, [*WHOLE[topic][:1], record])[0])
        for row in alone:
            assert row == Reject.model_validate(row).model_dump()
            assert (row["reason"], row["key"], row["payload"], row["epoch"]) == ("foreign_record", None, None, 0)


def test_the_parts_of_two_records_are_no_two_records() -> None:
    """What comes to JSON only with its neighbour, or is two events in one record, is foreign, record by record."""
    for topic, [record, *_] in WHOLE.items():
        event = record.value or b""
        split = [event[:-1] + b',"z":[{}', b"{}]}", event + b"," + event, event + b"\n" + event, b""]
        for values in (split, split[:2], split[3:]):
            step, _ = taken(topic, [record._replace(offset=offset, value=value) for offset, value in enumerate(values)])
            assert len(step.foreign) == len(values)


@given(
    st.sampled_from(list(TAKES)),
    st.lists(st.binary(max_size=40)),
    st.none() | st.binary(max_size=8),
    st.binary(max_size=20),
)
def test_bytes_of_any_kind_end_nothing(topic: str, values: list[bytes], key: Value, header: bytes) -> None:
    """Keys, values and headers of whatever bytes are skipped."""
    records = [Record(n, 0, key, value, [(HEADER_WAS, header), ("odd", b"\xff")]) for n, value in enumerate(values)]
    if values:
        assert len(taken(topic, records)[0].foreign) == len(values)


def test_a_header_nobody_knows_is_nothing() -> None:
    """An own record with a header of another name is as without it."""
    plain = taken("visits", WHOLE["visits"])[1]
    headed = [one._replace(headers=[*one.headers, ("trace", b"\xff" * 16)]) for one in WHOLE["visits"]]
    assert taken("visits", headed)[1] == plain


def test_what_joins_was_looked_at() -> None:
    """A case visit that passes gives exposures with every visit that passes, at the edges of what is taken."""
    state = Dictionary()
    edge = encode_case_visit(
        msgspec.json.decode(WHOLE["case-visits"][0].value or b"") | {"from_ms": -(2**43), "until_ms": 2**43}
    )
    for number, (topic, records) in enumerate(
        [("case-visits", [WHOLE["case-visits"][0]._replace(value=edge)]), ("visits", WHOLE["visits"][:1])], 1
    ):
        step = TAKES[topic](ROOM, number, records, state)
        assert step.foreign == []
        state.data |= {key: value for key, value in step.changes.items() if value is not None}
    assert len(list(step.outputs["exposures"])) == 1


def test_whatever_the_rooms_keep_may_be_state() -> None:
    """Every key and value of a recorded month passes, and every deletion."""
    looked_at = 0
    for room in ("person", "venue"):
        for partition in range(PARTITIONS):
            for key, value in _recorded(room, partition).items():
                looked_at += 1
                assert may_be_state(key, value), (key, value)
                assert may_be_state(key, None) == (key not in (b"!meta", b"!expired"))
    assert looked_at > 300
    assert RECORDED


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"1"), (b"", b"1"), (b"hello", b"1"), (b"z" * 40, b"1"), (b"p", b"1"), (b"pp", None), (b"v" * 5, b"1"),
        (b"vA\0" + bytes(25), b"1"), (b"yA", b"1"), (b"a2021-10-14nVN", b"1"), (b"p" * 2000, b"1"), (b"!meta", None),
        (b"!meta", b""), (b"!meta", b"null"), (b"!meta", b"{}"), (b"!meta", b"\xff"), (b"!expired", None),
        (b"!meta", b'{"version":3,"step":"1","waiting":0,"newest":0,"expired":0,"next":{}}'), (b"!expired", b"1"),
        (b"!meta", b'{"version":3,"step":1,"waiting":0,"newest":0,"expired":0,"next":{"t":"1"}}'), (b"!swept", b"x"),
    ],
)  # fmt: skip
def test_what_no_room_keeps_is_no_state(key: Value, value: Value) -> None:
    """Without a key, of no table, of an impossible length, or what would end whoever opens the state."""
    assert not may_be_state(key, value)


def test_every_kind_of_key_has_a_form() -> None:
    """A kind that the forms do not know would be taken for foreign, and be missing after the next restore."""
    told = re.findall(r"^``(.)`` ", keys.__doc__ or "", re.MULTILINE)
    assert len(told) > 15
    assert {tag.encode() for tag in told} == set(state_form._KEY_BYTES_MIN)
