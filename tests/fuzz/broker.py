"""A sample through a real broker: what it takes comes back by a raw fetch, and gets the verdict that it got before."""

import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from infra.kafka import KafkaBroker
from infra.topics import ensure_topics
from streams.shell.batch_gate import Doubts, committed, judged
from tests.fuzz.batches import answer, made
from tests.fuzz.chance import Chance
from truyvet.config import Settings

_BATCHES: Final = 3_000
_AT_ZERO: Final = bytes(8)
"""Where a batch begins the broker decides, and takes none that says anything else."""
_FETCH_BYTES: Final = 4 * 1024 * 1024
_WAIT_MS: Final = 200
_SECONDS_MAX: Final = 30.0


def main(seed: str, batches: int = _BATCHES) -> int:
    """Starts a broker, sends batches, reads them again; 0 where every verdict was the same."""
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder)) as broker:
        settings = Settings.model_validate(
            {"brokers": broker.brokers, "topic_prefix": "fuzz.", "partitions": 1, "restating": True, "query_port": 0}
        )
        ensure_topics(settings)
        refused, taken, differing = asyncio.run(sample(settings, seed, batches))
    for verdict, amount in sorted(taken.items()):
        print(f"  {amount:>12,}  {verdict}")
    print(f"{refused:,} of {batches:,} batches were refused by the broker")
    for line in differing[:5]:
        print(f"FAULT {line}")
    return int(bool(differing))


async def sample(settings: Settings, seed: str, batches: int) -> tuple[int, Counter[str], list[str]]:
    """(how many the broker refused, verdicts on the others, those that were otherwise before they were sent)."""
    client = AIOKafkaClient(**settings.aiokafka())
    topic = settings.topic("scans")
    sent: list[tuple[str, bytes]] = []
    refused = 0
    try:
        await client.bootstrap()
        leader = await _leader(client, topic)
        chance = Chance(f"{seed}/broker")
        for _ in range(batches):
            packed = _AT_ZERO + made(chance)[0][len(_AT_ZERO) :]
            said = await client.send(leader, ProduceRequest(None, -1, 30_000, [(topic, [(0, packed)])]))
            if said.topics[0][1][0][1]:
                refused += 1
            else:
                sent.append((_verdict(packed), packed))
        came = await _read(client, leader, topic)
    finally:
        await client.close()
    if len(came) != len(sent):
        return refused, Counter(came), [f"{len(sent)} batches were taken, but {len(came)} came back"]
    pairs = zip(sent, came, strict=True)
    differing = [f"{before}, but {after}: {packed.hex()}" for (before, packed), after in pairs if before != after]
    return refused, Counter(came), differing


async def _leader(client: Any, topic: str) -> int:  # noqa: ANN401 - aiokafka has no types
    await client.set_topics([topic])
    deadline = time.monotonic() + _SECONDS_MAX
    while (leader := client.cluster.leader_for_partition(TopicPartition(topic, 0))) in {None, -1}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody leads {topic}")
        await client.force_metadata_update()
    return int(leader)


async def _read(client: Any, leader: int, topic: str) -> list[str]:  # noqa: ANN401 - same
    """The verdict on each batch that the topic holds."""
    found: list[str] = []
    position, end = 0, 1
    doubts = Doubts()
    while position < end:
        asked = [(topic, [(0, position, _FETCH_BYTES)])]
        said = await client.send(leader, FetchRequest(_WAIT_MS, 1, _FETCH_BYTES, 1, asked))
        # What lies between differs by the version that was agreed on.
        _, error, end, *_, data = said.topics[0][1][0]
        if error:
            raise RuntimeError(f"the broker answers a fetch with {error}")
        for batch, counts in committed(bytes(data), [], doubts):
            if batch.head.base_offset < position:
                raise RuntimeError("a batch came twice")
            if counts:
                found.append(max(answer(list(batch.pieces())).verdicts))
            position = batch.next_offset
    return found


def _verdict(packed: bytes) -> str:
    return max(answer(list(judged(packed))).verdicts)
