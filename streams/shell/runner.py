"""One room partition at work: its store, its producer, its steps in order.

A step is computed in the event loop without awaits and handed to the partition's commit thread, which does
begin, produce, commit, write, and only then acknowledges. A few steps may be on their way at once: the
store shows later steps what earlier ones changed. Whoever kills the process at any instant finds either the
whole transaction in Kafka or nothing of it, and the store never ahead of that.
"""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from streams.core import expiry, migrate, person, waiting
from streams.core.keys import META, SWEPT
from streams.core.room import FUTURE_MS_MAX, RoomPartition
from streams.core.step import Step
from streams.core.times import format_ms
from streams.shell import metering
from streams.shell.carrying import Work
from streams.shell.inputs import Known
from streams.shell.register import Register
from streams.shell.restore import end_if_known, log_consumer
from streams.shell.restore import restore_state as restore
from streams.shell.state_settings import check_settings
from streams.shell.stepping import Stepping
from streams.shell.steps import CoreFailedError, Hiding, purely, without_failing
from streams.shell.store import Store
from streams.shell.transaction import FencedError, TransactionalProducer
from truyvet import logs
from truyvet.config import Settings
from truyvet.disk import keep_writing

WAITING_PER_STEP_MAX: Final = 2_000
_POSITION_SECONDS: Final = 1.0
_TELL_SECONDS: Final = 10.0
_EXPIRE_AGAIN_SECONDS: Final = 3600.0
"""After a sweep that failed at no key in particular."""

log = logs.get("room")


class StateVersionError(Exception):
    """The changelog was written by a build whose state this one cannot read."""


class Runner(Stepping):
    """Runs one partition of one room. All methods but the commit thread's belong to the event loop."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        room: RoomPartition,
        register: Register,
        on_lost: Callable[["Runner"], None],
    ) -> None:
        """``name`` is the room's (``person`` or ``venue``); ``on_lost`` is called in the commit thread."""
        super().__init__(settings, name, room)
        self.committed_step = 0
        self.reached_ms: dict[str, int] = {}
        """The newest record timestamp of the step committed last, by input topic; none of before this opening."""
        self.register_read: dict[int, int] = {}
        self.generation = -1
        self.migrated_keys = 0
        """Looked at so far while ``open`` brings the state to this build's version."""
        self._changelog = f"state-{name}"
        self._register = register
        self._register_sequence = 0
        self._on_lost = on_lost
        self._sweep: tuple[int, bytes] | None = None
        self._left_out: set[bytes] = set()
        """Keys at which this sweep fails."""
        self._expire_again_at = 0.0
        self._position_at = 0.0

    @property
    def changelog(self) -> str:
        """The changelog's name, without prefix."""
        return self._changelog

    # Opening and closing: in an executor, since both wait for brokers and disks.

    def open(self, directory: Path, wanted: Callable[[], bool] = lambda: True) -> bool:
        """Fences older owners, restores the store, migrates an older state, reads where the inputs stand.

        False if the partition was no longer ``wanted`` while its state was being migrated; it can be gone on with.

        Raises:
            StateVersionError: this build cannot take the state over.
            ConfigError: the state is of another number of partitions or another zone of reports.
            FencedError: another owner has started meanwhile.
        """
        began = time.monotonic()
        self._producer = TransactionalProducer(self._settings, self.name, self.room.partition, self._changelog)
        self._directory = directory
        self._store = Store(directory / self.part)
        changelog = self._settings.topic(self._changelog)
        self._position_consumer = log_consumer(self._settings)
        restored = restore(self._store, self._position_consumer, changelog, self.room.partition)
        meta = self._store.get(META)
        stand = migrate.current()
        if meta is not None:
            known = json.loads(meta)
            stand = migrate.stand_of(known)
            if (refusal := migrate.refusal(stand)) is not None:
                raise StateVersionError(f"{self.part}: {refusal}")
            check_settings(self.part, known, self._settings)
            self.inputs = {topic: Known(*of_topic) for topic, of_topic in known.get("inputs", {}).items()}
            self.changelog_id = known.get("changelog")
            self._unmigrated = known.get("unmigrated", {})
            self.next = dict(known["next"])
            self._step = known["step"]
            self._waiting = known["waiting"]
            self._newest_ms = known["newest"]
            self.expired_ms = known["expired"]
        self.committed = self._look_for_work(self.next)
        self.committed_step = self._step
        self._position = self._store.position
        if stand != migrate.current() and not self._migrate(stand, wanted):
            return False
        for key, version in tuple(self._unmigrated.items()):
            self._migrate_key(key, version)
        self._thread = threading.Thread(target=self._commit_steps, name=f"commit-{self.part}", daemon=True)
        self._thread.start()
        log.info(
            "room is open", part=self.part, step=self._step, restored=restored,
            seconds=round(time.monotonic() - began, 2),
        )  # fmt: skip
        return True

    def _migrate(self, stand: migrate.Stand, wanted: Callable[[], bool]) -> bool:
        """Brings the state to this build's version, each portion a step; False if the partition is not wanted here."""
        began, said = time.monotonic(), 0.0
        hidden = {bytes.fromhex(key) for key in self._unmigrated}

        def leave_out(key: bytes, error: CoreFailedError) -> None:
            self._leave_out("migration", key, error)
            self._unmigrated[key.hex()] = stand.version - (stand.after is not None)

        log.info("state of an older version", part=self.part, **stand.note())
        try:
            while stand != migrate.current() and wanted():
                portion, following = without_failing(
                    partial(migrate.take_portion, self.name, self.room.partition, stand),
                    self._store, hidden, leave_out,
                )  # fmt: skip
                self._step += 1
                self._commit(self._work(Step(self._step, self._newest_ms, changes=portion.changes), following))
                stand = following
                self.migrated_keys += portion.looked_at
                done, seconds = stand == migrate.current(), time.monotonic() - began
                if done or seconds > said + _TELL_SECONDS:
                    said = seconds
                    log.info(
                        "state is migrated" if done else "state is being migrated", part=self.part,
                        version=stand.version, keys=self.migrated_keys, seconds=round(seconds, 2),
                        keys_per_second=round(self.migrated_keys / max(seconds, 0.001)),
                    )  # fmt: skip
        finally:
            if stand != migrate.current():
                self._give_back()
        return stand == migrate.current()

    def _migrate_key(self, key: str, version: int) -> None:
        """Tries again to bring a key (hex) to this build's version that a migration had to leave out."""
        only = Hiding(self._store, (), frozenset([bytes.fromhex(key)]))
        for before in range(version, migrate.current().version):
            try:
                portion = purely(partial(migrate.MIGRATIONS[before], self.name, self.room.partition, b""), only)
            except CoreFailedError as error:
                self._leave_out("migration", bytes.fromhex(key), error)
                return
            self._unmigrated[key] = before + 1
            if before + 1 == migrate.current().version:
                del self._unmigrated[key]
            self._step += 1
            step = Step(self._step, self._newest_ms, changes=portion.changes)
            self._commit(self._work(step, migrate.current()))

    def close(self) -> None:
        """Finishes what is on its way, then gives store and producer back."""
        self._queue.put(None)
        self._thread.join()
        self._give_back()

    def _give_back(self) -> None:
        self._producer.close()
        self._position_consumer.close()
        self._store.close()

    # Scans that wait for their venue.

    async def look_at_waiting(self, *, everything: bool) -> None:
        """Accepts what waits and can now be resolved; ``everything`` looks past the codes known to have changed.

        To be called with ``lock`` held.
        """
        await self.carry_on()
        positions = self._register.positions
        changed, sequence = self._register.changes_since(self._register_sequence)
        codes: Sequence[bytes | None] = (None,)
        if not everything and changed is not None and len(changed) <= self._waiting:
            codes = sorted(changed)
        for code in codes if self._waiting else ():
            await self._accept_waiting(code)
        self._register_sequence = sequence
        self.register_read = positions

    async def _accept_waiting(self, code: bytes | None) -> None:
        after = b""
        hidden: set[bytes] = set()
        while True:
            await self.idle()
            if self.idle_for_good:
                return  # a step that was lost stays in the store's view
            page = without_failing(
                lambda state: waiting.waiting_for(code, state, WAITING_PER_STEP_MAX, after),  # noqa: B023 - called at once
                *(self._store, hidden, partial(self._leave_out, "waiting")),
            )
            if not page:
                return
            after = page[-1].key
            await self._accept_in_parts(page)
            await self.carry_on()
        await self.idle()

    async def _accept_in_parts(self, page: Sequence[waiting.WaitingScan]) -> None:
        """Accepts those of a page that can be resolved: where the core raises, in halves, without whom it raises at."""
        directory, now_ms = self._register.directory, self._register.newest_ms
        parts = [page]
        while parts:
            part = parts.pop()
            await self.carry_on()
            await self._slots.acquire()
            if self.idle_for_good:
                self._slots.release()
                return
            try:
                ready = purely(
                    lambda _: [scan for scan in part if directory.resolve(scan.code) is not None],  # noqa: B023 - called at once
                    self._store,
                )
                if not ready:
                    self._slots.release()
                    continue
                self._compute(
                    None,
                    0,
                    lambda number, state: person.take_waiting(self.room, number, ready, now_ms, state, directory),  # noqa: B023 - same
                    lambda: None,
                )
            except CoreFailedError as error:
                self._slots.release()
                middle = len(part) // 2
                if middle:
                    parts += [part[middle:], part[:middle]]
                else:
                    self._leave_out("waiting", part[0].key, error)

    # Retention.

    @property
    def _believed_ms(self) -> int:
        """The newest record timestamp seen, as far as it is believed.

        A single record stamped years ahead, by one broker's wrong clock, would have everything expire at once. So
        expiry goes no further than this machine's clock, too; it only ever waits for it, which changes no result.
        """
        if self._settings.restating:
            return self._newest_ms
        return min(self._newest_ms, int(time.time() * 1000) + FUTURE_MS_MAX)

    @property
    def may_expire(self) -> bool:
        """Whether a further day, or the rest of one that was begun, may go once all inputs are read to their end."""
        if time.monotonic() < self._expire_again_at:
            return False
        return self._sweep is not None or expiry.cutoffs(self._believed_ms, self.room).scans_ms > self.expired_ms

    async def expire(self, at_end: Callable[[], bool], all_read: Callable[[], Awaitable[bool]]) -> None:
        """Lets go of what has become too old, portion by portion, as long as ``at_end`` says that no input waits.

        What one input has brought may be news of days, while what was last heard of another's end is as old as that. So
        ``all_read`` is asked once before the first portion: it must ask the broker itself.
        """
        if self._sweep is None:
            newest_ms = self._believed_ms
            # Under load inputs wait all the time: the broker need not be asked for that.
            if not at_end() or not await all_read():
                return
            self._sweep = (newest_ms, b"")
        newest_ms, after = self._sweep
        following: bytes | None = after
        while following is not None:
            async with self.lock:
                await self.carry_on()
                await self.idle()
                if self.idle_for_good or not at_end():
                    return
                try:
                    following = await self._expire_portion(newest_ms, following)
                except CoreFailedError as error:
                    self._expire_again_at = time.monotonic() + _EXPIRE_AGAIN_SECONDS
                    log.error("expiry fails, and waits an hour", part=self.part, error=error.detail)  # noqa: TRY400 - values
                    return
            if following is not None:
                self._sweep = (newest_ms, following)
            await asyncio.sleep(0)
        self._sweep = None
        self._left_out.clear()
        self.expired_ms = expiry.cutoffs(newest_ms, self.room).scans_ms
        log.info("a day has expired", part=self.part, until=format_ms(self.expired_ms))

    async def _expire_portion(self, newest_ms: int, after: bytes) -> bytes | None:
        """One portion, as a step where something goes; returns where to go on."""
        began = time.perf_counter()
        step, following = without_failing(
            lambda state: expiry.take_expiry(self.name, self.room, self._step + 1, newest_ms, after, state),
            *(self._store, self._left_out, partial(self._leave_out, "expiry")),
        )
        if self._left_out:
            step.changes.pop(SWEPT, None)  # or nobody would look at them again
        metering.expired(self.name, len(step.changes), time.perf_counter() - began)
        if step.changes:
            await self._slots.acquire()
            self._compute(None, 0, lambda _number, _state: step, lambda: None)
        return following

    # The commit thread.

    def _commit_steps(self) -> None:
        while True:
            work = self._queue.get()
            if work is None:
                return
            if self.lost is None:
                try:
                    self._commit(work)
                except FencedError as error:
                    self._lose(error)
                except BaseException as error:
                    self._lose(error)
                    log.exception("a step could not be committed", part=self.part)
            work.done()

    def _commit(self, work: Work) -> None:
        began = time.perf_counter()
        position = self._changelog_position()
        self._producer.commit(work.step)
        # If it gives up, the store is behind, and whoever opens it next restores the rest.
        keep_writing(lambda: self._store.written(position), self._directory, unless=lambda: self.closed)
        known = json.loads(work.meta)
        self.committed, self.committed_step = known["next"] if work.settles else self.committed, known["step"]
        if work.topic is not None:
            self.reached_ms[work.topic] = work.step.timestamp_ms
        metering.committed(self.name, work.topic, work.records, work.step, time.perf_counter() - began)

    def _changelog_position(self) -> int:
        """A lower bound of where the changelog ends: asked for about once a second, since it costs a call.

        Where the broker does not answer at once, what was known before is as true, and the commit does not wait.

        Asked for before a commit, and used if it succeeds: until then nobody else can have written. After the commit
        this process may have been stopped for as long as it takes another to take over and go on; the store would
        then claim to hold what that one wrote.
        """
        now = time.monotonic()
        if now - self._position_at >= _POSITION_SECONDS:
            self._position_at = now
            topic = self._settings.topic(self._changelog)
            end = end_if_known(self._position_consumer, topic, self.room.partition)
            self._position = self._position if end is None else end
        return self._position

    def _lose(self, error: BaseException) -> None:
        self.lost = error
        self._on_lost(self)
