"""A worker that holds the person room alone: ``python -m bench.person_worker``, with a worker's own settings.

The venue room's topics are taken from the worker's list before it starts; everything else is as ``truyvet worker``.
With ``--counts-only`` the room does the job that it shares with the other contenders: checks, duplicates, venues,
``enriched``, rejects and ``ward_minute`` cells. Else it does all it ever does, visits, hours, days and venue marks
included. Either way a step is one transaction, with its changelog.
"""

import argparse
import sys
from functools import partial

from streams.core.room import VENUE_ROOM, RoomPartition
from streams.shell import inputs, rooms, worker


def main() -> int:
    """Runs until SIGTERM; returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts-only", action="store_true")
    counts_only = parser.parse_args().counts_only
    del inputs.TOPICS[VENUE_ROOM]
    setattr(rooms, "RoomPartition", partial(RoomPartition, counts_only=counts_only))  # noqa: B010 - a class, not a partial
    return worker.run(argparse.Namespace())


if __name__ == "__main__":
    sys.exit(main())
