"""A worker that holds the person room alone: ``python -m bench.person_worker``, with a worker's own settings.

The venue room's topics are taken from the worker's list before it starts; everything else is as ``truyvet worker``.
The person room does all it ever does, visits, hours, days and venue marks included, and commits it in transactions.
"""

import argparse
import sys

from streams.core.room import VENUE_ROOM
from streams.shell import rooms, worker


def main() -> int:
    """Runs until SIGTERM; returns the exit status."""
    del rooms.TOPICS[VENUE_ROOM]
    return worker.run(argparse.Namespace())


if __name__ == "__main__":
    sys.exit(main())
