"""Which records of the pipeline's own an operator passes over: offsets committed for a group that nobody is in.

``truyvet rejects --pass`` commits the offset behind the record; the partition that stands still there looks for it.
"""

from typing import Final

from confluent_kafka import KafkaException, TopicPartition

from streams.shell.restore import log_consumer
from truyvet.config import Settings
from truyvet.metrics import BROKER_ERRORS

_GROUP: Final = "passed-over"
_BROKER_SECONDS: Final = 10.0


def passed_over(settings: Settings, topic: str, partition: int) -> int | None:
    """The offset behind the record of ``topic`` (without prefix) named last; None if none was, or nobody answers."""
    consumer = log_consumer(settings, **{"group.id": f"{settings.topic_prefix}{_GROUP}"})
    try:
        [found] = consumer.committed([TopicPartition(settings.topic(topic), partition)], timeout=_BROKER_SECONDS)
    except KafkaException:
        BROKER_ERRORS.inc()
        return None
    finally:
        consumer.close()
    return found.offset if found.error is None and found.offset >= 0 else None


def pass_over(settings: Settings, topic: str, partition: int, offset: int) -> None:
    """Has the partition pass over the record at ``offset``, if it stands still there.

    Raises:
        KafkaException: the broker does not take it.
    """
    consumer = log_consumer(settings, **{"group.id": f"{settings.topic_prefix}{_GROUP}"})
    try:
        place = TopicPartition(settings.topic(topic), partition, offset + 1)
        consumer.commit(offsets=[place], asynchronous=False)
    finally:
        consumer.close()
