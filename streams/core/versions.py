"""Versions of venues: what the records of one partition of ``venues`` say, for everyone who reads that topic.

A version counts where it lies on its venue's own partition (SPEC §1, §4). The workers' directories, the person stage,
which writes the rejects, and the sink must agree on each record, so all of them ask here.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from streams.core import reasons
from streams.core.decode import decode_venues
from streams.core.hashing import partitions_of
from streams.core.inbound import AreaList, BadEvent, VenueIn
from streams.core.room import FUTURE_MS_MAX
from streams.core.step import InRecord

_VENUE_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,64}")


class Removal(NamedTuple):
    """A null record on its venue's own partition."""

    venue_id: bytes


class Elsewhere(NamedTuple):
    """A version, or a null record, that lies on another partition than its venue's own, which is ``home``."""

    home: int


class Nothing(NamedTuple):
    """A null record whose key is no venue_id: no venue is called so."""


Verdict = VenueIn | Removal | Elsewhere | BadEvent | Nothing


def judge_versions(records: Sequence[InRecord], partition: int, partitions: int, areas: AreaList) -> list[Verdict]:
    """One verdict per record of ``partition``, in their order.

    What a version says of its time is judged where it was written first: its row of ``rejects`` names that place.
    """
    verdicts: list[Verdict] = []
    # Null records would slow down what stands beside them.
    events = iter(decode_venues([record.value for record in records if record.value is not None], areas))
    homes = partitions_of([record.key for record in records], partitions)
    for record, home in zip(records, homes, strict=True):
        verdict = _verdict(record, None if record.value is None else next(events))
        misplaced = home != partition and isinstance(verdict, VenueIn | Removal)
        verdicts.append(Elsewhere(home) if misplaced else verdict)
    return verdicts


def _verdict(record: InRecord, event: VenueIn | BadEvent | None) -> VenueIn | Removal | BadEvent | Nothing:
    """What a record says, wherever it lies."""
    fault = getattr(record, "fault", None)  # only what a gate has passed on has one
    if fault is not None:
        return BadEvent(fault.reason, fault.detail)
    key = record.key
    if event is None:
        return Removal(key) if key is not None and _VENUE_ID.fullmatch(key) else Nothing()
    if isinstance(event, BadEvent):
        return event
    if key != event.venue_id.encode():
        return BadEvent(reasons.KEY_MISMATCH, "the record's key is not its venue_id")
    ahead_ms = event.registered_ms - max(record.timestamp, 0)
    if ahead_ms > FUTURE_MS_MAX:
        return BadEvent(reasons.IN_FUTURE, f"registered {ahead_ms // 1000} s ahead of its record")
    return event
