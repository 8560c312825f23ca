"""The fake of ``streams.shell.raw_log.RawLog``: what is committed, any part of it, from offsets that it is given."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from streams.core import step
from streams.core.records import Records
from streams.shell.raw_log import Fetched, OffsetGoneError, Place
from tests.sim.outside import World

if TYPE_CHECKING:
    from tests.sim.kafka import Broker

_RECORDS_MAX = 500


class RawLog:
    """A reader; made by ``Broker.raw_log``."""

    def __init__(self, broker: "Broker", world: World) -> None:
        self._broker = broker
        self._world = world
        self._positions: dict[Place, int] = {}
        self._told_ends: dict[Place, int] = {}
        self._seen = -1
        self.ends: dict[Place, int] = {}

    def assign(self, positions: Mapping[Place, int]) -> None:
        """Reads these partitions from these offsets on, and no others."""
        self._world.step("partitions assigned")
        self._positions = dict(positions)
        self._told_ends.clear()
        self._seen = -1

    def poll(self, seconds: float) -> list[Fetched]:
        """What there is of some partitions; an empty list if the time passes first."""
        self._world.step("records asked")
        fetched = self._take()
        if not fetched:
            seen = self._broker.changes
            self._world.wait(lambda: self._broker.changes != seen, seconds)
            fetched = self._take()
        return fetched

    def _take(self) -> list[Fetched]:
        if not self._broker.available or self._seen == self._broker.changes:
            return []
        seen = self._broker.changes
        rng = self._world.rng
        places = list(self._positions)
        rng.shuffle(places)
        fetched: list[Fetched] = []
        for place in places:
            if fetched and rng.random() < 0.1:
                break
            fetched += self._take_from(place)
        if not fetched:
            self._seen = seen  # and nothing has come since
        return fetched

    def _take_from(self, place: Place) -> list[Fetched]:
        log, position = self._broker.topics[place[0]][place[1]], self._positions[place]
        if not log.first <= position <= log.end:
            del self._positions[place]
            raise OffsetGoneError(place, position)
        self.ends[place] = log.limit(committed=True)
        records, following = self._broker.fetch(*place, position, _RECORDS_MAX)
        self._positions[place] = following
        found = [step.Record(one.offset, one.timestamp, one.key, one.value, one.headers) for one in records]
        at_end = following >= log.limit(committed=True) and self._told_ends.get(place) != following
        if at_end:
            self._told_ends[place] = following
        return [Fetched(*place, Records.of(found), following, at_end)] if found or at_end else []

    def close(self) -> None:
        """Reads nothing more."""
        self._world.step("reader closed")
        self._positions = {}
