"""The rooms of one worker: which partitions it holds, and where each run of records goes.

Called from Faust: ``rebalanced`` when an assignment is settled, ``take`` by the agents. What a partition's
inputs are read from is decided here alone, by seeking to the offsets that its changelog holds.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from faust import App
from faust.types import TP

from streams.core import cases, erasure, person, proximity, venue
from streams.core.crossing import CASE_VISITS, VISITS
from streams.core.foreign import take_foreign
from streams.core.inbound import AreaList
from streams.core.returned import RETURNS, by_topic
from streams.core.room import PERSON_ROOM, RoomPartition
from streams.core.step import InRecord
from streams.core.times import LocalClock
from streams.shell.inputs import TOPICS
from streams.shell.register import Register
from streams.shell.runner import Runner
from streams.shell.seeking import Seeking
from streams.shell.steps import Take
from streams.shell.transaction import FencedError
from streams.shell.transport import Run
from truyvet import logs
from truyvet.config import ConfigError, Settings
from truyvet.metrics import REBALANCES
from truyvet.rulesets import load_rulesets

_TAKES_FROM_OUTSIDE: Final = {cases.CASES: cases.take_cases, erasure.ERASURES: erasure.take_erasures}
_TAKES: Final = {
    venue.VENUE_MARKS: venue.take_marks,
    VISITS: proximity.take_visits,
    CASE_VISITS: proximity.take_case_visits,
}
"""What makes a step of a run of these topics; scans and venues need the register and the list of areas as well."""
EXIT_BUG: Final = 70
EXIT_CONFIG: Final = 2
_OPENING_AT_ONCE_MAX: Final = 24
"""Opening is mostly waiting: half a second where the killed owner has left a transaction open."""
_RECOVER_SECONDS: Final = 3.0
"""Three heartbeats: by then a worker that lost its place in the group has heard of it."""

log = logs.get("rooms")


def die(message: str, status: int = EXIT_BUG) -> None:
    """Ends the process at once: whoever starts it again finds everything as the last commits left it."""
    if status == EXIT_CONFIG:
        log.error(message, exit_status=status)
    else:
        log.exception(message, exit_status=status)  # noqa: LOG004 - called where an exception is handled, if there is one
    os._exit(status)


class Rooms(Seeking):
    """All room partitions of this worker. Belongs to the event loop."""

    def __init__(self, settings: Settings, app: App, register: Register, areas: AreaList, directory: Path) -> None:
        """``directory`` is this worker's own folder for its stores."""
        super().__init__(settings, app)
        self._register = register
        self._areas = areas
        self._directory = directory
        self._clock = LocalClock(ZoneInfo(settings.report_timezone))
        self._rulesets = load_rulesets(settings.rulesets_dir, shipped=settings.rulesets_shipped)
        self._executor = ThreadPoolExecutor(_OPENING_AT_ONCE_MAX, thread_name_prefix="rooms")
        self._tasks: set[asyncio.Task[None]] = set()
        self._room_of = {settings.topic(topic): (room, topic) for room, topics in TOPICS.items() for topic in topics}
        self._to_look: set[Runner] = set()
        self._expires = not settings.restating or settings.rehearse_expiry
        self._expiring: set[Runner] = set()
        self._opening: set[Runner] = set()

    # What Faust calls.

    async def rebalanced(self) -> None:
        """Opens, keeps and closes partitions as now assigned, and seeks their inputs."""
        async with self._lock:
            if self._closed:
                return
            REBALANCES.inc()
            self._consumer.tell_out_of_range(self._told_out_of_range)
            generation = self._app.consumer_generation_id
            wanted = self._wanted(self._consumer.assignment())
            gone = [key for key, runner in self._runners.items() if key not in wanted or not _kept(runner, generation)]
            await asyncio.gather(*(self._close(self._runners.pop(key)) for key in gone))
            missing = sorted(wanted - self._runners.keys())
            opened = [
                runner for runner in await asyncio.gather(*(self._open(key, generation) for key in missing)) if runner
            ]
            if opened:
                # Asked for after the older owners were fenced, so that it is at least as far as they had read.
                await asyncio.to_thread(self._register.catch_up)
            for runner in self._runners.values():
                runner.generation = generation
            await self._seek(list(self._runners.values()))
            self.generation = generation
            self._backlog.forget()
            log.info("partitions assigned", generation=generation, rooms=len(self._runners), opened=len(opened))
            for runner in opened:
                self._spawn(self._look(runner, everything=True))
            self._spawn(self._consumer.claim(self._room_of))

    async def take(self, run: Run, done: Callable[[], None]) -> None:
        """Takes a run of records into the room of its topic; ``done`` is called once it is committed or stale."""
        room, topic = self._room_of[run.topic]
        tp = TP(run.topic, run.partition)
        runner = self._runners.get((room, run.partition))
        if runner is None or self._closed:
            done()
            return
        async with runner.lock:
            # A runner that was not sought yet has no epoch: what comes then was fetched for its predecessor.
            if runner.idle_for_good or self._epochs.get(tp) != run.epoch or run.next <= runner.next[topic]:
                done()
                return
            begin = runner.next[topic]
            if run.start > begin:
                log.warning("records are missing before this run; reading them again", topic=topic, part=runner.part)
                del self._epochs[tp]
                self._spawn(self._read_again(runner))
                done()
                return
            records = run.records if run.start == begin else [r for r in run.records if r.offset >= begin]
            if topic == RETURNS:
                await self._take_returns(runner, records, run.next, done)
                return
            await runner.submit(topic, run.next, records, self._take_of(topic, runner), done)

    async def _take_returns(
        self, runner: Runner, records: Sequence[InRecord], following: int, done: Callable[[], None]
    ) -> None:
        """Takes what came back in runs of one topic each, as steps of their own."""
        runs = list(by_topic(records))
        for number, (topic, run) in enumerate(runs, 1):
            last = number == len(runs)
            offset = following if last else run[-1].offset + 1
            await runner.submit(RETURNS, offset, run, self._take_of(topic, runner), done if last else lambda: None)

    def _take_of(self, topic: str, runner: Runner) -> Take:
        """What makes a step of records of a topic."""
        room, epoch = runner.room, runner.epoch_of(topic)
        if topic == person.SCANS:
            directory = self._register.directory
            return lambda records, number, state: person.take_scans(
                room, number, records, state, directory, epoch=epoch
            )
        if topic == person.VENUES:
            directory = self._register.directory
            return lambda records, number, state: person.take_venues(
                room, number, records, state, self._areas, venues=directory, epoch=epoch
            )
        if topic == RETURNS:
            return lambda records, number, _: take_foreign(room, number, RETURNS, records)
        if topic in _TAKES_FROM_OUTSIDE:
            take = _TAKES_FROM_OUTSIDE[topic]
            return lambda records, number, state: take(room, number, records, state, epoch=epoch)
        take_own = _TAKES[topic]
        return lambda records, number, state: take_own(room, number, records, state)

    def register_changed(self) -> None:
        """Called in the register's thread after codes came to mean something."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._look_at_all)

    def _look_at_all(self) -> None:
        for runner in self._runners.values():
            # One that was not sought yet waits for the whole register, and looks at everything then.
            sought = runner.generation >= 0
            if sought and runner.name == PERSON_ROOM and runner not in self._to_look:
                self._to_look.add(runner)
                self._spawn(self._look(runner, everything=False))

    async def close(self) -> None:
        """Finishes what is on its way and closes every partition."""
        self._closed = True
        async with self._lock:
            await asyncio.gather(*(self._close(runner) for runner in self._runners.values()))
            self._runners.clear()
        self._executor.shutdown()

    # Opening, seeking, closing.

    def _wanted(self, assignment: set[TP]) -> set[tuple[str, int]]:
        held = {(tp.topic, tp.partition) for tp in assignment}
        wanted = set()
        for room, topics in TOPICS.items():
            for partition in range(self._settings.partitions):
                mine = [(self._settings.topic(topic), partition) in held for topic in topics]
                if all(mine):
                    wanted.add((room, partition))
                # One that was deleted is nobody's until it is there again; the group is asked to look for it.
                elif any(mine) and not self._consumer.left_out(map(self._settings.topic, topics)):
                    die(f"{room}-{partition}: its topics were assigned to different workers")
        return wanted

    async def _open(self, key: tuple[str, int], generation: int) -> Runner | None:
        """Opens a room partition, unless the group has moved on: the one who holds it now must not be fenced."""
        name, partition = key
        for topic in TOPICS[name]:
            self._epochs.pop(TP(self._settings.topic(topic), partition), None)
        room = RoomPartition(
            partition=partition,
            partitions=self._settings.partitions,
            topic_prefix=self._settings.topic_prefix,
            retention_ms=self._settings.retention_ms,
            clock=self._clock,
            rulesets=self._rulesets,
        )
        runner = Runner(self._settings, name, room, self._register, self._on_lost)
        try:
            opened = await self._loop.run_in_executor(self._executor, self._open_now, runner, generation)
        except FencedError:
            log.warning("another worker was faster to open the partition", part=runner.part)
            self._spawn(self._recover(key, None, generation))
            return None
        except ConfigError as error:
            die(str(error), EXIT_CONFIG)
        except Exception as error:  # noqa: BLE001 - aiokafka would swallow it: whatever it is, it ends the process
            die(f"{runner.part} cannot be opened: {error}")
        if not opened:
            return None
        self._runners[key] = runner
        return runner

    def _open_now(self, runner: Runner, generation: int) -> bool:
        if self._app.consumer_generation_id != generation:
            return False
        self._opening.add(runner)
        try:
            # Not for as long as a migration may take, if the group or this worker has moved on meanwhile.
            return runner.open(
                self._directory, lambda: self._app.consumer_generation_id == generation and not self._closed
            )
        finally:
            self._opening.discard(runner)

    @property
    def migrated_keys(self) -> int:
        """Keys of states of an older version that this worker has gone through in the partitions that it is opening."""
        return sum(runner.migrated_keys for runner in tuple(self._opening))

    async def _close(self, runner: Runner) -> None:
        runner.closed = True
        async with runner.lock:  # a step that was waiting for its turn has seen it by now
            await self._loop.run_in_executor(self._executor, runner.close)

    def _on_lost(self, runner: Runner) -> None:
        """Called in a commit thread: another worker has the partition, or the broker refuses for good."""
        if not isinstance(runner.lost, FencedError):
            die(f"{runner.part}: {runner.lost}")
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._spawn_recover, runner)

    def _spawn_recover(self, runner: Runner) -> None:
        log.warning("another worker has taken over the partition", part=runner.part)
        self._spawn(self._recover((runner.name, runner.room.partition), runner, self._app.consumer_generation_id))

    async def _recover(self, key: tuple[str, int], runner: Runner | None, generation: int) -> None:
        """Normally the group tells soon who holds the partition now. If it says that nothing changed, open it again."""
        await asyncio.sleep(_RECOVER_SECONDS)
        unchanged = generation == self._app.consumer_generation_id and not self._app.rebalancing
        if unchanged and self._runners.get(key) is runner:
            await self.rebalanced()

    async def _look(self, runner: Runner, *, everything: bool) -> None:
        async with runner.lock:
            self._to_look.discard(runner)  # a change from now on is looked at by another task
            if not runner.idle_for_good:
                await runner.look_at_waiting(everything=everything)

    async def _expire(self, runner: Runner) -> None:
        try:
            await runner.expire(lambda: self._at_end(runner), lambda: self._all_read(runner))
        finally:
            self._expiring.discard(runner)

    def _keep(self, runner: Runner) -> None:
        super()._keep(runner)
        if runner.may_expire and runner not in self._expiring and self._expires:
            self._expiring.add(runner)
            self._spawn(self._expire(runner))

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._closed:
            log.error("a task of the rooms failed", error=repr(task.exception()))
            os._exit(EXIT_BUG)


def _kept(runner: Runner, generation: int) -> bool:
    """Whether nobody else can have held the partition since: it was ours in the generation before, too."""
    return runner.lost is None and generation - runner.generation in (0, 1)
