"""Where time goes: clocks for stages that can be told apart from outside, and samples of those that cannot.

CPU time is that of the whole process: what a library's threads do meanwhile belongs to the stage that is running. A
stage within a stage is taken off the outer one.

Within ``take_scans`` stages alternate with every scan; a clock around each would cost more than many of them. So a
timer looks, a thousand times a second, which module of the core is at work, and the time of the whole is shared out
by that. Modules are named, hardly any functions: one that is new shows under its own name instead of going missing.
"""

import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

SAMPLE_SECONDS: Final = 0.001
FUNCTIONS: Final[Mapping[tuple[str, str], str]] = {
    ("held_scans", "find"): "dedupe",
    ("held_scans", "areas_of_day"): "counts",
    ("held_scans", "_areas_of"): "counts",
}
MODULES: Final[Mapping[str, str]] = {
    "decode": "decode",
    "judge": "decode",
    "intake": "checks",
    "partition": "checks",
    "held_scans": "scans held, packed",
    "directory": "enrich",
    "cells": "counts",
    "timeline": "visits",
    "visits": "visits",
    "visit_changes": "visits",
    "case_visits": "visits",
    "crossing": "visits",
    "wire": "encode",
    "store": "store, reads",
    "person": "in between",
}
"""What a module of the core or the store is for. ``HELPERS`` serve whoever calls them."""
HELPERS: Final = frozenset({"packed", "keys", "times", "step", "inbound", "room", "reasons", "categories"})
_CORE: Final = str(Path("streams") / "core")
_SHELL: Final = str(Path("streams") / "shell")


@dataclass
class Spent:
    """What one stage has used, in seconds, for how many records."""

    cpu: float = 0.0
    wall: float = 0.0
    records: int = 0


class Ledger:
    """What each stage has used so far, in the order in which they first came."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}
        self._running: list[str] = []
        self._cpu = self._wall = 0.0

    @contextmanager
    def stage(self, name: str, records: int = 0) -> Iterator[None]:
        """Charges what is done inside to the stage; ``records`` is how many were handled."""
        self._charge()
        self._running.append(name)
        self.spent.setdefault(name, Spent()).records += records
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def _charge(self) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        if self._running:
            spent = self.spent[self._running[-1]]
            spent.cpu += cpu - self._cpu
            spent.wall += wall - self._wall
        self._cpu, self._wall = cpu, wall

    def add(self, name: str, spent: Spent) -> None:
        """Charges to a stage what was clocked elsewhere."""
        mine = self.spent.setdefault(name, Spent())
        mine.cpu, mine.wall, mine.records = mine.cpu + spent.cpu, mine.wall + spent.wall, mine.records + spent.records

    def share_out(self, name: str, samples: Mapping[str, int]) -> None:
        """Replaces a stage by its parts, in proportion to how often each was seen; not, if none was."""
        total = sum(samples.values())
        whole = self.spent.pop(name) if total else Spent()
        for part, seen in samples.items():
            self.add(part, Spent(whole.cpu * seen / total, whole.wall * seen / total, whole.records))


class Sampler:
    """Counts which part of the core is at work in the main thread, while it is switched on."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Looks about a thousand times a second; in the main thread alone."""
        before = signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, SAMPLE_SECONDS, SAMPLE_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

    def _look(self, _: int, frame: FrameType | None) -> None:
        self.seen[part_of(frame)] += 1


def part_of(frame: FrameType | None) -> str:
    """The part that the innermost frame belongs to whose module is somebody's own."""
    while frame is not None:
        path, function = Path(frame.f_code.co_filename), frame.f_code.co_name
        folder, module = str(path.parent), path.stem
        if folder.endswith((_CORE, _SHELL)) and module not in HELPERS:
            return FUNCTIONS.get((module, function)) or MODULES.get(module, f"core: {module}")
        frame = frame.f_back
    return "in between"
