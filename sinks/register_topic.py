"""The register's topic as the sink reads it: which one it is, and from where.

A topic that is deleted and made again begins at offset 0, while the group's committed offsets, or some that a sink
commits too late, are those of the one before. So they bear the topic's id; any others are not gone on from.
"""

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from infra.topics import BrokerAwayError, topic_ids
from sinks.venue_rows import VENUES
from truyvet.config import Settings

_ASK_SECONDS_MAX: Final = 10.0
_LOOK_SECONDS: Final = 30.0


class RegisterTopic:
    """The topic that is there now.

    Raises:
        BrokerAwayError: the broker cannot be reached, or does not know the topic.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = settings.topic(VENUES)
        self.id = topic_ids(settings, [VENUES])[VENUES]
        self._looked = time.monotonic()

    def placed(self, consumer: Consumer, places: Sequence[TopicPartition]) -> list[TopicPartition]:
        """The partitions to be assigned, those of the register where this very topic was read to, or its beginning."""
        asked = [one for one in places if one.topic == self.name]
        try:
            committed = consumer.committed(asked, timeout=_ASK_SECONDS_MAX) if asked else []
        except KafkaException:
            committed = asked  # read again, it gives the same rows
        for one in committed:
            if one.metadata != self.id or one.offset < 0:
                one.offset = OFFSET_BEGINNING
        return [one for one in places if one.topic != self.name] + committed

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
