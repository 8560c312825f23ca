"""A fixed short run of the fuzzer, and whether it sees: `./do fuzz` takes as long as one likes."""

import logging
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from streams.core import reasons
from tests.fuzz import planted
from tests.fuzz.calls import Answer, Call, Reader
from tests.fuzz.chance import Chance
from tests.fuzz.events import HOWS, ONE
from tests.fuzz.running import Runner
from tests.fuzz.table import READERS

_CASES = 90


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What readers say of bad records is not said a thousand times."""
    logger = logging.getLogger("truyvet")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


def test_no_reader_fails_at_a_fixed_run() -> None:
    """Tens of thousands of records through every reader: one verdict each, within bounds, both forms the same."""
    # What a call costs says more about what else runs on a shared machine: here only far more than it may is a fault.
    runner = Runner("fixed", READERS, times=10.0)
    runner.run(0, 1, time.monotonic() + 3_600, 10**9, cases_max=_CASES)
    tally = runner.tally
    assert not tally.faults, "\n".join(map(str, tally.faults))
    assert set(tally.verdicts) == {reader.name for reader in READERS}
    assert set(tally.hows) == set(HOWS)
    assert tally.hows[ONE] * 3 > sum(tally.hows.values())
    assert tally.twins > 120


def test_every_reason_is_reached() -> None:
    """What stands in the list of reasons comes from some reader, but for those that no input alone brings about."""
    reached = {verdict.rpartition(" ")[2] for reader in READERS for verdict in reader.verdicts}
    beyond = {reasons.FAILED, reasons.UNKNOWN_VENUE}
    assert set(reasons.REASONS) - reached == beyond


def test_the_same_seed_gives_the_same() -> None:
    """A case is what its seed, reader and number say, whatever came before it."""
    for reader in READERS:
        shown = []
        for _ in range(2):
            call = next(iter(reader.case(Chance("again/1"))))
            shown.append((call.records, call.shown()))
        assert shown[0] == shown[1]


def test_what_is_planted_is_found() -> None:
    """A quadratic check, and a difference of the compiled and the plain form."""
    for name, said in planted.in_process(60.0).items():
        assert "again: ./do fuzz" in said, name


def _reader(*calls: Call) -> Reader:
    return Reader("made", lambda _: iter(calls), frozenset({"good"}))


def _call(read: Answer, records: int = 1, **more: object) -> Call:
    return Call(lambda: read, records, 10, lambda: b"\x01\x02", Counter(), **more)  # type: ignore[arg-type]


def _failing() -> Answer:
    raise IndexError


def _slow() -> Answer:
    until = time.thread_time() + 0.03
    while time.thread_time() < until:
        pass
    return Answer(Counter(good=1))


def _large() -> Answer:
    held = bytearray(b"x" * (80 << 20))
    return Answer(Counter(good=len(held) >> 26))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (_call(Answer(Counter(good=2))), "1 records, but verdicts"),
        (_call(Answer(Counter(odd=1))), "no verdict that there is: odd"),
        (_call(Answer(Counter(good=1), 1), twin=lambda: 2), "the forms differ: 1 and 2"),
        (Call(_failing, 1, 1, lambda: b"\x01\x02", Counter()), "IndexError"),
        (Call(_slow, 1, 1, lambda: b"\x01\x02", Counter()), "ms of CPU"),
        (Call(_large, 1, 1, lambda: b"\x01\x02", Counter()), "MiB of memory"),
    ],
)
def test_what_a_reader_may_not_do_is_said(call: Call, said: str) -> None:
    """Too few or unknown verdicts, another answer, an error, too much CPU or memory: with the input, to be repeated."""
    runner = Runner("5", [_reader(call)], times=100.0 if "MiB" in said else 1.0)
    runner.case(_reader(call), 7)
    (fault,) = runner.tally.faults
    assert said in str(fault)
    assert "input: 0102" in str(fault)
    assert "again: ./do fuzz --seed 5 --reader 'made' --case 7" in str(fault)
