"""From the outside: how long after a fault the first new commit of what it hit comes.

A worker's ``/progress`` says which step each of its room partitions committed last. A process is known by its address,
which changes with each start, so what a restored store shows first is told apart from what was committed since.
"""

import json
import time
from collections.abc import Collection, Iterable
from typing import Any, Final

from infra.processes import ProcessError
from tests.chaos.stage import Flow, Stage
from truyvet.members import fetch

POLL_SECONDS: Final = 0.03
BACK_SECONDS_MAX: Final = 120.0
IDLE_SECONDS_MAX: Final = 10.0
"""Once everything is sent there may be nothing left to commit: then there is no figure."""

Steps = dict[tuple[str, str], int]
"""The newest committed step by (room partition, address of the worker)."""
Stored = dict[tuple[str, str], int]
"""The sink's committed offset by topic and partition; one that was rebalanced begins with none."""


class Watch:
    """Watches one stage."""

    def __init__(self, stage: Stage, flow: Flow) -> None:
        self._stage = stage
        self._flow = flow

    def held_by(self, url: str) -> set[str]:
        """The room partitions that a worker holds."""
        return set(_progress(url).get("rooms", {}))

    def parts(self) -> set[str]:
        """All room partitions."""
        return {f"{room}-{p}" for room in ("person", "venue") for p in range(self._stage.settings.partitions)}

    def steps(self, without: Collection[str] = ()) -> Steps:
        """What the workers say now; those at the addresses ``without`` are not asked."""
        found: Steps = {}
        for url in self._stage.stack.worker_urls():
            if url not in without:
                found |= {(part, url): room["step"] for part, room in _progress(url).get("rooms", {}).items()}
        return found

    def wait_commits(
        self, parts: Iterable[str], since: float, *, without: Collection[str] = (), known: Steps | None = None
    ) -> float | None:
        """Seconds from ``since`` until each of ``parts`` has a new commit, by a worker that is not one of ``without``.

        ``known`` is what was committed before; of others, what they show first counts as such.

        Raises:
            ProcessError: it takes too long, or a process ended by itself.
        """
        first: Steps = dict(known or {})
        missing = set(parts)
        while missing:
            steps = self.steps(without)
            for place, step in steps.items():
                if step > first.setdefault(place, step):
                    missing.discard(place[0])
            if missing and not self._goes_on(since, f"no new commit of {', '.join(sorted(missing))}"):
                return None
        return time.monotonic() - since

    def stored(self) -> Stored:
        """How far the sink has committed."""
        topics = _progress(self._stage.stack.sink_url()).get("topics", {})
        return {(topic, part): offset for topic, offsets in topics.items() for part, offset in offsets.items()}

    def wait_stored(self, since: float, before: Stored) -> float | None:
        """Seconds from ``since`` until the sink has committed more of a partition than ``before``.

        Raises:
            ProcessError: it takes too long, or a process ended by itself.
        """
        while all(offset <= before.get(place, 0) for place, offset in self.stored().items()):
            if not self._goes_on(since, "the sink commits nothing"):
                return None
        return time.monotonic() - since

    def _goes_on(self, since: float, complaint: str) -> bool:
        self._stage.check()
        waited = time.monotonic() - since
        if self._flow.done.is_set() and waited > IDLE_SECONDS_MAX:
            return False
        if waited > BACK_SECONDS_MAX:
            raise ProcessError(f"{complaint} {waited:.0f} s after the fault")
        time.sleep(POLL_SECONDS)
        return True


def _progress(url: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(fetch(f"{url}/progress")[1])
    except (OSError, ValueError):
        return {}
    return answer
