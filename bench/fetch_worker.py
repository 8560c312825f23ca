"""A worker that takes nothing: ``python -m bench.fetch_worker RESULT SCANS``, with a worker's own settings.

Everything stands as in ``truyvet worker``, person room alone: group, transport, Faust's agents, opened partitions. Only
what the agents hand to the rooms is counted and acknowledged at once. So what this process uses between its first run
of scans and its last is what fetching them costs before anything is done with them. It writes that, once, as JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.core.person import SCANS
from streams.core.room import VENUE_ROOM
from streams.shell import inputs, rooms, worker
from streams.shell.transport import Run


class Counted:
    """Counts scans, and tells once all are there."""

    def __init__(self, path: Path, scans: int) -> None:
        self._path, self._scans = path, scans
        self._seen = self._first = self._runs = 0
        self._began: tuple[float, float] | None = None

    def see(self, records: int) -> None:
        """Takes note of a run; the first one only starts the clocks."""
        self._seen += records
        self._runs += 1
        now = time.process_time(), time.perf_counter()
        if self._began is None:
            self._began, self._first = now, records
        if self._seen >= self._scans:
            cpu, wall = (after - before for after, before in zip(now, self._began, strict=True))
            counted = self._seen - self._first
            found = {"records": counted, "cpu_seconds": cpu, "wall_seconds": wall, "runs": self._runs}
            draft = self._path.with_suffix(".new")
            draft.write_text(json.dumps(found), encoding="utf-8")
            draft.replace(self._path)


def main() -> int:
    """Runs until SIGTERM; returns the exit status."""
    counted = Counted(Path(sys.argv[1]), int(sys.argv[2]))

    async def take(_: Any, run: Run, done: Callable[[], None]) -> None:  # noqa: ANN401 - the rooms, which are left out
        if run.topic.endswith(SCANS):
            counted.see(len(run.records))
        done()

    del inputs.TOPICS[VENUE_ROOM]
    setattr(rooms.Rooms, "take", take)  # noqa: B010 - to a type checker a method is no variable
    return worker.run(argparse.Namespace())


if __name__ == "__main__":
    sys.exit(main())
