"""Scans in real time: a sender that keeps to a schedule, and watchers that note when each scan comes out.

A scan_id begins with the microsecond of its produce call, so whoever reads it back knows how old it is, and nothing is
kept of it in between. The topics are as in production: scans carry the time at which the broker took them. One scan in
a while is a marker's, a person whose rows are looked up in ClickHouse by key, again and again.
"""

import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import numpy as np
from confluent_kafka import Producer, TopicPartition

from bench.measuring import Ticks
from bench.workload import DIRECTION_MIX, SOURCE_MIX, Shape, by_rank, drawn, person_ids, venue_ids, venue_lines
from producers.feed import Feed
from producers.lines import VENUES
from producers.simulate.arrays import Floats, Ints, stream
from sinks.client import open_reader
from streams.shell.restore import log_consumer, watermarks
from truyvet.config import Settings, load_settings
from truyvet.drain import Drain
from truyvet.stack import Stack

Schedule = Callable[[float], float]
"""Seconds since the beginning to how many scans are due until then."""
MARKERS: Final = 24
MARKER_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 0.25
"""Between two looks into ClickHouse: so much too late a row may be found."""
TICK_SECONDS: Final = 0.005
_MICROS: Final = 1_000_000
LIVE: Final = Shape(people=1_000_000)
"""Some minutes hold millions of scans: of 100,000 people each would scan as often in them as in weeks."""
_DRAWS: Final = 1 << 17
_PEOPLE_DRAWN: Final = 1 << 21
_SCAN_ID: Final = b'"scan_id":"'
_STAMP_DIGITS: Final = 14
_READ_AT_ONCE: Final = 10_000
_COUNT_SECONDS: Final = 0.05
_FETCH_WAIT_MS: Final = 250
"""What is there comes at once; asking more often for what is not would be most of the broker's work at low rates."""
_LINGER_MS: Final = 5
"""librdkafka's own default: what a producer that cares for latency leaves as it is."""


def micros() -> int:
    """Epoch microseconds."""
    return time.time_ns() // 1000


def stamped(value: bytes) -> int:
    """The microsecond at which the scan of this event was sent."""
    at = value.index(_SCAN_ID) + len(_SCAN_ID)
    return int(value[at : at + _STAMP_DIGITS], 16)


class Scans:
    """Scans by the shape's people at its venues, of the very moment."""

    def __init__(self, shape: Shape) -> None:
        rng = stream(shape.seed, "bench live")
        people, venues = person_ids(shape), venue_ids(shape)
        self._people = [
            people[index] for index in by_rank(rng, shape.people, shape.people_exponent, _PEOPLE_DRAWN).tolist()
        ]
        self._venues = [venues[index] for index in by_rank(rng, shape.venues, shape.venues_exponent, _DRAWS).tolist()]
        ways, sources = tuple(DIRECTION_MIX), tuple(SOURCE_MIX)
        kinds = zip(drawn(rng, DIRECTION_MIX, _DRAWS).tolist(), drawn(rng, SOURCE_MIX, _DRAWS).tolist(), strict=True)
        self._tails = [f'"source":"{sources[source]}","direction":"{ways[way]}"}}' for way, source in kinds]
        self.markers = person_ids(Shape(people=MARKERS, seed=shape.seed + 1))
        self._second = -1
        self._occurred = ""
        self._marked_us = 0
        self._marks = 0

    def make(self, number: int) -> tuple[bytes, bytes]:
        """Key and value of the next scan."""
        now_us = micros()
        if now_us // _MICROS != self._second:
            self._second = now_us // _MICROS
            self._occurred = datetime.fromtimestamp(self._second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        place = number % _DRAWS
        person = self._people[number % _PEOPLE_DRAWN]
        if now_us >= self._marked_us + MARKER_SECONDS * _MICROS:
            self._marked_us, self._marks = now_us, self._marks + 1
            person = self.markers[self._marks % MARKERS]
        value = (
            f'{{"scan_id":"{now_us:0{_STAMP_DIGITS}x}-{number:x}","person_id":"{person}",'
            f'"venue_id":"{self._venues[place]}","occurred_at":"{self._occurred}",{self._tails[place]}'
        )
        return person.encode(), value.encode()


class Sender:
    """Sends scans as a schedule has them due; all of them at once where it says infinity."""

    def __init__(self, settings: Settings, scans: Scans) -> None:
        options = {"partitioner": "murmur2_random", "enable.idempotence": True, "compression.type": "lz4"}
        self._producer = Producer(settings.librdkafka() | options | {"linger.ms": _LINGER_MS})
        self._topic = settings.topic("scans")
        self._scans = scans
        self.sent = 0
        self.late_seconds_max = 0.0
        """How much later than due a scan was sent, at worst: the sender shares the machine with what it measures."""

    def run(self, schedule: Schedule, seconds: float, on_tick: Callable[[float], None] = lambda _: None) -> None:
        """Sends for so long; ``on_tick`` is called with the seconds so far, many times a second."""
        began, before, due_before, first = time.monotonic(), 0.0, 0.0, self.sent
        while before < seconds:
            now = min(time.monotonic() - began, seconds)
            due = schedule(now)
            # What became due since the last turn was due on the way, evenly.
            if due > due_before:
                self.late_seconds_max = max(self.late_seconds_max, now - before)
            self._send(first + int(due) - self.sent)
            self._producer.poll(0)
            on_tick(now)
            before, due_before = now, due
            time.sleep(TICK_SECONDS)
        self._producer.flush()

    def send(self, count: int) -> None:
        """Sends so many as fast as they can be sent."""
        self._send(count)
        self._producer.flush()

    def _send(self, count: int) -> None:
        produce, make = self._producer.produce, self._scans.make
        for _ in range(count):
            key, value = make(self.sent)
            while True:
                try:
                    produce(self._topic, value, key)
                except BufferError:
                    self._producer.poll(TICK_SECONDS)
                else:
                    break
            self.sent += 1


class Watcher:
    """What came out, as pairs of when a scan was sent (epoch µs) and how long it took (µs)."""

    def __init__(self) -> None:
        self._sent_us, self._took_us = array("q"), array("q")
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """How many came out so far.

        Raises:
            RuntimeError: watching has failed.
        """
        if self._failure is not None:
            raise RuntimeError("watching has failed") from self._failure
        return len(self._took_us)

    def wait(self, count: int, stack: Stack, seconds_max: float) -> None:
        """Waits until so many came out, but no longer than that.

        Raises:
            RuntimeError: watching has failed.
            ProcessError: a process of the stack is gone.
        """
        deadline = time.monotonic() + seconds_max
        while self.count < count and time.monotonic() < deadline:
            stack.check()
            time.sleep(_COUNT_SECONDS)

    def found(self) -> tuple[Ints, Floats]:
        """When each was sent (epoch µs) and the seconds that it took, in the order in which they came out."""
        count = self.count
        sent = np.array(self._sent_us[:count], dtype=np.int64)
        return sent, np.array(self._took_us[:count], dtype=np.float64) / _MICROS

    def stop(self) -> None:
        """Ends the watching."""
        self._stopping.set()
        self._thread.join()

    def _note(self, sent_us: int, now_us: int) -> None:
        self._sent_us.append(sent_us)
        self._took_us.append(now_us - sent_us)

    def _run(self) -> None:
        try:
            self._watch()
        except BaseException as error:
            self._failure = error
            raise

    def _watch(self) -> None:
        raise NotImplementedError


class Enriched(Watcher):
    """Reads the topic of accepted scans, as an alerting service would: what is committed, at once."""

    def __init__(self, settings: Settings) -> None:
        options = {"enable.partition.eof": False, "fetch.wait.max.ms": _FETCH_WAIT_MS}
        self._consumer = log_consumer(settings, **options)
        topic = settings.topic("enriched")
        places = [
            TopicPartition(topic, number, watermarks(self._consumer, topic, number)[1])
            for number in range(settings.partitions)
        ]
        self._consumer.assign(places)
        super().__init__()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            # A call for many waits its whole time: one comes at once, and then whatever is there.
            messages = self._consumer.consume(1, 0.1)
            if messages:
                messages += self._consumer.consume(_READ_AT_ONCE, 0.0)
            now_us = micros()
            for message in messages:
                value = message.value()
                if message.error() is None and value is not None:
                    self._note(stamped(value), now_us)
        self._consumer.close()


class Rows(Watcher):
    """Looks for the markers' rows in ClickHouse."""

    def __init__(self, settings: Settings, markers: list[str]) -> None:
        self._reader = open_reader(settings)
        self._people = ", ".join(f"'{person}'" for person in markers)
        self._since = f"{micros():0{_STAMP_DIGITS}x}"
        super().__init__()

    def _watch(self) -> None:
        seen: set[str] = set()
        while not self._stopping.wait(LOOK_SECONDS):
            sql = f"SELECT scan_id FROM scans WHERE person_id IN ({self._people}) AND scan_id >= '{self._since}'"  # noqa: S608 - our own names
            _, rows = self._reader.query(sql)
            now_us = micros()
            for (scan_id,) in rows:
                if scan_id not in seen:
                    seen.add(scan_id)
                    self._note(int(scan_id[:_STAMP_DIGITS], 16), now_us)
        self._reader.close()


@contextmanager
def live_stack(shape: Shape, partitions: int, workers: int) -> Iterator[Stack]:
    """A stack of its own as in production, with the register loaded."""
    settings = load_settings(partitions=partitions, restating=False)
    with Stack(settings, workers=workers, long_lived=True) as stack:
        drain = Drain(stack)
        Feed(stack.settings).send(VENUES.topic, venue_lines(shape))
        drain.wait(drain.settled)
        drain.close()
        yield stack


class CoresBusy:
    """How many cores each process of a stack keeps busy from now on, and how many a hypervisor gives to others."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._usage, self._ticks, self._began = stack.usage(), Ticks.now(), time.monotonic()

    def so_far(self) -> dict[str, float]:
        """Means by process; ``stolen`` is what the machine did not have."""
        seconds, after = time.monotonic() - self._began, self._stack.usage()
        used = {name: (after[name].cpu_seconds - was.cpu_seconds) / seconds for name, was in self._usage.items()}
        used["stolen"] = Ticks.now().stolen_since(self._ticks) * (os.cpu_count() or 1)
        return {name: round(cores, 2) for name, cores in used.items()}


def percentiles_ms(seconds: Floats) -> dict[str, float]:
    """Median, p99 and the worst, in milliseconds; nothing of nothing."""
    if not len(seconds):
        return {}
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50": round(p50 * 1000, 1), "p99": round(p99 * 1000, 1), "max": round(seconds.max() * 1000, 1)}
