"""Timelines against a plain dictionary, short and long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import held_scans, keys
from streams.core.directory import NO_ATTRIBUTES
from streams.core.held_scans import unpack_starts
from streams.core.packed import StoredScan, scans_of
from streams.core.step import Step
from streams.core.timeline import Timeline
from tests.core.pipeline import CLOCK, DAY_MS, MemoryState

PERSON = bytes(range(16))
BASE_MS = 1_634_144_400_000
AREAS = (b"0026200701", b"0025600701", b"1975347446")


def _scan(number: int, occurred_ms: int, area: int, *, waiting: bool) -> StoredScan:
    code = b"CAFE"
    attributes = NO_ATTRIBUTES if waiting else AREAS[area] + NO_ATTRIBUTES[10:]
    return StoredScan(occurred_ms, number % 3, number % 12, waiting, b"s%d" % number, code, code, attributes)


SCANS = st.lists(
    st.tuples(st.integers(-2 * DAY_MS, 2 * DAY_MS) | st.sampled_from([0, 1]), st.integers(0, 2), st.booleans()),
    max_size=40,
)


@given(SCANS, st.sampled_from([120, 400, 8192]), st.data())
def test_a_timeline_is_a_dictionary_with_an_order(
    rows: list[tuple[int, int, bool]], chunk_bytes: int, data: st.DataObject
) -> None:
    """Adding, finding, accepting and the areas of a day agree with a dictionary, over many steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_scans, "CHUNK_BYTES_MAX", chunk_bytes)
        state = MemoryState()
        model: dict[bytes, StoredScan] = {}
        for number, (offset_ms, area, waiting) in enumerate(rows):
            line = Timeline(PERSON, state.get(b"p" + PERSON), state)
            scan = _scan(number, BASE_MS + offset_ms, area, waiting=waiting)
            assert line.find(scan.scan_id) is None
            line.add(scan, CLOCK)
            model[scan.scan_id] = scan
            _apply(state, line)
            line = Timeline(PERSON, state.get(b"p" + PERSON), state)
            chosen = model[data.draw(st.sampled_from(sorted(model)))]
            if chosen.waiting and data.draw(st.booleans()):
                accepted = chosen._replace(waiting=False, venue_id=b"V", attributes=AREAS[0] + NO_ATTRIBUTES[10:])
                line.accept(chosen.scan_id, chosen.occurred_ms, b"V", accepted.attributes, CLOCK)
                model[chosen.scan_id] = accepted
                _apply(state, line)
            _check(state, model, chosen)
        assert _stored(state) == sorted(model.values(), key=lambda scan: scan.place)


def _apply(state: MemoryState, line: Timeline) -> None:
    step = Step(1, 1)
    line.settle()
    step.changes |= line.changes()
    state.apply(step)


def _check(state: MemoryState, model: dict[bytes, StoredScan], chosen: StoredScan) -> None:
    line = Timeline(PERSON, state.get(b"p" + PERSON), state)
    found = line.find(chosen.scan_id)
    assert found is not None
    assert found.same_event(chosen.occurred_ms, chosen.direction, chosen.source, chosen.code)
    day = CLOCK.day_text(chosen.occurred_ms)
    expected = {s.attributes[:10] for s in model.values() if not s.waiting and CLOCK.day_text(s.occurred_ms) == day}
    assert line.areas_of_day(chosen.occurred_ms, CLOCK) == expected


def _stored(state: MemoryState) -> list[StoredScan]:
    head = state.get(b"p" + PERSON)
    if head is None:
        return []
    if not head[0] & 1:
        return list(scans_of(head[23:]))
    starts = unpack_starts(head[1:])
    chunks = [state.get(keys.person_chunk(PERSON, *start)) or b"" for start in starts]
    return [scan for chunk in chunks for scan in scans_of(chunk[2 + int.from_bytes(chunk[:2], "little") :])]


def test_a_shared_card_costs_what_it_touches() -> None:
    """With 20,000 scans held, a step writes a few values of bounded size, not the whole timeline."""
    state = MemoryState()
    line = Timeline(PERSON, None, state)
    for number in range(20_000):
        line.add(_scan(number, BASE_MS + (number % 1000), 0, waiting=False), CLOCK)
    _apply(state, line)
    line = Timeline(PERSON, state.get(b"p" + PERSON), state)
    line.add(_scan(20_000, BASE_MS, 1, waiting=False), CLOCK)
    line.settle()
    changes = line.changes()
    assert len(changes) <= 5
    assert max(len(value or b"") for key, value in changes.items() if key[:1] == b"c") <= 2 * held_scans.CHUNK_BYTES_MAX
    assert max(len(value) for key, value in state.data.items()) < 100_000
