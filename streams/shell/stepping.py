"""The steps of one room partition: computed in the event loop, without awaits, one after the other.

A step in which the core raises leaves no trace. Its records are then taken in halves, down to single ones; one from
outside at which the core raises is a row of ``rejects``, at one of the pipeline's own the partition stands still.
"""

import asyncio
import json
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from streams.core import migrate
from streams.core.keys import META
from streams.core.room import RoomPartition
from streams.core.step import InRecord, Step
from streams.shell import metering
from streams.shell.carrying import Carrying, Work, call
from streams.shell.inputs import OWN_EVENTS, Known
from streams.shell.steps import Compute, CoreFailedError, Stopped, Take, purely, take_failed, take_passed
from streams.shell.store import Store
from truyvet import logs
from truyvet.config import Settings
from truyvet.metrics import FAILED_KEYS, FAILED_RECORDS, SPLIT_STEPS

STEPS_IN_FLIGHT_MAX: Final = 2

log = logs.get("room")


class Stepping(Carrying):
    """Where a room partition stands, and how it takes steps. Belongs to the event loop."""

    def __init__(self, settings: Settings, name: str, room: RoomPartition) -> None:
        """``name`` is the room's (``person`` or ``venue``)."""
        self.name = name
        self.room = room
        self.next: dict[str, int] = {}
        self.committed: dict[str, int] = {}
        self.lost: BaseException | None = None
        self.inputs: dict[str, Known] = {}
        """As what each input was read so far; nothing in a state of before that was remembered."""
        self.changelog_id: str | None = None
        """Of the changelog in which that was written."""
        self.stopped: Stopped | None = None
        """Why the partition stands still, if it does: where its own events fail, it is not passed over."""
        self.expired_ms = 0
        """Up to when the partition has let go of what it held; 0 if of nothing yet."""
        self.noted_at = 0.0
        """When (by the loop's clock) it was last looked whether markers were read; 0 if never."""
        self.closed = False
        self.lock = asyncio.Lock()
        self._settings = settings
        self._store: Store
        self._step = 0
        self._waiting = 0
        self._newest_ms = 0
        self._unmigrated: dict[str, int] = {}
        """Keys (hex) that a migration had to leave out, and the version that they are still of."""
        self._slots = asyncio.Semaphore(STEPS_IN_FLIGHT_MAX)
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()

    @property
    def part(self) -> str:
        """Room and partition, such as ``person-3``."""
        return f"{self.name}-{self.room.partition}"

    @property
    def idle_for_good(self) -> bool:
        """Whether no further step may be computed: the partition is another's, or given back, or stands still."""
        return self.closed or self.lost is not None or self.stopped is not None

    @property
    def fresh(self) -> bool:
        """Whether there is no state yet."""
        return self._step == 0

    # Steps of records.

    async def submit(
        self, topic: str, next_offset: int, records: Sequence[InRecord], take: Take, done: Callable[[], None]
    ) -> None:
        """Computes the next step and sends it on its way; waits where too many are under way already.

        ``done`` is called in the event loop once the step is committed, or the partition lost. Where the core raises,
        the records are taken in parts.
        """
        await self.carry_on()
        await self._slots.acquire()
        if self.idle_for_good:
            self._slots.release()
            done()
            return
        try:
            self._compute(topic, len(records), partial(take, records), done, next_offset)
        except CoreFailedError as error:
            self._slots.release()
            log.error(  # noqa: TRY400 - a traceback could hold values
                "a step failed and is taken in parts", part=self.part, topic=topic, error=error.detail,
                first=records[0].offset, next=next_offset,
            )  # fmt: skip
            SPLIT_STEPS.labels(topic).inc()
            await self._take_in_parts(topic, next_offset, list(records), take)
            await self.idle()
            done()
        await self.carry_on()

    async def _take_in_parts(self, topic: str, next_offset: int, records: list[InRecord], take: Take) -> None:
        """Takes records in halves, in offset order, each a step of its own, down to single ones."""
        waiting = _halves(records, next_offset)
        while waiting:
            part, following = waiting.pop()
            await self.carry_on()
            await self._slots.acquire()
            if self.idle_for_good:
                self._slots.release()
                return
            try:
                self._compute(topic, len(part), partial(take, part), lambda: None, following)
            except CoreFailedError as error:
                self._slots.release()
                if len(part) > 1:
                    waiting += _halves(part, following)
                elif topic in OWN_EVENTS:
                    self._stop_at(topic, part[0], error.detail)
                    return
                else:
                    await self._give_up(topic, part[0], following, error.detail)
            await asyncio.sleep(0)

    async def _give_up(self, topic: str, record: InRecord, next_offset: int, detail: str) -> None:
        """Writes the row of a record from outside at which the core raises."""
        self._alarm(topic, record, detail)
        epoch = self.epoch_of(topic)
        await self._note(
            lambda number, state: take_failed(self.room, number, topic, epoch, record, detail, state),
            topic, 1, next_offset,
        )  # fmt: skip

    def _alarm(self, topic: str, record: InRecord, detail: str) -> None:
        FAILED_RECORDS.labels(topic).inc()
        log.error(
            "the pipeline fails at a record", topic=topic, partition=self.room.partition, offset=record.offset,
            error=detail,
        )  # fmt: skip

    async def _note(
        self, compute: Compute, topic: str | None = None, records: int = 0, next_offset: int | None = None
    ) -> None:
        """Sends a step on its way that does not come from a batch, unless the partition is idle for good."""
        await self._slots.acquire()
        if self.idle_for_good:
            self._slots.release()
            return
        self._compute(topic, records, compute, lambda: None, next_offset)

    # Standing still.

    def _stop_at(self, topic: str, record: InRecord, detail: str) -> None:
        """Stands still at a record of the pipeline's own at which the core raises."""
        self._alarm(topic, record, detail)
        place = f"{topic} {self.room.partition} {record.offset}"
        self.stop(
            Stopped(
                f"{self.part} stands still at {self._settings.topic(topic)}-{self.room.partition}, offset"
                f" {record.offset}: {detail}; a build that can take it goes on, or `truyvet rejects --pass {place}`",
                *(topic, record, detail),
            )
        )

    def stop(self, why: Stopped) -> None:
        """Takes no further step, until the partition is opened again or ``pass_over`` is called."""
        self.stopped = why
        log.error("a partition stands still", part=self.part, why=why.sentence)

    async def pass_over(self) -> None:
        """Goes on behind the record at which the partition stands still; its row of ``rejects`` is ``failed``."""
        why = self.stopped
        assert why is not None
        assert why.record is not None
        topic, record, detail = why.topic, why.record, why.detail
        async with self.lock:
            await self.idle()
            self.stopped = None
            await self._note(
                lambda number, _: take_passed(self.room, number, topic, record, detail), topic, 1, record.offset + 1
            )
        log.warning("a record is passed over", part=self.part, topic=topic, offset=record.offset)

    # Inputs.

    def epoch_of(self, topic: str) -> int:
        """As of which epoch an input is read."""
        known = self.inputs.get(topic)
        return 0 if known is None else known.epoch

    async def read_as(self, inputs: Mapping[str, Known], following: Mapping[str, int], changelog_id: str) -> None:
        """Reads inputs as these, from these offsets on; remembers it by a step of its own, unless all is new."""
        async with self.lock:
            await self.idle()
            self.inputs, self.changelog_id = dict(inputs), changelog_id
            self.next |= following
            self.committed = {**self.committed, **following}
            if not self.fresh:
                await self._note(lambda number, _: Step(number, self._newest_ms))
                await self.idle()

    async def note_read(self, following: Mapping[str, int]) -> None:
        """Remembers, by a step of its own, that inputs are read so far, where nothing was taken meanwhile."""
        async with self.lock:
            await self.idle()
            if all(self.next.get(topic, 0) <= offset for topic, offset in following.items()):
                self.next |= following
                await self._note(lambda number, _: Step(number, self._newest_ms))
                await self.idle()

    def _compute(
        self,
        topic: str | None,
        records: int,
        compute: Compute,
        done: Callable[[], None],
        next_offset: int | None = None,
    ) -> None:
        """Computes a step, and sends it on its way; to be called with a slot taken, which is the step's from then on.

        Raises:
            CoreFailedError: the core raised; there is no trace of it, and the slot is still the caller's.
        """
        began = time.perf_counter()
        number = self._step + 1
        step = purely(lambda state: compute(number, state), self._store)
        self._notice(step)
        self._step = number
        self._waiting += step.waiting_more
        if topic is not None:
            self._newest_ms = max(self._newest_ms, step.timestamp_ms)
            if next_offset is not None:
                self.next[topic] = next_offset
        work = self._work(step, migrate.current(), topic, records)
        metering.computed(self.name, records, time.perf_counter() - began)
        loop = asyncio.get_running_loop()

        def finished() -> None:
            self._slots.release()
            done()

        work.done = lambda: call(loop, finished)
        self._queue.put(work)

    def _work(self, step: Step, stand: migrate.Stand, topic: str | None = None, records: int = 0) -> Work:
        """The step with what ``META`` says from it on, and its changes shown to those that follow."""
        known = stand.note() | {"step": self._step, "waiting": self._waiting, "next": self.next}
        known |= {"newest": self._newest_ms, "expired": self.expired_ms}
        known |= {"inputs": self.inputs, "changelog": self.changelog_id, "timezone": self._settings.report_timezone}
        if self._unmigrated:
            known["unmigrated"] = self._unmigrated
        known |= {"partitions": self.room.partitions, "retention_ms": self.room.retention_ms}
        meta = json.dumps(known, separators=(",", ":"), sort_keys=True).encode()
        step.changes[META] = meta
        self._store.apply(step.changes)
        return Work(step, topic, records, lambda: None, meta, settles=self._left_from is None)

    async def idle(self) -> None:
        """Returns once nothing is on its way."""
        for _ in range(STEPS_IN_FLIGHT_MAX):
            await self._slots.acquire()
        for _ in range(STEPS_IN_FLIGHT_MAX):
            self._slots.release()

    def _leave_out(self, work: str, key: bytes, error: CoreFailedError) -> None:
        """Says that a key is left out until the next round; not which, since it may name a person."""
        FAILED_KEYS.labels(work).inc()
        log.error(
            "the pipeline fails at a key of the state, and leaves it out until the next round", part=self.part,
            work=work, kind=key[:1].decode("ascii", "replace"), error=error.detail,
        )  # fmt: skip


def _halves(records: list[InRecord], next_offset: int) -> list[tuple[list[InRecord], int]]:
    """Both halves, the first one last, each with the offset that follows it; what cannot be halved as it is."""
    middle = len(records) // 2
    halves = [(records[middle:], next_offset)]
    return [*halves, (records[:middle], records[middle - 1].offset + 1)] if middle else halves
