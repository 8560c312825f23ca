"""``./do chaos``: broker, workers, sink and ClickHouse as processes, killed at random from a seed under a steady flow.

The same input runs undisturbed first, as fast as it goes; then with faults. In the end the final views must be the
same, row for row, and every output topic, read from the start and folded, must be its table. Everything is kept in
var/chaos if they are not. Exit status 0 if all is the same, else 1.
"""

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from infra.processes import RUNTIME_DIR, ProcessError
from producers.feed import FeedError
from tests.chaos.run import Options, run, summary
from tests.chaos.stage import Shape
from truyvet.config import Settings

DIRECTORY = RUNTIME_DIR / "chaos"


def main() -> int:
    """Runs it once."""
    parser = argparse.ArgumentParser(prog="./do chaos", description=__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=100, metavar="N", help="SIGKILLs; a tenth as many of each other kind come on top")
    add("--seed", type=int, default=1, metavar="S", help="draws input and faults (default %(default)s)")
    add("--rate", type=float, metavar="R", help="scans a second under faults (default: half of the sustained rate)")
    add("--scale", type=float, default=1.0, metavar="X", help="of Hanoi's scans and venues")
    add("--days", type=int, default=16, metavar="D", help="of Hanoi, 240,000 scans each (default %(default)s)")
    add("--nodes", type=int, choices=(1, 3), default=3, help="of the Kafka cluster (default %(default)s)")
    add("--partitions", type=int, default=4, metavar="P")
    add("--workers", type=int, choices=range(2, 9), default=2, metavar="W", help="2 to 8 (default %(default)s)")
    session_ms = Settings.model_fields["session_timeout_ms"].default
    add("--session-ms", type=int, default=session_ms, metavar="MS", help="session_timeout_ms (default %(default)s)")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # who waits here says nothing; the processes have logs of their own
    shape = Shape(args.nodes, args.partitions, args.workers, args.session_ms)
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"seed-{args.seed}-", dir=DIRECTORY))
    try:
        outcome = run(Options(args.kills, args.seed, args.rate, args.scale, args.days, shape), directory, _tell)
    except (ProcessError, FeedError) as error:
        _tell(f"the undisturbed run FAILED: {error}\nlogs: {directory}")
        return 1
    for line in summary(outcome):
        _tell(line)
    if outcome.same:
        shutil.rmtree(directory)
    else:
        _tell(f"logs, rows and data: {directory}")
    chosen = {name.replace("_", "-"): value for name, value in vars(args).items()} | {"rate": round(outcome.rate)}
    _tell(f"again: ./do chaos {' '.join(f'--{name} {value}' for name, value in chosen.items())}")
    return 0 if outcome.same else 1


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
