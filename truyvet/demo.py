"""``truyvet demo``: a simulated week of a city through the real parts, to the daily report beside the bulletin.

A second act reports positive cases and shows whom they met (``truyvet/demo_cases.py``).

Everything that the report shows is read from the pipeline's own tables; the simulator's manifest and the
totals file are only what it is held against.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from producers.feed import Feed, FeedError
from producers.lines import SCANS, VENUES, FileKind, read_lines
from sinks.backends import QueryFailedError, StorageError
from sinks.client import open_reader
from truyvet.config import ConfigError, load_settings
from truyvet.demo_cases import as_json, play
from truyvet.demo_check import Check, compare_rejects, compare_report, print_checks
from truyvet.demo_screen import Screen
from truyvet.drain import Drain
from truyvet.report import build_report
from truyvet.report_text import print_report
from truyvet.stack import Stack
from truyvet.terminal import console

INPUT_FOLDER: Final = "input"
_POLL_SECONDS: Final = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``truyvet demo``."""
    parser.add_argument("--scale", default=None, metavar="F", help="times every total; 0.05 is quick (default 1)")
    parser.add_argument(
        "--totals", default=None, metavar="FILE", help="other days and totals than Hanoi's of 8-14 October 2021"
    )
    parser.add_argument("--seed", default=None, metavar="N", help="seed of the simulation")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes (default 2)")
    parser.add_argument("--partitions", type=int, default=None, metavar="P", help="partitions (default: the setting)")
    parser.add_argument("--lang", choices=("vi", "en"), default="en", help="language of the texts (default en)")
    parser.add_argument("--json", action="store_true", help="print the figures of the run as JSON, nothing else")


@dataclass(slots=True)
class Run:
    """What a run measured. Seconds are wall-clock time."""

    simulate_seconds: float = 0.0
    start_seconds: float = 0.0
    register_seconds: float = 0.0
    scans_seconds: float = 0.0
    """From the first scan produced to the last row visible."""
    lines: int = 0
    rows: int = 0

    @property
    def rate(self) -> float:
        """Lines of scans a second, end to end."""
        return self.lines / self.scans_seconds if self.scans_seconds else 0.0


def run(args: argparse.Namespace) -> int:
    """Runs the demo; exit status 1 where a figure differs from what it is held against."""
    if not 1 <= args.workers <= 64:  # noqa: PLR2004 - said in the message
        raise ConfigError(f"--workers: must be 1 to 64, not {args.workers}")
    settings = load_settings(restating=True, partitions=args.partitions, clickhouse="embedded")
    out = Console(quiet=True) if args.json else console()
    stack = Stack(settings, workers=args.workers)
    measured = Run()
    folder = stack.directory / INPUT_FOLDER
    began = time.monotonic()
    manifest = _simulate(args, folder, out)
    if manifest is None:
        return 2
    measured.simulate_seconds = time.monotonic() - began
    began = time.monotonic()
    out.print(f"Starting a Kafka broker, {args.workers} workers and the sink with its ClickHouse …")
    try:
        with stack:
            measured.start_seconds = time.monotonic() - began
            with closing(Drain(stack)) as drain:
                _feed(stack, drain, folder, measured, out)
                checks = _report(stack, manifest, args, out)
                act = play(stack, drain, folder, out, args.lang)
            _print_run(stack, measured, out)
            if args.json:
                print(json.dumps(_as_json(stack, measured, checks) | {"cases": as_json(act)}))
            checks += act.checks
    except (FeedError, StorageError, QueryFailedError) as error:
        print(f"truyvet demo: {error}", file=sys.stderr)
        return 1
    wrong = [check for check in checks if not check.good]
    out.print(
        Text(f"All {len(checks)} figures agree.", style="bold green")
        if not wrong
        else Text(f"{len(wrong)} of {len(checks)} figures differ.", style="bold red")
    )
    return 1 if wrong else 0


def _simulate(args: argparse.Namespace, folder: Path, out: Console) -> dict[str, Any] | None:
    """Writes the input files in a process of their own, whose memory ends with it; None if that was refused."""
    options = [("--scale", args.scale), ("--totals", args.totals), ("--seed", args.seed)]
    chosen = [text for name, value in options if value is not None for text in (name, value)]
    out.print("Simulating the days' scans …")
    command = [sys.executable, "-m", "truyvet", "simulate", "--out", str(folder), "--json", *chosen]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        return None
    manifest: dict[str, Any] = json.loads(done.stdout)
    lines = manifest["lines"]
    out.print(f"{manifest['title']}: {lines['venues']:,} venues, {lines['scans']:,} lines of scans")
    return manifest


def _feed(stack: Stack, drain: Drain, folder: Path, measured: Run, out: Console) -> None:
    feed = Feed(stack.settings)
    measured.lines = sum(1 for _ in (folder / SCANS.file_name).open("rb"))
    screen = Screen(stack, drain, measured.lines, out)
    sent = [0]

    def send(kind: FileKind, on_progress: Callable[[int], None] | None) -> int:
        return feed.send(kind.topic, read_lines(folder / kind.file_name, kind), on_progress)

    def note(count: int) -> None:
        sent[0] = count

    with screen.shown(), ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        _watch(stack, pool.submit(send, VENUES, None), lambda: screen.tell("Register", 0))
        drain.wait(drain.processed, lambda: screen.tell("Register", 0))
        measured.register_seconds = time.monotonic() - began
        began = time.monotonic()
        _watch(stack, pool.submit(send, SCANS, note), lambda: screen.tell("Scans", sent[0]))
        drain.wait(drain.settled, lambda: screen.tell("Scans", sent[0]))
        measured.scans_seconds = time.monotonic() - began
        measured.rows = sum(drain.stored().get("rows", {}).values())


def _watch(stack: Stack, future: Future[int], tell: Callable[[], None]) -> None:
    """Shows progress until the future is done; raises what it raises."""
    while not future.done():
        stack.check()
        tell()
        time.sleep(_POLL_SECONDS)
    future.result()


def _report(stack: Stack, manifest: Mapping[str, Any], args: argparse.Namespace, out: Console) -> list[Check]:
    day = date.fromisoformat(manifest["expected"]["as_of"])
    with open_reader(stack.settings) as reader:
        report = build_report(reader, day, manifest["province"])
        checks = compare_report(report, manifest)
        checks += compare_rejects(reader, manifest)
    out.print()
    if not out.quiet:
        print_report(out, report, args.lang)
    title = f"{manifest['title']}: the pipeline beside the bulletin"
    print_checks(out, title, checks, "simulated")
    return checks


def _print_run(stack: Stack, measured: Run, out: Console) -> None:
    out.print(
        f"{measured.lines:,} lines of scans, first produced to last row visible: {measured.scans_seconds:.1f} s, "
        f"{measured.rate:,.0f} scans/s; {measured.rows:,} rows stored. Before that: simulation "
        f"{measured.simulate_seconds:.1f} s, start {measured.start_seconds:.1f} s, register "
        f"{measured.register_seconds:.1f} s."
    )
    table = Table(title="processes")
    for heading in ("process", "CPU s", "CPU s per million scans", "peak memory MiB"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    for name, used in stack.usage().items():
        per_million = used.cpu_seconds / measured.lines * 1e6 if measured.lines else 0.0
        table.add_row(name, f"{used.cpu_seconds:.1f}", f"{per_million:.1f}", f"{used.memory_bytes_peak / 2**20:.0f}")
    out.print(table)


def _as_json(stack: Stack, measured: Run, checks: list[Check]) -> dict[str, Any]:
    return {
        "figures": [
            {
                "name": check.name,
                "pipeline": check.found,
                "bulletin": check.published,
                "simulated": check.expected,
                "agrees": check.good,
            }
            for check in checks
        ],
        "seconds": {
            "simulate": round(measured.simulate_seconds, 2),
            "start": round(measured.start_seconds, 2),
            "register": round(measured.register_seconds, 2),
            "scans": round(measured.scans_seconds, 2),
        },
        "scans_per_second": round(measured.rate),
        "rows_stored": measured.rows,
        "processes": {
            name: {"cpu_seconds": round(used.cpu_seconds, 2), "memory_mib_peak": used.memory_bytes_peak >> 20}
            for name, used in stack.usage().items()
        },
    }
