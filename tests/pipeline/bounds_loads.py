"""Loads that would hurt a pipeline without bounds: poison, one person, one venue, a clock that is wrong."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from infra.topics import admin_client
from producers.lines import Line
from streams.core.partition import partition_of
from streams.core.times import DAY_MS, format_ms
from tests.oracle.hostile import BAD_FIELDS, TOO_LARGE_BYTES, bad_bytes
from tests.pipeline.months import FIRST_MS, VENUE_COUNT, scans
from truyvet.config import Settings

CARD = b"9f86d081884c7d659a2feaa0c55ad015"
"""The person of 100,000 scans."""
CASE_PERSON = b"ca5e" * 8
POISON_LARGE_BYTES = 60 * 1024
_SMALL_BYTES_MAX = 2_048
_POOL = 2_000


def scan(scan_id: str, person: bytes, venue: int, occurred_ms: int, direction: str = "in") -> bytes:
    """A scan's JSON."""
    return (
        b'{"scan_id":"%b","person_id":"%b","venue_id":"V%05d","direction":"%b","occurred_at":"%b","source":"vhd"}'
    ) % (scan_id.encode(), person, venue, direction.encode(), format_ms(occurred_ms).encode())


def person_of(number: int) -> bytes:
    """A person's id."""
    return b"%032x" % (number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128))


def ordinary(count: int) -> Iterator[Line]:
    """Good scans of days of 100,000."""
    per_day = 100_000
    for day in range(-(-count // per_day)):
        yield from scans(day, min(per_day, count - day * per_day))


def poison(count: int, large: int) -> Iterator[Line]:
    """Malformed values of every kind, ``large`` of them of 60 KiB and in a row; half of those compress to nothing.

    All of one day; keys are good ones, none, or rubbish.
    """
    rng = random.Random(6)  # noqa: S311 - the same poison every time
    good = json.loads(scan("p", CARD, 1, FIRST_MS))
    pool: list[bytes] = [json.dumps(good | fields).encode() for fields in BAD_FIELDS]
    while len(pool) < _POOL:
        value = bad_bytes(rng, good)
        if len(value) <= _SMALL_BYTES_MAX:
            pool.append(value)
    keys = [CARD, None, b"\xff" * 16, b"", *(person_of(number) for number in range(100))]
    burst = range(count // 2, count // 2 + large)
    for number in range(count):
        if number not in burst:
            value = rng.choice(pool) if number % 1_000 else b"x" * TOO_LARGE_BYTES
        elif number % 2:
            value = b'{"scan_id":"' + b"x" * POISON_LARGE_BYTES + b'"}'
        else:
            value = b'{"scan_id":"' + rng.randbytes(POISON_LARGE_BYTES // 2).hex().encode() + b'"}'
        yield Line(key=rng.choice(keys), value=value, timestamp_ms=FIRST_MS + number)


def mixed_in(good: Iterator[Line], bad: Iterator[Line], each: int) -> Iterator[Line]:
    """One good line after every ``each`` bad ones."""
    for line in good:
        yield line
        yield from islice(bad, each)
    yield from bad


def card(count: int, order: str) -> Iterator[Line]:
    """Scans of one person at many venues: ``in order`` over 20 days, the same ``shuffled``, or all ``in a day``."""
    rng = random.Random(7)  # noqa: S311 - the same card every time
    span_ms = DAY_MS if order == "in a day" else 20 * DAY_MS
    first_ms = FIRST_MS + 20 * DAY_MS - span_ms
    numbers = list(range(count))
    if order == "shuffled":
        rng.shuffle(numbers)
    for number in numbers:
        at_ms = first_ms + number * span_ms // count
        value = scan(f"c{number}", CARD, rng.randrange(VENUE_COUNT), at_ms, "out" if number % 3 else "in")
        yield Line(key=CARD, value=value, timestamp_ms=FIRST_MS + 20 * DAY_MS)


def neighbours(count: int, partitions: int, after: int = 0) -> Iterator[Line]:
    """One scan each of other persons who live in the card's partition."""
    home = partition_of(CARD, partitions)
    found = (number for number in range(after, after + 500_000) if _home(number, partitions) == home)
    for number in islice(found, count):
        at_ms = FIRST_MS + 20 * DAY_MS
        yield Line(person_of(number), scan(f"n{number}", person_of(number), number % VENUE_COUNT, at_ms), at_ms)


def _home(number: int, partitions: int) -> int:
    return partition_of(person_of(number), partitions)


def crowd(count: int) -> Iterator[Line]:
    """So many persons at one venue, one after another over 20 days, an hour's dwell each."""
    for number in range(count):
        at_ms = FIRST_MS + number * 20 * DAY_MS // count
        yield Line(person_of(number), scan("v", person_of(number), 0, at_ms), at_ms)


def case_in_crowd() -> tuple[Line, Line, int]:
    """(a scan of the crowd's venue in its middle, the report of its person as a case, the report's time)."""
    at_ms = FIRST_MS + 10 * DAY_MS
    report = {"case_id": "B-1", "person_id": CASE_PERSON.decode(), "status": "confirmed", "ruleset": "vn-2021-07"}
    report |= {"sampled_at": format_ms(at_ms), "reported_at": format_ms(at_ms)}
    came = Line(CASE_PERSON, scan("case", CASE_PERSON, 0, at_ms), at_ms)
    return came, Line(CASE_PERSON, json.dumps(report).encode(), at_ms), at_ms


def late_for_card(count: int) -> Iterator[Line]:
    """Further scans of the card, all over its first days, each at its own venue."""
    for number in range(count):
        at_ms = FIRST_MS + 19 * DAY_MS + number * DAY_MS // (2 * count) + 1
        yield Line(CARD, scan(f"late{number}", CARD, number % VENUE_COUNT, at_ms), FIRST_MS + 20 * DAY_MS)


def at(name: str, count: int, occurred_ms: int, timestamp_ms: int) -> Iterator[Line]:
    """Scans of one instant, of as many persons, whose records say that they are of another."""
    for number in range(count):
        value = scan(f"{name}{number}", person_of(number), number % VENUE_COUNT, occurred_ms)
        yield Line(person_of(number), value, timestamp_ms)


def until_now(days: int, per_day: int) -> Iterator[Line]:
    """The scans of ``months``, moved so that they end now."""
    shift_ms = time.time_ns() // 1_000_000 - FIRST_MS - days * DAY_MS
    for day in range(days):
        for line in scans(day, per_day):
            at_ms = line.timestamp_ms + shift_ms
            old, new = format_ms(line.timestamp_ms).encode(), format_ms(at_ms).encode()
            yield Line(line.key, (line.value or b"").replace(old, new), at_ms)


@contextmanager
def stamped_by_producer(settings: Settings) -> Iterator[None]:
    """Lets records of ``scans`` carry what their producer says, as a broker with that clock would stamp them."""
    _configure(settings, {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)})
    try:
        yield
    finally:
        _configure(settings, {"message.timestamp.type": "LogAppendTime"})


def _configure(settings: Settings, options: dict[str, str]) -> None:
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in options.items()]
    resource = ConfigResource(ResourceType.TOPIC, settings.topic("scans"), incremental_configs=entries)
    admin = admin_client(settings)  # held until it has answered
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    time.sleep(0.5)  # until the broker goes by it
