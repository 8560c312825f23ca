"""The compiled form of the person room's common case does what the plain form does, byte for byte."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streams.core import held_scans, keys, person
from streams.core.decode import decode_venue
from streams.core.inbound import VenueIn
from streams.core.partition import partition_of
from streams.core.room import RoomPartition
from streams.core.step import InRecord, Record, Step
from streams.core.times import format_ms
from tests.core import plain
from tests.core.pipeline import AREAS, CLOCK, DAY_MS, RULESETS, MemoryState, Pipeline, replayed
from tests.oracle.events import random_input
from tests.oracle.hostile import BAD_FIELDS, bad_bytes
from tests.oracle.render import render, time_text

SETTINGS = hypothesis_settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PERSON = "0123456789abcdef0123456789abcdef"
NOW_MS = 4_200_000_000_000
"""After the year 2099: everything that can be written lies before it, and nothing is too old."""
SCAN: dict[str, Any] = {
    "scan_id": "01HF_a-Z",
    "person_id": PERSON,
    "venue_id": "CAFE",
    "direction": "in",
    "occurred_at": "2021-10-14T08:15:30+07:00",
    "source": "pc_covid",
}
_VENUE = (
    b'{"venue_id":"%b","name":"v","category":"%b","province_code":"01","district_code":"007","ward_code":"%b",'
    b'"lat":%b,"lon":%b,"registered_at":"2021-09-01T08:00:00+07:00","status":"active","codes":[%b]}'
)
VENUES = [
    _VENUE % (b"CAFE", b"cafe", b"00262", b"21.0180001", b"-0.5", b'"OLD1"'),
    _VENUE % (b"POST", b"checkpoint", b"00256", b"-21e-7", b"105", b""),
]


def _step(pipeline: Pipeline, room: RoomPartition, records: Sequence[InRecord], form: str) -> Step:
    with pytest.MonkeyPatch.context() as patch:
        if form == "plain":
            plain.become(patch)
        return person.take_scans(room, 7, records, pipeline.person_states[room.partition], pipeline.directory)


def _decided(step: Step) -> dict[str, object]:
    """What a step decided, whatever the order."""
    outputs = {topic: sorted(messages, key=repr) for topic, messages in step.outputs.items() if messages}
    return {"outputs": outputs, "headed": sorted(step.headed, key=repr), "changes": step.changes} | {
        "counts": step.counts, "rejects": step.rejects, "waiting": step.waiting_more,
    }  # fmt: skip


class _Both(Pipeline):
    """A pipeline that takes every batch of scans in both forms and holds them together."""

    def _take(self, topic: str, room: RoomPartition, records: Sequence[InRecord]) -> None:
        if topic == person.SCANS:
            one, other = (_step(self, room, records, form) for form in ("compiled", "plain"))
            assert _decided(one) == _decided(other)
        super()._take(topic, room, records)


def _plainly(event: dict[str, str]) -> bytes:
    """The event as most apps write it."""
    return b"{" + b",".join(b'"%b":"%b"' % (name.encode(), text.encode()) for name, text in event.items()) + b"}"


def _registered() -> Pipeline:
    """One partition that takes a scan of any time, and knows two venues and a code."""
    pipeline = Pipeline()
    pipeline.rooms = [RoomPartition(0, 1, "checkin.", 200 * 366 * DAY_MS, CLOCK, RULESETS)]
    for value in VENUES:
        venue = decode_venue(value, AREAS)
        assert isinstance(venue, VenueIn)
        pipeline.directory.put(venue)
    return pipeline


def _check(values: list[bytes | None], key: bytes = PERSON.encode()) -> Step:
    """Both forms over one batch of these values; what was decided."""
    pipeline = _registered()
    records = [Record(offset, NOW_MS + offset, key, value) for offset, value in enumerate(values)]
    one, other = (_step(pipeline, pipeline.rooms[0], records, form) for form in ("compiled", "plain"))
    assert _decided(one) == _decided(other)
    return one


@pytest.mark.parametrize("chunk_bytes_max", [held_scans.CHUNK_BYTES_MAX, 300])
@given(seed=st.integers(0, 2**32), partitions=st.integers(1, 3), split=st.none() | st.integers(0, 2**32))
@SETTINGS
def test_both_forms_do_the_same_with_any_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunk_bytes_max: int,
    seed: int,
    partitions: int,
    split: int | None,
) -> None:
    """Every batch of every made input: late, copied, waiting, erased, of long timelines, of persons with cases."""
    monkeypatch.setattr(held_scans, "CHUNK_BYTES_MAX", chunk_bytes_max)
    monkeypatch.setattr("tests.core.pipeline.Pipeline", _Both)
    random_input(seed).write(tmp_path)
    rng = random.Random(split)  # noqa: S311
    replayed(tmp_path, partitions, lambda n: () if split is None else [rng.choice([1, 2, 3, 20]) for _ in range(n)])


@given(seed=st.integers(0, 2**32))
@SETTINGS
def test_both_forms_read_the_same(seed: int) -> None:
    """Values as faulty and odd producers send them: spaced, escaped, reordered, repeated, cut, changed in one byte."""
    rng = random.Random(seed)  # noqa: S311
    values: list[bytes | None] = [None, b"", b"{", b"{}", b'{"scan_id":"a"}']
    for number in range(20):
        event = SCAN | {"scan_id": f"s{number}", "occurred_at": time_text(rng, rng.randrange(0, NOW_MS - DAY_MS))}
        event |= {"direction": rng.choice(["in", "out", "pass"]), "venue_id": rng.choice(["CAFE", "POST", "OLD1", "X"])}
        if rng.random() < 0.2:
            event |= rng.choice(BAD_FIELDS)
        text = bytearray(render(rng, event))
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            at = rng.randrange(len(text))
            text[at : at + rng.choice([0, 1, 1])] = rng.choice([b"", b'"', b"{", b",", b" ", b"\x00", b"\xc3", b"7"])
        values.append(bad_bytes(rng, event) if rng.random() < 0.1 else bytes(text))
    for value in values:
        _check([value])
    _check(values)


@given(st.text("0123456789-:.TZ+ ", max_size=32) | st.from_regex(r"[12][90]\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-6]\d:[0-6]\d"
       r"(\.\d{1,5})?(Z|[+-][0-2]\d:[0-6]\d)", fullmatch=True))  # fmt: skip
@example("2000-02-29T23:59:59.9999-23:59")
@example("2100-02-28T00:00:00Z")
@example("1970-01-01T00:00:00+23:59")
@example("2099-12-31T23:59:59.999-23:59")
@example("2021-02-29T00:00:00Z")
@SETTINGS
def test_both_forms_read_the_same_times(written: str) -> None:
    """Any text in place of a time: the same instant, the same day and hour, or the same rejection."""
    _check([_plainly(SCAN | {"occurred_at": written})])


_START_MS = 1_634_169_600_000
_SCANS = st.tuples(
    st.integers(0, 12), st.integers(0, 30), st.sampled_from([*["CAFE", "POST", "OLD1"] * 3, "UNKNOWN"]),
    st.sampled_from(["in", "in", "out", "pass"]), st.sampled_from(["pc_covid", "paper"]), st.booleans(),
)  # fmt: skip


@given(
    batches=st.lists(st.lists(_SCANS, min_size=1, max_size=6), max_size=8),
    expired_quarters=st.none() | st.integers(0, 30),
    in_order=st.booleans(),
)
@hypothesis_settings(SETTINGS, max_examples=600)
def test_both_forms_do_the_same_with_one_persons_scans(
    batches: list[list[tuple[int, int, str, str, str, bool]]],
    expired_quarters: int | None,
    in_order: bool,  # noqa: FBT001
) -> None:
    """Few ids, venues and quarters of an hour, so that all that can meet does: copies, conflicts, waiting, edges."""
    pipeline, offset = _registered(), 0
    state = pipeline.person_states[0].data
    if expired_quarters is not None:
        state[keys.EXPIRED] = keys.pack_expired(_START_MS + expired_quarters * 900_000)
    quarter = 0
    for batch in batches:
        records = []
        for number, at, venue, direction, source, headed in batch:
            quarter = quarter + at % 6 if in_order else at
            occurred_at = format_ms(_START_MS + quarter * 900_000)
            event = SCAN | {"scan_id": f"s{offset if in_order and number > 0 else number}", "occurred_at": occurred_at}
            event |= {"venue_id": venue, "direction": direction, "source": source}
            headers = [("first-ts", b"%d" % NOW_MS)] if headed and number == 1 else []
            records.append(Record(offset, NOW_MS + offset, PERSON.encode(), _plainly(event), headers))
            offset += 1
        one, other = (_step(pipeline, pipeline.rooms[0], records, form) for form in ("compiled", "plain"))
        assert _decided(one) == _decided(other)
        pipeline.person_states[0].apply(one)


@pytest.mark.parametrize("partitions", [1, 2, 3, 12])
def test_both_forms_send_on_what_is_on_another_partition(partitions: int) -> None:
    """Of many persons' scans on one partition, both keep those whose home it is, and send the others there."""
    pipeline = _registered()
    room = RoomPartition(0, partitions, "checkin.", 200 * 366 * DAY_MS, CLOCK, RULESETS)
    records = []
    for number in range(200):
        person_id = f"{number:032x}"
        records.append(Record(number, NOW_MS, person_id.encode(), _plainly(SCAN | {"person_id": person_id})))
    one, other = (_step(pipeline, room, records, form) for form in ("compiled", "plain"))
    assert _decided(one) == _decided(other)
    homes = [partition_of(record.key or b"", partitions) for record in records]
    assert one.counts.get("accepted") == homes.count(0)
    assert one.counts.get("forwarded", 0) == len(records) - homes.count(0)


def test_nothing_ordinary_is_left_to_the_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans that come in order, and copies of them, do not need it: without it they come out the same."""
    start_ms = _START_MS
    values: list[bytes | None] = []
    for number in range(40):
        event = SCAN | {"scan_id": f"s{number:02}", "occurred_at": time_text(random.Random(3), start_ms)}  # noqa: S311
        start_ms += 17 * 60_000
        event |= {
            "direction": ("in", "in", "out", "pass")[number % 4],
            "venue_id": ("CAFE", "POST", "OLD1")[number % 3],
        }
        values.append(_plainly(event))
    expected = _decided(_check([*values, values[3], values[39]]))

    def refuse(*_: object) -> None:
        raise AssertionError("the plain form was asked")

    monkeypatch.setattr(person, "_take_scan", refuse)
    pipeline = _registered()
    records = [Record(n, NOW_MS + n, PERSON.encode(), v) for n, v in enumerate([*values, values[3], values[39]])]
    step = person.take_scans(pipeline.rooms[0], 7, records, MemoryState(), pipeline.directory)
    assert _decided(step) == expected
    assert step.counts == {"accepted": 40, "duplicate": 2}
