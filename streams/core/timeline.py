"""A person's timeline: the scans held (``held_scans.py``) and the visits that follow from them (``visits.py``).

The pass over the visits is kept up to date: a scan that comes last costs a step of it, one that comes late the
pass from its place on, over the old scans and over the new. Forgetting is done here, too: what a person asked
for, and what is older than it may be.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from streams.core import packed
from streams.core.held_scans import FIRST, LAST, HeldScans, Place, accepted_in
from streams.core.packed import StoredScan, scans_of
from streams.core.times import LocalClock
from streams.core.visits import NEVER_MS, VISIT_MS_MAX, Carry, Visit, all_of, longest_ms, run, unpack_carry

_REBUILT_CHUNKS_MAX: Final = 3
"""Of a timeline that was long and has so many chunks left after an erasure, what stays is put together anew."""


class Erased(NamedTuple):
    """What went with an erasure, or a part of it: scans; the visits that were and those that are, where they differ."""

    gone: list[StoredScan]
    were: list[Visit]
    are: list[Visit]
    floor_ms: int
    """When the last visit that expired had ended, as far as that outlasts the erasure."""
    more: bool
    """Whether scans are left that are to go."""


class Timeline(HeldScans):
    """One person's scans and visits during one step."""

    __slots__ = ()

    def settle(self) -> tuple[list[Visit], list[Visit]]:
        """Brings the pass over the visits up to date: (visits that were, visits that are) where they may differ.

        To be called once, after everything was added, before ``changes`` and ``visits_between``.
        """
        if self._in_order:
            before = self._carry.open_visit()
            visits, self._carry = run(self._carry, self._accepted)
            last = self._carry.open_visit()
            return [before] if before else [], visits if last is None else [*visits, last]
        if self._starts is not None:
            return self._settle_chunks(self._starts)
        first = min([scan.place for scan in self._accepted], default=LAST)
        was_at, at = packed.position(self._old, first), packed.position(self._blob, first)
        _, carry = run(self._floor, accepted_in(self._blob[:at]))
        were = all_of(carry, accepted_in(self._old[was_at:]))
        visits, self._carry = run(carry, accepted_in(self._blob[at:]))
        last = self._carry.open_visit()
        return were, visits if last is None else [*visits, last]

    def _settle_chunks(self, starts: list[Place]) -> tuple[list[Visit], list[Visit]]:
        """``settle`` from the first chunk that changed to where the passes over old and new scans agree again."""
        old_starts = self._old_starts or [FIRST]
        changed = {bisect_right(old_starts, start) - 1 for start in self._touched}
        were: list[Visit] = []
        are: list[Visit] = []
        if not changed:
            return were, are
        at = min(changed)
        old = new = self._old_chunk(old_starts[at])[0]
        while True:
            stop = old_starts[at + 1] if at + 1 < len(old_starts) else LAST
            closed, old = run(old, accepted_in(self._old_chunk(old_starts[at])[1]))
            were += closed
            for start in starts[bisect_left(starts, old_starts[at]) : bisect_left(starts, stop)]:
                self._set_carry(start, new)
                closed, new = run(new, accepted_in(self._chunk(start)))
                are += closed
            changed.discard(at)
            if stop == LAST:
                were += [visit for visit in (old.open_visit(),) if visit]
                are += [visit for visit in (new.open_visit(),) if visit]
                return were, are
            if old != new:
                at += 1
            elif changed:
                at = min(changed)
                old = new = self._old_chunk(old_starts[at])[0]
            else:
                return were, are

    def visits_between(
        self, from_ms: int, to_ms: int, start: Place | None = None
    ) -> Iterator[tuple[list[Visit], Place | None]]:
        """At least the visits that intersect [from_ms, to_ms), in order; page by page, each with where the next begins.

        ``start`` is such a place; None: from the beginning.
        """
        if to_ms <= from_ms:
            return
        if self._starts is None:
            yield all_of(self._floor, accepted_in(self._blob)), None
            return
        # A visit closed before the chunk of from_ms had ended by then; one that begins later than to_ms may
        # have its opening scan, a check-out, up to a longest stay after that.
        first = start or self._start_of((from_ms, b""))
        starts = [place for place in self._starts if first <= place and place[0] <= to_ms + VISIT_MS_MAX]
        for place, following in zip_longest(starts, starts[1:]):
            blob = self._chunk(place)
            visits, carry = run(unpack_carry(self._carries[place]), accepted_in(blob))
            last = carry.open_visit() if following is None else None
            yield visits if last is None else [*visits, last], following

    # Forgetting.

    def note_erased(self, until_ms: int) -> None:
        """Remembers up to when the person asked to be forgotten."""
        self._dirty = True
        self.erased_ms = until_ms

    def erase(self, until_ms: int, clock: LocalClock, scans_max: int, floor_ms: int | None = None) -> Erased:
        """Removes the scans up to and including ``until_ms``; of a long timeline ``scans_max``, and a chunk's more.

        To be called on a timeline that nothing was added to, instead of ``settle``. Where there is more: again on
        what state then holds, with the floor of the answer, before anything else looks at this timeline.
        """
        self.note_erased(until_ms)
        starts = self._starts or [FIRST]
        blob = self._blob if self._starts is None else self._chunk(FIRST)
        old = self._floor if self._starts is None else unpack_carry(self._carries[FIRST])
        if floor_ms is None:
            # What expired was not asked for where it is later: visits that stay must not move into its time.
            floor_ms = old.closed_ms if old.closed_ms > until_ms else NEVER_MS
        gone: list[StoredScan] = []
        were: list[Visit] = []
        count = 0
        while _all_go(starts[count:], until_ms) and len(gone) < scans_max:
            gone += scans_of(blob)
            closed, old = run(old, accepted_in(blob))
            were += closed
            count += 1
            blob = self._chunk(starts[count])
        if _all_go(starts[count:], until_ms):
            # The carry leads back to a scan that is gone: the next portion has the visits that were from it.
            self._begin_with(blob, old, starts, count, gone, clock)
            return Erased(gone, were, [], floor_ms, more=True)
        self.floor_ms = floor_ms
        erased = Erased(gone, were, [], floor_ms, more=False)
        if len(starts) - count > _REBUILT_CHUNKS_MAX:
            self._cut(erased, until_ms, old, starts, count, clock)
        else:
            self._rebuild(erased, until_ms, old, starts, count, clock)
        return erased

    def _begin_with(
        self, blob: bytes, carry: Carry, starts: list[Place], count: int, gone: list[StoredScan], clock: LocalClock
    ) -> None:
        """Makes ``blob`` the first chunk of a long timeline, in the place of ``count`` of its chunks and one more."""
        self._drop_keys(gone, starts[: count + 1], clock)
        self._starts = [FIRST, *starts[count + 1 :]]
        self._chunks[FIRST], self._carries[FIRST] = blob, carry.pack()
        self._touched.add(FIRST)

    def _cut(
        self, erased: Erased, until_ms: int, old: Carry, starts: list[Place], count: int, clock: LocalClock
    ) -> None:
        """Ends an erasure within a long timeline of which much stays: visits change until both passes agree again."""
        cut = self._chunk(starts[count])
        older, end = packed.older_than(cut, until_ms + 1)
        erased.gone.extend(older)
        self._begin_with(cut[end:], self._floor, starts, count, erased.gone, clock)
        new = self._floor
        assert self._starts is not None, "a long timeline"
        for start, following in zip_longest(self._starts, self._starts[1:]):
            self._set_carry(start, new)
            closed, old = run(old, accepted_in(cut if start == FIRST else self._chunk(start)))
            erased.were.extend(closed)
            closed, new = run(new, accepted_in(self._chunk(start)))
            erased.are.extend(closed)
            if following is None:
                erased.were.extend(visit for visit in (old.open_visit(),) if visit)
                erased.are.extend(visit for visit in (new.open_visit(),) if visit)
            elif old == new:
                break
        self._count_first_day_again(clock)

    def _rebuild(
        self, erased: Erased, until_ms: int, old: Carry, starts: list[Place], count: int, clock: LocalClock
    ) -> None:
        """Ends an erasure where little stays, of which the timeline is made anew."""
        blobs = [self._blob] if self._starts is None else [self._chunk(start) for start in starts[count:]]
        scans = [scan for blob in blobs for scan in scans_of(blob)]
        erased.were.extend(all_of(old, (scan for scan in scans if not scan.waiting)))
        if self._starts is not None:
            self._drop_keys([*erased.gone, *scans], starts, clock)
        self._blob = self._old = b""
        self._starts = self._old_starts = None
        self._carry, self._in_order = self._floor, True
        for scan in scans:
            if scan.occurred_ms <= until_ms:
                erased.gone.append(scan)
            else:
                self.add(scan, clock)
        erased.are.extend(self.settle()[1])

    def expire(self, cutoff_ms: int, clock: LocalClock, scans_max: int) -> tuple[list[StoredScan], bool]:
        """Drops the visits that could not have lasted until ``cutoff_ms``, and their scans, without a word (SPEC §3).

        Only from the beginning, and only between visits; waiting scans of before the cutoff go, too. Returns what
        went, and whether that was a part only: of a long timeline ``scans_max`` scans, and what their last chunk and
        visit have more. To be called on a timeline that nothing was added to.
        """
        if self._starts is not None:
            return self._expire_long(cutoff_ms, clock, self._starts, scans_max)
        # A visit that goes was opened before the cutoff, and what came after it changes nothing about its end.
        older, end = packed.older_than(self._blob, cutoff_ms)
        visits = all_of(self._floor, (scan for scan in older if not scan.waiting))
        boundary, floor_ms = _expired_up_to(visits, cutoff_ms, self.floor_ms)
        floor_ms = _floor_that_counts(floor_ms, cutoff_ms)
        gone = [scan for scan in older if scan.waiting or scan.place < boundary]
        if gone or floor_ms != self.floor_ms:
            self._dirty = True
            self.floor_ms = floor_ms
            kept = [scan.pack() for scan in older if not scan.waiting and scan.place >= boundary]
            self._blob = b"".join(kept) + self._blob[end:]
            if next(accepted_in(self._blob), None) is None:
                self._carry = self._floor
        return gone, False

    def _expire_long(
        self, cutoff_ms: int, clock: LocalClock, starts: list[Place], scans_max: int
    ) -> tuple[list[StoredScan], bool]:
        self._chunk(FIRST)
        self.floor_ms = floor_ms = unpack_carry(self._carries[FIRST]).closed_ms
        carry, boundary, in_part, passed = self._floor, LAST, False, 0
        older = [start for start in starts if start[0] < cutoff_ms]
        for start, following in zip_longest(older, older[1:]):
            scans, _ = packed.older_than(self._chunk(start), cutoff_ms)
            visits, carry = run(carry, (scan for scan in scans if not scan.waiting))
            last = carry.open_visit() if following is None else None
            boundary, floor_ms = _expired_up_to(visits if last is None else [*visits, last], cutoff_ms, floor_ms)
            passed += len(scans)
            opener = carry.opener
            # A visit that began must go or stay as a whole.
            in_part = passed >= scans_max and following is not None and (opener is None or floor_ms != self.floor_ms)
            if boundary != LAST:
                in_part = False
                break
            if in_part and following is not None:
                boundary = following if opener is None else opener.place
                break
        if not in_part:
            floor_ms = _floor_that_counts(floor_ms, cutoff_ms)
        gone: list[StoredScan] = []
        self._drop_up_to(boundary, cutoff_ms, older, floor_ms, clock, gone, waiting=not in_part)
        return gone, in_part

    def _drop_up_to(
        self,
        boundary: Place,
        cutoff_ms: int,
        older: list[Place],
        floor_ms: int,
        clock: LocalClock,
        gone: list[StoredScan],
        *,
        waiting: bool,
    ) -> None:
        """Drops of a long timeline what lies before ``boundary``; of what waits all of before the cutoff, if so asked.

        ``older`` are the chunks that begin before the cutoff; what goes is added to ``gone``.
        """
        assert self._starts is not None, "a long timeline"
        starts = self._starts
        first = min(bisect_right(starts, boundary), len(older)) - 1
        stays: dict[Place, bytes] = {}
        for start in older if waiting else older[: first + 1]:
            kept = []
            scans, end = packed.older_than(self._chunk(start), cutoff_ms)
            for scan in scans:
                if (scan.place < boundary and start <= starts[first]) or (waiting and scan.waiting):
                    gone.append(scan)
                else:
                    kept.append(scan.pack())
            if len(kept) < len(scans):
                stays[start] = b"".join(kept) + self._chunk(start)[end:]
        if not gone and floor_ms == self.floor_ms:
            return
        self._dirty = True
        self.floor_ms = floor_ms
        blob = stays.pop(starts[first], self._chunk(starts[first]))
        for start in starts[first + 1 :]:
            if start in stays:
                self._put_chunk(start, stays[start])
        self._begin_with(blob, self._floor, starts, first, gone, clock)
        self._begin_anew_behind(starts[first + 1 :], min(boundary, (cutoff_ms, b"")))
        if not blob and self._starts == [FIRST]:
            self._touched.discard(FIRST)
            self._starts, self._blob, self._carry = None, b"", self._floor

    def _begin_anew_behind(self, starts: Sequence[Place], boundary: Place) -> None:
        """Has chunks whose carry leads back to a visit of before ``boundary``, which is gone, begin without it."""
        for start in starts:
            self._chunk(start)
            opener = unpack_carry(self._carries[start]).opener
            if opener is None or opener.place >= boundary:
                return
            self._set_carry(start, self._floor)


def _expired_up_to(visits: Sequence[Visit], cutoff_ms: int, floor_ms: int) -> tuple[Place, int]:
    """(the place where the first visit that stays was opened, when the last one before it had ended)."""
    for visit in visits:
        if visit.start_ms + longest_ms(visit.attributes) >= cutoff_ms:
            return (visit.scan_ms, visit.scan_id), floor_ms
        floor_ms = visit.end_ms
    return LAST, floor_ms


def _floor_that_counts(floor_ms: int, cutoff_ms: int) -> int:
    """No scan that may still come is a check-out that reaches back to a floor that is too old."""
    return NEVER_MS if floor_ms + VISIT_MS_MAX < cutoff_ms else floor_ms


def _all_go(starts: Sequence[Place], until_ms: int) -> bool:
    """Whether all scans of the first of these chunks are from up to and including ``until_ms``, and others follow."""
    return len(starts) > 1 and starts[1][0] <= until_ms
