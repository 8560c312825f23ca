"""Seconds from SIGKILL of one worker of two to the first new commit of its partitions, under a steady flow of scans.

``python -m tests.pipeline.bench_recovery [--held N ...] [--kills N] [--rate N] [--kinds K ...]``: a stack of its own,
the full register of a simulated week of Hanoi, and as many scans held as asked for, one size after another. The kinds:

- ``restart``: the same worker is started again at once, its stores as they were;
- ``takeover``: nobody starts it again until the other worker has its partitions, with the stores that it last had;
- ``takeover-cold``: the same, and the other worker never had them: their state comes from the changelog;
- ``nothing``: it is started again at once, and its folder is gone.

Commits are seen from outside, in the changelogs: what arrives in the first quarter of a second is the killed worker's.
The stages are from the log of the worker that takes over, in seconds since the kill.
"""

import argparse
import random
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import count, islice
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from producers.feed import Feed, make_producer
from producers.lines import SCANS, VENUES, Line, read_lines
from producers.simulate.cli import publication_for
from producers.simulate.generate import generate
from producers.simulate.totals import DEFAULT_TOTALS
from streams.shell.restore import log_consumer, watermarks
from truyvet.config import Settings, load_settings
from truyvet.drain import Drain
from truyvet.stack import Stack

KINDS = ("restart", "takeover", "takeover-cold", "nothing")
VICTIM, OTHER = 0, 1
OLD_OWNER_SECONDS = 0.25
BACK_SECONDS_MAX = 120.0
STAGES = ("worker starts", "register is loaded", "opening", "room is open", "partitions assigned")

HEADER = """\
| kind | million scans held | first partition | last, median | last, worst | records restored | stages |
|---|---|---|---|---|---|---|
"""


class Flow:
    """Sends scans at a steady rate until it is stopped."""

    def __init__(self, settings: Settings, lines: Iterator[Line], rate: int) -> None:
        self._producer = make_producer(settings)
        self._topic = settings.topic(SCANS.topic)
        self._lines, self._rate = lines, rate
        self.sent = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        began = time.monotonic()
        while not self._stopping.wait(0.02):
            due = int((time.monotonic() - began) * self._rate) - self.sent
            for line in islice(self._lines, due):
                self._producer.produce(self._topic, line.value, line.key, timestamp=line.timestamp_ms)
                self.sent += 1
            self._producer.poll(0)

    def stop(self) -> None:
        """Ends the flow, everything sent."""
        self._stopping.set()
        self._thread.join()
        self._producer.flush()


class Watch:
    """Reads the ends of all changelogs, and notes when each room partition first commits after a kill."""

    def __init__(self, settings: Settings) -> None:
        options = {"fetch.wait.max.ms": 20, "enable.partition.eof": False}
        self._consumer: Consumer = log_consumer(settings, **options)
        self._parts = {settings.topic(f"state-{room}"): room for room in ("person", "venue")}
        ends = [
            TopicPartition(topic, p, watermarks(self._consumer, topic, p)[1])
            for topic in self._parts
            for p in range(settings.partitions)
        ]
        self._consumer.assign(ends)
        self._killed_at = time.monotonic()
        self.first: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            for message in self._consumer.consume(1000, 0.01):
                seconds = time.monotonic() - self._killed_at
                part = f"{self._parts[message.topic() or '']}-{message.partition()}"
                if seconds > OLD_OWNER_SECONDS and part not in self.first:
                    self.first[part] = seconds

    def begin(self) -> None:
        """From now on: what is committed is new."""
        self._killed_at = time.monotonic()
        self.first = {}

    def wait(self, parts: set[str]) -> list[float]:
        """Seconds until each of these partitions committed, in order."""
        deadline = time.monotonic() + BACK_SECONDS_MAX
        while not parts <= self.first.keys():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no commit of {sorted(parts - self.first.keys())} in {BACK_SECONDS_MAX:.0f} s")
            time.sleep(0.005)
        return sorted(self.first[part] for part in parts)

    def stop(self) -> None:
        """Ends the watching."""
        self._stopping.set()
        self._thread.join()
        self._consumer.close()


def endless(week: Path) -> Iterator[Line]:
    """The week's scans, then those of as many people more again and again."""
    for turn in count():
        for line in read_lines(week / SCANS.file_name, SCANS):
            key = line.key or b""
            moved = key[turn % 32 :] + key[: turn % 32]
            value = (line.value or b"").replace(b'"scan_id":"', b'"scan_id":"%d-' % turn, 1).replace(key, moved, 1)
            if key:
                yield Line(moved, value, line.timestamp_ms)


class Bench:
    """One stack, a growing state, and kills."""

    def __init__(self, stack: Stack, week: Path, rate: int) -> None:
        self._stack, self._week, self._rate = stack, week, rate
        self._drain, self._feed = Drain(stack), Feed(stack.settings)
        self._lines = endless(week)
        self._held = 0
        self._rng = random.Random(6)  # noqa: S311 - when to kill

    def register(self) -> None:
        """Sends the register."""
        self._feed.send(VENUES.topic, read_lines(self._week / VENUES.file_name, VENUES))
        self._drain.wait(self._drain.processed)

    def hold(self, scans: int) -> None:
        """Sends scans until so many are held."""
        self._feed.send(SCANS.topic, islice(self._lines, max(0, scans - self._held)))
        self._held = max(self._held, scans)
        self._drain.wait(self._drain.processed)

    def kills(self, kind: str, times: int) -> None:
        """Kills so often, and prints a row."""
        flow, watch = Flow(self._stack.settings, self._lines, self._rate), Watch(self._stack.settings)
        firsts, lasts, stages, restored = [], [], [], []
        try:
            for _ in range(times):
                self._settle()
                seconds, log = self._kill(kind, watch)
                firsts.append(seconds[0])
                lasts.append(seconds[-1])
                stages.append(_stages(log))
                restored.append(sum(map(int, re.findall(r"room is open .*restored=(\d+)", log[1]))))
        finally:
            watch.stop()
            flow.stop()
            self._held += flow.sent
        between = " ".join(
            f"{name} {statistics.median(found):.2f};"
            for name in STAGES
            if (found := [stage[name] for stage in stages if name in stage])
        )
        sys.stdout.write(
            f"| {kind} | {self._held / 1e6:.2f} | {statistics.median(firsts):.2f} | {statistics.median(lasts):.2f} | "
            f"{max(lasts):.2f} | {statistics.median(restored):,.0f} | {between} |\n"
        )
        sys.stdout.flush()

    def _settle(self) -> None:
        """Waits until both workers hold their halves and have caught up."""
        parts = 2 * self._stack.settings.partitions
        while not all(self._held_by(number) for number in (VICTIM, OTHER)) or len(self._drain.rooms()) != parts:
            time.sleep(0.1)
        while self._drain.lag() > 5 * self._rate:
            time.sleep(0.1)
        time.sleep(self._rng.uniform(2.0, 3.0))  # a heartbeat's phase is anything

    def _held_by(self, number: int) -> set[str]:
        text = self._stack.progress(self._stack.members()[-2 + number])
        return set(re.findall(r'"((?:person|venue)-\d+)"', text))

    def _kill(self, kind: str, watch: Watch) -> tuple[list[float], tuple[float, str]]:
        stack, orphaned = self._stack, self._held_by(VICTIM)
        folders = [stack.settings.state_dir / f"worker-{number}" / f"worker-{number}" for number in (VICTIM, OTHER)]
        if kind == "takeover-cold":
            for part in orphaned:
                shutil.rmtree(folders[OTHER] / part, ignore_errors=True)
        back = OTHER if kind.startswith("takeover") else VICTIM
        log_path = stack.directory / f"worker-{back}.log"
        log_bytes = log_path.stat().st_size
        watch.begin()
        killed_at = time.time()
        stack.kill_worker(VICTIM)
        if kind == "nothing":
            folders[VICTIM].rename(stack.directory / f"gone-{killed_at}")
        if back == VICTIM:
            stack.start_worker(VICTIM)
        seconds = watch.wait(orphaned)
        if back == OTHER:
            stack.start_worker(VICTIM)
        if kind == "nothing":
            shutil.rmtree(stack.directory / f"gone-{killed_at}")
        return seconds, (killed_at, log_path.read_bytes()[log_bytes:].decode())


def _stages(log: tuple[float, str]) -> dict[str, float]:
    """When the log first says each stage, in seconds since the kill; of the rooms, when the last one is open."""
    killed_at, text = log
    found: dict[str, float] = {}
    for line in text.splitlines():
        at, _, said = line.partition(" ")
        for stage in STAGES:
            if stage in said:
                seconds = datetime.fromisoformat(at).timestamp() - killed_at
                if stage == "room is open":
                    took = float(said.rpartition("seconds=")[2])
                    found["opening"] = min(found.get("opening", seconds), seconds - took)
                    found[stage] = seconds
                found.setdefault(stage, seconds)
    return found


def main() -> None:
    """Prints a row for each size and kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held", type=int, nargs="+", default=[100_000, 1_000_000, 3_000_000], help="scans")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--kills", type=int, default=10, help="of each kind")
    parser.add_argument("--rate", type=int, default=1_000, help="scans a second while killing, over all partitions")
    parser.add_argument("--scale", type=float, default=1.0, help="times the week's totals, of the register too")
    parser.add_argument("--partitions", type=int, default=12)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        week = Path(folder)
        generate(week, publication_for(DEFAULT_TOTALS, None), seed=1, scale=args.scale)
        with Stack(load_settings(restating=True, partitions=args.partitions), workers=2) as stack:
            stack.stop_sink()
            bench = Bench(stack, week, args.rate)
            bench.register()
            sys.stdout.write(HEADER)
            for held in args.held:
                bench.hold(held)
                for kind in args.kinds:
                    bench.kills(kind, args.kills)


if __name__ == "__main__":
    main()
