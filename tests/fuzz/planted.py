"""Three faults, planted one by one: whether the fuzzer sees what it is there for."""

import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from streams.core import judge, visit_records
from streams.core.nesting import is_deeper
from streams.core.records import Records
from tests.fuzz import building, working
from tests.fuzz.running import Runner, Tally
from tests.fuzz.table import BY_NAME

_SECONDS: Final = 120.0
_SEED: Final = "planted"
_HONEST: Final = "or inside > batch.end - batch.at:"
_PLANTED: Final = ":"


def _until_found(readers: list[str], seconds: float) -> Tally:
    runner = Runner(_SEED, [BY_NAME[name] for name in readers])
    until, case = time.monotonic() + seconds, 0
    while time.monotonic() < until and not runner.tally.faults_in_all:
        case = runner.run(case, 1, until, runner.tally.records + 1)
    return runner.tally


@contextmanager
def quadratic_check() -> Iterator[None]:
    """The check of how deep a value is nested looks through all that is behind each bracket."""
    honest = is_deeper

    def slow(value: bytes, depth_max: int) -> bool:
        at = -1
        while (at := value.find(b"[", at + 1)) >= 0:
            value.count(b"]", at)
        return honest(value, depth_max)

    with patch.object(judge, "is_deeper", slow):
        yield


@contextmanager
def other_form() -> Iterator[None]:
    """The compiled reading of visits keeps one that is retracted by a record with a header."""
    honest = visit_records.kept

    def forgetful(records: Records, cases: Container[bytes]) -> object:
        found = honest(records, cases)
        if found is None or len(records) < 3:
            return found
        changes, crossed = found
        gone = next((key for key, value in changes.items() if value is None), None)
        if gone is not None:
            del changes[gone]
        return changes, crossed

    with patch.object(visit_records, "kept", forgetful):
        yield


def in_process(seconds: float = _SECONDS) -> dict[str, str]:
    """What is said of the two faults that need no other build; empty where one is not found."""
    return {
        "a quadratic check": _found(quadratic_check, ["decode cases", "decode erasures"], seconds, "ms of CPU"),
        "a difference of the forms": _found(other_form, ["rooms"], seconds, "the forms differ"),
    }


def _found(plant: Callable[[], Any], readers: list[str], seconds: float, word: str) -> str:
    with plant():
        tally = _until_found(readers, seconds)
    return next((str(fault) for fault in tally.faults if word in fault.what), "")


def _read_too_far(folder: Path) -> None:
    """A record may say that it goes on behind its batch."""
    path = folder / "streams" / "core" / "records.pyx"
    text = path.read_text()
    if _HONEST not in text:
        raise RuntimeError("the line to be changed is no longer there")
    path.write_text(text.replace(f" {_HONEST}", _PLANTED))


def out_of_bounds(folder: Path) -> str:
    """What the sanitiser says of a read past the end; empty where it says nothing."""
    building.build(building.SANITIZED, folder, _read_too_far)
    plan = working.Plan(_SEED, ["batches"], _SECONDS, 10**12, 0, 2)
    tally = working.run(plan, building.SANITIZED, folder.parent, home=folder)
    return next((str(fault) for fault in tally.faults if "AddressSanitizer" in fault.what), "")


def main(folder: Path) -> int:
    """Plants each; 0 where all were found."""
    found = in_process() | {"an out-of-bounds read": out_of_bounds(folder / "planted")}
    for name, said in found.items():
        print(f"{name}: {'found: ' + said if said else 'NOT FOUND'}")
    sys.stdout.flush()
    return int(not all(found.values()))
