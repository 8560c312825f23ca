"""The fake consumer: what ``confluent_kafka.Consumer`` does, with and without a group, as far as the project uses it.

A call to ``consume`` brings any part of what is there: some partitions, a prefix of each, in any order. Callbacks come
from within ``consume``, ``poll`` and ``close`` alone. A member hears of a rebalance with a heartbeat and not before.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tests.sim.groups import Group, Place
from tests.sim.kafka_parts import INVALID, Commit, Part
from tests.sim.outside import World

if TYPE_CHECKING:
    from tests.sim.kafka import Broker

OnPartitions = Callable[[Any, list[TopicPartition]], None]

_BEGINNING: Final = -2
_END: Final = -1
_SESSION_TIMEOUT_MS: Final = 45_000
_HEARTBEAT_INTERVAL_MS: Final = 3_000
_CREATE_TIME: Final = 1
_LOG_APPEND_TIME: Final = 2


class Consumer:
    """A consumer; made by ``Broker.consumer``."""

    def __init__(self, broker: "Broker", world: World, config: Mapping[str, Any]) -> None:
        self._broker = broker
        self._world = world
        self._config = config
        self._committed_only = config.get("isolation.level", "read_committed") == "read_committed"
        self._tells_ends = bool(config.get("enable.partition.eof", False))
        self._reset = config.get("auto.offset.reset", "latest")
        self._on_error: Callable[[KafkaError], None] | None = config.get("error_cb")
        self._parts: dict[Place, Part] = {}
        self._said_away = False
        self._closed = False
        self._topics: list[str] = []
        self._on_assign: OnPartitions | None = None
        self._on_revoke: OnPartitions | None = None
        self._on_lost: OnPartitions | None = None
        self._session_seconds = config.get("session.timeout.ms", _SESSION_TIMEOUT_MS) / 1000
        self._heartbeat_seconds = config.get("heartbeat.interval.ms", _HEARTBEAT_INTERVAL_MS) / 1000
        self._next_heartbeat = 0.0
        self._heard = 0.0
        self._member_id = ""
        self._generation = -1
        self._has_taken_over = False
        self._was_assigned = False
        self._fatal: KafkaError | None = None
        self._fatal_told = False
        self._commits: list[Commit] = []

    # Partitions given by hand.

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Reads these partitions from their offsets on, or the committed ones, and no others."""
        self._world.step("partitions assigned")
        self._check_open()
        self._was_assigned = True
        self._parts = {(p.topic, p.partition): self._part(p.topic, p.partition, p.offset) for p in partitions}

    def _part(self, topic: str, partition: int, offset: int = INVALID) -> Part:
        log = self._broker.topics[topic][partition]
        if offset == INVALID and self._topics:
            offset = self._group.committed.get((topic, partition), INVALID)
        if offset >= 0:
            return Part(log, offset)
        known = {_BEGINNING: log.first, _END: log.end}
        part = Part(log, known.get(offset, 0))
        if offset not in known:
            self._reset_position(part)
        return part

    def _reset_position(self, part: Part) -> Message | None:
        """Goes where ``auto.offset.reset`` says; where that is nowhere, the partition fails with an error."""
        if self._reset == "error":
            part.failed = True
            reason = "fetch failed due to requested offset not available on the broker: Broker: Offset out of range"
            return _event(part, KafkaError(KafkaError._AUTO_OFFSET_RESET, reason))
        part.position = part.log.first if self._reset == "earliest" else part.log.end
        return None

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = 1.0, *, cached: bool = False
    ) -> tuple[int, int]:
        """(first, next) offset. Asked of the broker, next is the end for such a reader; cached, the end of the log."""
        self._check_open()
        if cached:
            part = self._parts.get((partition.topic, partition.partition))
            return (INVALID, INVALID) if part is None else part.bounds
        self._world.step("ends asked")
        if not self._broker.available:
            raise self._away(timeout)
        self._broker.tick()
        logs = self._broker.topics.get(partition.topic, [])
        if not 0 <= partition.partition < len(logs):
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION, "Failed to get watermark offsets"))
        log = logs[partition.partition]
        return log.first, log.limit(committed=self._committed_only)

    def offsets_for_times(self, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Where partitions begin or end: of the times that may be asked for, these two only."""
        self._check_open()
        self._world.step("ends asked")
        if not self._broker.available:
            raise self._away(timeout)
        self._broker.tick()
        answers = []
        for one in partitions:
            log = self._broker.topics[one.topic][one.partition]
            assert one.offset in (_BEGINNING, _END)
            offset = log.first if one.offset == _BEGINNING else log.limit(committed=self._committed_only)
            answers.append(TopicPartition(one.topic, one.partition, offset))
        return answers

    def _away(self, timeout: float) -> KafkaException:
        """What is said while the broker is away: at once, or after the time-out."""
        code = self._world.rng.choice((KafkaError._UNKNOWN_PARTITION, KafkaError._TRANSPORT, KafkaError._TIMED_OUT))
        if code != KafkaError._UNKNOWN_PARTITION:
            self._world.wait(lambda: False, timeout)
        return KafkaException(KafkaError(code, "Failed to get watermark offsets"))

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Mapping[str, object]:
        """The topics, if the broker answers within the time."""
        self._check_open()
        self._world.step("topics asked")
        if not self._broker.available and not self._world.wait(lambda: self._broker.available, timeout):
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, "Failed to get metadata"))
        return self._broker.topics if topic is None else {topic: self._broker.topics[topic]}

    # Reading.

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Up to so many messages; an empty list if the time passes first."""
        self._world.step("records asked")
        self._check_open()
        # What is gathered already comes with a rebalance, too, though its partitions are given back.
        messages = self._take(num_messages) if self._world.rng.random() < 0.5 else []
        self._serve()
        messages = messages or self._take(num_messages)
        if not messages:
            seen = self._broker.changes
            self._world.wait(lambda: self._broker.changes != seen, None if timeout < 0 else timeout)
            self._serve()
            messages = self._take(num_messages)
        return messages

    def poll(self, timeout: float = -1) -> Message | None:
        """One message, or None if the time passes first."""
        messages = self.consume(1, timeout)
        return messages[0] if messages else None

    def _take(self, count: int) -> list[Message]:
        if not self._broker.available:
            return []
        self._broker.tick()
        messages: list[Message] = []
        if self._fatal is not None and not self._fatal_told:
            self._fatal_told = True
            messages.append(Message(error=self._fatal))
        ready = [part for part in self._parts.values() if self._has_news(part)]
        rng = self._world.rng
        rng.shuffle(ready)
        for part in ready:
            if len(messages) >= count or (messages and rng.random() < 0.1):
                break
            self._take_from(part, count - len(messages), messages)
        return messages

    def _has_news(self, part: Part) -> bool:
        if part.paused or part.failed:
            return False
        limit = part.log.limit(committed=self._committed_only)
        position = part.position
        if position == limit:
            return self._tells_ends and part.told_end != limit
        return position < limit or position > part.log.end

    def _take_from(self, part: Part, count: int, messages: list[Message]) -> None:
        log, rng = part.log, self._world.rng
        part.bounds = (log.first, log.end)
        if not log.first <= part.position <= log.end:
            error = self._reset_position(part)
            if error is not None:
                messages.append(error)
            return
        if rng.random() < 0.25:
            count = rng.randint(1, count)
        records, part.position = log.read(part.position, count, committed=self._committed_only)
        kind = _LOG_APPEND_TIME if log.log_append_time else _CREATE_TIME
        messages += [
            Message(log.topic, log.partition, offset, key, value, list(headers) or None, None, (kind, timestamp))
            for offset, timestamp, key, value, headers, *_ in records
        ]
        end = log.limit(committed=self._committed_only)
        if self._tells_ends and part.position == end != part.told_end and len(records) < count and rng.random() < 0.7:
            part.told_end = end
            messages.append(_event(part, KafkaError(KafkaError._PARTITION_EOF, f"reached end at offset {end}")))

    def close(self) -> None:
        """Gives its partitions back and leaves the group, unless it is a static member."""
        if self._closed:
            return
        self._world.step("consumer closed")
        if self._topics and self._broker.available:
            self._give_back(self._on_revoke)
            self._serve_commits(last=True)
            if "group.instance.id" not in self._config:
                self._group.leave(self._member_id)
        self._parts = {}
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Consumer closed")

    # As a member of a group.

    @property
    def _group(self) -> Group:
        return self._broker.group(self._config["group.id"], self._session_seconds)

    def subscribe(
        self,
        topics: Sequence[str],
        on_assign: OnPartitions | None = None,
        on_revoke: OnPartitions | None = None,
        on_lost: OnPartitions | None = None,
    ) -> None:
        """Becomes a member of the group with the next call of ``consume`` or ``poll``."""
        self._topics = list(topics)
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost or on_revoke

    def assignment(self) -> list[TopicPartition]:
        """The partitions that are read."""
        return [TopicPartition(topic, partition) for topic, partition in self._parts]

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Brings nothing more of these partitions."""
        for one in partitions:
            self._parts[one.topic, one.partition].paused = True

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Goes on where it paused."""
        for one in partitions:
            self._parts[one.topic, one.partition].paused = False

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        """Sends offsets to the coordinator, which may get them now or later; the answer comes in ``on_commit``."""
        assert asynchronous
        self._check_open()
        self._world.step("offsets sent")
        sent = {(one.topic, one.partition): one.offset for one in offsets}
        metadata = {(one.topic, one.partition): one.metadata or "" for one in offsets}
        sender = (self._member_id, self._generation) if self._broker.available else None
        error = None if self._fatal is None else KafkaError(KafkaError._FATAL, "Local: Fatal error")
        commit = Commit(sender, sent, metadata, answered=False, error=error)
        if sender is not None and self._world.rng.random() < 0.5:
            commit = self._answered(commit)
        self._commits.append(commit)
        self._world.step("offsets on their way")

    def committed(self, partitions: Sequence[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """What is committed in the group."""
        if not self._broker.available:
            raise self._away(timeout)
        offsets, metadata = self._group.committed, self._group.metadata
        places = [(one.topic, one.partition) for one in partitions]
        return [
            TopicPartition(*place, offsets.get(place, INVALID), metadata=metadata.get(place, "")) for place in places
        ]

    def _answered(self, commit: Commit) -> Commit:
        if commit.error is not None:
            return commit._replace(answered=True)
        try:
            self._group.commit(*(commit.sender or (self._member_id, self._generation)), commit.offsets)
            self._group.metadata |= commit.metadata
        except KafkaException as error:
            return commit._replace(answered=True, error=error.args[0])
        return commit._replace(answered=True)

    def _serve(self) -> None:
        """What the library does within a call: errors, rebalances, answers to commits."""
        if self._broker.available:
            self._said_away = False
        elif not self._said_away:
            self._said_away = True
            for code in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                if self._on_error is not None:
                    self._on_error(KafkaError(code, "1/1 brokers are down"))
        if self._topics:
            self._serve_group()
            self._serve_commits(last=False)

    def _serve_commits(self, *, last: bool) -> None:
        on_commit = self._config.get("on_commit")
        while self._commits and (self._broker.available or last):
            if not last and self._world.rng.random() < 0.2:
                return  # the answer is still on its way
            commit = self._commits.pop(0)
            if not commit.answered:
                commit = self._answered(commit)
            if on_commit is not None:
                offsets = [TopicPartition(topic, p, offset) for (topic, p), offset in commit.offsets.items()]
                on_commit(commit.error, offsets)

    def _serve_group(self) -> None:
        now = self._world.time()
        if self._fatal is not None or now < self._next_heartbeat:
            return
        if not self._broker.available:
            if self._has_taken_over and now - self._heard > self._session_seconds:
                self._give_back(self._on_lost)
            return
        if self._world.rng.random() < 0.5:
            return  # the answer is still on its way: news may come within any call
        self._next_heartbeat = now + self._heartbeat_seconds
        group = self._group
        if group.is_fenced(self._member_id):
            reason = "Broker: Static consumer fenced by other consumer with same group.instance.id"
            self._fatal = KafkaError(KafkaError._FATAL, f"Fatal error: {reason}")
            return
        if not group.heartbeat(self._member_id):
            self._give_back(self._on_lost)
            self._member_id, self._generation = "", -1
            if self._later():
                return
            self._join(group)
        self._heard = now
        assigned = group.assignment(self._member_id)
        if assigned is not None and assigned[0] != self._generation:
            self._give_back(self._on_revoke)
            # What is committed from here on is of the new generation, before its partitions are taken over.
            self._generation = assigned[0]
            self._world.step("partitions given back")
        if not self._has_taken_over and not self._later():
            self._take_over(group)

    def _later(self) -> bool:
        """Whether the rest of a rebalance comes in a later call, as it does while the library waits for answers."""
        if self._world.rng.random() < 0.5:
            return False
        self._next_heartbeat = self._world.time() + self._world.rng.choice((0.0, 0.0, 0.1, 1.0))
        return True

    def _join(self, group: Group) -> None:
        self._world.step("group asked")
        places = [(topic, p) for topic in self._topics for p in range(len(self._broker.topics[topic]))]
        self._member_id = self._broker.new_member_id()
        group.join(self._member_id, places, self._config.get("group.instance.id"))
        self._world.step("group joined")

    def _take_over(self, group: Group) -> None:
        assigned = group.assignment(self._member_id)
        if assigned is None or assigned[0] != self._generation:
            return  # thrown out meanwhile, or assigned anew; the next heartbeat tells
        given = sorted(assigned[1])
        self._has_taken_over = True
        self._was_assigned = False
        if self._on_assign is not None:
            self._on_assign(self, [TopicPartition(topic, partition) for topic, partition in given])
        if not self._was_assigned:
            self._parts = {place: self._part(*place) for place in given}
        self._world.step("partitions taken over")

    def _give_back(self, callback: OnPartitions | None) -> None:
        """The partitions of the former generation are another's, or nobody's."""
        if self._has_taken_over and callback is not None:
            callback(self, self.assignment())
        self._has_taken_over = False
        self._parts = {}


def _event(part: Part, error: KafkaError) -> Message:
    return Message(part.log.topic, part.log.partition, part.position, error=error)
