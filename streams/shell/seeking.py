"""Where the rooms' inputs are read from, and as which: asked of the broker, at every seek and all the time.

A seek compares what a state remembers of an input (``inputs.py``) with what the broker has. A topic that was made anew
while it is read is found by looking every few seconds; what the fetcher asks for and is not there, at once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from faust import App
from faust.types import TP

from infra.topics import Described
from streams.shell.inputs import (
    OWN_TOPICS,
    TOPICS,
    Asking,
    Known,
    Place,
    only_a_marker,
    place_of,
    stop_sentence,
    tell,
    with_more_partitions,
)
from streams.shell.passed import passed_over
from streams.shell.progress import Progress
from streams.shell.runner import Runner
from streams.shell.steps import Stopped
from truyvet import logs
from truyvet.config import Settings

LOOK_SECONDS: Final = 2.0
"""So often the broker is asked whether inputs are still those that are read."""
_SURE_SECONDS: Final = 1.0
_IN_HAND_SECONDS_MAX: Final = 10.0
_ASK_AGAIN_SECONDS: Final = 1.0
_NOTE_SECONDS: Final = 60.0
"""So often at most an idle partition notes that it has read past markers, which is no step of records."""

log = logs.get("rooms")


class Seeking(Progress):
    """The part of the rooms that puts inputs where they stand."""

    def __init__(self, settings: Settings, app: App) -> None:
        super().__init__(settings, app)
        self._epochs: dict[TP, int] = {}
        """Which seek of a partition counts; none for one that was not sought yet."""
        self._lock = asyncio.Lock()
        self._asking = Asking(settings)
        self._looking_for_pass: set[Runner] = set()
        self._closed = False

    def _spawn(self, coroutine: Any) -> None:
        raise NotImplementedError

    def _tp(self, runner: Runner, topic: str) -> TP:
        return TP(self._settings.topic(topic), runner.room.partition)

    # Seeking.

    async def _seek(self, runners: list[Runner]) -> None:
        """Puts the inputs of these rooms where their changelogs say, or where the topic begins."""
        if not runners:
            return
        described = await self._described()
        found = [
            runner
            for runner in runners
            if runner.stopped is None and _needed(runner) <= described.keys()  # of others, once they are there again
        ]
        inputs = [(runner, topic, self._tp(runner, topic)) for runner in found for topic in TOPICS[runner.name]]
        first, ends = await self._bounds(inputs)
        for runner in found:
            await self._compare(runner, described, first, ends)
        await self._hold([runner for runner in runners if runner.stopped is not None])
        offsets = {}
        for runner, topic, tp in inputs:
            if runner.stopped is None:
                stored = runner.next.get(topic)
                offsets[tp] = max(stored or 0, first[tp])
                runner.next[topic] = offsets[tp]
                runner.committed.setdefault(topic, offsets[tp])
        if offsets:
            self._epochs |= await self._consumer.seek_runs(offsets)

    async def _described(self) -> dict[str, Described]:
        while (described := await asyncio.to_thread(self._asking.ask)) is None:  # noqa: ASYNC110 - the broker is outside
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
        return described

    async def _bounds(self, inputs: Sequence[tuple[Runner, str, TP]]) -> tuple[Mapping[TP, int], Mapping[TP, int]]:
        """Where these begin and end; without ends, if the broker does not say."""
        if not inputs:
            return {}, {}
        places = [tp for _, _, tp in inputs]
        first = await self._consumer.earliest_offsets(*places)
        ends = await self._consumer.ends(*places) or {}
        if any(tp in ends and ends[tp] < runner.next.get(topic, 0) for runner, topic, tp in inputs):
            # A leader that has just become one may not know yet how far others had read.
            await asyncio.sleep(_SURE_SECONDS)
            again = await self._consumer.ends(*places) or {}
            ends = {tp: max(ends[tp], again[tp]) for tp in ends if tp in again}
        return first, ends

    async def _compare(
        self, runner: Runner, described: Mapping[str, Described], first: Mapping[TP, int], ends: Mapping[TP, int]
    ) -> None:
        """Says what has changed of a room's inputs, and has it read them as what they are now, or stand still."""
        changelog_id = described[runner.changelog].topic_id
        restored = runner.changelog_id not in (None, changelog_id)
        places: dict[str, Place] = {}
        for topic in TOPICS[runner.name]:
            tp, topic_id = self._tp(runner, topic), described[topic].topic_id
            known = runner.inputs.get(topic)
            if known is not None and restored:
                known = Known(topic_id, known.epoch)
            places[topic] = place_of(runner.next.get(topic), known, topic_id, first[tp], ends.get(tp))
            if topic in OWN_TOPICS and only_a_marker(runner.next.get(topic), places[topic]):
                places[topic] = places[topic]._replace(change="")
        changed = {topic: place for topic, place in places.items() if place.change}
        for topic, place in changed.items():
            tell(runner.part, topic, runner.next.get(topic), place)
            if topic in OWN_TOPICS and runner.stopped is None:
                where = (self._settings.topic(topic), runner.room.partition)
                runner.stop(Stopped(stop_sentence(*where, runner.next.get(topic), place)))
        inputs = {topic: place.known for topic, place in places.items()}
        if runner.stopped is None and (changed or restored or inputs != runner.inputs):
            for topic in changed:
                self._epochs.pop(self._tp(runner, topic), None)  # what is still on its way is of before
            await runner.read_as(inputs, {topic: place.offset for topic, place in changed.items()}, changelog_id)
            self._backlog.forget()

    async def _hold(self, runners: Sequence[Runner]) -> None:
        """Fetches nothing for partitions that stand still: it would only be dropped."""
        places = [self._tp(runner, topic) for runner in runners for topic in TOPICS[runner.name]]
        for tp in places:
            self._epochs.pop(tp, None)
        if places:
            await self._consumer.hold(places)

    async def _read_again(self, runner: Runner) -> None:
        """Seeks a room's inputs to where it stands, unless it is no longer the one that holds them."""
        async with self._lock:
            if runner in self._runners.values() and not (runner.closed or runner.lost):
                await self._seek([runner])

    # All the time.

    async def look_at_inputs(self) -> Mapping[str, Described]:
        """Compares the inputs with what is read, once; to be called every few seconds.

        Returns what the broker says of them and of the changelogs: nothing, if it does not answer.
        """
        described = await asyncio.to_thread(self._asking.ask)
        if described is None:
            return {}
        complaints = with_more_partitions(self._settings, described)
        for sentence in complaints:
            if sentence not in self._complaints:
                log.error("an input has more partitions than are read", why=sentence)
        self._complaints = complaints
        async with self._lock:
            other = [runner for runner in self._runners.values() if self._is_other(runner, described)]
            if other and not self._closed:
                await self._seek(other)
        return described

    def _is_other(self, runner: Runner, described: Mapping[str, Described]) -> bool:
        """Whether a room's inputs are there, and others than those that it reads, or not sought yet."""
        if runner.generation < 0 or runner.idle_for_good or not _needed(runner) <= described.keys():
            return False
        return any(
            self._tp(runner, topic) not in self._epochs
            or runner.inputs.get(topic, Known("", 0)).topic_id != described[topic].topic_id
            for topic in TOPICS[runner.name]
        )

    def _told_out_of_range(self, tp: TP, offset: int) -> None:
        """Called in the fetching thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._spawn(self._read_where_it_is(tp, offset)))

    async def _read_where_it_is(self, tp: TP, offset: int) -> None:
        """Seeks once what was fetched before is taken: that much was read before it went."""
        found = [
            (runner, topic)
            for runner in self._runners.values()
            for topic in TOPICS[runner.name]
            if self._tp(runner, topic) == tp
        ]
        if not found:
            return
        [(runner, topic)] = found
        until = self._loop.time() + _IN_HAND_SECONDS_MAX
        while runner.next.get(topic, 0) < offset and not runner.idle_for_good and self._loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        log.warning("the broker does not have what is to be read next", topic=topic, part=runner.part, offset=offset)
        await self._read_again(runner)

    def _keep(self, runner: Runner) -> None:
        """What is to be done for a partition about once a second."""
        if runner.stopped is not None:
            if runner.stopped.record is not None and runner not in self._looking_for_pass:
                self._looking_for_pass.add(runner)
                self._spawn(self._look_for_pass(runner))
            return
        runner.noted_at = runner.noted_at or self._loop.time()
        if self._loop.time() > runner.noted_at + _NOTE_SECONDS and self._at_end(runner):
            runner.noted_at = self._loop.time()
            self._spawn(self._note_read(runner))

    async def _look_for_pass(self, runner: Runner) -> None:
        """Passes over the record at which a partition stands still, if an operator has named it."""
        try:
            why = runner.stopped
            if why is None or why.record is None:
                return
            partition = runner.room.partition
            told = await asyncio.to_thread(passed_over, self._settings, why.topic, partition)
            if told == why.record.offset + 1 and runner.stopped is why and not (runner.closed or runner.lost):
                await runner.pass_over()
                await self._read_again(runner)
        finally:
            self._looking_for_pass.discard(runner)

    async def _note_read(self, runner: Runner) -> None:
        """Notes how far an idle partition has read beyond its last records.

        What lies there are markers. When they go, with all that was before them, nothing unread has gone.
        """
        async with self._lock:
            further = {}
            for topic in TOPICS[runner.name]:
                delivered = runner.committed.get(topic, 0)
                read_to = self._consumer.read_to(self._tp(runner, topic), delivered)
                if read_to > delivered == runner.next.get(topic):
                    further[topic] = read_to
            if further and runner in self._runners.values() and not runner.idle_for_good:
                await runner.note_read(further)


def _needed(runner: Runner) -> set[str]:
    """The topics that must be known before a room's inputs can be sought."""
    return {*TOPICS[runner.name], runner.changelog}
