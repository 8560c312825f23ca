"""The topic ``returns``: detours, dead letters sent again, erasures told to others; inputs' headers are nothing."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import person, waiting
from streams.core.foreign import take_foreign
from streams.core.partition import partition_of
from streams.core.rejected import Origin
from streams.core.returned import RETURNS, Provenance, by_topic, came_of, headers_of
from streams.core.step import Headers, Record
from streams.core.times import format_ms
from tests.core.pipeline import DAY_MS, Cut, Pipeline, one_by_one, whole

NOW_MS = 1_634_173_200_000
WHO = "a1" * 16
VENUE = {
    "venue_id": "CAFE", "name": "x", "category": "cafe", "province_code": "01", "district_code": "007",
    "ward_code": "00262", "lat": 21.0, "lon": 105.8, "registered_at": "2021-09-23T09:00:00+07:00", "status": "active",
}  # fmt: skip
SCAN = {"scan_id": "s1", "person_id": WHO, "venue_id": "CAFE", "direction": "in", "source": "vhd"}


def _scan(**fields: object) -> bytes:
    return json.dumps(SCAN | {"occurred_at": format_ms(NOW_MS)} | fields).encode()


def _pipeline(partitions: int = 1, **fields: object) -> Pipeline:
    pipeline = Pipeline(partitions)
    pipeline.produce("venues", b"CAFE", json.dumps(VENUE | fields).encode(), NOW_MS)
    pipeline.register()
    return pipeline


def _again(row: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The headers with which ``rejects --redrive`` sends a row's event."""
    origin = Origin(row["topic"].removeprefix("checkin."), row["epoch"], row["partition"], row["offset"])
    came = Provenance(origin, NOW_MS, attempt=row["attempts"] + 1, reason=row["reason"])
    return headers_of(came)


HOSTILE: Sequence[Headers] = [
    [("origin", b'"\\ud800"')],
    [("origin", b"[]"), ("attempt", b"7")],
    [
        ("topic", b"scans"),
        ("epoch", b"0"),
        ("partition", b"0"),
        ("offset", b"3"),
        ("first-ts", b"5"),
        ("attempt", b"1"),
    ],
    [("hops", b"9")],
    [("first-ts", b"0")],
    [("echo", b"1")],
    [("was", b"x")],
]


@pytest.mark.parametrize("headers", HOSTILE)
@pytest.mark.parametrize("topic", ["scans", "cases", "erasures", "venues"])
def test_on_an_input_no_header_is_anything(topic: str, headers: Headers) -> None:
    """An input's record with the pipeline's own headers gives what the same record without them gives."""
    values: dict[str, str | bytes] = {
        "scans": _scan(),
        "cases": json.dumps(
            {"case_id": "C", "person_id": WHO, "status": "withdrawn", "reported_at": format_ms(NOW_MS)}
        ),
        "erasures": json.dumps({"person_id": WHO, "requested_at": format_ms(NOW_MS - DAY_MS)}),
        "venues": json.dumps(VENUE | {"venue_id": "BAR"}),
    }
    seen = []
    for given_headers in (headers, ()):
        pipeline = _pipeline(3)
        key = b"BAR" if topic == "venues" else WHO.encode()
        value = values[topic]
        pipeline.produce(topic, key, value if isinstance(value, bytes) else value.encode(), NOW_MS, 0, given_headers)
        pipeline.register()
        pipeline.run(whole)
        seen.append((pipeline.outputs, [state.data for state in pipeline.person_states]))
    assert seen[0] == seen[1]


NAMES = ["topic", "epoch", "partition", "offset", "first-ts", "attempt", "hops", "reason", "echo"]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.binary() | st.sampled_from([b"scans", b"0", b"1" * 18]))))
def test_headers_of_returns_are_checked_too(headers: list[tuple[str, bytes]]) -> None:
    """Whatever they hold: a record is an event that came back, or foreign, with a row that the record alone makes."""
    record = Record(5, NOW_MS, b"k", b"v", headers)
    [(topic, [taken])] = by_topic([record])
    if came_of(record) is None:
        assert (topic, taken) == (RETURNS, record)
        room = Pipeline().rooms[0]
        step = take_foreign(room, 3, RETURNS, [record])
        [(key, value, _, _)] = step.outputs["rejects"]
        row = json.loads(value or b"")
        assert (row["reason"], row["offset"], row["payload"], key) == ("foreign_record", 5, None, None)
        assert step.foreign == [("checkin.returns", 0, 5)]


def test_headers_say_what_they_were_made_of() -> None:
    """What is written is read as it was; a first time after the record's own is none."""
    came = Provenance(Origin("cases", 2, 11, 1 << 40), NOW_MS, attempt=3, hops=1, echo=True, reason="too_old")
    assert came_of(Record(0, NOW_MS, b"", b"", headers_of(came))) == came
    late = came_of(Record(0, NOW_MS - 1, b"", b"", headers_of(came)))
    assert late is not None
    assert late.now_ms == NOW_MS - 1


@pytest.mark.parametrize("cut", [whole, one_by_one])
def test_a_dead_letter_sent_again_is_one_row_whatever_comes_of_it(cut: Cut) -> None:
    """Refused again it is the same row with one attempt more; accepted it is resolved, and bare."""
    pipeline = _pipeline()
    event = _scan(occurred_at=format_ms(NOW_MS + DAY_MS))
    pipeline.produce("scans", WHO.encode(), event, NOW_MS)
    pipeline.run(cut)
    for attempts in (1, 2, 3):
        [row] = pipeline.views()["rejects"]
        for _ in range(2):  # by two operators at once
            pipeline.produce(RETURNS, WHO.encode(), event, NOW_MS + 1, headers=_again(row))
        pipeline.run(cut)
        [row] = pipeline.views()["rejects"]
        assert (row["reason"], row["status"], row["attempts"]) == ("in_future", "open", attempts)
        assert row["payload"] is not None
    pipeline.produce(RETURNS, WHO.encode(), _scan(), NOW_MS + 1, headers=_again(row))
    pipeline.run(cut)
    [row] = pipeline.views()["rejects"]
    assert (row["reason"], row["status"], row["attempts"], row["payload"]) == ("in_future", "resolved", 4, None)
    assert [row["status"] for row in pipeline.views()["scans"]] == ["active"]


def test_a_copy_sent_again_resolves_its_row_and_one_that_waits_makes_it_wait() -> None:
    """Of a copy there is nothing more to do; a scan that waits is accepted later, and its row with it."""
    pipeline = _pipeline()
    pipeline.produce("scans", None, _scan(), NOW_MS, 0)
    pipeline.produce("scans", WHO.encode(), _scan(), NOW_MS)
    pipeline.produce("scans", None, _scan(scan_id="s2", venue_id="BAR"), NOW_MS, 0)
    pipeline.run(whole)
    first, second = sorted(pipeline.views()["rejects"], key=lambda row: row["offset"])
    pipeline.produce(RETURNS, WHO.encode(), _scan(), NOW_MS + 1, headers=_again(first))
    waits = _scan(scan_id="s2", venue_id="BAR")
    for _ in range(2):
        pipeline.produce(RETURNS, WHO.encode(), waits, NOW_MS + 1, headers=_again(second))
    pipeline.run(whole)
    first, second = sorted(pipeline.views()["rejects"], key=lambda row: row["offset"])
    assert (first["status"], second["status"], second["reason"]) == ("resolved", "waiting", "unknown_venue")
    pipeline.produce("venues", b"BAR", json.dumps(VENUE | {"venue_id": "BAR"}).encode(), NOW_MS + 2)
    pipeline.register()
    _, second = sorted(pipeline.views()["rejects"], key=lambda row: row["offset"])
    assert (second["status"], second["payload"], second["attempts"]) == ("resolved", None, 1)
    assert len(pipeline.views()["scans"]) == 2


def test_a_detour_keeps_its_origin_and_its_first_time() -> None:
    """A scan on a wrong partition goes by ``returns`` to its own, and its row names where it was first written."""
    pipeline = _pipeline(3)
    home = partition_of(WHO.encode(), 3)
    away = (home + 1) % 3
    pipeline.produce("scans", WHO.encode(), _scan(), NOW_MS, away)
    pipeline.produce("scans", WHO.encode(), _scan(scan_id="s2", occurred_at=format_ms(NOW_MS + DAY_MS)), NOW_MS, away)
    pipeline.run(whole)
    assert [row["scan_id"] for row in pipeline.views()["scans"]] == ["s1"]
    [row] = pipeline.views()["rejects"]
    assert (row["topic"], row["partition"], row["offset"], row["attempts"]) == ("checkin.scans", away, 1, 0)
    assert row["record_at"] == format_ms(NOW_MS)
    headers = headers_of(Provenance(Origin("scans", 0, away, 7), NOW_MS, hops=2))
    pipeline.produce(RETURNS, WHO.encode(), _scan(scan_id="s3"), NOW_MS, away, headers)
    pipeline.run(whole)
    assert "misrouted" in {row["reason"] for row in pipeline.views()["rejects"]}


def test_an_erasure_on_a_wrong_partition_is_carried_out_there_and_goes_on() -> None:
    """As an older release passed them on: dead letters there go bare, and its own partition forgets the scans."""
    pipeline = _pipeline(3)
    home = partition_of(WHO.encode(), 3)
    away = (home + 1) % 3
    pipeline.produce("scans", WHO.encode(), _scan(), NOW_MS)
    pipeline.produce("scans", WHO.encode(), b"{", NOW_MS, away)
    pipeline.run(whole)
    request = json.dumps({"person_id": WHO, "requested_at": format_ms(NOW_MS)}).encode()
    pipeline.produce("erasures", WHO.encode(), request, NOW_MS, away)
    pipeline.run(whole)
    assert [row["status"] for row in pipeline.views()["scans"]] == ["erased"]
    [row] = pipeline.views()["rejects"]
    assert (row["partition"], row["key"], row["payload"]) == (away, None, None)


@pytest.mark.parametrize("registered", [False, True])
def test_a_version_sent_again_counts_if_its_venue_is_not_registered(*, registered: bool) -> None:
    """It is produced to the register; where a later one is there already, the row alone is settled."""
    pipeline = _pipeline(3)
    value = json.dumps(VENUE | {"venue_id": "BAR"}).encode()
    home = partition_of(b"BAR", 3)
    if registered:
        pipeline.produce("venues", b"BAR", value, NOW_MS)
        pipeline.register()
    row = {"topic": "checkin.venues", "epoch": 0, "partition": home, "offset": 70, "attempts": 0, "reason": "too_old"}
    pipeline.produce(RETURNS, b"BAR", value, NOW_MS + 1, headers=_again(row))
    pipeline.run(whole)
    [row] = pipeline.views()["rejects"]
    assert (row["status"], row["attempts"]) == ("resolved", 1)
    assert len(pipeline.logs["venues", home]) == 1


def test_no_more_scans_of_a_person_wait_for_a_code_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one above the bound is refused; once some were accepted, there is room again."""
    monkeypatch.setattr(waiting, "WAITING_MAX", 3)
    pipeline = _pipeline()
    for number in range(5):
        value = _scan(scan_id=f"w{number}", venue_id="BAR", occurred_at=format_ms(NOW_MS + number))
        pipeline.produce("scans", WHO.encode(), value, NOW_MS + 10)
    pipeline.run(one_by_one)
    assert [row["reason"] for row in pipeline.views()["rejects"]].count("too_many_waiting") == 2
    pipeline.produce("venues", b"BAR", json.dumps(VENUE | {"venue_id": "BAR"}).encode(), NOW_MS + 2)
    pipeline.register()
    assert len(pipeline.views()["scans"]) == 3
    assert not [key for key in pipeline.person_states[0].data if key[:1] in b"wn"]
    kept = [value for key, value in pipeline.person_states[0].data.items() if key[:1] == b"w"]
    assert all(b"scan_id" not in value for value in kept)


def test_records_out_of_all_years_count_as_of_the_nearest() -> None:
    """A timestamp outside of 1970 to 2099 counts as the nearest within, in either form of the person room."""
    pipeline = _pipeline()
    room, state = pipeline.rooms[0], pipeline.person_states[0]
    for stamp_ms in (-5, 1 << 62):
        step = person.take_scans(room, 1, [Record(0, stamp_ms, WHO.encode(), _scan())], state, pipeline.directory)
        [(_, value, _, _)] = step.outputs["rejects"]
        at = json.loads(value or b"")["record_at"]
        assert at == ("1970-01-01T00:00:00.000Z" if stamp_ms < 0 else "2099-12-31T23:59:59.999Z")
