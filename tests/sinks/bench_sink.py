"""What the sink costs, stage by stage: ``python -m tests.sinks.bench_sink [--scans N] [--rounds N]``. Not a test.

The bench's workload goes through the rooms' core once, in one process; what they emit is put on a broker in
transactions of ``SLICE`` records, as workers do. Then, in each round, the sink's own loop stores all of it in a fresh
database of a ClickHouse server, beside which nothing else runs in this process. All figures are CPU time, none is
wall-clock time: of the whole process, of the main thread by stage, of the inserting thread, and what is left, which is
the threads of the Kafka client. Broker and server are processes of their own and are not counted.

``alone`` is what a stage costs at least: the Kafka client handing over the same records, and msgspec reading them.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from confluent_kafka import Consumer, Producer

from bench.workload import Shape, scan_lines, venue_lines
from infra.clickhouse import ClickHouseServer
from infra.kafka import KafkaBroker
from infra.topics import ensure_topics
from producers.feed import Feed
from producers.lines import VENUES
from schemas.areas import load_areas
from sinks import consuming
from sinks.columns import Tables, TopicDecoder, decoder_of
from sinks.consuming import Consuming
from sinks.process import keep_memory
from sinks.records import Records
from sinks.register_topic import RegisterTopic
from sinks.server import ClickHouseBackend
from sinks.status import Status
from sinks.tables import SINK_TOPICS
from streams.core.step import HeadedMessage
from tests.core.pipeline import Pipeline
from tests.sinks.conftest import ends
from truyvet.config import Settings, load_settings

BATCH = 10_000
SLICE = 40_000
MILLION = 1_000_000


class Emitting(Pipeline):
    """The rooms' core, and everything it emits to the sink's topics, in order."""

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self.emitted: list[HeadedMessage] = []

    def _deliver(self, message: HeadedMessage) -> None:
        super()._deliver(message)
        if message.topic in SINK_TOPICS:
            self.emitted.append(message)
            self.outputs.clear()


class Stages:
    """CPU seconds of this thread and others by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the CPU time of the thread that runs it."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.seconds[name] += time.thread_time() - began

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, counted."""

        def run(*args: Any) -> Any:  # noqa: ANN401 - whatever it takes
            with self.stage(name):
                return call(*args)

        return run

    def consumer(self) -> type[Consumer]:
        """A Kafka consumer whose calls are counted."""
        stage = self.stage

        class Counted(Consumer):
            def consume(self, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - as the client
                with stage("consume"):
                    return super().consume(*args, **named)

            def commit(self, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - as the client
                with stage("commit"):
                    return super().commit(*args, **named)

        return Counted


class Timed:
    """A decoder whose calls are counted."""

    def __init__(self, stages: Stages, name: str, decoder: TopicDecoder) -> None:
        self._stages, self._name, self._decoder, self.keyed = stages, name, decoder, decoder.keyed

    def __call__(self, records: Records) -> Tables:
        with self._stages.stage(self._name):
            return self._decoder(records)


def fill(settings: Settings, shape: Shape) -> Counter[str]:
    """Puts the register and all that the rooms emit on the broker; records by topic."""
    ensure_topics(settings)
    Feed(settings).send(VENUES.topic, venue_lines(shape))
    rooms = Emitting(settings.partitions)
    for topic, lines in (("venues", venue_lines(shape)), ("scans", scan_lines(shape))):
        for line in lines:
            rooms.produce(topic, line.key, line.value, line.timestamp_ms)
    rooms.register()
    rooms.run(lambda count: [BATCH] * (count // BATCH))
    options: dict[str, Any] = settings.librdkafka() | {
        "transactional.id": "bench",
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 500,
        "batch.size": MILLION,
        "batch.num.messages": 100_000,
        "queue.buffering.max.messages": 500_000,
    }
    producer = Producer(options)
    producer.init_transactions()
    for start in range(0, len(rooms.emitted), SLICE):
        producer.begin_transaction()
        for message in rooms.emitted[start : start + SLICE]:
            topic = settings.topic(message.topic)
            producer.produce(topic, message.value, message.key, message.partition, timestamp=message.timestamp)
        producer.commit_transaction()
    return Counter({"venues": shape.venues} | Counter(message.topic for message in rooms.emitted))


def apart(call: Callable[..., dict[str, float]], *args: object) -> dict[str, float]:
    """What the call returns, made in a process of its own: the collector walks nothing of the rooms' there."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *args).result()


def run_sink(settings: Settings, ends_at: dict[tuple[str, int], int]) -> dict[str, float]:
    """Stores everything in a fresh database; CPU seconds by stage."""
    keep_memory()
    stages, status, stop = Stages(), Status(), threading.Event()
    with ClickHouseBackend(settings) as backend:
        backend.ensure_schema()
        zone, areas = ZoneInfo(settings.report_timezone), load_areas()
        decoders: dict[str, TopicDecoder] = {}
        for topic in SINK_TOPICS:
            name = "decode the register" if topic == VENUES.topic else "decode"
            decoders[settings.topic(topic)] = Timed(stages, name, decoder_of(topic, areas, zone))
        for name in ("prepare", "insert_blocks"):
            setattr(backend, name, stages.timed(name, getattr(backend, name)))
        threading.Thread(target=_stop_at, args=(status, ends_at, stop), daemon=True).start()
        vars(consuming)["Consumer"] = stages.consumer()
        process, main = time.process_time(), time.thread_time()
        Consuming(settings, backend, decoders, status, RegisterTopic(settings)).run(stop)
        process, main = time.process_time() - process, time.thread_time() - main
    found = dict(stages.seconds)
    inserting = found["insert_blocks"]
    found["loop"] = main - sum(found.values()) + inserting
    return found | {"Kafka client's threads": process - main - inserting, "in all": process}


def _stop_at(status: Status, ends_at: dict[tuple[str, int], int], stop: threading.Event) -> None:
    while not stop.wait(0.1):
        topics: Any = status.progress()["topics"]
        if all(topics.get(topic, {}).get(str(partition), 0) == end for (topic, partition), end in ends_at.items()):
            stop.set()


def consume_alone(settings: Settings, records: int) -> tuple[float, dict[str, list[bytes]]]:
    """CPU seconds of the client handing over every record, and the values by topic (kept in a second pass)."""
    seconds = 0.0
    values: dict[str, list[bytes]] = defaultdict(list)
    for keep in (False, True):
        options = {"group.id": f"alone-{keep}", "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
        consumer = Consumer(settings.librdkafka() | options)
        consumer.subscribe([settings.topic(topic) for topic in SINK_TOPICS])
        found, began = 0, time.process_time()
        while found < records:
            messages = consumer.consume(500, 0.05)
            found += len(messages)
            for message in messages if keep else ():
                values[message.topic() or ""].append(message.value() or b"")
        seconds = seconds or time.process_time() - began
        consumer.close()
    return seconds, values


def run_alone(settings: Settings, records: int) -> dict[str, float]:
    """CPU seconds that the libraries need by themselves."""
    seconds, values = consume_alone(settings, records)
    return {"consume": seconds, "decode": decode_alone(values.values())}


def decode_alone(values: Iterable[Sequence[bytes]]) -> float:
    """CPU seconds of msgspec reading every record into dictionaries, 5,000 at a time."""
    decode = msgspec.json.Decoder(list[dict[str, Any]]).decode
    began = time.process_time()
    for topic in values:
        for start in range(0, len(topic), 5_000):
            decode(b"[" + b",".join(topic[start : start + 5_000]) + b"]")
    return time.process_time() - began


def main() -> None:
    """Prints a line a stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broker, server = KafkaBroker(Path(folder) / "kafka"), ClickHouseServer(Path(folder) / "clickhouse")
        with broker, server:
            settings = load_settings(
                brokers=broker.brokers, clickhouse=server.url, partitions=args.partitions, restating=True
            )
            by_topic = fill(settings, Shape(scans=args.scans, venues=args.scans // 50))
            rows, ends_at = by_topic.total(), ends(settings)
            rounds = [
                apart(run_sink, settings.model_copy(update={"database": f"round{number}"}), ends_at)
                for number in range(args.rounds)
            ]
            alone = apart(run_alone, settings, rows)
    print_stages(rounds, rows, args.scans, alone)
    sys.stdout.write(", ".join(f"{topic} {count:,}" for topic, count in by_topic.most_common()) + " records\n")


def print_stages(rounds: Sequence[dict[str, float]], rows: int, scans: int, alone: dict[str, float]) -> None:
    """Medians of the rounds."""
    sys.stdout.write("stage | µs a record | alone | CPU s per million scans\n")
    for name in rounds[0]:
        middle = statistics.median(found.get(name, 0.0) for found in rounds)
        floor = f"{alone[name] / rows * MILLION:.2f}" if name in alone else ""
        sys.stdout.write(f"{name} | {middle / rows * MILLION:.2f} | {floor} | {middle / scans * MILLION:.2f}\n")


if __name__ == "__main__":
    main()
