"""Seconds until a worker has the register, and its memory, without and with the copy on disk.

``python -m tests.pipeline.bench_register [--venues N ...]``: for each number a broker of its own, filled with as many
venues; a worker that starts from nothing, and one that starts again with the copy that the first one made.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.topics import ensure_topics
from producers.feed import Feed
from producers.lines import VENUES, Line
from tests.conftest import wait_until
from tests.pipeline.months import FIRST_MS
from truyvet.config import load_settings
from truyvet.stack import Stack

_SECONDS_MAX: Final = 1800.0
_ODD: Final = 2654435761
"""Times a number, modulo 2**32: ids that are all different and in no order."""


def venues(count: int) -> Iterator[Line]:
    """A register of ``count`` venues."""
    for number in range(count):
        venue_id = b"01-%08X" % (number * _ODD % 2**32)
        value = (
            b'{"venue_id":"%b","category":"cafe","province_code":"01","district_code":"007","ward_code":"00262",'
            b'"lat":21.%06d,"lon":105.%06d,"name":"Venue","registered_at":"2021-08-01T08:00:00+07:00","status":"active"}'
            % (venue_id, number % 999_983, number % 999_979)
        )
        yield Line(key=venue_id, value=value, timestamp_ms=FIRST_MS)


def _start(stack: Stack, copy: Path) -> str:
    """Starts a worker; what its loading took, in words."""
    path = stack.directory / "worker-0.log"
    begin = path.stat().st_size if path.exists() else 0
    began = time.monotonic()
    stack.start_worker(0)

    def loaded() -> bool:
        stack.check()
        return b"register is loaded" in path.read_bytes()[begin:]

    if not wait_until(loaded, _SECONDS_MAX):
        raise SystemExit("the register was not loaded in time")
    seconds = time.monotonic() - began
    at_load = stack.usage()["worker-0"]
    # The rooms read the venues too, to reject what is bad; and the copy is made once nothing more comes.
    if not wait_until(copy.exists, _SECONDS_MAX):
        raise SystemExit(f"no copy was made: {copy}")
    cpu_seconds = -1.0
    while stack.usage()["worker-0"].cpu_seconds > cpu_seconds + 0.5:
        cpu_seconds = stack.usage()["worker-0"].cpu_seconds
        time.sleep(3.0)
    peak = stack.usage()["worker-0"].memory_bytes_peak
    read = re.findall(r"register is loaded venues=(\d+) read=(\d+)", path.read_text(encoding="utf-8"))[-1]
    stack.stop_worker(0)
    return (
        f"loaded after {seconds:.1f} s and {at_load.cpu_seconds:.1f} CPU-seconds, {read[1]} of {read[0]} read; peak "
        f"{at_load.memory_bytes_peak / 1024**2:.0f} MiB until then, {peak / 1024**2:.0f} in all"
    )


def _measure(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(load_settings(restating=True, partitions=4, query_port=0), Path(folder))
        try:
            stack.start_broker()
            ensure_topics(stack.settings)
            Feed(stack.settings).send(VENUES.topic, venues(count))
            copy = stack.settings.state_dir / "worker-0" / "worker-0" / "register"
            for title in ("from nothing", "with the copy"):
                sys.stdout.write(f"{count:,} venues, {title}: {_start(stack, copy)}\n")
                sys.stdout.flush()
        finally:
            stack.stop()


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venues", type=int, nargs="+", default=[600_000, 5_000_000])
    for count in parser.parse_args().venues:
        _measure(count)


if __name__ == "__main__":
    main()
