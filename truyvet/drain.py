"""Knows when a stack has nothing left to do: every record processed, every output stored.

Asks the workers and the sink how far they are, and the broker where the topics end, in that order: what a
process had committed before the ends were read can add nothing that they do not count in.
"""

import json
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, Final

from sinks.tables import SINK_TOPICS
from streams.core.room import PERSON_ROOM
from streams.shell.inputs import TOPICS
from streams.shell.restore import log_consumer, watermarks
from truyvet.config import Settings
from truyvet.members import fetch
from truyvet.stack import Stack

_POLL_SECONDS: Final = 0.1
_POLL_SECONDS_MAX: Final = 0.5
"""Each look asks the broker for the ends of dozens of partitions, so a long wait looks less often."""
Ends = dict[str, dict[int, int]]


class Drain:
    """Watches one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._settings: Settings = stack.settings
        # A transaction's markers reach its partitions one after another: for a moment after the commit, readers of
        # what is committed would be told an end from before it.
        self._consumer = log_consumer(self._settings, **{"isolation.level": "read_uncommitted"})

    def close(self) -> None:
        """Ends the watch's own connection."""
        self._consumer.close()

    def ends(self, topics: tuple[str, ...]) -> Ends:
        """Where these topics end now, by full name and partition."""
        partitions = range(self._settings.partitions)
        return {
            name: {p: watermarks(self._consumer, name, p)[1] for p in partitions}
            for name in map(self._settings.topic, topics)
        }

    def rooms(self) -> dict[str, dict[str, Any]]:
        """Progress of every room partition, by part; one that two workers claim counts as nobody's."""
        rooms: dict[str, dict[str, Any]] = {}
        claimed_twice = set()
        for url in self._stack.worker_urls():
            for part, state in _get(url).get("rooms", {}).items():
                if part in rooms:
                    claimed_twice.add(part)
                rooms[part] = state
        return {part: state for part, state in rooms.items() if part not in claimed_twice}

    def stored(self) -> dict[str, Any]:
        """What the sink says of itself."""
        return _get(self._stack.sink_url())

    def lag(self) -> int:
        """Input records that are there and not yet processed, over all rooms that somebody holds."""
        rooms, lag = self.rooms(), 0
        for room, topics in TOPICS.items():
            ends = self.ends(topics)
            for p in range(self._settings.partitions):
                following = rooms.get(f"{room}-{p}", {}).get("next", {})
                lag += sum(max(0, ends[name][p] - following.get(name, 0)) for name in ends)
        return lag

    def processed(self) -> bool:
        """Whether the workers have nothing left: inputs read to their end, waiting scans looked at."""
        rooms = self.rooms()
        register = self.ends(("venues",))[self._settings.topic("venues")]
        for room, topics in TOPICS.items():
            ends = self.ends(topics)
            for p in range(self._settings.partitions):
                state = rooms.get(f"{room}-{p}")
                if state is None or not _reached(state["next"], ends, p):
                    return False
                if room == PERSON_ROOM and any(state["register"].get(str(q), -1) < end for q, end in register.items()):
                    return False
        return True

    def settled(self) -> bool:
        """Whether nothing is left anywhere: processed, and stored by the sink."""
        if not self.processed():
            return False
        topics = self.stored().get("topics", {})
        return all(
            topics.get(name, {}).get(str(p), 0) >= end
            for name, ends in self.ends(SINK_TOPICS).items()
            for p, end in ends.items()
        )

    def wait(self, done: Callable[[], bool], on_poll: Callable[[], None] | None = None) -> None:
        """Waits until ``done``, a method of this object, holds.

        Raises:
            ProcessError: a process of the stack has ended by itself.
        """
        pause_seconds = _POLL_SECONDS
        while not done():
            self._stack.check()
            if on_poll is not None:
                on_poll()
            time.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.2, _POLL_SECONDS_MAX)


def _reached(following: Mapping[str, int], ends: Ends, partition: int) -> bool:
    return all(following.get(name, -1) >= of[partition] for name, of in ends.items())


def _get(url: str) -> dict[str, Any]:
    """A process's progress; nothing where it does not answer just now."""
    try:
        _, text = fetch(f"{url}/progress")
        answer: dict[str, Any] = json.loads(text)
    except (OSError, ValueError, HTTPException):
        return {}
    return answer
