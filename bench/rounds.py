"""One round of one contender: where it reads and writes, and what the harness asks of it while it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from infra.processes import ProcessId
from truyvet.config import Settings

PREFIX: Final = "bench."
"""Of the input topics, and of this project's own outputs."""


@dataclass(frozen=True)
class Round:
    """Fresh topics, a fresh group and a fresh folder for one run."""

    settings: Settings
    """Broker, prefix and partitions."""
    contender: str
    number: int
    directory: Path
    attempt: int = 0
    """Counts those that were disturbed too much before."""

    @property
    def group(self) -> str:
        """The consumer group, and what the names of all topics of this round hold."""
        return f"{self.contender}-round-{self.number}" + (f"-again-{self.attempt}" if self.attempt else "")


class Running(Protocol):
    """A contender that was started."""

    @property
    def enriched(self) -> str:
        """The topic of its accepted scans."""

    @property
    def counts(self) -> str:
        """The topic of its counts by minute and ward."""

    @property
    def processes(self) -> list[ProcessId]:
        """Those it was started as; what they start themselves is found."""

    @property
    def names(self) -> list[str]:
        """What these are called, in the same order."""

    def check(self) -> None:
        """Raises ``ProcessError`` if one of them has ended by itself."""

    def finished(self) -> bool:
        """Whether what it does behind its output topic is done, too."""

    def stop(self) -> None:
        """Ends its processes and waits until they have; its topics stay."""

    def clean(self) -> None:
        """Removes its topics."""
