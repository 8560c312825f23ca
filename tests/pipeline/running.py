"""Runs a folder of input files through real processes on the session's broker."""

import json
from pathlib import Path
from typing import Any

from producers.feed import Feed
from producers.lines import CASES, SCANS, VENUES, read_lines
from producers.replay import own_rulesets, replay
from producers.simulate.cli import publication_for
from producers.simulate.generate import generate
from producers.simulate.totals import DEFAULT_TOTALS
from sinks.client import open_reader
from sinks.export import export_tables
from tests.conftest import SettingsFactory
from truyvet.drain import Drain
from truyvet.stack import Stack

TABLES = ("scans", "visits", "venues", "cases", "exposures", "rejects", "ward_minute", "venue_hour", "area_day")
Rows = dict[str, list[str]]


def run_stack(settings: SettingsFactory, directory: Path, out: Path, *, partitions: int = 2, workers: int = 1) -> None:
    """What ``truyvet replay`` does, but on a broker that is there already: a broker's start costs seconds."""
    with Stack(settings(partitions=partitions, **own_rulesets(directory)), workers=workers, own_broker=False) as stack:
        replay(stack, directory, lambda _: None)
        with open_reader(stack.settings) as reader:
            export_tables(reader, out)


def stored_rows(stack: Stack, out: Path) -> Rows:
    """Every row of every table as text, sorted, without what law 1 leaves open; of rejects also without their place."""
    with open_reader(stack.settings) as reader:
        export_tables(reader, out)
    rows: Rows = {}
    for table in TABLES:
        found: list[dict[str, Any]] = [
            json.loads(line) for line in (out / f"{table}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        if table in ("visits", "exposures"):
            found = [row for row in found if row["status"] == "active"]
        for row in found:
            del row["revision"]
            if table == "exposures":
                del row["reason"], row["detected_at"]
            if table == "rejects":
                # A line without a key goes to any partition, so where it stood is not the input's.
                del row["partition"], row["offset"], row["topic"]
        rows[table] = sorted(json.dumps(row, sort_keys=True) for row in found)
    return rows


def small_week(directory: Path, *, seed: int, scale: float) -> Path:
    """A small simulated week, with all that is mixed in, written into ``directory``."""
    generate(directory, publication_for(DEFAULT_TOTALS, None), seed=seed, scale=scale)
    return directory


def rows_when_undisturbed(stack: Stack, week: Path, out: Path) -> Rows:
    """The rows of a run in which nothing happens."""
    feeder = Feeder(stack, week)
    feeder.register()
    feeder.scans(1, 1)
    feeder.settle()
    rows = stored_rows(stack, out)
    assert rows["exposures"], "cases that met nobody prove nothing"
    return rows


def assert_same(found: Rows, expected: Rows) -> None:
    """Says of the first table that differs which it is."""
    for table, rows in expected.items():
        assert len(found[table]) == len(rows), table
        assert found[table] == rows, table


class Feeder:
    """Sends an input in slices, so that things can happen in between."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self._stack = stack
        self._feed = Feed(stack.settings)
        self._lines = {kind: list(read_lines(directory / kind.file_name, kind)) for kind in (SCANS, CASES)}
        self._directory = directory
        self.drain = Drain(stack)

    def register(self) -> None:
        """Sends the register and waits until every worker has it."""
        self._feed.send(VENUES.topic, read_lines(self._directory / VENUES.file_name, VENUES))
        self.drain.wait(self.drain.processed)

    def scans(self, number: int, of: int) -> None:
        """Sends the slice ``number`` of ``of`` slices of the scans, and of the cases, and does not wait."""
        for kind, lines in self._lines.items():
            size = -(-len(lines) // of)
            self._feed.send(kind.topic, lines[(number - 1) * size : number * size])

    def settle(self) -> None:
        """Waits until nothing is left to do anywhere."""
        self.drain.wait(self.drain.settled)
        self.drain.close()
