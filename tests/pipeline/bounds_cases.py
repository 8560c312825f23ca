"""What happens to a pipeline under loads that would hurt one without bounds: each case runs one and says what it saw.

Cases are run by ``bench_bounds`` at full size and by the tests in small. Each takes a maker of stacks, and ends with
every record accounted for, or an ``AssertionError``.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from producers.feed import Feed
from producers.lines import CASES, SCANS, VENUES, Line
from sinks.client import open_reader
from streams.core.times import DAY_MS, MINUTE_MS, format_ms
from tests.pipeline import bounds_loads as loads
from tests.pipeline.months import venues
from truyvet.drain import Drain
from truyvet.members import health
from truyvet.stack import Stack

MakeStack = Callable[..., Stack]
"""Makes a stack that is not started: ``workers`` and settings."""
_MIB = 1 << 20


@dataclass
class Row:
    """One line of the table."""

    case: str
    events: int
    seconds: float
    peaks_mib: dict[str, float]
    """Peak memory of worker and sink, by what they are."""
    log_lines: int
    told: list[str] = field(default_factory=list)
    """What the user hears: health, log lines, estimates."""
    accounted: str = ""
    """Where every record is."""
    estimate_ratio: float = 0.0
    """What a backlog was said to take over what it took, at a third of the way."""

    @property
    def rate(self) -> float:
        """Events a second, from the first one sent to the last row stored."""
        return self.events / self.seconds


class Bench:
    """One stack and what is done to it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.drain, self.feed = Drain(stack), Feed(stack.settings)
        self._lines_before = 0

    def register(self) -> None:
        """Sends the register; what was logged until it is read is not counted."""
        self.feed.send(VENUES.topic, venues())
        if self.stack.worker_urls():
            self.drain.wait(self.drain.settled)
        self._lines_before = len(self.log())

    def send(self, lines: Iterable[Line], topic: str = SCANS.topic) -> int:
        """Sends; returns how many."""
        return self.feed.send(topic, lines)

    def settle(self) -> None:
        """Waits until nothing is left to do anywhere."""
        self.drain.wait(self.drain.settled)

    def log(self) -> list[str]:
        """All lines that worker and sink have logged."""
        return [
            line for name in ("worker-0", "sink") for line in _text(self.stack.directory / f"{name}.log").splitlines()
        ]

    def troubles(self) -> list[str]:
        """The warnings and errors among them, without their time."""
        return [line.partition(" ")[2] for line in self.log() if " WARNING " in line or " ERROR " in line]

    def health(self) -> dict[str, str]:
        """What each process says of itself."""
        return {member.name: health(member) for member in self.stack.members()}

    def progress(self, kind: str) -> dict[str, Any]:
        """What the one process of this kind shows of itself."""
        [member] = [member for member in self.stack.members() if member.kind == kind]
        shown: dict[str, Any] = json.loads(self.stack.progress(member))
        return shown

    def peaks(self) -> dict[str, float]:
        """Peak memory so far in MiB of worker and sink."""
        used = self.stack.usage()
        return {name: used[name].memory_bytes_peak / _MIB for name in ("worker-0", "sink") if name in used}

    def count(self, sql: str) -> int:
        """One number out of ClickHouse."""
        with open_reader(self.stack.settings) as reader:
            return int(reader.query(sql)[1][0][0])

    def rejects(self) -> dict[str, int]:
        """Rows of rejects by reason."""
        with open_reader(self.stack.settings) as reader:
            rows = reader.query("SELECT reason, count() FROM rejects FINAL GROUP BY reason ORDER BY reason")[1]
        return {str(reason): int(count) for reason, count in rows}

    def account(self, accepted: int, rejected: int) -> str:
        """Holds what is stored to what was sent."""
        found, rejects = self.count("SELECT count() FROM v_scans"), self.rejects()
        assert found == accepted, f"{found} scans stored, {accepted} sent; rejects {rejects}"
        assert sum(rejects.values()) == rejected, f"rejects {rejects}, {rejected} expected"
        return f"{found:,} accepted, {sum(rejects.values()):,} rejects"

    def row(self, case: str, events: int, began: float, accounted: str, told: list[str]) -> Row:
        """The line of the table."""
        seconds = time.monotonic() - began
        lines = len(self.log()) - self._lines_before
        return Row(case, events, seconds, self.peaks(), lines, told, accounted)

    def close(self) -> None:
        """Ends the watch's own connection."""
        self.drain.close()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def ordinary(make: MakeStack, sizes: tuple[int, ...]) -> list[Row]:
    """Good scans, to compare with: the peaks after each of these numbers of them."""
    rows, sent = [], 0
    with make() as stack:
        bench = Bench(stack)
        bench.register()
        lines, began = loads.ordinary(sizes[-1]), time.monotonic()
        for size in sizes:
            sent += bench.send(islice(lines, size - sent))
            bench.settle()
            rows.append(bench.row("ordinary", sent, began, bench.account(size, 0), bench.troubles()))
        bench.close()
    return rows


def poison(make: MakeStack, bad: int, large: int, good: int) -> Row:
    """Malformed values of every kind, good scans among them."""
    with make() as stack:
        bench = Bench(stack)
        bench.register()
        began = time.monotonic()
        sent = bench.send(loads.mixed_in(loads.ordinary(good), loads.poison(bad, large), bad // good))
        bench.settle()
        assert sent == bad + good
        row = bench.row("poison", sent, began, bench.account(good, bad), bench.troubles())
        row.told += [f"rejects {bench.rejects()}"]
        bench.close()
    return row


def person(make: MakeStack, count: int, order: str, others: int) -> Row:
    """One card with so many scans; then how long scans of others in its partition take while it goes on."""
    with make() as stack:
        bench = Bench(stack)
        bench.register()
        before = latencies(bench, loads.neighbours(others, stack.settings.partitions), iter(()))
        began = time.monotonic()
        bench.send(loads.card(count, order))
        bench.settle()
        row = bench.row(f"person, {order}", count, began, bench.account(count + others, 0), bench.troubles())
        # Late ones, each between two that are held.
        late = loads.late_for_card(others)
        meanwhile = latencies(bench, loads.neighbours(others, stack.settings.partitions, 500_000), late)
        bench.settle()
        row.accounted = bench.account(count + 3 * others, 0)
        row.peaks_mib = bench.peaks()
        row.told += [f"others wait {_spread(before)} before, {_spread(meanwhile)} with the card going on"]
        bench.close()
    return row


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.0f} ms (at most {max(seconds) * 1e3:.0f})"


def latencies(bench: Bench, lines: Iterable[Line], beside: Iterable[Line]) -> list[float]:
    """Seconds from each line sent, one of ``beside`` before it, until it is on the ``enriched`` topic for others."""
    settings = bench.stack.settings
    consumer = Consumer(
        settings.librdkafka()
        | {
            "group.id": "bounds",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 5,
            "enable.auto.commit": False,
        }
    )
    topic = settings.topic("enriched")
    ends = bench.drain.ends(("enriched",))[topic]
    consumer.assign([TopicPartition(topic, partition, end) for partition, end in ends.items()])
    found = []
    other = iter(beside)
    for line in lines:
        first = next(other, None)
        if first is not None:
            bench.send([first])
        began = time.monotonic()
        bench.send([line])
        while time.monotonic() - began < 60.0:
            message = consumer.poll(0.01)
            if message is not None and message.error() is None and message.key() == line.key:
                break
        else:
            raise AssertionError("a scan was not accepted within a minute")
        found.append(time.monotonic() - began)
    consumer.close()
    return found


def venue(make: MakeStack, count: int) -> Row:
    """A venue with so many visits, then a case among them."""
    came, report, at_ms = loads.case_in_crowd()
    dwell_ms = 45 * MINUTE_MS
    met = sum(abs(line.timestamp_ms - at_ms) < dwell_ms for line in loads.crowd(count))
    with make() as stack:
        bench = Bench(stack)
        bench.register()
        began = time.monotonic()
        bench.send(loads.crowd(count))
        bench.settle()
        row = bench.row("venue", count, began, "", bench.troubles())
        bench.send([came])
        bench.settle()
        began = time.monotonic()
        bench.send([report], CASES.topic)
        bench.settle()
        seconds = time.monotonic() - began
        found = bench.count("SELECT count() FROM v_exposures")
        assert found == met, f"{found} exposures, {met} met the case"
        row.accounted = f"{bench.account(count + 1, 0)}, {found:,} exposures"
        row.told.append(f"case reported to exposures stored: {seconds:.1f} s")
        row.peaks_mib = bench.peaks()
        bench.close()
    return row


def backlog(make: MakeStack, days: int, per_day: int) -> Row:
    """So many days of input wait before the first worker starts; what it says at a third of the way, and the truth."""
    with make(workers=0, restating=False) as stack:
        bench = Bench(stack)
        bench.register()
        with loads.stamped_by_producer(stack.settings):
            sent = bench.send(loads.until_now(days, per_day))
        began = time.monotonic()
        stack.start_worker(0)
        seen = _watch_backlog(bench)
        caught_up = seen[-1][0]
        row = bench.row("backlog", sent, began, "", [])
        bench.settle()
        row.accounted = bench.account(sent, 0)
        most = max(records for _, records, _, _ in seen)
        third = next(one for one in seen if one[1] <= most * 2 / 3 and one[2] is not None)
        truth = caught_up - third[0]
        row.told = [
            f"at a third of the way: {third[3]!r}, and it took {truth:.0f} s",
            *[line.partition(" ")[2] for line in bench.log() if " catching up " in line or " caught up " in line],
        ]
        row.estimate_ratio = float(third[2] or 0) / truth
        row.told.append(f"estimate over truth {row.estimate_ratio:.2f}")
        bench.close()
    return row


Seen = tuple[float, int, float | None, str]
"""(monotonic seconds, records behind, seconds left as estimated, in words)."""


def _watch_backlog(bench: Bench) -> list[Seen]:
    """What the worker says of its backlog, until there is none."""
    seen: list[Seen] = []
    while True:
        time.sleep(0.25)
        bench.stack.check()
        told = bench.progress("worker")["backlog"]
        if told and (told["records"] or seen):
            seen.append((time.monotonic(), told["records"], told["seconds"], told["text"]))
            if not told["records"]:
                return seen


def clock(make: MakeStack, count: int) -> Row:
    """Producers whose clocks are three years ahead and behind, and records stamped years ahead by a broker."""
    with make(restating=False) as stack:
        bench = Bench(stack)
        bench.register()
        began = time.monotonic()
        now_ms = time.time_ns() // 1_000_000
        good = list(loads.at("good", count, now_ms - DAY_MS, now_ms))
        bench.send(good)
        for name, wrong_ms in (("ahead", now_ms + 1_095 * DAY_MS), ("behind", now_ms - 1_095 * DAY_MS)):
            bench.send(loads.at(name, count, wrong_ms, wrong_ms))
        bench.settle()
        with loads.stamped_by_producer(stack.settings):
            bench.send(loads.at("stamped", count, now_ms, now_ms + 1_095 * DAY_MS))
            bench.settle()
        time.sleep(5.0)  # for what would expire now: rooms look once a second
        expired = {room["expired"] or "" for room in bench.drain.rooms().values()}
        assert max(expired) < format_ms(now_ms - 27 * DAY_MS), f"state has expired up to {expired}"
        # Had state been let go of, these copies would be too old.
        bench.send(good)
        bench.send(loads.at("later", count, now_ms, now_ms))
        bench.settle()
        accounted = bench.account(2 * count, 3 * count)
        rejects = bench.rejects()
        assert rejects == {"in_future": count, "too_old": 2 * count}, rejects
        said = [f"rejects {rejects}", f"health {bench.health()}", *bench.troubles()]
        row = bench.row("clock", 6 * count, began, f"{accounted}, {count:,} copies", said)
        bench.close()
    return row
