"""The registry of topics, and their creation and checking on a broker (SPEC, section 1)."""

import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType, TopicMetadata

from truyvet.config import ConfigError, Settings

Direction = Literal["in", "out", "internal"]
Cleanup = Literal["delete", "compact", "compact,delete"]
Result = TypeVar("Result")

_DAY_MS = 86_400_000
LONG_MAX = str(2**63 - 1)
"""What Kafka takes for no bound."""
_MIB = 1024 * 1024
_SEGMENT_BYTES_COMPACTED = 64 * _MIB
_SEGMENT_BYTES_CHANGELOG = 8 * _MIB
"""The segment being written is never compacted, and restoring from nothing reads all of it, in each partition."""
_TIMEOUT_SECONDS = 15.0
_LEADER_SECONDS_MAX = 30.0
_POLL_SECONDS = 0.1
_REPLICAS_DURABLE = 3


class BrokerAwayError(Exception):
    """The broker did not answer, or refused for a reason that passes; one sentence."""


class Described(NamedTuple):
    """What tells a topic from another of its name, and its number of partitions."""

    topic_id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic of the pipeline, without prefix; ``retention_days`` None keeps what is not compacted away."""

    name: str
    key: str
    direction: Direction
    public: bool
    cleanup: Cleanup
    retention_days: int | None
    max_message_bytes: int = _MIB
    segment_bytes: int = _SEGMENT_BYTES_COMPACTED

    def config(self, *, restating: bool) -> dict[str, str]:
        """The topic's settings as Kafka names them.

        Restating history, nothing may expire or roll by time: 2021 would be deleted at once.
        """
        options = {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "LogAppendTime" if self.direction == "in" and not restating else "CreateTime",
        }
        if "compact" in self.cleanup:
            options["segment.bytes"] = str(self.segment_bytes)
        if restating or self.direction != "in":
            # What follows from a record carries its timestamp. Were it refused because the clock of the broker that
            # stamped the record runs ahead (an hour is Kafka's default), the partition would stand still.
            options["message.timestamp.after.max.ms"] = LONG_MAX
        if restating:
            options |= {
                "retention.ms": "-1",
                "segment.ms": LONG_MAX,
                "message.timestamp.before.max.ms": LONG_MAX,
            }
        elif self.retention_days is not None:
            options["retention.ms"] = str(self.retention_days * _DAY_MS)
        return options


# What comes in may be far too large and still deserves its row in rejects; a dead letter holds another record
# whole, in base64; a state value holds all that is open for one key.
_LARGE_BYTES = 4 * _MIB


def _in(name: str, key: str, cleanup: Cleanup, retention_days: int | None) -> TopicSpec:
    return TopicSpec(name, key, "in", True, cleanup, retention_days, _LARGE_BYTES)  # noqa: FBT003 - every input is public


TOPICS: tuple[TopicSpec, ...] = (
    _in("scans", "person_id", "delete", 30),
    _in("venues", "venue_id", "compact", None),
    _in("cases", "person_id", "delete", 90),
    _in("erasures", "person_id", "delete", 90),
    TopicSpec(
        "returns",
        "the event's own key",
        "in",
        public=False,
        cleanup="delete",
        retention_days=30,
        max_message_bytes=_LARGE_BYTES,
    ),
    TopicSpec("enriched", "person_id", "out", public=True, cleanup="delete", retention_days=28),
    TopicSpec("visits", "venue_id", "out", public=True, cleanup="delete", retention_days=28),
    TopicSpec("case-visits", "venue_id", "internal", public=False, cleanup="delete", retention_days=28),
    TopicSpec("venue-marks", "venue_id", "internal", public=False, cleanup="delete", retention_days=28),
    TopicSpec(
        "aggregates", "cell and emitting partition", "out", public=True, cleanup="compact,delete", retention_days=400
    ),
    TopicSpec("case-states", "person_id", "out", public=False, cleanup="delete", retention_days=90),
    TopicSpec("exposures", "exposed person_id", "out", public=True, cleanup="delete", retention_days=90),
    TopicSpec(
        "rejects",
        "original key",
        "out",
        public=False,
        cleanup="delete",
        retention_days=28,
        max_message_bytes=_LARGE_BYTES,
    ),
    TopicSpec(
        "state-person",
        "state key",
        "internal",
        public=False,
        cleanup="compact",
        retention_days=None,
        max_message_bytes=_LARGE_BYTES,
        segment_bytes=_SEGMENT_BYTES_CHANGELOG,
    ),
    TopicSpec(
        "state-venue",
        "state key",
        "internal",
        public=False,
        cleanup="compact",
        retention_days=None,
        max_message_bytes=_LARGE_BYTES,
        segment_bytes=_SEGMENT_BYTES_CHANGELOG,
    ),
)

RESTORING = "restore-under-way"
"""A topic that is there as long as ``truyvet restore`` has not finished: nobody else may use the others yet."""

_CHECKED = ("cleanup.policy", "message.timestamp.type")


def admin_client(settings: Settings) -> AdminClient:
    """An admin client for the settings' broker; its own connection messages are not printed."""
    return AdminClient(settings.librdkafka() | {"log_level": 0, "socket.timeout.ms": int(_TIMEOUT_SECONDS * 1000)})


def ensure_topics(settings: Settings) -> None:
    """Creates the topics that are missing and checks those that exist.

    Raises:
        ConfigError: a topic exists with another partition count (an input: fewer), cleanup policy or timestamp type.
        BrokerAwayError: the broker cannot be reached, or refuses.
    """
    admin = admin_client(settings)
    specs = {settings.topic(spec.name): spec for spec in TOPICS}
    existing = _partition_counts(admin)
    _check(admin, settings, {name: spec for name, spec in specs.items() if name in existing}, existing)
    missing = [
        NewTopic(
            name,
            num_partitions=settings.partitions,
            replication_factor=settings.replication_factor,
            config=spec.config(restating=settings.restating) | durability(settings),
        )
        for name, spec in specs.items()
        if name not in existing
    ]
    if missing:
        _wait_all(admin.create_topics(missing, operation_timeout=_TIMEOUT_SECONDS), KafkaError.TOPIC_ALREADY_EXISTS)
    _wait_leaders(admin, settings, specs)


def durability(settings: Settings) -> dict[str, str]:
    """With three replicas, two must have what is acknowledged: one may die, and what the other has is not lost."""
    return {"min.insync.replicas": "2"} if settings.replication_factor >= _REPLICAS_DURABLE else {}


def check_topics(settings: Settings) -> list[str]:
    """Checks the topics that exist and returns the full names of those that are missing.

    Raises:
        ConfigError: a topic exists with another partition count (an input: fewer), cleanup policy or timestamp type.
        BrokerAwayError: the broker cannot be reached.
    """
    admin = admin_client(settings)
    specs = {settings.topic(spec.name): spec for spec in TOPICS}
    existing = _partition_counts(admin)
    _check(admin, settings, {name: spec for name, spec in specs.items() if name in existing}, existing)
    return [name for name in specs if name not in existing]


def existing_topics(settings: Settings) -> dict[str, int]:
    """The number of partitions of every topic of the broker, by full name.

    Raises:
        BrokerAwayError: the broker cannot be reached.
    """
    return _partition_counts(admin_client(settings))


def topic_ids(settings: Settings, names: Iterable[str]) -> dict[str, str]:
    """The broker's ids of topics (without prefix): one that was deleted and made again has another.

    Raises:
        BrokerAwayError: the broker cannot be reached, or does not know a topic.
    """
    full = {settings.topic(name): name for name in names}
    admin = admin_client(settings)  # held until it has answered
    described = admin.describe_topics(TopicCollection(list(full)), request_timeout=_TIMEOUT_SECONDS)
    return {full[topic]: str(answer_of(future).topic_id) for topic, future in described.items()}


def describe(settings: Settings, names: Iterable[str], admin: AdminClient | None = None) -> dict[str, Described]:
    """Ids and partition counts of topics (without prefix), without those that the broker does not know.

    Raises:
        BrokerAwayError: the broker cannot be reached.
    """
    full = {settings.topic(name): name for name in names}
    admin = admin or admin_client(settings)
    found = admin.describe_topics(TopicCollection(list(full)), request_timeout=_TIMEOUT_SECONDS)
    described = {}
    for topic, future in found.items():
        try:
            answer = future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise BrokerAwayError(f"the broker does not describe {topic}: {error.args[0].str()}") from error
        else:
            described[full[topic]] = Described(str(answer.topic_id), len(answer.partitions))
    return described


def delete_retention_ms(settings: Settings, name: str) -> int:
    """How long null records of a compacted topic (without prefix) can be read for certain, in milliseconds.

    Raises:
        BrokerAwayError: the broker cannot be reached, or does not know the topic.
    """
    admin = admin_client(settings)  # held until it has answered
    resource = ConfigResource(ResourceType.TOPIC, settings.topic(name))
    (future,) = admin.describe_configs([resource], request_timeout=_TIMEOUT_SECONDS).values()
    return int(answer_of(future)["delete.retention.ms"].value)


def delete_topics(settings: Settings) -> None:
    """Deletes every topic of this prefix that the registry knows, for tests and replays that clean up.

    Raises:
        BrokerAwayError: the broker cannot be reached, or refuses.
    """
    known = {settings.topic(name) for name in (*(spec.name for spec in TOPICS), RESTORING)}
    remove_topics(settings, known & existing_topics(settings).keys())


def remove_topics(settings: Settings, names: Collection[str]) -> None:
    """Deletes topics by their full names, and returns once they are gone.

    Raises:
        BrokerAwayError: the broker cannot be reached, or refuses.
    """
    if not names:
        return
    admin = admin_client(settings)
    _wait_all(admin.delete_topics(sorted(names)), KafkaError.UNKNOWN_TOPIC_OR_PART)
    # The broker's metadata show them a moment longer.
    deadline = time.monotonic() + _LEADER_SECONDS_MAX
    while set(names) & _partition_counts(admin).keys():
        if time.monotonic() > deadline:
            raise BrokerAwayError(f"topic {min(names)}: not gone after {_LEADER_SECONDS_MAX:.0f} s")
        time.sleep(_POLL_SECONDS)


def _partition_counts(admin: AdminClient) -> dict[str, int]:
    try:
        topics = admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
    except KafkaException as error:
        raise BrokerAwayError(f"the broker does not answer: {error.args[0].str()}") from error
    return {name: len(metadata.partitions) for name, metadata in topics.items()}


def _check(admin: AdminClient, settings: Settings, specs: dict[str, TopicSpec], counts: dict[str, int]) -> None:
    if settings.topic(RESTORING) in counts:
        raise BrokerAwayError(
            "a restore is under way; if it was interrupted, `truyvet restore DIR --again` starts over"
        )
    for name, spec in specs.items():
        # An input that somebody gave more partitions is still read as it was: the workers say so all the time.
        if counts[name] != settings.partitions and (spec.direction != "in" or counts[name] < settings.partitions):
            raise ConfigError(
                f"TRUYVET_PARTITIONS: topic {name} has {counts[name]} partitions, not {settings.partitions}; "
                "another count is a replay into a new prefix"
            )
    if not specs:
        return
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in specs]
    for resource, future in admin.describe_configs(resources, request_timeout=_TIMEOUT_SECONDS).items():
        found = {entry.name: entry.value for entry in answer_of(future).values()}
        wanted = specs[resource.name].config(restating=settings.restating)
        for option in _CHECKED:
            if _as_set(found[option]) != _as_set(wanted[option]):
                raise ConfigError(
                    f"topic {resource.name}: {option} is {found[option]}, must be {wanted[option]}"
                    f" (TRUYVET_RESTATING is {settings.restating})"
                )


def _as_set(value: str) -> set[str]:
    return set(value.split(","))


def answer_of(future: "Future[Result]") -> Result:
    """What the broker answers to an admin client.

    Raises:
        BrokerAwayError: it refuses, or does not answer.
    """
    try:
        return future.result()
    except KafkaException as error:
        raise BrokerAwayError(f"the broker refused: {error.args[0].str()}") from error


def _wait_all(futures: Mapping[str, "Future[None]"], harmless: int) -> None:
    """Waits for all; the error code ``harmless`` means that another process was quicker."""
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != harmless:
                raise BrokerAwayError(f"topic {name}: the broker refused: {error.args[0].str()}") from error


def _wait_leaders(admin: AdminClient, settings: Settings, names: Iterable[str]) -> None:
    """A new topic answers NOT_LEADER_FOR_PARTITION for a moment; nobody else should have to know."""
    deadline = time.monotonic() + _LEADER_SECONDS_MAX
    waiting = set(names)
    while waiting:
        try:
            topics = admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
        except KafkaException as error:
            raise BrokerAwayError(f"the broker does not answer: {error.args[0].str()}") from error
        waiting = {name for name in waiting if not _led(topics.get(name), settings.partitions)}
        if waiting and time.monotonic() > deadline:
            raise BrokerAwayError(f"topic {min(waiting)}: no leader after {_LEADER_SECONDS_MAX:.0f} s")
        if waiting:
            time.sleep(_POLL_SECONDS)


def _led(metadata: TopicMetadata | None, partitions: int) -> bool:
    if metadata is None or metadata.error is not None or len(metadata.partitions) < partitions:
        return False
    return all(part.error is None and part.leader >= 0 for part in metadata.partitions.values())
