"""Visits that a timeline keeps up to date, against the pass over all scans at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import held_scans
from streams.core.directory import CATEGORY_NAMES
from streams.core.packed import StoredScan
from streams.core.step import Step
from streams.core.timeline import Timeline
from streams.core.visits import START, Visit, all_of
from tests.core.pipeline import CLOCK, MemoryState

PERSON = bytes(range(16))
BASE_MS = 1_634_144_400_000
MINUTE_MS = 60_000
VENUES = {b"CAFE": ("cafe", 60), b"PHARM": ("pharmacy", 15), b"GATE": ("checkpoint", 2), b"HOTEL": ("hotel", 720)}
HEAD_KEY = b"p" + PERSON


def _scan(number: int, minute: int, venue: bytes, direction: int, *, waiting: bool) -> StoredScan:
    category, dwell = VENUES[venue]
    attributes = b"0026200701" + bytes([CATEGORY_NAMES.index(category)]) + dwell.to_bytes(2, "little")
    return StoredScan(BASE_MS + minute * MINUTE_MS, direction, 0, waiting, b"s%03d" % number, venue, venue, attributes)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 300) | st.sampled_from([0, 15, 60, 240, 1440]),
        st.sampled_from(sorted(VENUES)),
        st.integers(0, 2),
        st.booleans() | st.just(False),  # noqa: FBT003 - whether it waits at first
    ),
    max_size=40,
)


@given(
    rows=ROWS, chunk_bytes=st.sampled_from([130, 400, 8192]), splits=st.lists(st.integers(1, 6)), rises=st.booleans()
)
def test_any_order_and_split_gives_the_visits_of_all_scans_at_once(
    *, rows: list[tuple[int, bytes, int, bool]], chunk_bytes: int, splits: list[int], rises: bool
) -> None:
    """What was sent and taken back adds up, after every step, to the visits of the set of accepted scans."""
    scans = [_scan(number, *row[:3], waiting=row[3]) for number, row in enumerate(rows)]
    if rises:
        scans.sort(key=lambda scan: scan.place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_scans, "CHUNK_BYTES_MAX", chunk_bytes)
        state = MemoryState()
        sent: dict[bytes, Visit] = {}
        accepted: list[StoredScan] = []
        waiting: list[StoredScan] = []
        sizes = iter(splits)
        while scans or waiting:
            line = Timeline(PERSON, state.get(HEAD_KEY), state)
            if scans:
                size = next(sizes, 3)
                batch, scans = scans[:size], scans[size:]
                for scan in batch:
                    line.add(scan, CLOCK)
                    (waiting if scan.waiting else accepted).append(scan)
            else:
                scan = waiting.pop()
                line.accept(scan.scan_id, scan.occurred_ms, scan.venue_id, scan.attributes, CLOCK)
                accepted.append(scan._replace(waiting=False))
            _apply(line, state, sent)
            accepted.sort(key=lambda scan: scan.place)
            expected = all_of(START, accepted)
            assert sent == {visit.scan_id: visit for visit in expected}
            _check_between(state, expected)


def _apply(line: Timeline, state: MemoryState, sent: dict[bytes, Visit]) -> None:
    were, are = line.settle()
    for visit in were:
        assert sent.pop(visit.scan_id) == visit, "what is taken back must be what was sent"
    for visit in are:
        assert visit.scan_id not in sent
        sent[visit.scan_id] = visit
    step = Step(1, 1)
    step.changes |= line.changes()
    state.apply(step)


def _check_between(state: MemoryState, expected: list[Visit]) -> None:
    """Every visit that intersects an interval is found in it."""
    for first, last in ((0, 60), (100, 101), (-10_000, 10_000), (60, 60)):
        from_ms, to_ms = BASE_MS + first * MINUTE_MS, BASE_MS + last * MINUTE_MS
        pages = Timeline(PERSON, state.get(HEAD_KEY), state).visits_between(from_ms, to_ms)
        found = [visit for page, _ in pages for visit in page]
        met = [visit for visit in expected if visit.start_ms < to_ms and visit.end_ms > from_ms and from_ms < to_ms]
        assert [visit for visit in met if visit not in found] == []
        assert [visit for visit in found if visit not in expected and visit.end_ms <= to_ms] == []


class _Counting(MemoryState):
    """Counts the bytes that a step reads."""

    read_bytes = 0

    def get(self, key: bytes) -> bytes | None:
        value = super().get(key)
        self.read_bytes += len(value or b"")
        return value


def test_a_shared_card_costs_a_scan_what_it_touches() -> None:
    """One scan after another, all of one long visit, and late ones among them: none reads more than a few chunks."""
    state = _Counting()
    sent: dict[bytes, Visit] = {}
    costs = []
    for number in range(3_000):
        minute = number // 4 if number % 10 else number // 8
        line = Timeline(PERSON, state.get(HEAD_KEY), state)
        line.add(_scan(number, minute, b"HOTEL", 0, waiting=False)._replace(scan_id=b"s%05d" % number), CLOCK)
        _apply(line, state, sent)
        costs.append(state.read_bytes)
        state.read_bytes = 0
    assert len(sent) == 1
    on_time = [cost for number, cost in enumerate(costs) if number % 10]
    assert max(on_time[-500:]) <= 4 * held_scans.CHUNK_BYTES_MAX


def test_a_late_scan_is_followed_only_as_far_as_it_matters() -> None:
    """A late scan in a timeline of many chunks reads those from its own to where the visits agree again."""
    state = _Counting()
    sent: dict[bytes, Visit] = {}
    line = Timeline(PERSON, None, state)
    for number in range(900):
        scan = _scan(number, 10 * number, (b"CAFE", b"PHARM")[number % 2], 0, waiting=False)
        line.add(scan._replace(scan_id=b"s%05d" % number), CLOCK)
    _apply(line, state, sent)
    assert len(sent) == 900
    state.read_bytes = 0
    line = Timeline(PERSON, state.get(HEAD_KEY), state)
    line.add(_scan(999, 501, b"HOTEL", 0, waiting=False), CLOCK)
    were, are = line.settle()
    line.changes()
    assert state.read_bytes <= 6 * held_scans.CHUNK_BYTES_MAX
    # Of chunks near it the visits may be compared; what differs are the one it cut, itself, and no other.
    assert len(set(are) - set(were)) == 2
    assert len(set(were) - set(are)) == 1
