"""A person's timeline: the scans held (``held_scans.py``) and the visits that follow from them (``visits.py``).

The pass over the visits is kept up to date: a scan that comes last costs a step of it, one that comes late the
pass from its place on, over the old scans and over the new. Forgetting is done here, too: what a person asked
for, and what is older than it may be.
"""

from bisect import bisect_left, bisect_right

from streams.core import packed
from streams.core.held_scans import FIRST, LAST, HeldScans, Place, accepted_in
from streams.core.packed import StoredScan, scans_of
from streams.core.times import LocalClock
from streams.core.visits import NEVER_MS, VISIT_MS_MAX, Visit, all_of, longest_ms, run, unpack_carry


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

    def visits_between(self, from_ms: int, to_ms: int) -> list[Visit]:
        """At least the visits that intersect [from_ms, to_ms), in order."""
        if to_ms <= from_ms:
            return []
        if self._starts is None:
            return all_of(self._floor, accepted_in(self._blob))
        # A visit closed before the chunk of from_ms had ended by then; one that begins later than to_ms may
        # have its opening scan, a check-out, up to a longest stay after that.
        first = self._start_of((from_ms, b""))
        blobs = [self._chunk(start) for start in self._starts if first <= start and start[0] <= to_ms + VISIT_MS_MAX]
        return all_of(unpack_carry(self._carries[first]), (scan for blob in blobs for scan in accepted_in(blob)))

    # Forgetting.

    def erase(self, until_ms: int, clock: LocalClock) -> tuple[list[StoredScan], list[Visit], list[Visit]]:
        """Removes the scans up to and including ``until_ms``; (those, visits that were, visits that are).

        To be called on a timeline that nothing was added to, instead of ``settle``.
        """
        self._dirty = True
        self.erased_ms = until_ms
        starts = self._starts or [FIRST]
        blobs = [self._blob] if self._starts is None else [self._chunk(start) for start in starts]
        floor = self._floor if self._starts is None else unpack_carry(self._carries[FIRST])
        scans = [scan for blob in blobs for scan in scans_of(blob)]
        gone = [scan for scan in scans if scan.occurred_ms <= until_ms]
        were = all_of(floor, (scan for scan in scans if not scan.waiting))
        if self._starts is not None:
            self._drop_keys(scans, starts, clock)
        self._blob = self._old = b""
        self._starts = self._old_starts = None
        # What expired was not asked for where it is later: visits that stay must not move into its time.
        self.floor_ms = floor.closed_ms if floor.closed_ms > until_ms else NEVER_MS
        self._carry, self._in_order = self._floor, True
        for scan in scans[len(gone) :]:
            self.add(scan, clock)
        return gone, were, self.settle()[1]

    def expire(self, cutoff_ms: int, clock: LocalClock) -> list[StoredScan]:
        """Drops the visits that could not have lasted until ``cutoff_ms``, and their scans, without a word (SPEC §3).

        Only from the beginning, and only between visits; waiting scans of before the cutoff go, too. Returns what
        went. To be called on a timeline that nothing was added to.
        """
        if self._starts is not None:
            self._chunk(FIRST)
            self.floor_ms = unpack_carry(self._carries[FIRST]).closed_ms
        # A visit that goes was opened before the cutoff, and what came after it changes nothing about its end.
        starts = [FIRST] if self._starts is None else [start for start in self._starts if start[0] < cutoff_ms]
        blobs = [self._blob if self._starts is None else self._chunk(start) for start in starts]
        parts = [packed.older_than(blob, cutoff_ms) for blob in blobs]
        older = [scan for scans, _ in parts for scan in scans]
        boundary, floor_ms = self._expired_up_to(cutoff_ms, older)
        gone = [scan for scan in older if scan.waiting or scan.place < boundary]
        # No scan that may still come is a check-out that reaches back to a floor so old.
        if floor_ms + VISIT_MS_MAX < cutoff_ms:
            floor_ms = NEVER_MS
        if not gone and floor_ms == self.floor_ms:
            return gone
        self._dirty = True
        self.floor_ms = floor_ms
        kept = b"".join([scan.pack() for scan in older if not scan.waiting and scan.place >= boundary])
        blob = kept + b"".join([blob[end:] for blob, (_, end) in zip(blobs, parts, strict=True)])
        if self._starts is None:
            self._blob = blob
            if next(accepted_in(blob), None) is None:
                self._carry = self._floor
        else:
            self._drop_keys(gone, starts, clock)
            self._replace_first(len(starts), blob)
        return gone

    def _expired_up_to(self, cutoff_ms: int, older: list[StoredScan]) -> tuple[Place, int]:
        """(the place where the first visit that stays was opened, when the last one before it had ended)."""
        floor_ms = self.floor_ms
        for visit in all_of(self._floor, (scan for scan in older if not scan.waiting)):
            if visit.start_ms + longest_ms(visit.attributes) >= cutoff_ms:
                return (visit.scan_ms, visit.scan_id), floor_ms
            floor_ms = visit.end_ms
        return LAST, floor_ms

    def _replace_first(self, count: int, blob: bytes) -> None:
        """Makes one first chunk of what is left of the first ``count``; of nothing at all, a short timeline."""
        assert self._starts is not None, "of a long timeline"
        self._starts = [FIRST, *self._starts[count:]]
        if not blob and len(self._starts) == 1:
            self._starts, self._blob, self._carry = None, b"", self._floor
            return
        self._put_chunk(FIRST, blob)
        carry = self._floor
        for start in sorted(self._touched):
            self._carries[start] = carry.pack()
            _, carry = run(carry, accepted_in(self._chunks[start]))
