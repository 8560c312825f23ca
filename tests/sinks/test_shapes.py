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
from sinks.cut import FIELDS_MAX, Cutter, Kind, cut
from sinks.days import local_days
from sinks.records import Records
from sinks.tables import TABLES
from streams.core import directory, wire
from streams.core.outbox import Outbox
from streams.core.tally import Places, Tally
from streams.core.times import LocalClock, format_ms
from streams.core.visits import Visit
from tests.core.pipeline import MemoryState
from tests.sinks import data
from tests.sinks.test_backends import ZONE, FakeRecord

TIME_MS = 1_634_144_123_456
PERSON = b"0123456789abcdef" * 2
VENUE = (b"cafe", b"01", b"007", b"00262", 21.018, 105.851)
KEPT = directory._KEPT.pack(b"00262", b"007", b"01", 0, 0)
STAY = Visit(b"S1", TIME_MS, b"V", KEPT, TIME_MS, TIME_MS + 1, b"scanned", b"estimated", 1)
ODD_TIMES = (
    *("2021-02-29T00:00:00.000Z", "2020-02-29T00:00:00.000Z", "2000-02-29T00:00:00.000Z", "2021-04-31T00:00:00.000Z"),
    *("1969-12-31T23:59:59.999Z", "2100-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z", "0000-01-01T00:00:00.000Z"),
    *("2021-10-14T24:00:00.000Z", "2021-10-14T23:60:00.000Z", "2021-10-14T23:59:60.000Z", "2021-00-14T00:00:00.000Z"),
    *(
        "2021-10-14T00:00:00.000z",
        "2021-10-14 00:00:00.000Z",
        "2021-10-14T00:00:00.0+07:00",
        "2021-10-14T00:00:00Z",
        "",
    ),
)
TIMES = st.integers(0, 4_102_444_799_999).map(format_ms)
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
    before, module._CUT_MIN = module._CUT_MIN, least  # type: ignore[misc]
    try:
        for table, columns in DECODERS[topic](records):
            listed = [as_list(columns[column.name]) for column in TABLES[table].columns]
            found.setdefault(table, []).extend(zip(*listed, strict=True))
    except NotOursError as error:
        return str(error)
    finally:
        module._CUT_MIN = before  # type: ignore[misc]
    return {table: sorted(lines) for table, lines in sorted(found.items())}


def both(topic: str, values: Sequence[bytes]) -> None:
    """Cut up and read, the records come to the same."""
    assert rows(topic, values, 1) == rows(topic, values, len(values) + 1)


def both_end(topic: str, values: Sequence[bytes]) -> None:
    """Cut up and read, the records come to the same, or are refused alike."""
    outcomes = []
    for least in (1, len(values) + 1):
        try:
            outcomes.append(str(rows(topic, values, least)))
        except (ValueError, OverflowError, KeyError) as error:
            # A text that is no time, a number beyond 64 bits: not even JSON makes a row of it, and the sink ends.
            outcomes.append(type(error).__name__)
    assert outcomes[0] == outcomes[1]


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
    emitted = Outbox()
    state = MemoryState()
    tally.ward_minutes(state, {}, emitted, b"person-0", 3)
    tally.venue_hours(state, {}, emitted, Outbox(), b"person-0", 3)
    return [value for _, value, _, _ in emitted if value is not None]


def read_as_json(topic: str, values: Sequence[bytes]) -> list[bytes]:
    """Those of the records that are not cut up."""
    decoder: Any = DECODERS[topic]
    return cut(list(values), decoder._group_of)[1]


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        ("enriched", wire.enriched((b"S1", PERSON, b"V", b"C"), b"in", TIME_MS, b"pc_covid", VENUE, 3)),
        ("enriched", wire.erased_scan(b"S1", PERSON, TIME_MS, 3)),
        ("visits", wire.visit(PERSON, b"0" * 32, STAY, 3)),
        ("visits", wire.retracted_visit(b"0" * 32, STAY, 3)),
        *[("aggregates", value) for value in counted()],
        ("aggregates", wire.area_day(b"2021-10-14", b"nation", b"VN", b"person-0", (1, 1, 0), 3)[1]),
    ],
)
def test_what_the_rooms_write_is_cut_up(topic: str, value: bytes) -> None:
    """Nothing of it goes the slow way, so a change of a template that would make it does not pass in silence."""
    assert not read_as_json(topic, [value, value])


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
    both_end(topic, values)


@given(st.lists(st.one_of(st.integers(0, 20), st.integers(0, 10**19)), min_size=1))
def test_numbers_of_all_lengths(numbers: list[int]) -> None:
    """Up to the largest that a column holds."""
    both("visits", [data.encoded(data.visit(1, revision=number)) for number in numbers])


@given(
    st.one_of(st.floats(0, 1e6), st.integers(0, 10**20), st.from_regex(r"[0-9]{1,22}(\.[0-9.]{0,25})?", fullmatch=True))
)
@settings(max_examples=300)
def test_numbers_with_a_point(number: float | str) -> None:
    """The nearest number of 64 bits to what is written, however many digits; or the same refusal."""
    whole = data.encoded(data.exposure(1, score=0.125))
    both_end("exposures", [whole, whole.replace(b"0.125", str(number).encode())])


@given(st.one_of(TIMES, st.sampled_from(ODD_TIMES), st.from_regex(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9:.]{12}Z")))
def test_times(time: str) -> None:
    """Every instant from 1970 to 2099, instants before and after, and what only looks like one."""
    both_end("visits", [data.encoded(data.visit(1, ended_at=text)) for text in (format_ms(TIME_MS), time)])


@given(st.lists(st.text(st.characters(max_codepoint=0x17F), max_size=40), min_size=1))
def test_texts_of_any_characters(texts: list[str]) -> None:
    """Characters that JSON escapes, or that take several bytes, anywhere in a text of any length."""
    both("visits", [data.encoded(data.visit(1, venue_id=text)) for text in texts])


@given(st.binary(max_size=20))
def test_texts_of_any_bytes(text: bytes) -> None:
    """What is no text in UTF-8 is refused as ever."""
    whole = data.encoded(data.visit(1))
    both_end("visits", [whole, whole.replace(b'"CAFE"', b'"' + text + b'"')])


def test_texts_of_all_lengths() -> None:
    """Room is made for a long text among short ones, and for more of them than the first make one expect."""
    values = [data.encoded(data.visit(n, venue_id="v" * (100_000 if n == 3 else n * n))) for n in range(99)]
    assert not read_as_json("visits", values)
    both("visits", values)


def test_one_odd_record_is_read_by_itself() -> None:
    """The others of its form and its run are cut up all the same."""
    values = [data.encoded(data.scan(number)) for number in range(9)]
    values[0] = data.encoded(data.scan(0, source="nguồn"))
    values[5] = data.encoded(data.scan(5, lat=-1.5))
    assert read_as_json("enriched", values) == [values[0], values[5]]


def test_fields_that_the_table_has_not_are_checked_too() -> None:
    """A number that JSON does not know makes a record none of ours, wherever it stands."""
    values = [data.encoded(data.scan(number, weather=1.5)) for number in range(9)]
    assert not read_as_json("enriched", values)
    both("enriched", values)
    for odd in (b"1.2.3", b"01", b"[1]", b".5", b"5."):
        both("enriched", [*values, values[0].replace(b":1.5", b":" + odd)])


def test_many_forms() -> None:
    """So many forms that not all of them are cut up, one of them of more fields than are cut up at all."""
    values = [data.encoded(data.scan(number) | {"x" * (number + 1): 1}) for number in range(40)]
    values.append(data.encoded(data.scan(1) | {"y" * (number + 1): 1 for number in range(FIELDS_MAX)}))
    both("enriched", values)
    assert read_as_json("enriched", [values[-1]])


def test_a_cut_never_reads_beyond_a_record() -> None:
    """A record that ends anywhere, as a part of a longer text, is none of its form."""
    for value in (data.encoded(MADE[topic](5)) for topic in MADE):
        for topic in MADE:
            for end in range(len(value)):
                parts = [value, value[:end]]
                assert read_as_json(topic, parts)[-1:] == parts[1:]


def test_what_takes_records_says_what_it_cannot() -> None:
    """A form without fields or with too many, room for none, a field that is not there: our own bugs."""
    for pieces, kinds, rows_max in (((b"",), [], 1), ((b"", b""), [Kind.TEXT], 0), ((b"",), [Kind.TEXT], 1)):
        with pytest.raises(ValueError, match="a form has up to 32 fields"):
            Cutter(pieces, kinds, rows_max)
    with pytest.raises(IndexError):
        Cutter((b"", b""), [Kind.TEXT], 1).column(1)


def test_days_far_apart() -> None:
    """Days of times that span years are those of times close together."""
    times = np.array([0, 1_634_144_123_456, 4_102_444_799_999], np.int64)
    clock = LocalClock(ZONE)
    apart = [int(local_days(times[number : number + 1], clock)[0]) for number in range(3)]
    assert local_days(times, clock).tolist() == apart == [19700101, 20211013, 21000101]
