"""Retention in state (SPEC §3, §8): what a partition may let go of, portion by portion, without a word.

A day goes once the newest record timestamp that the partition has seen is past the day's end + retention + 1 day,
and only while all its inputs are read to their end (which the shell knows): so a backlog wipes nothing. What would
be compared with what is gone cannot come any more: scans of before the cutoff are ``too_old`` from then on. That is
also why cells need no longer state than scans: the rows that were emitted stay, and cannot change.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from streams.core import keys, proximity, rejected, waiting
from streams.core.exposures import contact_of
from streams.core.held_scans import may_hold_older
from streams.core.reports import report_times
from streams.core.room import CASE_AGE_MS_MAX, PERSON_ROOM, RoomPartition
from streams.core.step import StateReader, Step
from streams.core.timeline import Timeline
from streams.core.times import DAY_MS
from streams.core.visits import VISIT_MS_MAX, longest_of_category

_MARGIN_MS: Final = DAY_MS
PAGE_KEYS = 1_000
"""Keys that are read at a time, and about how many changes make a portion full."""
PORTION_KEYS = 20_000
"""Keys that one portion looks at at most: some ten milliseconds, between which what comes in is taken."""


class Cutoffs(NamedTuple):
    """Up to when things go, epoch ms, each the beginning of a local day."""

    scans_ms: int
    """Scans, visits, dead letters; and the state of cells."""
    cases_ms: int
    """Case reports and erasure marks."""


def cutoffs(newest_ms: int, room: RoomPartition) -> Cutoffs:
    """What a partition may let go of that has seen a record with this timestamp."""
    return Cutoffs(
        room.clock.day_start(newest_ms - room.retention_ms - _MARGIN_MS),
        room.clock.day_start(newest_ms - CASE_AGE_MS_MAX - _MARGIN_MS),
    )


def take_expiry(
    name: str, room: RoomPartition, number: int, newest_ms: int, after: bytes, state: StateReader
) -> tuple[Step, bytes | None]:
    """One portion: what is to go of the keys past ``after`` (at first, empty), and the key to go on after.

    ``name`` is the room's. None as the key: that was all.
    """
    sweep = _Sweep(room, Step(number, newest_ms), cutoffs(newest_ms, room), state)
    if not after:
        # What is gone stays gone, where a longer retention would keep it.
        gone_ms = keys.expired_of(state.get(keys.EXPIRED))
        sweep.step.changes[keys.EXPIRED] = keys.pack_expired(max(sweep.cut.scans_ms, gone_ms))
    looked_at = 0
    for portion in sweep.person_room() if name == PERSON_ROOM else sweep.venue_room():
        if after[:1] > portion.tag:
            continue
        after = max(after, portion.first)
        while True:
            pairs = state.scan(portion.tag, PAGE_KEYS, after)
            following = sweep.take(portion, pairs, after)
            if following is None:
                after = portion.tag + b"\xff"
                break
            after = following
            looked_at += len(pairs)
            if looked_at >= PORTION_KEYS or sweep.is_full:
                return sweep.step, after
    sweep.step.changes[keys.SWEPT] = keys.pack_expired(sweep.cut.scans_ms)
    return sweep.step, None


class _Portion(NamedTuple):
    """Keys of one tag (``keys.py``) of which something may have to go."""

    tag: bytes
    drop: Callable[[bytes, bytes], bool]
    """Drops what is too old of a key and value; True if that was only a part of it."""
    first: bytes = b""
    """Up to and including this key nothing is left."""
    stop: bytes | None = None
    """From this key on nothing is too old."""
    onward: Callable[[bytes], bytes] = lambda key: key
    """The key to go on after; farther than the last one where what follows it cannot be too old."""


class _Sweep:
    """What one portion drops, by the first letter of its keys (``keys.py``)."""

    def __init__(self, room: RoomPartition, step: Step, cut: Cutoffs, state: StateReader) -> None:
        self.step = step
        self.cut = cut
        self._clock = room.clock
        self._state = state
        self._day = room.clock.place(cut.scans_ms)[2]
        # What went before left tombstones, which cost as much to pass over as keys do.
        swept = state.get(keys.SWEPT)
        self._swept_ms = keys.time_key(keys.expired_of(swept)) if swept else b""
        self._swept_day = room.clock.place(keys.expired_of(swept))[2] if swept else b""
        self._cutoff_key = keys.time_key(cut.scans_ms)
        self._fewer: dict[bytes, Counter[int]] = {}
        self.is_full = False
        """Whether the rest is for the next portion."""

    def person_room(self) -> Sequence[_Portion]:
        """What the person room may have to let go of, in key order."""
        return (
            _Portion(b"a", self._drop, b"a" + self._swept_day, b"a" + self._day),
            _Portion(b"h", self._drop, b"h" + self._swept_day, b"h" + self._day),
            _Portion(b"m", self._drop, b"m" + self._swept_ms, keys.ward_hour(b"", self.cut.scans_ms)),
            _Portion(b"p", self._person),
            _Portion(b"r", self._reject),
        )

    def venue_room(self) -> Sequence[_Portion]:
        """What the venue room may have to let go of, in key order."""
        return (
            _Portion(b"a", self._drop, b"a" + self._swept_day, b"a" + self._day),
            _Portion(b"k", self._drop, b"k" + self._swept_day, b"k" + self._day),
            _Portion(b"v", self._visit, onward=self._past_young_visits),
            _Portion(b"x", self._case_visit),
        )

    def take(self, portion: _Portion, pairs: Sequence[tuple[bytes, bytes]], after: bytes) -> bytes | None:
        """Drops what is too old of a page past ``after``; the key to go on after, None if nothing more can be."""
        drop, stop = portion.drop, portion.stop
        for key, value in pairs:
            if stop is not None and key >= stop:
                return None
            in_part = drop(key, value)
            self.is_full = in_part or len(self.step.changes) >= PAGE_KEYS
            if not in_part:
                after = key
            if self.is_full:
                break
        self.store_case_counts()
        if self.is_full:
            return after
        return portion.onward(after) if len(pairs) == PAGE_KEYS else None

    def _drop(self, key: bytes, _: bytes) -> bool:
        self.step.changes[key] = None
        return False

    def _reject(self, key: bytes, value: bytes) -> bool:
        if rejected.unpack(value).record_ms < self.cut.scans_ms:
            self.step.changes[key] = None
        return False

    def _person(self, key: bytes, value: bytes) -> bool:
        if not may_hold_older(value, self.cut.scans_ms):
            return False
        person = key[1:]
        timeline = Timeline(person, value, self._state)
        gone, in_part = timeline.expire(self.cut.scans_ms, self._clock, PAGE_KEYS)
        for scan in gone:
            if scan.waiting:
                waiting.drop(self.step, self._state, scan.code, person, scan.scan_id)
        if timeline.erased_ms is not None and timeline.erased_ms < self.cut.cases_ms:
            timeline.drop_mark()
        if timeline.has_cases and not in_part:
            in_part = self._cases(person, timeline)
        self.step.changes |= timeline.changes()
        return in_part

    def _cases(self, person: bytes, timeline: Timeline) -> bool:
        """Drops a person's reports that are too old; True if only a part of them."""
        held = False
        for key, reported_ms in report_times(person, self._state):
            if reported_ms >= self.cut.cases_ms:
                held = True
                continue
            if len(self.step.changes) >= PAGE_KEYS:
                return True
            self.step.changes[key] = None
        timeline.note_cases(held=held)
        return False

    def _visit(self, key: bytes, value: bytes) -> bool:
        at = key.index(b"\0") + 2
        if key[at : at + keys.TIME_KEY_BYTES] < self._cutoff_key:
            visit = contact_of(key, value)
            if visit.start_ms + longest_of_category(visit.category) < self.cut.scans_ms:
                self.step.changes[key] = None
        return False

    def _past_young_visits(self, key: bytes) -> bytes:
        """Visits of a venue and class are in the order of their time: after a young one come only younger ones."""
        start_ms, _ = keys.split_venue_visit(key)
        return keys.after_class(key) if start_ms >= self.cut.scans_ms else key

    def _case_visit(self, key: bytes, _: bytes) -> bool:
        venue, length, start_ms = keys.split_case_visit(key)
        if start_ms + VISIT_MS_MAX < self.cut.scans_ms:
            self.step.changes[key] = None
            self._fewer.setdefault(venue, Counter())[length] += 1
        return False

    def store_case_counts(self) -> None:
        """Lowers the counts of case visits by those that this portion dropped."""
        for venue, fewer in self._fewer.items():
            key = keys.venue_case_count(venue)
            self.step.changes[key] = proximity.fewer_cases(self._state.get(key), fewer)
