"""A consumer group at its coordinator: who is a member, who holds which partitions, what is committed.

A rebalance is settled at once here: the new assignment counts from the moment that the membership changes, and each
member hears of it when it asks. Until then it goes on with what it had, which is what a slow member or a zombie does.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException

from tests.sim.outside import World

Place = tuple[str, int]
Assignor = Callable[[Mapping[str, Collection[Place]]], dict[str, set[Place]]]
"""From the partitions that each member, in the order of joining, subscribes to: who gets which."""


def by_range(members: Mapping[str, Collection[Place]]) -> dict[str, set[Place]]:
    """Topic by topic, a run of partitions for each of the members that want it."""
    assigned: dict[str, set[Place]] = {member: set() for member in members}
    for topic in sorted({topic for places in members.values() for topic, _ in places}):
        wanting = [member for member, places in members.items() if any(t == topic for t, _ in places)]
        partitions = sorted({p for places in members.values() for t, p in places if t == topic})
        for i, partition in enumerate(partitions):
            assigned[wanting[i * len(wanting) // len(partitions)]].add((topic, partition))
    return assigned


def by_partition(*rooms: Collection[str]) -> Assignor:
    """All topics of one room and partition go to the same member; without rooms, all topics of a partition do."""
    room_of = {topic: number for number, topics in enumerate(rooms) for topic in topics}

    def assign(members: Mapping[str, Collection[Place]]) -> dict[str, set[Place]]:
        assigned: dict[str, set[Place]] = {member: set() for member in members}
        wanted = {place for places in members.values() for place in places}
        units = sorted({(partition, room_of.get(topic, 0)) for topic, partition in wanted})
        order = list(members)
        owner = {unit: order[i % len(order)] for i, unit in enumerate(units)}
        for topic, partition in wanted:
            assigned[owner[partition, room_of.get(topic, 0)]].add((topic, partition))
        return assigned

    return assign


@dataclass(slots=True)
class _Member:
    places: frozenset[Place]
    instance_id: str | None
    heard: float


class Group:
    """One group. Generations count from 1; ``committed`` holds the next offset to read of each partition."""

    def __init__(self, world: World, session_seconds: float, assignor: Assignor = by_range) -> None:
        self.generation = 0
        self.committed: dict[Place, int] = {}
        self.metadata: dict[Place, str] = {}
        self._world = world
        self._session_seconds = session_seconds
        self._assignor = assignor
        self._members: dict[str, _Member] = {}
        self._instances: dict[str, str] = {}
        self._fenced: set[str] = set()
        self._assigned: dict[str, set[Place]] = {}

    @property
    def members(self) -> list[str]:
        """Who the coordinator believes to be alive, in the order of joining."""
        return list(self._members)

    def join(self, member_id: str, places: Iterable[Place], instance_id: str | None = None) -> None:
        """Takes a member in. One of a known instance takes over that one's place and partitions, without a rebalance.

        Raises:
            KafkaException: this member was fenced by a later one of its instance.
        """
        self._check_fence(member_id)
        new = _Member(frozenset(places), instance_id, self._world.time())
        old_id = self._instances.get(instance_id) if instance_id is not None else None
        if instance_id is not None:
            self._instances[instance_id] = member_id
        if old_id is None or old_id == member_id:
            before = self._members.get(member_id)
            self._members[member_id] = new
            if before is None or before.places != new.places:
                self._rebalance()
            return
        self._fenced.add(old_id)
        same = self._members[old_id].places == new.places
        self._members = {member_id if m == old_id else m: new if m == old_id else v for m, v in self._members.items()}
        self._assigned[member_id] = self._assigned.pop(old_id)
        if not same:
            self._rebalance()

    def leave(self, member_id: str) -> None:
        """The member says good-bye; nothing happens if it is none."""
        member = self._members.pop(member_id, None)
        if member is not None:
            if member.instance_id is not None:
                del self._instances[member.instance_id]
            self._rebalance()

    def kick(self, member_id: str) -> None:
        """The coordinator believes the member dead, be it so or not."""
        self.leave(member_id)

    def heartbeat(self, member_id: str) -> bool:
        """The member is heard of; whether it is one (still)."""
        member = self._members.get(member_id)
        if member is None:
            return False
        member.heard = self._world.time()
        return True

    def check(self) -> None:
        """Takes out the members that were not heard of for longer than a session; called as time passes."""
        oldest = self._world.time() - self._session_seconds
        for member_id in [m for m, member in self._members.items() if member.heard < oldest]:
            self.kick(member_id)

    def begin_sessions_anew(self) -> None:
        """A coordinator that was away gives every member it remembers a whole session to be heard of."""
        for member_id in self._members:
            self.heartbeat(member_id)

    def assignment(self, member_id: str) -> tuple[int, set[Place]] | None:
        """(generation, partitions), or None if it is not a member (any more)."""
        if member_id not in self._members:
            return None
        return self.generation, set(self._assigned[member_id])

    def is_fenced(self, member_id: str) -> bool:
        """Whether a later member of the same instance has taken its place."""
        return member_id in self._fenced

    def commit(self, member_id: str, generation: int, offsets: Mapping[Place, int]) -> None:
        """Keeps the next offsets to read; a group without members takes them from anybody who names no generation.

        Raises:
            KafkaException: it is no member, or of another generation.
        """
        self._check_fence(member_id)
        if generation < 0 and not self._members:
            self.committed.update(offsets)
            return
        if member_id not in self._members:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "Broker: Unknown member"))
        if generation != self.generation:
            raise KafkaException(
                KafkaError(KafkaError.ILLEGAL_GENERATION, "Broker: Specified group generation id is not valid")
            )
        self.committed.update(offsets)

    def _check_fence(self, member_id: str) -> None:
        if member_id in self._fenced:
            reason = "Broker: Static consumer fenced by other consumer with same group.instance.id"
            raise KafkaException(KafkaError(KafkaError.FENCED_INSTANCE_ID, reason, fatal=True))

    def _rebalance(self) -> None:
        self.generation += 1
        wanted = {member_id: member.places for member_id, member in self._members.items()}
        self._assigned = self._assignor(wanted) if wanted else {}
