"""Knows how far an erasure is on its way: through both rooms, and into ClickHouse.

Asked is the broker alone, so it does not matter where workers and sinks run. A room partition's position is what it
wrote to its changelog with its newest step; a sink's are the offsets of its group, which follow its inserts. Each stage
waits for the ends that its inputs had when the stage before was through.
"""

import contextlib
import json
from collections.abc import Collection, Iterator
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from sinks.held import TIME_OF
from sinks.tables import TABLES
from streams.core.crossing import CASE_VISITS, VISITS
from streams.core.erasure import ERASURES
from streams.core.keys import META
from streams.core.partition import partition_of
from streams.core.returned import RETURNS
from streams.core.room import PERSON_ROOM, VENUE_ROOM
from streams.shell.raw_log import read_through
from streams.shell.restore import log_consumer, watermarks
from truyvet.config import Settings

SINK_TOPICS: Final = tuple(TABLES[table].topic for table in (*TIME_OF, "rejects"))
"""The topics that name persons and are stored."""
_LOOK_BACK_RECORDS: Final = (16, 1_024, 65_536)
"""How far back a changelog is read for the newest position: at first a little, for a step writes it last."""
_CONSUME_SECONDS: Final = 0.05
_CONSUME_RECORDS: Final = 5_000
_BROKER_SECONDS: Final = 15.0

_Place = tuple[str, int]
"""Topic without prefix, and partition."""


class Passage:
    """Follows one erasure.

    Args:
        settings: Broker, prefix, partitions.
        identity: What names the database (``Backend.identity``).
    """

    def __init__(self, settings: Settings, identity: str) -> None:
        self._settings = settings
        self._log = log_consumer(settings)
        self._raw = log_consumer(settings, **{"isolation.level": "read_uncommitted"})
        group = {"group.id": f"{settings.topic_prefix}sink-{identity}", "enable.auto.commit": False}
        self._sink = Consumer(settings.librdkafka() | group)
        self._all = range(settings.partitions)
        self._metas: dict[_Place, tuple[int, dict[str, Any] | None]] = {}

    def close(self) -> None:
        """Ends its connections."""
        self._log.close()
        self._raw.close()
        self._sink.close()

    def pending(self, person_id: str) -> Iterator[str]:
        """What the erasure sent last still waits for, a sentence at each look; ends when it is through."""
        own = [partition_of(person_id.encode(), self._settings.partitions)]
        yield from self._until_read(PERSON_ROOM, [ERASURES], own, "the person room has not taken the erasure")
        # The person's partition tells the others, which may hold dead letters.
        yield from self._until_read(PERSON_ROOM, [RETURNS], self._all, "the person room has not told all partitions")
        yield from self._until_read(VENUE_ROOM, [VISITS, CASE_VISITS], self._all, "the venue room has not followed")
        yield from self._until_stored()

    def _until_read(self, room: str, topics: Collection[str], partitions: Collection[int], what: str) -> Iterator[str]:
        ends = {(topic, p): self._end(self._settings.topic(topic), p) for topic in topics for p in partitions}
        while True:
            ends = {place: end for place, end in ends.items() if not self._read_to(room, place, end)}
            if not ends:
                return
            yield f"{what}: {len(ends)} of its inputs' partitions are not read (is a worker running?)"

    def _until_stored(self) -> Iterator[str]:
        names = [self._settings.topic(topic) for topic in SINK_TOPICS]
        ends = {(name, p): self._end(name, p) for name in names for p in self._all}
        while True:
            asked = [TopicPartition(name, p) for name, p in ends]
            try:
                committed = self._sink.committed(asked, _BROKER_SECONDS)
            except KafkaException as exception:
                yield f"the broker does not say how far the sink is: {exception.args[0].str()}"
                continue
            stored = {(one.topic, one.partition): one.offset for one in committed}
            ends = {place: end for place, end in ends.items() if end > 0 and stored[place] < end}
            if not ends:
                return
            yield f"the sink has not stored everything: {len(ends)} partitions are behind (is it running?)"

    def _end(self, name: str, partition: int) -> int:
        """Where a partition ends, open transactions included: not every partition shows a commit at once."""
        return watermarks(self._raw, name, partition)[1]

    def _read_to(self, room: str, place: _Place, end: int) -> bool:
        """Whether a room has settled all records of an input before ``end``."""
        topic, partition = place
        meta = self._meta(room, partition)
        following = int(meta["next"].get(topic, 0)) if meta is not None else 0
        return following >= end or self._nothing_between(self._settings.topic(topic), partition, following, end)

    def _nothing_between(self, name: str, partition: int, start: int, end: int) -> bool:
        """Whether only the marks of transactions, which no reader sees, lie between two offsets."""
        decided = watermarks(self._log, name, partition)[1] >= end
        if not decided:
            return False
        start = max(start, watermarks(self._log, name, partition)[0])
        with contextlib.closing(read_through(self._settings, name, partition, start, end)) as between:
            return next(between, None) is None

    def _meta(self, room: str, partition: int) -> dict[str, Any] | None:
        """What a room partition's newest step says of itself; None before its first."""
        name = self._settings.topic(f"state-{room}")
        low, high = watermarks(self._log, name, partition)
        seen, known = self._metas.get((name, partition), (low, None))
        newest = known
        looks = [seen] if known is not None else [max(low, high - n) for n in _LOOK_BACK_RECORDS] + [low]
        for start in looks if high > seen else ():
            metas = [
                message.value() for message in self._records(name, partition, start, high) if message.key() == META
            ]
            if metas:
                newest = json.loads(metas[-1] or b"null")
                break
        self._metas[name, partition] = (high, newest)
        return newest

    def _records(self, name: str, partition: int, start: int, end: int) -> Iterator[Message]:
        """Committed records of a partition from one offset up to another."""
        self._log.assign([TopicPartition(name, partition, max(start, watermarks(self._log, name, partition)[0]))])
        try:
            while True:
                for message in self._log.consume(_CONSUME_RECORDS, _CONSUME_SECONDS):
                    error = message.error()
                    if error is None and (message.offset() or 0) < end:
                        yield message
                    elif error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                        return
                    elif not error.retriable():
                        raise KafkaException(error)
        finally:
            self._log.unassign()
