"""The register in memory: which venue a code means as venues come, change and go, and what that costs."""

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.directory import Directory, VenueEvent, pack_attributes

_IDS = ("A", "B", "C", "D")
_CODES = (*_IDS, "OLD", "BOTH")


def version(venue_id: str, codes: tuple[str, ...] = (), registered_ms: int = 0, lat: float = 21.0) -> VenueEvent:
    """A version of a venue."""
    return SimpleNamespace(
        venue_id=venue_id,
        category="cafe",
        province_code="01",
        district_code="007",
        ward_code="00262",
        lat=lat,
        lon=105.0,
        dwell_minutes=None,
        registered_ms=registered_ms,
        codes=codes,
    )


versions = st.builds(
    version,
    st.sampled_from(_IDS),
    st.lists(st.sampled_from(_CODES), max_size=4).map(tuple),
    st.integers(0, 2),
    st.sampled_from([1.0, 2.0]),
)


def _means(known: dict[str, VenueEvent], code: str) -> tuple[bytes, bytes] | None:
    """What SPEC says of a code, told plainly."""
    claims = [venue for venue in known.values() if code in venue.codes]
    first = min(claims, key=lambda venue: (venue.registered_ms, venue.venue_id), default=None)
    venue = known.get(code, first)
    return None if venue is None else (venue.venue_id.encode(), pack_attributes(venue))


@given(st.lists(versions | st.sampled_from(_IDS), max_size=60))
def test_codes_mean_what_the_rules_say(changes: list[VenueEvent | str]) -> None:
    """After every version and every removal, of every code; what came to mean something is told; and taken up alike."""
    directory, known = Directory(), dict[str, VenueEvent]()
    for change in changes:
        before = {code for code in _CODES if _means(known, code) is None}
        touched = set[bytes]()
        if isinstance(change, str):
            assert directory.remove(change.encode()) == (change in known)
            known.pop(change, None)
        else:
            touched = directory.put(change)
            known[change.venue_id] = change
        assert {code.encode() for code in before if _means(known, code) is not None} <= touched
        taken_up = Directory(bytes(range(16)))
        taken_up.take_up(directory.contents)
        for one in (directory, taken_up):
            assert len(one) == len(known)
            assert [one.resolve(code.encode()) for code in _CODES] == [_means(known, code) for code in _CODES]
            claimed = [code for venue in known.values() for code in set(venue.codes)]
            assert one.contested == sum(claimed.count(code) > 1 for code in set(claimed))


class _Watching(Directory):
    """A directory that is asked what a code means before everything that a change does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bytes | None] = set()
        self.asking = False

    def __getattribute__(self, name: str) -> object:
        held = super().__getattribute__("__dict__")
        if name in ("_of_venue", "_of_code", "_venues", "_rivals") and not held.get("asking", True):
            held["asking"] = True
            found = super().__getattribute__("_look_up")(b"BOTH")
            held["seen"].add(None if found is None else found[0])
            held["asking"] = False
        return super().__getattribute__(name)


def test_a_claimed_code_never_means_nothing_in_between() -> None:
    """Who resolves while venues change and go is told one claimant or the next, never that there is none."""
    directory = _Watching()
    for number, venue_id in enumerate(_IDS):
        directory.put(version(venue_id, ("BOTH",), number))
    directory.seen.clear()
    directory.put(version("A", ("BOTH", "OLD"), 0))
    directory.put(version("A", ("BOTH",), 9))
    assert directory.seen == {b"A", b"B"}
    directory.remove(b"B")
    directory.put(version("C", ()))
    directory.remove(b"D")
    assert directory.seen == {b"A", b"B", b"C", b"D"}


def _seconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _register_change_and_remove(venues: int) -> None:
    """So many venues that claim the same hundred codes, each coming before all others; then all change, and go."""
    codes = tuple(f"CODE-{number}" for number in range(100))
    directory = Directory()
    for number in range(venues):
        directory.put(version(f"V{number}", codes, venues - number))
    for number in range(venues):
        directory.put(version(f"V{number}", codes, number))
    for number in range(venues):
        directory.remove(b"V%d" % number)
    assert directory.contents[1] == []
    assert directory.contested == 0


def test_a_code_that_many_claim_costs_each_of_them_the_same() -> None:
    """Eight times as many claimants take some eight times as long, not sixty-four times."""
    for _ in range(3):  # a machine that is busy may be slow once
        few = _seconds(lambda: _register_change_and_remove(100))
        many = _seconds(lambda: _register_change_and_remove(800))
        if many < 20 * few:
            return
    pytest.fail(f"{many:.2f} s instead of {few:.2f} s")
