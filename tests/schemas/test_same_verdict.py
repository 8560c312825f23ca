"""The fast reading of the input topics gives the contract's verdicts: same code, same values, one by one or many."""

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.areas import load_areas
from schemas.contract import Refusal, check_case, check_erasure, check_scan, check_venue, parse_json
from schemas.fields import instant_ms
from schemas.models import Case, Erasure, Scan, Venue
from streams.core.decode import (
    BadEvent,
    decode_case,
    decode_erasure,
    decode_scan,
    decode_scans,
    decode_venue,
    decode_venues,
)
from streams.core.judge import judge_scan, judge_venue
from tests.schemas.values import KINDS, any_values, good_scans, good_venues, shards, values

Verdict = str | dict[str, Any]

READINGS: Final = {
    "scan": (check_scan, decode_scan),
    "venue": (check_venue, lambda value: decode_venue(value, load_areas())),
    "case": (check_case, decode_case),
    "erasure": (check_erasure, decode_erasure),
}
TIMES: Final = {
    "occurred_at": "occurred_ms",
    "registered_at": "registered_ms",
    "onset_at": "onset_ms",
    "sampled_at": "sampled_ms",
    "infectious_from": "infectious_from_ms",
    "infectious_to": "infectious_to_ms",
    "isolated_at": "isolated_ms",
    "reported_at": "reported_ms",
    "requested_at": "requested_ms",
}


def reference(kind: str, value: bytes | None) -> Verdict:
    """The contract's verdict in the core's words: the reject code, or the fields."""
    found: Refusal | Scan | Venue | Case | Erasure = READINGS[kind][0](value)
    if isinstance(found, Refusal):
        return found.reason
    fields: dict[str, Any] = {
        TIMES.get(name, name): instant_ms(held) if name in TIMES and held is not None else held
        for name, held in found.model_dump().items()
    }
    if kind == "venue":
        fields["codes"] = tuple(fields["codes"] or ())
    if kind == "case":
        whole = parse_json(value)
        assert isinstance(whole, dict)
        whole.pop("_ts", None)
        fields["canonical"] = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return fields


def fast(kind: str, value: bytes | None) -> Verdict:
    """The core's verdict in the same words."""
    found = READINGS[kind][1](value)
    if isinstance(found, BadEvent):
        return found.reason
    return {name: getattr(found, name) for name in found.__struct_fields__}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_value_gets_the_contracts_verdict(kind: str, data: st.DataObject) -> None:
    """Good, bent and hostile values of each kind: same code or same fields, and the types too."""
    value = data.draw(values(kind) | any_values)
    expected, actual = reference(kind, value), fast(kind, value)
    assert actual == expected
    if isinstance(actual, dict) and isinstance(expected, dict):
        assert {name: type(held) for name, held in actual.items()} == {
            name: type(held) for name, held in expected.items()
        }


@settings(max_examples=200, deadline=None)
@given(value=values("scan"))
def test_fast_and_slow_path_say_the_same_of_a_scan(value: bytes) -> None:
    """The typed decoder's yes is the complete reading's yes, to the last field."""
    assert decode_scan(value) == judge_scan(value)


@settings(max_examples=200, deadline=None)
@given(value=values("venue"))
def test_fast_and_slow_path_say_the_same_of_a_venue(value: bytes) -> None:
    """The typed decoder's yes is the complete reading's yes, to the last field."""
    assert decode_venue(value, load_areas()) == judge_venue(value, load_areas())


@settings(max_examples=300, deadline=None)
@given(batch=st.lists(good_scans | values("scan") | any_values, max_size=6) | shards(good_scans))
def test_a_batch_is_its_values_one_by_one(batch: list[bytes | None]) -> None:
    """No value shifts or changes the verdict on a neighbour, not even where a list is cut in the wrong places."""
    assert decode_scans(batch) == [judge_scan(value) for value in batch]
    assert [fast("scan", value) for value in batch] == [reference("scan", value) for value in batch]


@settings(max_examples=300, deadline=None)
@given(batch=st.lists(good_venues | values("venue") | any_values, max_size=6) | shards(good_venues))
def test_a_batch_of_venues_is_its_values_one_by_one(batch: list[bytes | None]) -> None:
    """Lists of codes within the list of values shift nothing either."""
    areas = load_areas()
    assert decode_venues(batch, areas) == [judge_venue(value, areas) for value in batch]


@settings(max_examples=200, deadline=None)
@given(value=values("scan") | any_values, at=st.integers(0, 600), count=st.integers(0, 600))
def test_one_hostile_value_among_many_good_ones(value: bytes | None, at: int, count: int) -> None:
    """In batches of several runs the good ones stay as they are and in their places."""
    good = [
        b'{"scan_id":"s%d","person_id":"%032x","venue_id":"V","direction":"in",'
        b'"occurred_at":"2021-10-14T08:15:30+07:00","source":"paper"}' % (number, number)
        for number in range(count)
    ]
    batch: list[bytes | None] = [*good[:at], value, *good[at:]]
    verdicts = decode_scans(batch)
    place = min(at, count)
    assert verdicts[place] == judge_scan(value)
    others = verdicts[:place] + verdicts[place + 1 :]
    assert [getattr(verdict, "scan_id", None) for verdict in others] == [f"s{number}" for number in range(count)]
