"""Steps in which the core raises: told from what the store raises, and taken without whom it raises at."""

from collections.abc import Callable

import pytest

from streams.core import expiry, intake, migrate
from streams.core.keys import SWEPT
from streams.core.room import RoomPartition
from streams.core.step import Record, StateReader, Step
from streams.core.times import DAY_MS
from streams.shell import steps
from tests.core.pipeline import CLOCK, MemoryState

ROOM = RoomPartition(0, 1, "checkin.", 28 * DAY_MS, CLOCK, {})
NOW_MS = 1_634_000_000_000


class _Broken(MemoryState):
    def get(self, key: bytes) -> bytes | None:
        raise ValueError(f"the disk does not give {key!r}")


def _state(count: int) -> MemoryState:
    state = MemoryState()
    state.data = {b"p%016d" % number: b"v" for number in range(count)}
    return state


def _raising_at(*bad: bytes) -> Callable[[StateReader], list[bytes]]:
    """What goes through all keys, page by page, and raises at these."""

    def compute(state: StateReader) -> list[bytes]:
        found: list[bytes] = []
        after = b""
        while page := state.scan(b"p", 7, after):
            for key, _ in page:
                if key in bad:
                    raise KeyError(key)
                found.append(key)
            after = page[-1][0]
        return found

    return compute


def test_what_the_store_raises_is_not_the_cores() -> None:
    """It ends the process as the store raised it; what the core raises says what and where, and no value."""
    with pytest.raises(ValueError, match="the disk does not give"):
        steps.purely(lambda state: state.get(b"k"), _Broken())
    with pytest.raises(MemoryError):
        steps.purely(lambda _: _run_out(), MemoryState())
    with pytest.raises(steps.CoreFailedError) as caught:
        steps.purely(lambda state: expiry.take_expiry("person", ROOM, 1, "x", b"", state), MemoryState())  # type: ignore[arg-type]
    assert caught.value.detail.startswith("TypeError at streams.core.expiry:cutoffs:")
    assert caught.value.detail.rpartition(":")[2].isdecimal()


def _run_out() -> None:
    raise MemoryError


@pytest.mark.parametrize("count", [1, 2, 7, 8, 100])
def test_the_key_that_raises_is_found(count: int) -> None:
    """Whichever it is, and how many there are, all others are gone through, in order."""
    state = _state(count)
    keys = sorted(state.data)
    for bad in ({keys[0]}, {keys[-1]}, {keys[count // 2], keys[0]}, set(keys)):
        hidden: set[bytes] = set()
        told: list[bytes] = []
        found = steps.without_failing(
            _raising_at(*bad),
            state,
            hidden,
            lambda key, _, told=told: told.append(key),  # type: ignore[misc]
        )
        assert hidden == bad == set(told)
        assert found == [key for key in keys if key not in bad]


def test_what_raises_at_no_key_is_no_keys_fault() -> None:
    """Nothing is left out for it."""

    def compute(_: StateReader) -> None:
        raise KeyError("always")

    hidden: set[bytes] = set()
    with pytest.raises(steps.CoreFailedError):
        steps.without_failing(compute, _state(5), hidden, lambda *_: None)
    assert not hidden


def test_expiry_and_migration_go_on_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """All else goes; a sweep that left something out does not say that it is done."""
    state = MemoryState()
    state.data = {b"r%016d" % number: b"v" for number in range(50)}

    def drop(sweep: expiry._Sweep, key: bytes, _: bytes) -> None:
        if key.endswith(b"7"):
            raise KeyError(key)
        sweep.step.changes[key] = None

    monkeypatch.setattr(expiry._Sweep, "_reject", drop)
    left_out: set[bytes] = set()
    step, following = steps.without_failing(
        lambda view: expiry.take_expiry("person", ROOM, 1, NOW_MS, b"", view), state, left_out, lambda *_: None
    )
    assert following is None
    assert len(left_out) == 5
    assert len([key for key in step.changes if key[:1] == b"r"]) == 45
    assert SWEPT in step.changes, "the runner takes it out"

    def change(value: bytes) -> bytes:
        if value == b"bad":
            raise ValueError
        return value + b"!"

    state.data |= {b"p1": b"bad"}
    left_out.clear()
    portion = steps.without_failing(
        lambda view: migrate.change_values({b"p": change, b"r": change}, b"", view), state, left_out, lambda *_: None
    )
    assert left_out == {b"p1"}
    assert len(portion.changes) == 50


def test_records_are_taken_in_halves_in_their_order() -> None:
    """What raises alone is told of; what was taken before it raised is taken again."""
    taken: list[int] = []
    failed: list[tuple[int, str]] = []

    def take(part: object) -> None:
        assert isinstance(part, list)
        for number in part:
            if number % 10 == 3:
                raise ValueError(number)
            taken.append(number)

    steps.take_each(list(range(40)), take, lambda number, detail: failed.append((number, detail)))
    assert [number for number, _ in failed] == [3, 13, 23, 33]
    assert all(detail.startswith("ValueError at ") for _, detail in failed)
    assert list(dict.fromkeys(taken)) == [number for number in range(40) if number % 10 != 3]


def test_a_row_of_a_failed_record_needs_nothing_of_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the writing of rejects fails too, the row is bare."""
    record = Record(7, NOW_MS, b"f" * 32, b"{}")
    whole = steps.take_failed(ROOM, 3, "scans", 0, record, "KeyError at m:f:1", MemoryState())
    monkeypatch.setattr(intake, "Desk", None)
    bare = steps.take_failed(ROOM, 3, "scans", 0, record, "KeyError at m:f:1", MemoryState())

    def only(step: Step) -> bytes:
        [(_, value, _, _)] = list(step.outputs["rejects"])
        return value or b""

    assert b'"payload":"e30="' in only(whole)
    assert b'"payload":null' in only(bare)
    for step in (whole, bare):
        assert (step.number, step.rejects, step.counts) == (3, {"failed": 1}, {"rejected": 1})
