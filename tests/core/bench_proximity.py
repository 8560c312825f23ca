"""What the venue room's join costs: ``python -m tests.core.bench_proximity [DIRECTORY]``. Not a test.

First µs per record of ``visits``, in batches of 10,000. Then the time of one case visit that meets 50 people at a
venue of 100,000 stored visits, and at one of 1,000,000, on a real store: cold (reopened, its files out of the page
cache, one look-up per opening) and warm. Half of the visits are estimated ones of 45 minutes, half scanned ones of
1 to 240; they are spread over 28 days, as dense just before and after the case's stay as anywhere, and none meets it.
The larger venue has ten times as many of them just before it, which is what a look-up reads in vain. How cold a cold
look-up is depends on how far the kernel reads ahead.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, thread_time
from zoneinfo import ZoneInfo

from streams.core import proximity
from streams.core.crossing import CaseVisit, Interval, encode_case_visit, was_header
from streams.core.room import RoomPartition
from streams.core.ruleset import Level, Ruleset
from streams.core.step import Record, Step
from streams.core.times import MINUTE_MS, LocalClock, format_ms
from streams.shell import store as store_module
from streams.shell.store import Store

ROOM = RoomPartition(0, 1, "checkin.", 28 * 86_400_000, LocalClock(ZoneInfo("Asia/Ho_Chi_Minh")), {})
RULE = Ruleset(
    "vn-2021-07", 1, 3, 14, 14, 0, 0, "none", 0, (), (Level("low", 0), Level("medium", 15), Level("high", 60))
)
START_MS = 1_634_144_400_000
SPAN_MINUTES = 28 * 24 * 60
STAY = Interval(START_MS + 20 * 1440 * MINUTE_MS, START_MS + 20 * 1440 * MINUTE_MS + 60 * MINUTE_MS)
VENUE = b"01-7Q4ZK2"
BATCH = 10_000
CONTACTS = 50
COLD_ROUNDS = 40
WARM_ROUNDS = 200
_ACTIVE = (
    b'{"visit_id":"%032x","person_id":"%032x","venue_id":"%b","started_at":"%b","ended_at":"%b","start_kind":"scanned",'
    b'"end_kind":"estimated","first_scan_id":"01HF3ZK8T2Q4V6X8Y0A2C4E6G8","first_scan_at":"%b","scan_count":1,'
    b'"category":"market","province_code":"01","district_code":"007","ward_code":"00262","status":"active","revision":%d}'
)


def visit(number: int, venue: bytes, interval: Interval, was: Interval | None = None) -> Record:
    """A record of ``visits``; its visit's id and person follow from ``number``."""
    start, end = format_ms(interval.start_ms).encode(), format_ms(interval.end_ms).encode()
    value = _ACTIVE % (number * 7919 << 64 | number, number, venue, start, end, start, number)
    return Record(number, START_MS, venue, value, was_header(was) if was else ())


def case_visit(was: Interval | None, *, active: bool) -> Record:
    """A record of ``case-visits`` of a person who is none of the visitors."""
    event = CaseVisit("HN-0001", "ff" * 16, "case", was, "retracted")
    if active:
        event = CaseVisit(
            *("HN-0001", "ff" * 16, "case", was, "active", "ee" * 16),
            *(STAY.start_ms, STAY.end_ms, STAY.end_ms, STAY.start_ms, RULE),
        )
    return Record(0, START_MS, VENUE, encode_case_visit(event))


def crowd(random: Random, count: int) -> Iterator[Interval]:
    """Stays over 28 days: as many before and after the case's as anywhere, but none that meets it."""
    while count:
        length_ms = 45 * MINUTE_MS if random.random() < 0.5 else random.randint(60, 240 * 60) * 1000
        start_ms = START_MS + random.randrange(SPAN_MINUTES * 60) * 1000
        if start_ms >= STAY.end_ms or start_ms + length_ms <= STAY.start_ms:
            count -= 1
            yield Interval(start_ms, start_ms + length_ms)


@dataclass(slots=True)
class Filled:
    """A store's directory, and how the store's steps count on."""

    directory: Path
    number: int = 0

    def run(
        self, store: Store, take: Callable[..., Step], records: list[Record], clock: Callable[[], float] = perf_counter
    ) -> tuple[float, int]:
        """(seconds, exposures) of one step, which is then stored; the time is that of the decision."""
        self.number += 1
        began = clock()
        step = take(ROOM, self.number, records, store)
        seconds = clock() - began
        store.apply(step.changes)
        store.written(self.number)
        return seconds, len(step.outputs.get("exposures", []))


def fill(directory: Path, count: int) -> Filled:
    """A store of one venue with so many visits, in the order of their starts, and the 50 whom the case meets."""
    random, filled = Random(count), Filled(directory)  # noqa: S311 - the same crowd every time
    stays = [*crowd(random, count - CONTACTS)]
    stays += [Interval(STAY.start_ms + n * MINUTE_MS, STAY.start_ms + (n + 5) * MINUTE_MS) for n in range(CONTACTS)]
    stays.sort()
    store = Store(directory)
    for at in range(0, count, BATCH):
        records = [visit(at + n, VENUE, stay) for n, stay in enumerate(stays[at : at + BATCH])]
        filled.run(store, proximity.take_visits, records)
    store.close()
    return filled


def forget(directory: Path) -> None:
    """Drops what the kernel and RocksDB remember of a closed store's files."""
    store_module._block_cache.set_capacity(0)
    store_module._block_cache.set_capacity(store_module._BLOCK_CACHE_BYTES)
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def look_up(filled: Filled, store: Store) -> float:
    """Milliseconds that a case visit takes which meets the 50; it is withdrawn again."""
    seconds, found = filled.run(store, proximity.take_case_visits, [case_visit(None, active=True)])
    assert found == CONTACTS
    _, gone = filled.run(store, proximity.take_case_visits, [case_visit(STAY, active=False)])
    assert gone == CONTACTS
    return seconds * 1e3


def cold(filled: Filled) -> float:
    """Of a store just opened."""
    forget(filled.directory)
    store = Store(filled.directory)
    spent = look_up(filled, store)
    store.close()
    return spent


def contacts(directory: Path) -> None:
    """Prints medians for both sizes, and their ratio; the two take turns, so that a slow moment hits both."""
    sizes = (100_000, 1_000_000)
    filled = [fill(directory / str(size), size) for size in sizes]
    spent: dict[str, list[list[float]]] = {"cold": [[], []], "warm": [[], []]}
    for _ in range(COLD_ROUNDS):
        for venue, times in zip(filled, spent["cold"], strict=True):
            times.append(cold(venue))
    stores = [Store(venue.directory) for venue in filled]
    for _ in range(WARM_ROUNDS):
        for venue, store, times in zip(filled, stores, spent["warm"], strict=True):
            times.append(look_up(venue, store))
    for state, both in spent.items():
        small, large = map(median, both)
        sys.stdout.write(
            f"{state}: {small:.2f} ms of 100,000, {large:.2f} ms of 1,000,000: ratio {large / small:.2f}\n"
        )
    for store in stores:
        store.close()


def hot_path(directory: Path) -> None:
    """Prints µs per record of ``visits`` at 5,000 venues without a case, and at venues that a case has visited."""
    for title, case_venues in (("no case", 0), ("a case at each venue", 5_000)):
        filled, store = Filled(directory / title), Store(directory / title)
        if case_venues:
            records = [case_visit(None, active=True)._replace(key=b"01-%06X" % n) for n in range(case_venues)]
            filled.run(store, proximity.take_case_visits, records)
        fresh, moved = [], []
        for at in range(0, 20 * BATCH, BATCH):
            stays = [
                (n, Interval(START_MS + n * 250, START_MS + n * 250 + 45 * MINUTE_MS)) for n in range(at, at + BATCH)
            ]
            records = [visit(n, b"01-%06X" % (n * 7919 % 5_000), stay) for n, stay in stays]
            fresh.append(filled.run(store, proximity.take_visits, records, thread_time)[0])
            records = [
                visit(n, b"01-%06X" % (n * 7919 % 5_000), stay._replace(end_ms=stay.end_ms + MINUTE_MS), stay)
                for n, stay in stays
            ]
            moved.append(filled.run(store, proximity.take_visits, records, thread_time)[0])
        new, changed = (median(times) / BATCH * 1e6 for times in (fresh, moved))
        sys.stdout.write(f"visits, {title}: new {new:.2f}, changed {changed:.2f} µs of CPU a record\n")
        store.close()


def main(directory: Path) -> None:
    """Prints one line per measurement."""
    hot_path(directory)
    contacts(directory)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as name:
        main(Path(name))
