"""``truyvet replay``: runs the whole pipeline, on a stack of its own, on a folder of input files (SPEC §10).

The register first; then scans, cases and erasures at the same time, each in file order; ``venues-late`` once
those are drained. When all is drained, every table is written to a file of final rows. Rulesets in the folder
``rulesets`` there are used instead of the shipped ones.
"""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from producers.feed import Feed, FeedError
from producers.lines import CASES, ERASURES, SCANS, VENUES, VENUES_LATE, FileKind, read_lines
from sinks.backends import QueryFailedError, StorageError
from sinks.client import open_reader
from sinks.export import export_tables
from truyvet.config import ConfigError, Settings, load_settings
from truyvet.drain import Drain
from truyvet.rulesets import files_of, load_rulesets
from truyvet.stack import Stack
from truyvet.terminal import Teller

PROGRESS_SECONDS = 1.0
_RULESETS = "rulesets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``truyvet replay``."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="folder of input files (*.jsonl)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables, made if it is not there")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes (default 1)")
    parser.add_argument("--partitions", type=int, default=None, metavar="P", help="partitions (default: the setting)")


def run(args: argparse.Namespace) -> int:
    """Replays a folder; exit status 1 where a process fails or a line is not taken."""
    settings = replay_settings(args)
    with Stack(settings, workers=args.workers) as stack:
        try:
            replay(stack, args.directory, Teller("replay", PROGRESS_SECONDS))
        except FeedError as error:
            print(f"truyvet replay: {error}", file=sys.stderr)
            return 1
        try:
            with open_reader(stack.settings) as reader:
                rows = export_tables(reader, args.out)
        except (StorageError, QueryFailedError, OSError) as error:
            print(f"truyvet replay: {error}", file=sys.stderr)
            return 1
    print(f"truyvet replay: {sum(rows.values())} rows of {len(rows)} tables in {args.out}", file=sys.stderr)
    return 0


def replay_settings(args: argparse.Namespace) -> Settings:
    """The settings of a replay's own stack.

    Raises:
        ConfigError: the folder, a number, or one of the folder's own rulesets makes no sense.
    """
    if not args.directory.is_dir():
        raise ConfigError(f"DIR: {args.directory} is no folder")
    kinds = (VENUES, SCANS, CASES, ERASURES, VENUES_LATE)
    if not any((args.directory / kind.file_name).exists() for kind in kinds):
        raise ConfigError(f"DIR: {args.directory} holds none of {', '.join(kind.file_name for kind in kinds)}")
    if not 1 <= args.workers <= 64:  # noqa: PLR2004 - said in the message
        raise ConfigError(f"--workers: must be 1 to 64, not {args.workers}")
    settings = load_settings(restating=True, partitions=args.partitions)
    return settings.model_copy(update=own_rulesets(args.directory))


def own_rulesets(directory: Path) -> dict[str, object]:
    """The settings by which a folder's own rulesets are used instead of the shipped ones; none where it has none.

    Raises:
        RulesetError: one of them is wrong; names the file.
    """
    own = directory / _RULESETS
    if not own.is_dir() or not files_of(own):
        return {}
    load_rulesets(own, shipped=False)
    return {"rulesets_dir": str(own.absolute()), "rulesets_shipped": False}


def replay(stack: Stack, directory: Path, tell: Callable[[str], None]) -> None:
    """Feeds a running stack with a folder's files, in the order SPEC says, and waits until all is stored.

    Raises:
        FeedError: a line was not taken.
        ProcessError: a process of the stack has ended by itself.
    """
    feed = Feed(stack.settings)
    drain = Drain(stack)
    try:
        _send(feed, directory, VENUES, tell)
        drain.wait(drain.processed, lambda: tell("the register is being read"))
        with ThreadPoolExecutor(3) as pool:
            sending = [
                pool.submit(_send, Feed(stack.settings), directory, kind, tell) for kind in (SCANS, CASES, ERASURES)
            ]
            for future in sending:
                future.result()
        drain.wait(drain.processed, lambda: tell(f"lag {drain.lag()} records"))
        if (directory / VENUES_LATE.file_name).exists():
            _send(feed, directory, VENUES_LATE, tell)
        drain.wait(drain.settled, lambda: tell("rows are being stored"))
    finally:
        drain.close()


def _send(feed: Feed, directory: Path, kind: FileKind, tell: Callable[[str], None]) -> int:
    lines = read_lines(directory / kind.file_name, kind)
    return feed.send(kind.topic, lines, lambda count: tell(f"{count} lines of {kind.file_name}"), source=kind.file_name)
