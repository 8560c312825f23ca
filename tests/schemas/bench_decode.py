"""How long decoding takes, in µs a value: ``python -m tests.schemas.bench_decode``. Not a test.

The workload is 10,000 scans as producers send them, in the order of their minutes, and 10,000 venues.
"""

import sys
from collections.abc import Callable
from time import perf_counter

from schemas.areas import load_areas
from streams.core.decode import decode_scan, decode_scans, decode_venue

COUNT = 10_000
ROUNDS = 15


def scan(number: int) -> bytes:
    """A scan of the minute that its number falls into."""
    return (
        b'{"scan_id":"01HF%022d","person_id":"%032x","venue_id":"01-%06X","direction":"in",'
        b'"occurred_at":"2021-10-14T%02d:%02d:%02d+07:00","source":"pc_covid"}'
    ) % (number, number * 7919, number % 5000, number // 600 % 24, number // 10 % 60, number % 60)


def venue(number: int) -> bytes:
    """A venue with a Vietnamese name."""
    name = f"Chợ Hôm {number}".encode()
    return (
        b'{"venue_id":"01-%06X","name":"%b","category":"market","province_code":"01","district_code":"007",'
        b'"ward_code":"00262","lat":21.018,"lon":105.851,"capacity":900,'
        b'"registered_at":"2021-09-23T09:00:00+07:00","status":"active","dwell_minutes":null,"codes":[]}'
    ) % (number, name)


def best_microseconds(work: Callable[[], object]) -> float:
    """The fastest of some rounds, divided by the number of values."""
    spent = []
    for _ in range(ROUNDS):
        start = perf_counter()
        work()
        spent.append(perf_counter() - start)
    return min(spent) / COUNT * 1e6


def main() -> None:
    """Prints one line per reading."""
    scans = [scan(number) for number in range(COUNT)]
    one_bad = [b"{" if number % 1000 == 500 else value for number, value in enumerate(scans)]
    venues = [venue(number) for number in range(COUNT)]
    areas = load_areas()
    work: dict[str, Callable[[], object]] = {
        "scans in a batch": lambda: decode_scans(scans),
        "scans, one in 1,000 bad": lambda: decode_scans(one_bad),
        "scans one by one": lambda: [decode_scan(value) for value in scans],
        "venues": lambda: [decode_venue(value, areas) for value in venues],
    }
    for name, task in work.items():
        sys.stdout.write(f"{name:24} {best_microseconds(task):.2f}\n")


if __name__ == "__main__":
    main()
