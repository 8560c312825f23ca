"""What one room partition's producer asks of the brokers, one attempt a call; ``transaction.py`` says what follows.

aiokafka's client keeps connections, TLS, logins, metadata and the requests' encoding. Its own producer is not used: it
takes one record at a time, and so does librdkafka's; here whole batches go out as ``record_batches.pyx`` made them.
Every call answers with Kafka's error codes. Where no answer came it is ``UNREACHABLE``: what was asked for may have
happened or not, and asking again is right.

A call runs the event loop until it is answered, in whatever thread it is made; one call at a time.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import BrokerResponseError, KafkaError, NodeNotReadyError, RequestTimedOutError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest
from aiokafka.structs import TopicPartition

from truyvet.config import Settings

Place = tuple[str, int]
"""A topic's full name and a partition of it."""
Result = TypeVar("Result")

NONE: Final = 0
UNREACHABLE: Final = 13
"""Kafka's NETWORK_EXCEPTION."""
LEADER_NOT_AVAILABLE: Final = 5
_NOT_COORDINATOR: Final = frozenset({15, 16})
_STALE_METADATA: Final = frozenset({3, LEADER_NOT_AVAILABLE, 6, 9, 56, 74, 75, 76})
"""After these the client asks anew who leads."""
_ANSWER_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 5.0
_ALL_REPLICAS: Final = -1


class Owner(NamedTuple):
    """Who writes: what the coordinator gave to the ``transactional.id``'s newest producer."""

    producer_id: int
    epoch: int


class Requests:
    """The requests of one ``transactional.id``. Connects with the first, and anew after one without an answer."""

    def __init__(self, settings: Settings, transactional_id: str, transaction_timeout_ms: int) -> None:
        """``transaction_timeout_ms`` is how long the coordinator leaves a transaction open."""
        self._settings = settings
        self._transactional_id = transactional_id
        self._timeout_ms = transaction_timeout_ms
        self._loop = asyncio.new_event_loop()
        self._client: AIOKafkaClient | None = None
        self._coordinator: int | None = None
        self._topics: set[str] = set()

    def init_producer_id(self) -> tuple[int, Owner]:
        """Makes this the owner: older ones are fenced, what they left open is aborted. (Code, owner)."""
        request = InitProducerIdRequest(self._transactional_id, self._timeout_ms)
        code, answer = self._run(self._ask_coordinator(request), (UNREACHABLE, None))
        return code, Owner(-1, -1) if answer is None else Owner(answer.producer_id, answer.producer_epoch)

    def add_partitions(self, owner: Owner, places: Sequence[Place]) -> int:
        """Makes these partitions part of the owner's transaction, which begins with the first of them."""
        topics = defaultdict(list)
        for topic, partition in places:
            topics[topic].append(partition)
        request = AddPartitionsToTxnRequest(self._transactional_id, *owner, list(topics.items()))
        return self._run(self._ask_coordinator(request), (UNREACHABLE, None))[0]

    def produce(self, batches: Mapping[Place, bytes]) -> dict[Place, int]:
        """Appends one batch to each of these partitions, on all of its replicas; the code of each."""
        return self._run(self._produce(batches), dict.fromkeys(batches, UNREACHABLE))

    def commit_transaction(self, owner: Owner) -> int:
        """Ends the owner's transaction; asked again of one that has ended so, the answer is the same."""
        request = EndTxnRequest(self._transactional_id, *owner, True)  # noqa: FBT003 - by position, as aiokafka has it
        return self._run(self._ask_coordinator(request), (UNREACHABLE, None))[0]

    def close(self) -> None:
        """Gives the connections back. What was open at the broker stays so."""
        self._disconnect()
        self._loop.close()

    # How it asks.

    def _run(self, asking: Coroutine[Any, Any, Result], unreachable: Result) -> Result:
        try:
            return self._loop.run_until_complete(asking)
        except (KafkaError, OSError, TimeoutError):
            # All that aiokafka raises here is about connections: what brokers refuse comes as a code.
            self._disconnect()
            return unreachable

    async def _ask_coordinator(self, request: Any) -> tuple[int, Any]:
        """(code, response); where another broker coordinates by now, the next request finds it."""
        client = await self._connected()
        if self._coordinator is None:
            try:
                kind, name = CoordinationType.TRANSACTION, self._transactional_id
                self._coordinator = await client.coordinator_lookup(kind, name)
            except RequestTimedOutError:
                raise
            except BrokerResponseError as refusal:
                return refusal.errno, None
        response = await client.send(self._coordinator, request, group=ConnectionGroup.COORDINATION)
        code = _code_of(response)
        if code in _NOT_COORDINATOR:
            self._coordinator = None
        return code, response

    async def _produce(self, batches: Mapping[Place, bytes]) -> dict[Place, int]:
        client = await self._connected()
        new = {topic for topic, _ in batches} - self._topics
        if new:
            self._topics |= new
            await client.set_topics(self._topics)
        by_leader: defaultdict[int, list[Place]] = defaultdict(list)
        codes = {}
        for place in batches:
            leader = client.cluster.leader_for_partition(TopicPartition(*place))
            if leader is None or leader < 0:
                codes[place] = LEADER_NOT_AVAILABLE
            else:
                by_leader[leader].append(place)
        answers = await asyncio.gather(
            *(self._send(client, leader, {place: batches[place] for place in led}) for leader, led in by_leader.items())
        )
        for answer in answers:
            codes |= answer
        if not _STALE_METADATA.isdisjoint(codes.values()):
            await client.force_metadata_update()
        return codes

    async def _send(self, client: AIOKafkaClient, leader: int, batches: Mapping[Place, bytes]) -> dict[Place, int]:
        """Asks one leader; a leader that cannot be reached says nothing of the others."""
        topics = defaultdict(list)
        for (topic, partition), batch in batches.items():
            topics[topic].append((partition, batch))
        request = ProduceRequest(
            self._transactional_id, _ALL_REPLICAS, int(_ANSWER_SECONDS * 1000), list(topics.items())
        )
        try:
            response = await client.send(leader, request)
        except (KafkaError, OSError, TimeoutError):
            return dict.fromkeys(batches, LEADER_NOT_AVAILABLE)
        return {(topic, answer[0]): answer[1] for topic, partitions in response.topics for answer in partitions}

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            client = AIOKafkaClient(
                **self._settings.aiokafka(),
                client_id=f"truyvet-{self._transactional_id}",
                request_timeout_ms=int(_ANSWER_SECONDS * 1000),
            )
            self._client = client  # so that it is closed if it does not come to know anybody
            self._topics = set()
            await client.bootstrap()
            if not client.cluster.brokers():
                raise NodeNotReadyError("the broker does not say yet who there is")
        return self._client

    def _disconnect(self) -> None:
        client, self._client, self._coordinator = self._client, None, None
        if client is not None:
            with contextlib.suppress(TimeoutError):
                self._loop.run_until_complete(asyncio.wait_for(client.close(), _CLOSE_SECONDS))


def _code_of(response: Any) -> int:
    """The response's error code; of one that has a code a partition, the first that is an error."""
    if hasattr(response, "error_code"):
        return int(response.error_code)
    codes = [code for _, partitions in response.errors for _, code in partitions]
    # A partition that was not attempted (55) says only that another one failed.
    return next((code for code in codes if code not in {NONE, 55}), NONE)
