"""What backup and restore ask of the broker and tell it: ends, topics, settings, committed offsets."""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from infra.topics import TOPICS, BrokerAwayError, admin_client, answer_of, existing_topics, topic_ids
from truyvet.backup_files import BackupError, PartitionCopy, TopicCopy
from truyvet.config import Settings

Place = tuple[str, int]
"""Topic (without prefix) and partition."""
Ends = dict[Place, int]
Groups = dict[str, dict[str, dict[int, int]]]

NAMES: Final = tuple(spec.name for spec in TOPICS)
INPUTS: Final = tuple(spec.name for spec in TOPICS if spec.direction == "in")
OWN: Final = tuple(spec.name for spec in TOPICS if spec.direction != "in")
"""Topics that the pipeline alone writes."""
_ASK_SECONDS: Final = 15.0
_PASSING_SECONDS_MAX: Final = 30.0
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Look:
    """Where the topics ended while nothing was asked of them but that.

    ``read`` is what readers of committed records see, ``written`` what there is; the latter was asked for first, so
    where ``read`` has reached it no transaction of before then is open.
    """

    read: Ends
    written: Ends

    def open_places(self) -> list[Place]:
        """Where a transaction is under way."""
        return sorted(place for place, end in self.written.items() if self.read[place] < end)


class Broker:
    """One broker, asked about the topics of one prefix."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = admin_client(settings)

    def describe(self) -> dict[str, TopicCopy]:
        """Every topic with its id and the settings it was given, nothing copied yet.

        Raises:
            BackupError: a topic is missing, or has another number of partitions.
            BrokerAwayError: the broker does not answer.
        """
        counts = existing_topics(self._settings)
        for name in NAMES:
            if counts.get(self._settings.topic(name)) != self._settings.partitions:
                raise BackupError(
                    f"topic {self._settings.topic(name)}: not there with {self._settings.partitions} partitions"
                )
        ids = topic_ids(self._settings, NAMES)
        resources = [ConfigResource(ResourceType.TOPIC, self._settings.topic(name)) for name in NAMES]
        given = {
            resource.name: {
                entry.name: entry.value
                for entry in answer_of(future).values()
                if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
            }
            for resource, future in self._admin.describe_configs(resources, request_timeout=_ASK_SECONDS).items()
        }
        return {
            name: TopicCopy(
                ids[name],
                given[self._settings.topic(name)],
                [PartitionCopy() for _ in range(self._settings.partitions)],
            )
            for name in NAMES
        }

    def look(self) -> Look:
        """Ends now: the pipeline's own topics first, so that the inputs reach at least as far as they tell of."""
        read: Ends = {}
        written: Ends = {}
        for names in (OWN, INPUTS):
            written |= self.ends(names, committed=False)
            read |= self.ends(names)
        return Look(read, written)

    def ends(self, names: Collection[str], *, committed: bool = True) -> Ends:
        """Where these topics end: for readers of committed records, or for all."""
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return self._offsets(names, OffsetSpec.latest(), level)  # type: ignore[no-untyped-call]

    def starts(self, names: Collection[str]) -> Ends:
        """Where these topics begin."""
        return self._offsets(names, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED)  # type: ignore[no-untyped-call]

    def _offsets(self, names: Collection[str], spec: OffsetSpec, level: IsolationLevel) -> Ends:
        deadline = time.monotonic() + _PASSING_SECONDS_MAX
        asked = {
            (name, p): TopicPartition(self._settings.topic(name), p)
            for name in names
            for p in range(self._settings.partitions)
        }
        while True:
            futures = self._admin.list_offsets(
                dict.fromkeys(asked.values(), spec), isolation_level=level, request_timeout=_ASK_SECONDS
            )
            found = {(tp.topic, tp.partition): future for tp, future in futures.items()}
            try:
                return {place: answer_of(found[tp.topic, tp.partition]).offset for place, tp in asked.items()}
            except BrokerAwayError:
                # A new topic has no leader for a moment, and a changed one another.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    def groups(self, ends: Ends) -> Groups:
        """Committed offsets of every consumer group on these topics, none beyond ``ends``."""
        known = {self._settings.topic(name): name for name in NAMES}
        groups: Groups = {}
        for listing in answer_of(self._admin.list_consumer_groups(request_timeout=_ASK_SECONDS)).valid:
            request = [ConsumerGroupTopicPartitions(listing.group_id)]
            [future] = self._admin.list_consumer_group_offsets(request, request_timeout=_ASK_SECONDS).values()
            for one in answer_of(future).topic_partitions:
                if one.topic in known and one.offset >= 0:
                    name = known[one.topic]
                    topics = groups.setdefault(listing.group_id, {})
                    topics.setdefault(name, {})[one.partition] = min(one.offset, ends[name, one.partition])
        return groups

    def set_groups(self, groups: Groups) -> None:
        """Sets committed offsets of groups that have no members."""
        for group, topics in groups.items():
            offsets = [
                TopicPartition(self._settings.topic(name), partition, offset)
                for name, partitions in topics.items()
                for partition, offset in partitions.items()
            ]
            request = [ConsumerGroupTopicPartitions(group, offsets)]
            [future] = self._admin.alter_consumer_group_offsets(request, request_timeout=_ASK_SECONDS).values()
            for one in answer_of(future).topic_partitions:
                if one.error is not None:
                    raise BackupError(f"group {group}: its offsets cannot be set: {one.error.str()}")

    def members(self, groups: Iterable[str]) -> list[str]:
        """Those of the groups that somebody is a member of."""
        wanted = set(groups)
        listed = answer_of(self._admin.list_consumer_groups(request_timeout=_ASK_SECONDS)).valid
        there = [listing.group_id for listing in listed if listing.group_id in wanted]
        if not there:
            return []
        described = self._admin.describe_consumer_groups(there, request_timeout=_ASK_SECONDS)
        return sorted(group for group, future in described.items() if answer_of(future).members)

    def create(self, topics: Mapping[str, tuple[int, dict[str, str]]]) -> None:
        """Creates topics (full name to partitions and settings)."""
        new = [
            NewTopic(name, count, replication_factor=self._settings.replication_factor, config=config)
            for name, (count, config) in topics.items()
        ]
        for future in self._admin.create_topics(new, operation_timeout=_ASK_SECONDS).values():
            answer_of(future)

    def configure(self, topics: Mapping[str, Mapping[str, str | None]]) -> None:
        """Gives topics (without prefix) settings; None takes one back."""
        resources = []
        for name, options in topics.items():
            entries = [
                ConfigEntry(
                    option,
                    value if value is not None else "",
                    incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
                )
                for option, value in options.items()
            ]
            full = self._settings.topic(name)
            resources.append(ConfigResource(ResourceType.TOPIC, full, incremental_configs=entries))
        for future in self._admin.incremental_alter_configs(resources, request_timeout=_ASK_SECONDS).values():
            answer_of(future)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Makes a partition (full name) begin at ``before``."""
        [future] = self._admin.delete_records(
            [TopicPartition(topic, partition, before)], request_timeout=_ASK_SECONDS
        ).values()
        answer_of(future)
