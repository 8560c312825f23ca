"""Seconds from a case report sent to its exposures on the topic, on a week of a city.

``python -m tests.pipeline.bench_warning [--scale F] [--cases N] [--visits N]``: simulates the week, adds persons
with that many visits at venues where others were, loads all of it into a stack of its own, then reports one case
after another and watches the ``exposures`` topic as an alerting service does (read_committed).
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from producers.feed import Feed
from producers.lines import CASES, SCANS, VENUES, Line, read_lines
from producers.simulate.cli import publication_for
from producers.simulate.generate import generate
from producers.simulate.totals import DEFAULT_TOTALS
from truyvet.config import Settings, load_settings
from truyvet.drain import Drain
from truyvet.stack import Stack

PAUSE_SECONDS = 0.3


class Watcher:
    """Reads the exposures topic and remembers when each case's last exposure came, and how many there were."""

    def __init__(self, settings: Settings) -> None:
        options = {"group.id": "bench-warning", "isolation.level": "read_committed", "fetch.wait.max.ms": 10}
        self._consumer = Consumer(settings.librdkafka() | options | {"auto.offset.reset": "earliest"})
        topic = settings.topic("exposures")
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(settings.partitions)])
        self.last: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(0.05)
            if message is None or message.error() is not None:
                continue
            case_id = json.loads(message.value() or b"{}").get("case_id", "")
            self.last[case_id] = time.monotonic()
            self.counts[case_id] = self.counts.get(case_id, 0) + 1

    def stop(self) -> None:
        """Ends the watching."""
        self._stopping.set()
        self._thread.join()
        self._consumer.close()


def _line(person: str, event: Mapping[str, object], timestamp_ms: int) -> Line:
    return Line(key=person.encode(), value=json.dumps(event).encode(), timestamp_ms=timestamp_ms)


def visitors(scans: Path, count: int, visits: int, rng: random.Random) -> Iterator[tuple[str, list[Line]]]:
    """Persons who were, ``visits`` times each, where somebody of the week was at the same time."""
    lines = [line for line in read_lines(scans, SCANS) if b'"direction":"in"' in (line.value or b"")]
    for number in range(count):
        person = f"{rng.getrandbits(128):032x}"
        found = []
        for index, line in enumerate(rng.sample(lines, visits)):
            event = json.loads(line.value or b"{}")
            event |= {"scan_id": f"bench-{number}-{index}", "person_id": person}
            found.append(_line(person, event, line.timestamp_ms))
        yield person, found


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times the week's totals (default 1)")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--visits", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    rng = random.Random(4)  # noqa: S311 - a repeatable choice of visits
    with tempfile.TemporaryDirectory() as folder:
        week = Path(folder)
        generate(week, publication_for(DEFAULT_TOTALS, None), seed=1, scale=args.scale)
        people = list(visitors(week / SCANS.file_name, args.cases, args.visits, rng))
        with Stack(load_settings(restating=True), workers=args.workers) as stack:
            seconds, counts = _measure(stack, week, people)
    sys.stdout.write(
        f"{len(seconds)} cases of {args.visits} visits with exposures, {sum(counts)} exposures, at most {max(counts)} "
        f"a case\nseconds from report to last exposure: median {statistics.median(seconds):.3f}, worst "
        f"{max(seconds):.3f}\n"
    )


def _measure(stack: Stack, week: Path, people: list[tuple[str, list[Line]]]) -> tuple[list[float], list[int]]:
    drain, feed = Drain(stack), Feed(stack.settings)
    feed.send(VENUES.topic, read_lines(week / VENUES.file_name, VENUES))
    drain.wait(drain.processed)
    feed.send(SCANS.topic, read_lines(week / SCANS.file_name, SCANS))
    feed.send(SCANS.topic, (line for _, lines in people for line in lines))
    drain.wait(drain.settled)
    newest_ms = max(line.timestamp_ms for _, lines in people for line in lines)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(newest_ms // 1000))
    watcher = Watcher(stack.settings)
    sent = {}
    for number, (person, _) in enumerate(people):
        report = {"case_id": f"B-{number}", "person_id": person, "status": "confirmed", "sampled_at": at}
        report |= {"reported_at": at, "ruleset": "vn-2021-07"}
        sent[f"B-{number}"] = time.monotonic()
        feed.send(CASES.topic, [_line(person, report, newest_ms)])
        time.sleep(PAUSE_SECONDS)
    drain.wait(drain.settled)
    time.sleep(1.0)
    watcher.stop()
    drain.close()
    return [watcher.last[case] - at for case, at in sent.items() if case in watcher.last], list(watcher.counts.values())


if __name__ == "__main__":
    main()
