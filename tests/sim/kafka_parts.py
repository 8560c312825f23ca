"""What a fake consumer holds: partitions that it reads, and offsets on their way to the coordinator."""

from typing import Final, NamedTuple

from confluent_kafka import KafkaError

from tests.sim.groups import Place
from tests.sim.kafka_log import Log

INVALID: Final = -1001
"""What librdkafka has for no offset."""


class Part:
    """One assigned partition: where it is read, which end was told of last, what was last seen of its bounds."""

    __slots__ = ("bounds", "failed", "log", "paused", "position", "told_end")

    def __init__(self, log: Log, position: int) -> None:
        self.log = log
        self.position = position
        self.told_end = INVALID
        self.bounds = (INVALID, INVALID)
        self.paused = False
        self.failed = False


class Commit(NamedTuple):
    """Offsets on their way to the coordinator; once ``answered``, an ``error`` of None is a good answer.

    Without ``sender``, (member, generation), they wait for the broker, and go out as whoever the consumer is by then.
    """

    sender: tuple[str, int] | None
    offsets: dict[Place, int]
    metadata: dict[Place, str]
    answered: bool
    error: KafkaError | None
