"""Where time goes: clocks for stages, each taken off the one around it.

CPU time is that of the whole process: what a library's threads do meanwhile belongs to the stage that is running.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


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
