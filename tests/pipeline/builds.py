"""Workers of other builds than this one, made of it: ``python -m tests.pipeline.builds old|slow``.

``old`` writes and reads state of version 2; ``slow`` is this build with a migration that lasts, to be killed in.
"""

import sys
import time

import pytest

from streams.core import migrate
from streams.core.migrate import Portion, Stand
from streams.core.step import StateReader
from tests.core import version_2
from truyvet.cli import main
from truyvet.members import Kind
from truyvet.stack import Stack

OLD, SLOW, THIS = "old", "slow", "this"
_PORTION_SECONDS = 0.05


class Builds(Stack):
    """A stack that starts its workers of the build ``build``."""

    build = THIS

    def _command(self, kind: Kind) -> list[str]:
        if kind != "worker" or self.build == THIS:
            return super()._command(kind)
        return [sys.executable, "-m", "tests.pipeline.builds", self.build]


def _slow_down(patch: pytest.MonkeyPatch) -> None:
    take_portion = migrate.take_portion

    def take_portion_slowly(room: str, partition: int, stand: Stand, state: StateReader) -> tuple[Portion, Stand]:
        time.sleep(_PORTION_SECONDS)
        return take_portion(room, partition, stand, state)

    patch.setattr(migrate, "take_portion", take_portion_slowly)
    patch.setattr(migrate, "PAGE_KEYS", 20)
    patch.setattr(migrate, "PORTION_KEYS", 20)


if __name__ == "__main__":
    {OLD: version_2.become, SLOW: _slow_down}[sys.argv[1]](pytest.MonkeyPatch())
    sys.argv = ["truyvet", "worker"]
    sys.exit(main())
