"""Both rooms on bent records: an episode of steps, each from the state that those before it left."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from unittest.mock import patch

from streams.core import cases, erasure, keys, person, portions, proximity, reasons, venue, visit_records, waiting
from streams.core.crossing import CASE_VISITS, VISITS
from streams.core.decode import decode_venue
from streams.core.directory import Directory
from streams.core.foreign import take_foreign
from streams.core.inbound import BadEvent
from streams.core.keys import person_head
from streams.core.rejected import Origin
from streams.core.returned import RETURNED_TOPICS, RETURNS, Provenance, by_topic, headers_of
from streams.core.room import RoomPartition
from streams.core.step import Record, Step
from streams.core.times import DAY_MS
from streams.core.venue import VENUE_MARKS
from tests.core.pipeline import CLOCK, RULESETS, MemoryState
from tests.core.plain import NothingInOrder
from tests.fuzz import events, writing
from tests.fuzz.calls import Answer, Call
from tests.fuzz.chance import Chance
from tests.fuzz.events import AREAS, HERE, HOSTILE, NOW_MS, ONE, PARTITIONS, SEVERAL, VALID, Draft
from tests.fuzz.values import hostile_value

ROOM: Final = RoomPartition(HERE, PARTITIONS, "checkin.", 28 * DAY_MS, CLOCK, RULESETS)
FOREIGN: Final = reasons.FOREIGN_RECORD
UNFIT: Final = "does not fit"
"""A record that is as the pipeline writes them, but of something that is not there: our own doing, so it is no row."""
Take = Callable[[RoomPartition, int, Sequence[Record], MemoryState], Step]
_INPUTS: Final[dict[str, Any]] = {
    person.SCANS: person.take_scans,
    cases.CASES: cases.take_cases,
    erasure.ERASURES: erasure.take_erasures,
    person.VENUES: person.take_venues,
}
CROSSING: Final[dict[str, Take]] = {
    VISITS: proximity.take_visits,
    CASE_VISITS: proximity.take_case_visits,
    VENUE_MARKS: venue.take_marks,
}


def size_of(records: Sequence[Record]) -> int:
    """Bytes of keys, values and headers."""
    size = 0
    for record in records:
        size += len(record.key or b"") + len(record.value or b"")
        size += sum(len(name) + len(content or b"") for name, content in record.headers)
    return size


def shown(records: Sequence[Record]) -> Callable[[], bytes]:
    """Records, to be looked at."""
    return lambda: "\n".join(map(repr, records)).encode("utf-8", "backslashreplace")


def decided(step: Step) -> dict[str, object]:
    """What a step decided, whatever the order."""
    outputs = {topic: sorted(messages, key=repr) for topic, messages in step.outputs.items() if messages}
    return {
        "outputs": outputs,
        "headed": sorted(step.headed, key=repr),
        "changes": dict(step.changes),
        "counts": dict(step.counts),
        "rejects": dict(step.rejects),
        "waiting": step.waiting_more,
    }


def verdicts_of(topic: str, step: Step) -> Counter[str]:
    """How many records of a step ended how: a reject by its reason."""
    told = ("rejected", "foreign")
    found = Counter({f"{topic} {outcome}": amount for outcome, amount in step.counts.items() if outcome not in told})
    for reason, amount in step.rejects.items():
        # A scan that waits has a row, and is no reject.
        waits = step.counts.get("waiting", 0) if reason == reasons.UNKNOWN_VENUE else 0
        if amount > waits:
            found[f"{topic} {reason}"] += amount - waits
    return found


class Rooms:
    """Person room and venue room of one partition, with some register."""

    def __init__(self, chance: Chance, *, plain: bool = False) -> None:
        """``plain``: whatever comes from outside is good."""
        self.chance = chance
        self.plain = plain
        self.directory = Directory()
        self.persons = MemoryState()
        self.venues = MemoryState()
        self.number = 0
        self.offset = 0
        self.crossing: dict[str, list[Record]] = {topic: [] for topic in CROSSING}
        self.out: dict[str, list[Record]] = {}
        for venue_id in events.VENUES[: 12 + chance.below(12)]:
            self.put(events.venue(chance, venue_id).written())

    def put(self, value: bytes | None) -> None:
        """Registers a venue."""
        event = decode_venue(value, AREAS)
        if not isinstance(event, BadEvent):
            self.directory.put(event)

    def commit(self, step: Step, state: MemoryState) -> None:
        """Takes what a step decided."""
        state.apply(step)
        for topic, messages in step.outputs.items():
            for key, value, _, timestamp_ms in messages:
                self._deliver(topic, Record(self.offset, timestamp_ms, key, value))
        for topic, _, key, value, timestamp_ms, headers in step.headed:
            self._deliver(topic, Record(self.offset, timestamp_ms, key, value, headers))
        if step.pending:
            self._carry_on(state)

    def _carry_on(self, state: MemoryState) -> None:
        """Does what is left, as a worker does before it takes another record."""
        first, is_left = keys.PENDING, True
        while is_left and (portion := portions.take_portion(ROOM, self._next(), first, state)):
            step, first = portion
            is_left, step.pending = step.pending, False
            self.commit(step, state)

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _deliver(self, topic: str, record: Record) -> None:
        self.offset += 1
        if topic in self.crossing:
            self.crossing[topic].append(record)
        self.out.setdefault(topic, []).append(record)

    def inputs(self, topic: str, count: int) -> Call:
        """A step over made records of an input topic."""
        chance, hows = self.chance, Counter[str]()
        records: list[Record] = []
        for offset in range(count):
            record, how = events.made(chance, topic, self.offset + offset, VALID if self.plain else None)
            if how == VALID and records and chance.once_in(6):
                record = events.again(chance, chance.pick(records))._replace(offset=self.offset + offset)
            records.append(record)
            hows[how] += 1
        self.offset += count
        return self.step(topic, topic, records, hows)

    def step(self, topic: str, named: str, records: Sequence[Any], hows: Counter[str]) -> Call:
        """A step over records of an input topic, or over some that came back; ``named`` in its verdicts."""
        self.number += 1
        number, epoch = self.number, self.chance.below(3)

        def take() -> Step:
            if topic == RETURNS:
                return take_foreign(ROOM, number, RETURNS, records)
            if topic == person.SCANS:
                return person.take_scans(ROOM, number, records, self.persons, self.directory, epoch=epoch)
            if topic == person.VENUES:
                return person.take_venues(
                    ROOM, number, records, self.persons, AREAS, venues=self.directory, epoch=epoch
                )
            return _INPUTS[topic](ROOM, number, records, self.persons, epoch=epoch)  # type: ignore[no-any-return]

        def read() -> Answer:
            found = take()
            return Answer(verdicts_of(named, found), found)

        call = Call(read, len(records), size_of(records), shown(records), hows)
        if topic == person.SCANS and self.chance.once_in(2):
            call.twin = lambda: _plainly(take)
        return call

    def returned(self, count: int) -> Iterator[Call]:
        """Records of ``returns``, sorted out and then taken by topic."""
        chance, records, hows = self.chance, [], Counter[str]()
        for offset in range(count):
            record, how = _returned(chance, self.offset + offset)
            records.append(record)
            hows[how] += 1
        self.offset += count

        def read() -> Answer:
            runs = list(by_topic(records))
            found = Counter[str]()
            for topic, run in runs:
                found[f"{RETURNS} of {topic}"] += len(run)
            return Answer(found, runs)

        call = Call(read, count, size_of(records), shown(records), hows)
        yield call
        for topic, run in call.answer.decided if call.answer is not None else ():
            taken = self.step(topic, f"returned {topic}", run, Counter())
            yield taken
            step = _step(taken)
            if step is not None:
                self.commit(step, self.persons)

    def own(self, topic: str, records: list[Record], hows: Counter[str], *, bent: bool) -> Call:
        """A step over records of a topic that the person room writes."""
        self.number += 1
        step = self.number

        def take() -> Step:
            return CROSSING[topic](ROOM, step, records, self.venues)

        def read() -> Answer:
            try:
                found = take()
            except AssertionError:
                if not bent:
                    raise
                return Answer(Counter({f"{topic} {UNFIT}": len(records)}))
            return Answer(verdicts_of(topic, found), found)

        call = Call(read, len(records), size_of(records), shown(records), hows)
        if topic == VISITS and self.chance.once_in(2):
            call.twin = lambda: _uncompiled(take)
        return call


def _plainly(take: Callable[[], Step]) -> Step:
    with patch.object(person, "InOrder", NothingInOrder):
        return take()


def _uncompiled(take: Callable[[], Step]) -> Step | None:
    with patch.object(visit_records, "kept", lambda _records, _cases: None):
        try:
            return take()
        except AssertionError:
            return None


def _bent(chance: Chance, record: Record) -> tuple[Record, str]:
    how = chance.pick((ONE, ONE, ONE, SEVERAL, HOSTILE)) if not chance.once_in(20) else HOSTILE
    draft = Draft([], record.key, record.timestamp, list(record.headers), record.value)
    if how == HOSTILE and chance.once_in(3):
        draft.value = hostile_value(chance)
    else:
        for _ in range(1 if how != SEVERAL else 3):
            events.bend(chance, draft)
    return draft.record(record.offset), how


def _returned(chance: Chance, offset: int) -> tuple[Record, str]:
    """A record of ``returns``: of an event that is mostly good, with headers that mostly are."""
    topic = chance.pick(RETURNED_TOPICS)
    draft = events.MAKERS[topic](chance)
    if chance.once_in(3):
        stranger = chance.pick(events.STRANGERS)
        draft.fields = [(name, b'"%b"' % stranger if name == b"person_id" else text) for name, text in draft.fields]
        draft.key = stranger if topic != person.VENUES else draft.key
    origin = Origin(topic, chance.below(3), chance.below(PARTITIONS), chance.below(1 << 40))
    first_ms = NOW_MS - chance.below(DAY_MS)
    reason = chance.pick((*reasons.REASONS, "", "", ""))
    echo = topic == erasure.ERASURES and chance.once_in(3)
    came = Provenance(origin, first_ms, chance.below(3), chance.below(4), echo, reason)
    draft.headers = list(headers_of(came))
    how = events.how_next(chance)
    if how == HOSTILE:
        draft.headers = [events.header(chance) for _ in range(chance.below(64))]
        draft.value = hostile_value(chance)
    elif how != VALID:
        for _ in range(1 if how == ONE else 3):
            _bend_returned(chance, draft)
    return draft.record(offset), how


def _bend_returned(chance: Chance, draft: Draft) -> None:
    if chance.once_in(2) or not draft.headers:
        events.bend(chance, draft)
        return
    at = chance.below(len(draft.headers))
    name, content = draft.headers[at]
    turn = chance.below(5)
    if turn == 0:
        del draft.headers[at]
    elif turn == 1:
        draft.headers[at] = name, events.header(chance)[1]
    elif turn == 2:
        draft.headers[at] = name, b"%d" % chance.number()
    elif turn == 3:
        draft.headers.append((name, chance.bend(content or b"")))
    else:
        draft.headers[at] = name, chance.bend(content or b"")


def episode(chance: Chance) -> Iterator[Call]:
    """Steps of both rooms in turn; in some, few scans of a person may wait."""
    with patch.object(waiting, "WAITING_MAX", chance.pick((1, 4, waiting.WAITING_MAX, waiting.WAITING_MAX))):
        yield from _episode(chance)


def _episode(chance: Chance) -> Iterator[Call]:
    rooms = Rooms(chance)
    for _ in range(6 + chance.below(6)):
        topic = chance.pick((*(person.SCANS,) * 5, *(cases.CASES,) * 2, erasure.ERASURES, person.VENUES))
        call = rooms.inputs(topic, 1 + chance.below(120 if topic == person.SCANS else 40))
        yield call
        step = _step(call)
        if step is not None:
            yield writing.written(step)
            rooms.commit(step, rooms.persons)
        if topic == person.VENUES:
            yield from _register(rooms)
        if chance.once_in(2):
            yield from rooms.returned(1 + chance.below(40))
        if chance.once_in(3):
            yield from crossed(rooms)
    yield from crossed(rooms)
    yield from _states(rooms)


def _step(call: Call) -> Step | None:
    return call.answer.decided if call.answer is not None else None


def _register(rooms: Rooms) -> Iterator[Call]:
    """What waits is taken once a ghost is registered."""
    chance = rooms.chance
    rooms.put(events.venue(chance, chance.pick(events.GHOSTS)).written())
    waits = waiting.waiting_for(None, rooms.persons, 10_000)
    rooms.number += 1
    number = rooms.number

    def read() -> Answer:
        found = person.take_waiting(ROOM, number, waits, NOW_MS, rooms.persons, rooms.directory)
        resolved = found.counts.get("resolved", 0)
        return Answer(Counter({"waiting resolved": resolved, "waiting waits on": len(waits) - resolved}), found)

    call = Call(read, len(waits), sum(len(one.pack()) for one in waits), lambda: repr(waits).encode(), Counter())
    yield call
    step = _step(call)
    if step is not None:
        rooms.commit(step, rooms.persons)


def crossed(rooms: Rooms) -> Iterator[Call]:
    """Steps of the venue room over all that has crossed, and over bent copies of some, which leave nothing behind."""
    chance = rooms.chance
    for topic, waiting_records in rooms.crossing.items():
        records, waiting_records[:] = list(waiting_records), []
        if topic == VENUE_MARKS:
            records += chance.sample(records, len(records) // 6)
        at = 0
        while at < len(records):
            run = records[at : at + 1 + chance.below(100)]
            for record in () if rooms.plain else chance.sample(run, min(len(run), 6)):
                changed, how = _bent(chance, record)
                yield rooms.own(topic, [changed], Counter({how: 1}), bent=True)
            call = rooms.own(topic, run, Counter({VALID: len(run)}), bent=False)
            yield call
            step = _step(call)
            if step is not None:
                rooms.commit(step, rooms.venues)
            at += len(run)


def _states(rooms: Rooms) -> Iterator[Call]:
    """Scans of persons whose heads are as a stray record on the state topic would leave them."""
    chance = rooms.chance
    heads = [key for key in rooms.persons.data if key[:1] == person_head(b"")[:1]]
    for key in chance.sample(heads, min(len(heads), 8)):
        value = rooms.persons.data[key]
        bent = chance.randbytes(chance.below(60)) if chance.once_in(3) else chance.bend(value)
        state = MemoryState()
        state.data = {key: bent}
        draft = events.scan(chance)
        name = key[1:].hex().encode()
        draft.fields[1], draft.key = (b"person_id", b'"%b"' % name), name
        records = [draft.record(0)]

        def read(records: list[Record] = records, state: MemoryState = state) -> Answer:
            try:
                person.take_scans(ROOM, 1, records, state, rooms.directory)
            except Exception:  # noqa: BLE001 - Python's own, whatever it is; and the step is none
                return Answer(Counter({f"state {FOREIGN}": 1}))
            return Answer(Counter({"state taken": 1}))

        yield Call(read, 1, len(bent), lambda bent=bent: bent, Counter({ONE: 1}))  # type: ignore[misc]


def corpus(seed: str, episodes: int) -> dict[str, list[Record]]:
    """Records of all that the rooms write, by topic: as they write them."""
    found: dict[str, list[Record]] = {}
    for number in range(episodes):
        rooms = Rooms(Chance(f"{seed}/{number}"), plain=True)
        for turn in range(10):
            topic = (person.SCANS, person.SCANS, cases.CASES, person.SCANS, erasure.ERASURES)[turn % 5]
            call = rooms.inputs(topic, 60 if topic == person.SCANS else 8)
            rooms.commit(call.read().decided, rooms.persons)
            for own in crossed(rooms):
                own.answer = own.read()
        for name, records in rooms.out.items():
            found.setdefault(name, []).extend(records)
    return found
