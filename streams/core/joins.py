"""The join of visits with case visits, as work that may take several portions (``pending.py``).

What changed of one side is held against the other side, which does not change until all is done. What overlaps in time
is joined together, so that a crowd is one look-up; but of many, each some, since both a crowd and those whom it meets
may be as large as they like. A pair of visits is looked at once; so a step emits an exposure at most once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Self, TypeVar

import msgspec

from streams.core import keys
from streams.core.crossing import Cause, Interval
from streams.core.exposures import CaseStay, Contact, Exposure, contact_of, emit_change, exposure_of
from streams.core.intervals import length_class, overlapping
from streams.core.keys import TIME_KEY_BYTES
from streams.core.pending import Turn
from streams.core.visits import VISIT_MS_MAX

VISIT_CLASSES: Final = range(length_class(VISIT_MS_MAX) + 1)
_TOGETHER_MAX = 64
"""Changes that are joined together; each may carry two rulesets, and all of them must fit into one value of state."""
_decode_stay = msgspec.msgpack.Decoder(CaseStay).decode


class VisitNet(msgspec.Struct, frozen=True, array_like=True):
    """What a batch makes of one visit: from the version before it to the last one in it."""

    old: Contact | None
    new: Contact | None
    cause: Cause
    timestamp_ms: int


class CaseNet(msgspec.Struct, frozen=True, array_like=True):
    """The same of one case visit."""

    old: CaseStay | None
    new: CaseStay | None
    cause: Cause
    timestamp_ms: int


Net = TypeVar("Net", VisitNet, CaseNet)
Other = TypeVar("Other", Contact, CaseStay)


class VisitJoin(msgspec.Struct, frozen=True, array_like=True, tag="visits"):
    """Visits of one venue that changed, to be held against its case visits of these length classes."""

    venue: bytes
    classes: list[int]
    nets: list[VisitNet]
    after: bytes = b""
    """The key of the case visit that was looked at last."""

    def advance(self, turn: Turn) -> Self | None:
        """See ``pending.Work``."""
        venue, clock = self.venue, turn.room.clock
        prefix = keys.venue_case_visits(venue)
        pages = overlapping(turn.state, prefix, self.classes, _span(self.nets), self.after, _limit(turn, self.nets))
        stays = (
            ([_decode_stay(value[TIME_KEY_BYTES:]) for _, value in pairs], after, read) for pairs, after, read in pages
        )

        def exposure(net: Contact, other: CaseStay) -> Exposure | None:
            return exposure_of(venue, other, net, clock)

        after = _meet(turn, self.nets, stays, exposure)
        return None if after is None else msgspec.structs.replace(self, after=after)


class CaseJoin(msgspec.Struct, frozen=True, array_like=True, tag="case visits"):
    """Case visits at one venue that changed, to be held against its visits."""

    venue: bytes
    nets: list[CaseNet]
    after: bytes = b""
    """The key of the visit that was looked at last."""

    def advance(self, turn: Turn) -> Self | None:
        """See ``pending.Work``."""
        venue, clock = self.venue, turn.room.clock
        prefix = keys.venue_visits(venue)
        pages = overlapping(turn.state, prefix, VISIT_CLASSES, _span(self.nets), self.after, _limit(turn, self.nets))
        contacts = (([contact_of(key, value) for key, value in pairs], after, read) for pairs, after, read in pages)

        def exposure(net: CaseStay, other: Contact) -> Exposure | None:
            return exposure_of(venue, net, other, clock)

        after = _meet(turn, self.nets, contacts, exposure)
        return None if after is None else msgspec.structs.replace(self, after=after)


def of_visits(venue: bytes, counts: Sequence[int], nets: Iterable[VisitNet]) -> Iterator[VisitJoin]:
    """The joins of visits that changed; ``counts`` are the venue's case visits of each class."""
    classes = [length for length, count in enumerate(counts) if count]
    return (VisitJoin(venue, classes, together) for together in _together(nets))


def of_case_visits(venue: bytes, nets: Iterable[CaseNet]) -> Iterator[CaseJoin]:
    """The joins of case visits that changed."""
    return (CaseJoin(venue, together) for together in _together(nets))


def _limit(turn: Turn, nets: Sequence[object]) -> Callable[[], int]:
    """How many may be read at a time, so that the portion is not much more than full if each meets all of ``nets``."""
    return lambda: max(1, turn.records_left // len(nets))


def _meet(
    turn: Turn,
    nets: Sequence[VisitNet] | Sequence[CaseNet],
    pages: Iterable[tuple[list[Other], bytes, int]],
    exposure: Callable[..., Exposure | None],
) -> bytes | None:
    """Emits the difference of the joins of the old versions and of the new; after which key to go on, if any."""
    spans = [(_hull(net), net) for net in nets]
    for others, after, read in pages:
        for (first_ms, stop_ms), net in spans:
            for other in others:
                if other.start_ms < stop_ms and other.end_ms > first_ms:
                    before = None if net.old is None else exposure(net.old, other)
                    now = None if net.new is None else exposure(net.new, other)
                    emit_change(turn.step, before, now, net.cause, net.timestamp_ms)
        turn.look_at(read + len(nets) * len(others))
        if turn.is_full:
            return after
    return None


def _hull(net: VisitNet | CaseNet) -> Interval:
    """The time of all whom it may meet or have met."""
    first, last = net.old or net.new, net.new or net.old
    assert first is not None, "of what is or was there"
    assert last is not None, "of what is or was there"
    return Interval(min(first.start_ms, last.start_ms), max(first.end_ms, last.end_ms))


def _span(nets: Sequence[VisitNet] | Sequence[CaseNet]) -> Interval:
    hulls = [_hull(net) for net in nets]
    return Interval(min(hull.start_ms for hull in hulls), max(hull.end_ms for hull in hulls))


def _together(nets: Iterable[Net]) -> Iterator[list[Net]]:
    """Groups what overlaps, and leaves out what came and went within the batch."""
    hulls = [(_hull(net), net) for net in nets if net.old is not None or net.new is not None]
    hulls.sort(key=lambda pair: pair[0])
    members: list[Net] = []
    end_ms = 0
    for hull, net in hulls:
        if members and (hull.start_ms >= end_ms or len(members) == _TOGETHER_MAX):
            yield members
            members, end_ms = [], hull.end_ms
        members.append(net)
        end_ms = max(end_ms, hull.end_ms)
    if members:
        yield members
