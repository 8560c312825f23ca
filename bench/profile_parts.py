"""Clocks inside ``take_scans``: what its parts cost, of which most are compiled and cannot be looked into."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar
from unittest import mock

from bench.stages import Ledger, Spent
from streams.core import cells, person
from streams.core.decode import decode_scans
from streams.core.directory import Directory
from streams.core.in_order import InOrder
from streams.core.records import Records
from streams.core.room import RoomPartition
from streams.core.step import StateReader, Step
from streams.core.tally import Tally
from streams.shell.store import Store

DECODE: Final = "person: decode"
COUNTS: Final = "person: counts"
_WITHOUT_VISITS: Final = "trial: without visits"
_WITH_VISITS: Final = "trial: with visits"
P = ParamSpec("P")
R = TypeVar("R")


def _timed_in_order(ledger: Ledger) -> type[InOrder]:
    """Takes each batch twice, with visits and without, whichever first."""
    numbers = itertools.count()

    class TimedInOrder(InOrder):
        def __init__(self, records: Records, room: RoomPartition, expired_ms: int) -> None:
            self._without = InOrder(records, dataclasses.replace(room, counts_only=True), expired_ms)
            with ledger.stage(DECODE, len(records)):
                super().__init__(records, room, expired_ms)

        def leave(self, persons: Iterable[bytes]) -> None:
            left = list(persons)
            self._without.leave(left)
            super().leave(left)

        def take(self, step: Step, state: StateReader, venues: Directory, tally: Tally) -> tuple[int, int, list[int]]:
            def without() -> None:
                with ledger.stage(_WITHOUT_VISITS):
                    self._without.take(Step(step.number, step.timestamp_ms), state, venues, Tally(tally.places))

            first = next(numbers) % 2
            if first:
                without()
            with ledger.stage(_WITH_VISITS):
                outcome = super().take(step, state, venues, tally)
            if not first:
                without()
            return outcome

    return TimedInOrder


def timed_store(ledger: Ledger) -> type[Store]:
    """A store whose reads are a stage of their own."""

    class TimedStore(Store):
        def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
            with ledger.stage("person: store, reads", len(keys)):
                return super().get_many(keys)

    return TimedStore


def _timed(ledger: Ledger, stage: str, function: Callable[P, R]) -> Callable[P, R]:
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        with ledger.stage(stage):
            return function(*args, **kwargs)

    return timed


@contextmanager
def timed_parts(ledger: Ledger) -> Iterator[None]:
    """Charges the parts of ``take_scans`` to stages of their own while it is open.

    What visits cost is the difference between a batch taken with them and without.
    """
    with (
        mock.patch.object(person, "InOrder", _timed_in_order(ledger)),
        mock.patch.object(person, "decode_scans", _timed(ledger, DECODE, decode_scans)),
        mock.patch.object(cells, "store", _timed(ledger, COUNTS, cells.store)),
    ):
        yield
    without, whole = (ledger.spent.pop(name) for name in (_WITHOUT_VISITS, _WITH_VISITS))
    ledger.add("person: dedupe, enrich, encode", without)
    ledger.add("person: visits", Spent(whole.cpu - without.cpu, whole.wall - without.wall, whole.records))
