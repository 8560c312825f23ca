"""Records that are cut up instead of read: the same rows as reading gives, or the same refusal."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.areas import load_areas
from sinks import columns as module
from sinks.backends import as_list
from sinks.columns import NotOursError, decoder_of
from sinks.records import Records
from sinks.shapes import groups
from sinks.tables import TABLES
from streams.core import wire
from streams.core.step import Message
from streams.core.tally import Places, Tally
from streams.core.times import LocalClock
from tests.core.pipeline import MemoryState
from tests.sinks import data
from tests.sinks.test_backends import ZONE, FakeRecord

TIME_MS = 1_634_144_123_456
PERSON = b"0123456789abcdef" * 2
VENUE = (b"cafe", b"01", b"007", b"00262", 21.018, 105.851)
DECODERS = {topic: decoder_of(topic, load_areas(), ZONE) for topic in ("enriched", "visits", "exposures", "aggregates")}
MADE: dict[str, Callable[[int], dict[str, Any]]] = {
    "enriched": lambda n: data.scan(n, revision=n * n + 1, lat=n / 7, direction=("in", "pass")[n % 2]),
    "visits": lambda n: data.visit(n, revision=n + 1, category=("cafe", "market")[n % 2]),
    "exposures": lambda n: data.exposure(n, score=n / 3),
    "aggregates": lambda n: (
        data.ward_minute("2021-10-13T17:01:00.000Z", f"{n:05d}", "person-0", (n, 0, 1)),
        data.venue_hour("2021-10-13T17:00:00.000Z", f"V{n}", "person-11", (n, 0, 1)),
        data.area_day("2021-10-14", f"{n % 100:02d}", "person-0", (n, n, 0)),
    )[n % 3],
}


def rows(topic: str, values: Sequence[bytes], least: int) -> dict[str, list[Any]] | str:
    """Rows by table, in order; or what is said of a record that is none. ``least`` is how many are cut up."""
    records = Records([FakeRecord(b"k", value, offset) for offset, value in enumerate(values)])
    found: dict[str, list[Any]] = {}
    before, module._SHAPED_MIN = module._SHAPED_MIN, least  # type: ignore[misc]
    try:
        for table, columns in DECODERS[topic](records):
            listed = [as_list(columns[column.name]) for column in TABLES[table].columns]
            found.setdefault(table, []).extend(zip(*listed, strict=True))
    except NotOursError as error:
        return str(error)
    finally:
        module._SHAPED_MIN = before  # type: ignore[misc]
    return {table: sorted(lines) for table, lines in sorted(found.items())}


def both(topic: str, values: Sequence[bytes]) -> None:
    """Cut up and read, the records come to the same."""
    assert rows(topic, values, 1) == rows(topic, values, len(values) + 1)


@pytest.mark.parametrize("topic", MADE)
def test_records_come_to_the_same(topic: str) -> None:
    """Values of all lengths, several forms and families in one run, bare retractions among them."""
    values = [data.encoded(MADE[topic](number)) for number in range(200)]
    if topic == "enriched":
        values[7:9] = [data.encoded(data.retraction(number)) for number in (7, 8)]
        values[20] = data.encoded(data.scan(20, weather="rain"))
        values[21] = data.encoded(data.scan(21, source='a "quoted" one'))
        values[22] = data.encoded(data.scan(22, source="nguồn"))
    both(topic, values)


def counted() -> list[bytes]:
    """The cells by minute and by hour of one scan."""
    tally = Tally(Places(LocalClock(ZONE)))
    tally.add(b"V", b"0026200701", TIME_MS, 1, frozenset())
    emitted: list[Message] = []
    state = MemoryState()
    tally.ward_minutes(state, {}, emitted, b"person-0", 3)
    tally.venue_hours(state, {}, emitted, [], b"person-0", 3)
    return [value for _, value, _, _ in emitted if value is not None]


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (None, wire.enriched((b"S1", PERSON, b"V", b"C"), b"in", TIME_MS, b"pc_covid", VENUE, 3)),
        (None, wire.erased_scan(b"S1", PERSON, TIME_MS, 3)),
        *[("family", value) for value in counted()],
        ("family", wire.area_day(b"2021-10-14", b"nation", b"VN", b"person-0", (1, 1, 0), 3)[1]),
    ],
)
def test_what_the_rooms_write_is_cut_up(tag: str | None, value: bytes) -> None:
    """Nothing of it goes the slow way, so a change of a template that would make it does not pass in silence."""
    (group,) = groups([value, value], tag)
    assert group.rows.tolist() == [0, 1]


@given(st.data())
@settings(max_examples=300)
def test_a_record_that_is_damaged_is_judged_as_ever(drawn: st.DataObject) -> None:
    """Bytes replaced, put in or taken out somewhere change nothing between cutting and reading."""
    topic = drawn.draw(st.sampled_from(list(MADE)))
    values = [data.encoded(MADE[topic](number)) for number in range(drawn.draw(st.integers(1, 9)))]
    for _ in range(drawn.draw(st.integers(1, 2))):
        row = drawn.draw(st.integers(0, len(values) - 1))
        value = values[row]
        at = drawn.draw(st.integers(0, len(value)))
        taken = drawn.draw(st.integers(0, 3))
        some = st.sampled_from(list(b'"\\,:{}[]0123456789.-+eE \n\x00xn\xc3'))
        put = bytes(drawn.draw(st.lists(some, max_size=3)))
        values[row] = value[:at] + put + value[at + taken :]
    outcomes = []
    for least in (1, len(values) + 1):
        try:
            outcomes.append(str(rows(topic, values, least)))
        except (ValueError, OverflowError, KeyError) as error:
            # A text that is no time, a number beyond 64 bits: not even JSON makes a row of it, and the sink ends.
            outcomes.append(type(error).__name__)
    assert outcomes[0] == outcomes[1]


@given(st.lists(st.one_of(st.integers(0, 20), st.integers(0, 10**19)), min_size=1))
def test_numbers_of_all_lengths(numbers: list[int]) -> None:
    """Up to the largest that a column holds."""
    both("visits", [data.encoded(data.visit(1, revision=number)) for number in numbers])


def test_a_long_text_is_left_to_json() -> None:
    """It would make room for itself in every record of the run."""
    both("visits", [data.encoded(data.visit(n, venue_id="v" * (300 if n == 3 else n))) for n in range(9)])


def test_days_far_apart() -> None:
    """Days of times that span years are those of times close together."""
    times = np.array([0, 1_634_144_123_456, 4_102_444_799_999], np.int64)
    clock = LocalClock(ZONE)
    apart = [int(module.local_days(times[number : number + 1], clock)[0]) for number in range(3)]
    assert module.local_days(times, clock).tolist() == apart == [19700101, 20211013, 21000101]
