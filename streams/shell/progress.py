"""How far the rooms of a worker are: lag, backlog, and what the process shows of them."""

import asyncio
import time

from faust import App
from faust.types import TP

from streams.core.room import PERSON_ROOM, VENUE_ROOM
from streams.core.times import format_ms
from streams.shell.inputs import TOPICS
from streams.shell.runner import Runner
from streams.shell.transport import BatchConsumer
from truyvet import logs
from truyvet.backlog import Backlog, Place
from truyvet.config import Settings
from truyvet.metrics import BEHIND_SECONDS, CATCH_UP_SECONDS, LAG_RECORDS, STATE_BYTES, STOPPED_PARTITIONS

log = logs.get("rooms")


class Progress:
    """The room partitions of a worker, and how far each is. Belongs to the event loop."""

    def __init__(self, settings: Settings, app: App) -> None:
        self._settings = settings
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._runners: dict[tuple[str, int], Runner] = {}
        self._backlog = Backlog()
        self._behind: dict[str, object] = {}
        self._complaints: list[str] = []
        """About inputs that are otherwise than they must be."""
        self.generation = -1

    def _keep(self, runner: Runner) -> None:
        """What is to be done for a partition about once a second."""

    @property
    def _consumer(self) -> BatchConsumer:
        consumer = self._app.consumer
        assert isinstance(consumer, BatchConsumer)
        return consumer

    def _lag(self, runner: Runner, topic: str) -> int | None:
        """Records of an input that are there and not settled; None as long as the broker has not said where it ends."""
        tp = TP(self._settings.topic(topic), runner.room.partition)
        end = self._consumer.highwater(tp) if tp in self._consumer.assignment() else None
        return None if end is None else max(0, end - self._consumer.read_to(tp, runner.committed.get(topic, 0)))

    def _at_end(self, runner: Runner) -> bool:
        """Whether all inputs of a room are read to their end."""
        return all(self._lag(runner, topic) == 0 for topic in TOPICS[runner.name])

    async def _all_read(self, runner: Runner) -> bool:
        """Whether all inputs of a room are read to where they end now; False if the broker does not say."""
        inputs = {topic: TP(self._settings.topic(topic), runner.room.partition) for topic in TOPICS[runner.name]}
        ends = await self._consumer.ends(*inputs.values())
        read_to = {tp: self._consumer.read_to(tp, runner.committed.get(topic, 0)) for topic, tp in inputs.items()}
        return ends is not None and all(read_to[tp] >= ends[tp] for tp in ends)

    # What the process shows.

    def progress(self) -> dict[str, object]:
        """Next offsets by room partition, everything before them is committed, and steps. Called in any thread."""
        rooms = {}
        for (_, partition), runner in list(self._runners.items()):
            committed = dict(runner.committed)
            following = {
                self._settings.topic(topic): self._consumer.read_to(TP(self._settings.topic(topic), partition), offset)
                for topic, offset in committed.items()
            }
            rooms[runner.part] = {
                "next": following,
                "register": {str(p): o for p, o in runner.register_read.items()},
                "expired": format_ms(runner.expired_ms) if runner.expired_ms else None,
                "step": runner.committed_step,
            }
        return {"generation": self.generation, "rooms": rooms, "backlog": self._behind}

    @property
    def trouble(self) -> str | None:
        """What an operator has to see to, in words: partitions that stand still, inputs that are not all read."""
        stopped = [runner.stopped.sentence for runner in tuple(self._runners.values()) if runner.stopped is not None]
        return "; ".join([*stopped, *self._complaints]) or None

    @property
    def behind(self) -> str:
        """How far behind this worker is, in words."""
        return str(self._behind.get("text", "not measured yet"))

    def measure(self) -> int:
        """Sets the gauges of lag and state size, says how a backlog goes; returns the lag in records."""
        lags: list[int | None] = []
        settled = {PERSON_ROOM: 0, VENUE_ROOM: 0}
        ends, oldest_ms = dict(settled), None
        for (_, partition), runner in self._runners.items():
            for topic in TOPICS[runner.name]:
                lag = self._lag(runner, topic)
                lags.append(lag)
                LAG_RECORDS.labels(topic, str(partition)).set(lag or 0)
                following = self._consumer.read_to(
                    TP(self._settings.topic(topic), partition), runner.committed.get(topic, 0)
                )
                settled[runner.name] += following
                ends[runner.name] += following + (lag or 0)
                # Of an input that was read to its end, the last record says nothing about those that come next.
                reached_ms = runner.reached_ms.get(topic) if lag else runner.reached_ms.pop(topic, None)
                if lag and reached_ms is not None:
                    oldest_ms = reached_ms if oldest_ms is None else min(oldest_ms, reached_ms)
            self._keep(runner)
            STATE_BYTES.labels(runner.name, str(partition)).set(runner.size_bytes())
        lag_in_all = sum(lag or 0 for lag in lags)
        if None not in lags:
            outside, inside = (Place(settled[room], ends[room]) for room in (PERSON_ROOM, VENUE_ROOM))
            self._backlog.see(self._loop.time(), outside, inside)
        self._tell_backlog(oldest_ms)
        STOPPED_PARTITIONS.set(sum(runner.stopped is not None for runner in self._runners.values()))
        return lag_in_all

    def _tell_backlog(self, oldest_ms: int | None) -> None:
        """``oldest_ms`` is the record timestamp up to which the input that is farthest behind was read."""
        # Records of a history that is restated tell nothing about now.
        known = oldest_ms is not None and not self._settings.restating
        age_seconds = max(0.0, time.time() - (oldest_ms or 0) / 1000) if known else None
        estimate = self._backlog.estimate()
        text = estimate.text(age_seconds)
        self._behind = estimate._asdict() | {"age_seconds": age_seconds, "text": text}
        BEHIND_SECONDS.set(age_seconds or 0.0)
        CATCH_UP_SECONDS.set(float("inf") if estimate.seconds is None else estimate.seconds)
        said = self._backlog.due(self._loop.time())
        if said is not None:
            log.info(said, progress=text)
