"""The register's topic as the sink reads it: which one it is, and from where; through the gate, as others write it.

A member of the sink's group is given partitions of it like those of other topics, and commits what is stored of them;
but the client library reads none of them. Everything runs in the sink's one thread: while it is elsewhere, what is
under way from the broker waits.

A topic that is deleted and made again begins at offset 0, while the group's committed offsets, or some that a sink
commits too late, are those of the one before. So they bear the topic's id; any others are not gone on from.
"""

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.topics import BrokerAwayError, topic_ids
from sinks.venue_rows import VENUES
from streams.shell.raw_log import Fetched, OffsetGoneError, Place, RawLog, RawLogError
from truyvet import logs
from truyvet.config import Settings

_ASK_SECONDS_MAX: Final = 10.0
_LOOK_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05
"""How often a register that is read to its end is looked at."""
_FETCH_WAIT_MS: Final = 250

_log = logs.get("sink")


class RegisterLostError(Exception):
    """The register cannot be read on; one sentence."""


class RegisterTopic:
    """The topic that is there now.

    Raises:
        BrokerAwayError: the broker cannot be reached, or does not know the topic.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = settings.topic(VENUES)
        self.id = topic_ids(settings, [VENUES])[VENUES]
        self._looked = self._polled = time.monotonic()
        self._positions: dict[Place, int] = {}
        self._reader = RawLog(settings, wait_ms=_FETCH_WAIT_MS)

    def take_over(self, consumer: Consumer, places: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Reads the register's among these partitions; the others are left to the client.

        It goes on from the offsets that are given, or else where this very topic was read to, or from its beginning.
        """
        mine = [one for one in places if one.topic == self.name]
        asked = [one for one in mine if one.offset < 0]
        try:
            committed = consumer.committed(asked, timeout=_ASK_SECONDS_MAX) if asked else []
        except KafkaException:
            committed = []  # read again, it gives the same rows
        known = {one.partition: one.offset for one in committed if one.metadata == self.id}
        self._positions = {
            (self.name, one.partition): one.offset if one.offset >= 0 else max(known.get(one.partition, 0), 0)
            for one in mine
        }
        self._reader.assign(self._positions)
        return [one for one in places if one.topic != self.name]

    def let_go(self) -> None:
        """Reads nothing more until partitions are taken over again."""
        self._positions = {}
        self._reader.assign({})

    def close(self) -> None:
        """Gives the connections back."""
        self._reader.close()

    @property
    def places(self) -> list[Place]:
        """The partitions that are read."""
        return list(self._positions)

    @property
    def ends(self) -> dict[Place, int]:
        """Where they ended when they were fetched last."""
        return self._reader.ends

    @property
    def is_behind(self) -> bool:
        """Whether there is more to be read, as far as is known."""
        ends = self._reader.ends
        return any(ends.get(place, position + 1) > position for place, position in self._positions.items())

    def take(self, consumer: Consumer, seconds: float) -> list[Fetched]:
        """What there is to be read of it; waits up to ``seconds`` for some, if it is not read to its end.

        Raises:
            RegisterLostError: it cannot be read on.
        """
        if not self.is_behind:
            if time.monotonic() - self._polled < _POLL_SECONDS:
                return []
            seconds = 0.0
        self._polled = time.monotonic()
        try:
            fetched = self._reader.poll(seconds)
        except OffsetGoneError as gone:
            self._go_on_behind(consumer, gone)
            return []
        except RawLogError as error:
            raise RegisterLostError(str(error)) from error
        self._positions |= {(one.topic, one.partition): one.next for one in fetched}
        return fetched

    def _go_on_behind(self, consumer: Consumer, gone: OffsetGoneError) -> None:
        """Goes on behind what was deleted unread; where the broker is away it is asked again."""
        try:
            low, _ = consumer.get_watermark_offsets(TopicPartition(*gone.place), timeout=_ASK_SECONDS_MAX)
        except KafkaException:
            low = gone.offset
        else:
            _log.warning("the broker does not have what is next", topic=self.name, offset=gone.offset, first=low)
            if gone.offset >= low:
                raise RegisterLostError("the register's topic was made anew: started again, the sink reads all of it")
        self._positions[gone.place] = low
        self._reader.assign(self._positions)

    def offset(self, topic: str, partition: int, offset: int) -> TopicPartition:
        """An offset to be committed."""
        if topic == self.name:
            return TopicPartition(topic, partition, offset, metadata=self.id)
        return TopicPartition(topic, partition, offset)

    def was_made_anew(self) -> bool:
        """Whether another topic has come in its place; asks the broker twice a minute."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        try:
            return topic_ids(self._settings, [VENUES])[VENUES] != self.id
        except BrokerAwayError:
            return False
