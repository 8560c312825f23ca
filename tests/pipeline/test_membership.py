"""A worker whose group has an assignment that does not know all of its topics."""

import sys
from pathlib import Path

import pytest

from infra.topics import ensure_topics
from tests.conftest import SettingsFactory, wait_until
from truyvet.drain import Drain
from truyvet.members import Kind
from truyvet.stack import Stack

PARTITIONS = 2
CLAIMED_SECONDS_MAX = 20.0


class _Stack(Stack):
    """A stack whose next worker is of another module."""

    module = ""

    def _command(self, kind: Kind) -> list[str]:
        return [sys.executable, "-m", self.module] if self.module else super()._command(kind)


@pytest.mark.parametrize("first", ["bench.person_worker", "tests.pipeline.forgetful_worker"])
def test_topics_that_an_assignment_leaves_out_are_claimed(
    first: str, settings: SettingsFactory, tmp_path: Path
) -> None:
    """A static member is given back what it had before its build knew more topics; a leader may not know them yet."""
    stack = _Stack(settings(partitions=PARTITIONS), tmp_path, own_broker=False)
    ensure_topics(stack.settings)
    drain = Drain(stack)
    try:
        stack.module = first
        stack.start_worker(0)
        if first == "bench.person_worker":
            assert wait_until(lambda: len(drain.rooms()) == PARTITIONS, CLAIMED_SECONDS_MAX)
            stack.kill_worker(0)
            stack.module = ""
            stack.start_worker(0)
        assert wait_until(lambda: len(drain.rooms()) == 2 * PARTITIONS, CLAIMED_SECONDS_MAX)
        log = Path(next(member.log_path for member in stack.members() if member.name == "worker-0"))
        assert "leaves topics to nobody" in log.read_text(encoding="utf-8")
    finally:
        drain.close()
        stack.stop()
