"""What one room partition's producer asks of the brokers, one attempt a call; ``transaction.py`` says what follows.

aiokafka's client keeps connections, TLS, logins, metadata and the requests' encoding. Its own producer is not used: it
takes one record at a time, and so does librdkafka's; here whole batches go out as ``record_batches.pyx`` made them.
Every call answers with Kafka's error codes. Where no answer came it is ``UNREACHABLE``: what was asked for may have
happened, may never happen, or may happen later than whatever is asked for next. Asking again is right.

A call runs the event loop until it is answered, in whatever thread it is made; one call at a time.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import (
    BrokerResponseError,
    IncompatibleBrokerVersion,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest
from aiokafka.protocol.types import CompactString, Int16, Int32, Int64, Schema, TaggedFields
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
_STALE_METADATA: Final = frozenset({3, LEADER_NOT_AVAILABLE, 6, 9, UNREACHABLE, 56, 74, 75, 76})
"""After these the client asks anew who leads."""
_ANSWER_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 5.0
_ALL_REPLICAS: Final = -1


class Owner(NamedTuple):
    """Who writes: what the coordinator gave to the ``transactional.id``'s newest producer."""

    producer_id: int
    epoch: int


NOBODY: Final = Owner(-1, -1)


class UnsupportedBrokerError(Exception):
    """The broker and this build have no version of a request in common. One sentence."""


class InitProducerIdResponse(Response):  # type: ignore[misc]
    """Version 3."""

    API_KEY = 22
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class InitProducerIdStruct(RequestStruct):  # type: ignore[misc]
    """Version 3, the first that says who asks (KIP-360): aiokafka's own, version 0, fences whoever is the owner."""

    FLEXIBLE_VERSION = True
    API_KEY = 22
    API_VERSION = 3
    RESPONSE_TYPE = InitProducerIdResponse
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class InitProducerIdRequest(Request[InitProducerIdStruct]):  # type: ignore[misc]
    """Asks for an epoch; as ``NOBODY`` fences whoever is the owner, else is refused unless ``owner`` still is."""

    API_KEY = 22

    def __init__(self, transactional_id: str, transaction_timeout_ms: int, owner: Owner) -> None:
        self._fields: tuple[Any, ...] = (transactional_id, transaction_timeout_ms, *owner, {})

    def build(self, request_struct_class: type[InitProducerIdStruct]) -> InitProducerIdStruct:
        """The request as it is sent."""
        return request_struct_class(*self._fields)

    def prepare(self, versions: dict[int, tuple[int, int]]) -> InitProducerIdStruct:
        """The request in a version that the broker offers.

        Raises:
            UnsupportedBrokerError: it is older than Kafka 2.5.
        """
        _, newest = versions.get(self.API_KEY, (0, 0))
        if newest < InitProducerIdStruct.API_VERSION:
            raise UnsupportedBrokerError(
                f"the broker offers InitProducerId up to version {newest}, and without version 3 an owner cannot take a"
                " new epoch: it is older than Kafka 2.5; upgrade it to Kafka 3.6 or newer"
            )
        prepared: InitProducerIdStruct = super().prepare(versions)
        return prepared


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
        self.refused: Place | None = None
        """Which partition the code of the last ``add_partitions`` is about, where the answer says so."""

    def init_producer_id(self, owner: Owner = NOBODY) -> tuple[int, Owner]:
        """Makes this the owner: older ones are fenced, what they left open is aborted. (Code, owner).

        With ``owner`` that one takes a new epoch, if it is the owner still; asked again, it is told the same epoch.
        """
        request = InitProducerIdRequest(self._transactional_id, self._timeout_ms, owner)
        code, answer = self._run(self._ask_coordinator(request), (UNREACHABLE, None))
        return code, NOBODY if answer is None else Owner(answer.producer_id, answer.producer_epoch)

    def add_partitions(self, owner: Owner, places: Sequence[Place]) -> int:
        """Makes these partitions part of the owner's transaction, which begins with the first of them."""
        topics = defaultdict(list)
        for topic, partition in places:
            topics[topic].append(partition)
        request = AddPartitionsToTxnRequest(self._transactional_id, *owner, list(topics.items()))
        code, answer = self._run(self._ask_coordinator(request), (UNREACHABLE, None))
        named = () if answer is None else answer.errors
        places = [(topic, partition) for topic, errors in named for partition, error in errors if error == code]
        self.refused = places[0] if places else None
        return code

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
        except (NotImplementedError, IncompatibleBrokerVersion) as error:
            # aiokafka's way to say it, of any of the requests; the client is of no more use.
            self._disconnect()
            raise UnsupportedBrokerError(
                f"the broker and this build have no version of a request in common ({error}): it must be Kafka 3.6 or"
                " newer, and no newer than this build was tried with"
            ) from error
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
            return dict.fromkeys(batches, UNREACHABLE)
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
