"""Loads that would hurt a pipeline without bounds: ``python -m tests.pipeline.bench_bounds [NAME...] [--minutes N]``.

Each case is a stack of its own, broker included, and prints a line of the table in docs/performance.md: what came, how
fast, the peak memory of worker and sink beside that of an ordinary load of the same size, what the user is told, and
where every record is. A case that loses one fails.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.pipeline import bounds_cases as cases
from tests.pipeline import bounds_faults as faults
from truyvet.config import load_settings
from truyvet.stack import Stack

PARTITIONS = 4
SLOW_SCANS_PER_SECOND = 3_000
SIZES = (100_000, 550_000, 1_000_000)


def make(workers: int = 1, directory: Path | None = None, **settings: object) -> Stack:
    """A stack of its own."""
    values: dict[str, object] = {"restating": True, "partitions": PARTITIONS}
    return Stack(load_settings(None, **(values | settings)), directory, workers=workers)


def _persons() -> Iterator[cases.Row]:
    for order in ("in order", "shuffled", "in a day"):
        yield cases.person(make, 100_000, order, 100)


def _disks() -> Iterator[cases.Row]:
    yield faults.full_state(make, 100_000)
    yield faults.full_database(make, 100_000)
    yield faults.full_broker(make, 100_000)


RUNS: dict[str, Callable[[float], Iterator[cases.Row]]] = {
    "ordinary": lambda _: iter(cases.ordinary(make, SIZES)),
    "poison": lambda _: iter([cases.poison(make, bad=500_000, large=5_000, good=50_000)]),
    "person": lambda _: _persons(),
    "venue": lambda _: iter([cases.venue(make, 1_000_000)]),
    "backlog": lambda _: iter([cases.backlog(make, 28, 100_000)]),
    "disk": lambda _: _disks(),
    "clock": lambda _: iter([cases.clock(make, 20_000)]),
    "slow": lambda minutes: iter([faults.slow(make, minutes, SLOW_SCANS_PER_SECOND)]),
}


def main() -> None:
    """Prints the table, and below each line what the user was told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}; none: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="for how long ClickHouse is slow")
    args = parser.parse_args()
    unknown = set(args.names) - RUNS.keys()
    if unknown:
        parser.error(f"no such case: {min(unknown)}")
    _say("| case | events | events/s | peak MiB: worker, sink | log lines | accounted for |")
    _say("|---|---|---|---|---|---|")
    for name in args.names or RUNS:
        for row in RUNS[name](args.minutes):
            peaks = ", ".join(f"{mib:,.0f}" for mib in row.peaks_mib.values())
            _say(f"| {row.case} | {row.events:,} | {row.rate:,.0f} | {peaks} | {row.log_lines} | {row.accounted} |")
            for told in row.told:
                _say(f"    {told}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
