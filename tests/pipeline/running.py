"""Runs a folder of input files through real processes on the session's broker."""

from collections.abc import Callable
from pathlib import Path

from producers.replay import replay
from sinks.client import open_reader
from sinks.export import export_tables
from tests.conftest import SettingsFactory
from truyvet.stack import Stack

During = Callable[[Stack], None]


def run_stack(settings: SettingsFactory, directory: Path, out: Path, *, partitions: int = 2, workers: int = 1) -> None:
    """What ``truyvet replay`` does, but on a broker that is there already: a broker's start costs seconds."""
    with Stack(settings(partitions=partitions), workers=workers, own_broker=False) as stack:
        replay(stack, directory, lambda _: None)
        with open_reader(stack.settings) as reader:
            export_tables(reader, out)
