"""``truyvet down``: stops what ``up`` started, workers first, the broker last."""

import argparse
import shutil

from truyvet.members import UP_DIR, read_members, stop_members, write_members


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``truyvet down``."""
    parser.add_argument("--wipe", action="store_true", help="remove the stack's data too: topics, state, ClickHouse")


def run(args: argparse.Namespace) -> int:
    """Stops exactly the recorded processes; a pid that was given out again is left alone."""
    stopped = stop_members(read_members(UP_DIR))
    if UP_DIR.exists():
        write_members(UP_DIR, [])
    print("stopped: " + ", ".join(member.name for member in stopped) if stopped else "nothing was running")
    if args.wipe and UP_DIR.exists():
        shutil.rmtree(UP_DIR)
        print(f"removed: {UP_DIR}")
    return 0
