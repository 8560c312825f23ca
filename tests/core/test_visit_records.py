"""The compiled reading of ``visits`` records keeps what the plain one keeps."""

import random

from hypothesis import given
from hypothesis import strategies as st

from streams.core import proximity, visit_records, wire
from streams.core.crossing import Interval, was_header
from streams.core.directory import CATEGORY_NAMES
from streams.core.intervals import BOUNDS_MINUTES
from streams.core.records import Records
from streams.core.step import Record
from streams.core.times import MINUTE_MS
from streams.core.visits import ESTIMATED, SCANNED, VISIT_MS_MAX, Visit

MINUTES = st.sampled_from([*BOUNDS_MINUTES[:22], 0, 1, 7])
VISITS = st.tuples(
    st.integers(0, 3),
    st.integers(-(10**12), 8 * 10**12),
    MINUTES,
    st.sampled_from([-1, 0, 1]),
    st.integers(0, len(CATEGORY_NAMES) - 1),
    st.sampled_from(["new", "replaces", "retracted"]),
)


def _record(offset: int, drawn: tuple[int, int, int, int, int, str]) -> Record:
    person, start_ms, minutes, more_ms, category, how = drawn
    length_ms = min(max(0, minutes * MINUTE_MS + more_ms), VISIT_MS_MAX)
    attributes = b"00262" + b"007" + b"01" + bytes((category,)) + b"\x05\x00"
    venue, hexes = b"A-%d" % (person % 2), b"%032x" % person
    stay = Visit(
        b"s_%d" % offset, start_ms - person, venue, attributes, start_ms, start_ms + length_ms, SCANNED, ESTIMATED, 3
    )
    identity = wire.visit_id(hexes, venue, b"s")
    headers = [] if how == "new" else was_header(Interval(start_ms - 7, start_ms - 7 + length_ms))
    gone = how == "retracted"
    value = wire.retracted_visit(identity, stay, 9) if gone else wire.visit(hexes, identity, stay, 9)
    return Record(offset, 5, venue, value, headers)


@given(st.lists(VISITS, max_size=8), st.sampled_from([{}, {b"A-0": [1]}]))
def test_both_forms_keep_the_same(drawn: list[tuple[int, int, int, int, int, str]], cases: dict[bytes, object]) -> None:
    """New, changed and retracted visits of every length at the edges of every class, with and without cases there."""
    records = [_record(offset, one) for offset, one in enumerate(drawn)]
    assert visit_records.kept(Records.of(records), cases) == proximity.kept(records, cases)


@given(VISITS, st.integers(0, 2**32))
def test_what_is_written_otherwise_is_left_or_read_the_same(
    drawn: tuple[int, int, int, int, int, str], seed: int
) -> None:
    """A record changed in one place is read as the plain form reads it, or not at all."""
    rng = random.Random(seed)  # noqa: S311
    record = _record(0, drawn)
    text = bytearray(record.value or b"")
    at = rng.randrange(len(text))
    text[at : at + rng.choice([0, 1])] = rng.choice([b"", b" ", b"\\", b'"', b"x", b"9"])
    changed = [record._replace(value=bytes(text))]
    found = visit_records.kept(Records.of(changed), {})
    if found is not None:
        assert found == proximity.kept(changed, {})
