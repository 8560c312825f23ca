"""Every check at its largest and its worst input: its time is linear in the bytes, whatever they are.

Nobody may hold up a partition with what he sends: while one record is judged all others of the process wait.
"""

import gc
import json
import random
from collections.abc import Callable, Sequence
from time import process_time
from typing import Any, Final

import pytest

from sinks.cut import Cutter, Kind, cut
from streams.core import cases, erasure, person, visit_records
from streams.core.decode import decode_case, decode_erasure, decode_scan, decode_scans, decode_venue, decode_venues
from streams.core.inbound import BadEvent, CaseIn
from streams.core.nesting import is_deeper
from streams.core.packed_table import PackedTable
from streams.core.records import Records
from streams.core.step import Record, Step
from streams.core.times import format_ms, parse_ms
from tests.core import crafted
from tests.core.pipeline import AREAS, MemoryState
from tests.core.test_in_order import NOW_MS, PERSON, VENUES, _registered

BYTES_MAX: Final = 65_536
RECORD_SECONDS_MAX: Final = 0.020
BYTE_SECONDS_MAX: Final = 20e-9
STEP_SECONDS_MAX: Final = 500e-6
"""A record of a step, its outputs and state changes included: in Python, several times what it takes."""
TRIES: Final = 3
BATCH: Final = 16
FIRST_MS: Final = 1_634_000_000_000


def check_seconds(work: Callable[[], object], seconds_max: float) -> None:
    """Holds the CPU time of this work to a bound; a machine that was busy is asked three times.

    The collector walks what other tests have left; a process of the pipeline freezes what it holds.
    """
    spent = []
    for _ in range(TRIES):
        gc.disable()
        try:
            began = process_time()
            work()
            spent.append(process_time() - began)
        finally:
            gc.enable()
        if spent[-1] <= seconds_max:
            return
    raise AssertionError(f"took {min(spent):.3f} s, at most {seconds_max:.3f} s are taken")


def filled(unit: str, head: str = '{"a":[', tail: str = "]}") -> bytes:
    """A value of at most 64 KiB that consists of as many of these units as it can."""
    count = (BYTES_MAX - len((head + tail).encode())) // len(unit.encode())
    return ((head + unit * count).removesuffix(",") + tail).encode()


WORST: Final = {
    "brackets and escapes": filled('"\\\\"[', "", ""),
    "brackets and escapes unclosed": filled('[\\"', "", ""),
    "brackets in a text": filled('["\\"[', '{"a":"', '"}'),
    "escaped quotation marks": filled('\\"', '{"a":"', '"}'),
    "backslashes": filled("\\\\", '{"a":"', '"}'),
    "backslashes after brackets": b"[" * 65 + b'"' + b"\\" * 63_000,
    "quotation marks after brackets": b"[" * 65 + b'"' * 63_000,
    "open arrays": b"[" * BYTES_MAX,
    "arrays as deep as may be": filled("[" * 62 + "]" * 62 + ","),
    "objects as deep as may be": filled('{"a":' * 60 + "0" + "}" * 60 + ","),
    "arrays": filled("[],"),
    "objects": filled("{},"),
    "integers": filled("0,"),
    "an integer that is long, and many that are not": filled("0,", '{"a":[' + "9" * 4_301 + ","),
    "integers as long as Python reads them": filled("9" * 4_300 + ","),
    "integers longer than that": filled("9" * 4_301 + ","),
    "an integer of 65,000 digits": b'{"a":' + b"9" * 63_000 + b"}",
    "a fraction of 65,000 digits": b'{"a":0.' + b"9" * 63_000 + b"}",
    "a large exponent": b'{"a":1e' + b"9" * 63_000 + b"}",
    "numbers": filled("-1.5e300,"),
    "numbers beyond all numbers": filled("1e999999,"),
    "texts": filled('"",'),
    "one key": filled('"":0,', "{", "}"),
    "keys": ("{" + ",".join(f'"{number:05x}":0' for number in range(6_500)) + "}").encode(),
    "keys of the event": filled('"scan_id":"","case_id":"","codes":[],', "{", "}"),
    "escapes": filled("\\u1ea0", '{"a":"', '"}'),
    "pairs of surrogates": filled("\\ud83d\\ude00", '{"a":"', '"}'),
    "escaped keys": filled('"\\u0061":0,', "{", "}"),
    "letters": filled("ớ", '{"a":"', '"}'),
    "broken letters": b'{"a":"' + b"\xff" * 63_000 + b'"}',
    "broken at its end": filled("0,", '{"a":[', "]x"),
    "white space": b"{" + b" " * 63_000 + b"}",
}
FIELDS: Final = {
    "scan_id": f'"{"a" * 60_000}"',
    "person_id": f'"{"a" * 60_000}"',
    "venue_id": f"{[0] * 20_000}",
    "occurred_at": f'"2021-10-14T08:15:30.{"1" * 60_000}+07:00"',
    "reported_at": f'"2021-10-14T08:15:30.{"1" * 60_000}+07:00"',
    "requested_at": f'"2021-10-14T08:15:30.{"1" * 60_000}"',
    "registered_at": f'"{"2021-10-14T08:15:30Z" * 3_000}"',
    "onset_at": f'":{"0" * 60_000}"',
    "ruleset": f'"{"ớ" * 20_000}"',
    "name": '"' + "\\u1ea0" * 3_000 + '"',
    "codes": json.dumps([f"{number:x}" for number in range(7_000)]),
    "capacity": "9" * 60_000,
    "dwell_minutes": "-" + "9" * 4_300,
    "lat": "0." + "9" * 60_000,
    "lon": "1" + "0" * 60_000 + "e-60000",
    "direction": f'"{"in" * 30_000}"',
    "status": '"' + "\\ud83d\\ude00" * 3_000 + '"',
}
EVENTS: Final[tuple[dict[str, Any], ...]] = (
    {
        "scan_id": "s1",
        "person_id": PERSON,
        "venue_id": "CAFE",
        "direction": "in",
        "occurred_at": "2021-10-14T08:15:30+07:00",
        "source": "cccd",
    },
    json.loads(VENUES[0]),
    {
        "case_id": "c1",
        "person_id": PERSON,
        "status": "withdrawn",
        "onset_at": None,
        "ruleset": None,
        "reported_at": "2021-10-14T08:15:30+07:00",
    },
    {"person_id": PERSON, "requested_at": "2021-10-14T08:15:30+07:00"},
)
CHECKS: Final[dict[str, Callable[[bytes], object]]] = {
    "scan": decode_scan,
    "venue": lambda value: decode_venue(value, AREAS),
    "case": decode_case,
    "erasure": decode_erasure,
}


def with_field(event: dict[str, Any], name: str, text: str) -> bytes:
    """An event in which one field's value is this text of JSON."""
    rest = json.dumps({field: value for field, value in event.items() if field != name})
    return f'{rest[:-1]},"{name}":{text}}}'.encode()


@pytest.mark.parametrize("kind", WORST)
def test_a_value_of_the_largest_size_is_judged_at_once(kind: str) -> None:
    """By each check within 20 ms, and a batch of them within 20 ms and 20 ns a byte."""
    value = WORST[kind]
    assert 0.9 * BYTES_MAX < len(value) <= BYTES_MAX
    for check in CHECKS.values():
        check_seconds(lambda check=check: check(value), RECORD_SECONDS_MAX)  # type: ignore[misc]
    check_seconds(lambda: decode_scans([value] * BATCH), RECORD_SECONDS_MAX + BATCH * len(value) * BYTE_SECONDS_MAX)


@pytest.mark.parametrize(("check", "event"), list(zip(CHECKS, EVENTS, strict=True)), ids=tuple(CHECKS))
def test_a_field_of_the_largest_size_is_judged_at_once(check: str, event: dict[str, Any]) -> None:
    """Each field of each event, as large as a value may be, within the same bounds."""
    judged = CHECKS[check]
    for name in FIELDS.keys() & event.keys():
        value = with_field(event, name, FIELDS[name])
        assert len(value) <= BYTES_MAX
        check_seconds(lambda value=value: judged(value), RECORD_SECONDS_MAX)  # type: ignore[misc]
        bound = RECORD_SECONDS_MAX + BATCH * len(value) * BYTE_SECONDS_MAX
        check_seconds(lambda value=value: [judged(value) for _ in range(BATCH)], bound)  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["0,", "{},", '{"a":0},', "1.5,", "12345,"])
@pytest.mark.parametrize("first", ["", "9" * 4_301 + ","])
def test_a_good_case_with_much_beside_it_is_judged_at_once(kind: str, first: str) -> None:
    """A case's canonical JSON holds whatever the report does: it is made within 20 ms."""
    value = with_field(EVENTS[2], "x", filled(kind, "[" + first, "]" + " " * 200).decode().rstrip())
    assert isinstance(decode_case(value), CaseIn)
    check_seconds(lambda: decode_case(value), RECORD_SECONDS_MAX)


def test_depth_counts_brackets_outside_of_texts_only() -> None:
    """Depth is that of a plain walk over the value's characters, for any mix of brackets, escapes and texts."""
    source = random.Random(1)  # noqa: S311 - nothing secret
    units = ["[", "]", "{", "}", '"', "\\\\", '\\"', "\\n", "a"]
    for _ in range(100):
        text = "".join(source.choices(units, k=source.randrange(400)))
        value = json.dumps([text, [[text], {text: text}]]).encode()
        for depth in 58, 64, 65, 70:
            nested = b"[" * (depth - 3) + value + b"]" * (depth - 3)
            assert is_deeper(nested, 64) == (_depth(nested) > 64)


def _depth(value: bytes) -> int:
    depth = deepest = 0
    inside = escaped = False
    for byte in value.decode():
        if inside:
            inside, escaped = escaped or byte != '"', not escaped and byte == "\\"
        elif byte == '"':
            inside = True
        else:
            depth += (byte in "[{") - (byte in "]}")
            deepest = max(deepest, depth)
    return deepest


@pytest.mark.parametrize("bad", [b"{", b"", b'{"scan_id":7}', b"\xff", None])
def test_bad_records_make_no_work_for_the_good_ones_beside_them(bad: bytes | None) -> None:
    """One bad record among each 256, and all of them bad: the batch is judged in time that is linear in its records."""
    good = [scan(number, PERSON) for number in range(3_000)]
    some = [bad if number % 256 == 100 else value for number, value in enumerate(good)]
    for values in some, [bad] * 3_000:
        verdicts = decode_scans(values)
        assert sum(isinstance(verdict, BadEvent) for verdict in verdicts) == values.count(bad)
        check_seconds(lambda values=values: decode_scans(values), 3_000 * 30e-6)  # type: ignore[misc]
    venues = [bad if number % 60 == 30 else VENUES[0] for number in range(3_000)]
    check_seconds(lambda: decode_venues(venues, AREAS), 3_000 * 60e-6)


def scan(number: int, person_id: str, venue_id: str = "CAFE", at_ms: int | None = None) -> bytes:
    """A good scan, a second after the one before it."""
    at = format_ms(FIRST_MS + 1_000 * number if at_ms is None else at_ms)
    return b'{"scan_id":"s%d","person_id":"%b","venue_id":"%b","direction":"in","occurred_at":"%b","source":"cccd"}' % (
        number,
        person_id.encode(),
        venue_id.encode(),
        at.encode(),
    )


def take(values: Sequence[bytes], keys: Sequence[str], state: MemoryState | None = None) -> Step:
    """A step over one batch of scans."""
    pipeline = _registered()
    records = [Record(n, NOW_MS, key.encode(), value) for n, (key, value) in enumerate(zip(keys, values, strict=True))]
    return person.take_scans(pipeline.rooms[0], 7, Records.of(records), state or MemoryState(), pipeline.directory)


def test_persons_of_one_hash_cost_no_more_than_others() -> None:
    """Ids that were made up to stand in one place of the table are told apart in time, in scans of any form."""
    persons = crafted.persons(20_000)
    values = [scan(number, name) for number, name in enumerate(persons)]
    step = take(values + values[::-1], persons + persons[::-1])
    assert step.counts == {"accepted": 20_000, "duplicate": 20_000}
    assert len(step.changes.keys() & {b"p" + bytes.fromhex(name) for name in persons}) == 20_000
    check_seconds(lambda: take(values, persons), 20_000 * 12e-6)
    mixed = [value[:-1] + b',"x":1}' if number % 2 else value for number, value in enumerate(values[:2_000])]
    check_seconds(lambda: take(mixed + values[:2_000], persons[:2_000] * 2), 4_000 * STEP_SECONDS_MAX)


def test_venues_of_one_hash_are_found_like_others() -> None:
    """Ids that were made up to stand in one place of the register's table are found in time, and so are others."""
    ids = crafted.venues(3_000)
    table = PackedTable(2)

    def fill() -> None:
        for number, name in enumerate(ids):
            table[name] = number.to_bytes(2)

    check_seconds(fill, 3_000 * 100e-6)
    copy = PackedTable(2)
    copy.take_up(table.packed)
    for held in table, copy:
        assert [held[name] for name in ids] == [number.to_bytes(2) for number in range(3_000)]
        assert held.get(b"other") is None
        assert dict(held.items()) == {name: number.to_bytes(2) for number, name in enumerate(ids)}
        assert len(held) == 3_000
    missing = crafted.venues(6_000)[3_000:]
    check_seconds(lambda: [table.get(name) for name in missing], 3_000 * 50e-6)


@pytest.mark.parametrize("order", ["in order", "reversed", "shuffled", "at once", "copies", "conflicts", "waiting"])
def test_a_batch_of_one_person_is_linear_in_its_scans(order: str) -> None:
    """Three thousand scans of one person in one batch, in any order, cost each what a scan may cost."""
    numbers = list(range(3_000))
    if order == "reversed":
        numbers.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(numbers)  # noqa: S311 - nothing secret
    elif order == "copies":
        numbers = [number % 200 for number in numbers]
    venue = "NOWHERE" if order == "waiting" else "CAFE"
    at_ms = FIRST_MS if order == "at once" else None
    values = [scan(number, PERSON, venue, at_ms) for number in numbers]
    if order == "conflicts":
        values = [scan(1, PERSON, at_ms=FIRST_MS + number) for number in numbers]
    check_seconds(lambda: take(values, [PERSON] * len(values)), len(values) * STEP_SECONDS_MAX)


def test_cases_and_erasures_of_one_person_are_linear() -> None:
    """A thousand reports of one person's cases, and as many requests to forget him, each within its time."""
    room = _registered().rooms[0]
    at = format_ms(FIRST_MS)
    reports = [json.dumps(EVENTS[2] | {"case_id": f"c{n}", "reported_at": at}).encode() for n in range(1_000)]
    request = json.dumps(EVENTS[3] | {"requested_at": at}).encode()
    told = [Record(n, FIRST_MS, PERSON.encode(), value) for n, value in enumerate(reports)]
    asked = [Record(n, FIRST_MS, PERSON.encode(), request) for n in range(1_000)]
    assert cases.take_cases(room, 1, told, MemoryState()).counts == {"accepted": 1_000}
    check_seconds(lambda: cases.take_cases(room, 1, told, MemoryState()), 1_000 * STEP_SECONDS_MAX)
    check_seconds(lambda: erasure.take_erasures(room, 1, asked, MemoryState()), 1_000 * STEP_SECONDS_MAX)


def test_times_are_read_in_time() -> None:
    """A time with a fraction as long as a value may be, good or broken at its end, is read at once."""
    for end in "Z", "+07:00", "", "+", "z":
        text = "2021-10-14T08:15:30." + "1" * 63_000 + end
        check_seconds(lambda text=text: _tried(parse_ms, text), RECORD_SECONDS_MAX)  # type: ignore[misc]
    assert parse_ms("2021-10-14T08:15:30." + "1" * 63_000 + "Z") == parse_ms("2021-10-14T08:15:30.111Z")


def _tried(work: Callable[[str], object], text: str) -> None:
    try:
        work(text)
    except ValueError:
        return


def test_records_that_no_form_fits_are_left_after_one_pass() -> None:
    """The sink's cutter reads texts and numbers that never end once, and leaves them to JSON."""
    for value in (
        b'{"id":"' + b"0" * 60_000,
        b'{"id":"a","n":' + b"9" * 60_000 + b"}",
        b'{"id":"a","n":0.' + b"9" * 60_000,
    ):
        batch: list[bytes | None] = [value] * 40
        assert cut(batch, _form) == ([], batch)
        check_seconds(
            lambda batch=batch: cut(batch, _form),  # type: ignore[misc]
            RECORD_SECONDS_MAX + 40 * len(value) * BYTE_SECONDS_MAX,
        )


def _form(_: bytes, rows: int) -> Cutter:
    return Cutter((b'{"id":"', b'","n":', b"}"), [Kind.TEXT, Kind.NUMBER], rows)


def test_visits_that_nobody_wrote_are_left_after_one_pass() -> None:
    """The venue room's compiled reader goes over a stray record's bytes once."""
    strays = [b'{"visit_id":"' + b"0" * 60_000, b'{"visit_id":"' + b"0" * 32 + b'","person_id":"' + b"0" * 60_000]
    for value in strays:
        records = Records.of([Record(n, NOW_MS, b"CAFE", value) for n in range(40)])
        assert visit_records.kept(records, set()) is None
        check_seconds(lambda records=records: visit_records.kept(records, set()), RECORD_SECONDS_MAX)  # type: ignore[misc]
