"""What the fuzzer asks of a reader: one call with some input, what it answered, and what it may not do."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.fuzz.chance import Chance

SINGLE_SECONDS_MAX: Final = 0.020
"""CPU of the thread that one record, or the beginning of a batch, may take."""
BYTE_SECONDS_MAX: Final = 20e-9
"""What each inflated byte of a batch may add."""
RECORD_SECONDS_MAX: Final = 200e-6
"""What each record may add where many are taken in one step: a row of ``rejects`` each, at the worst."""
MEMORY_BYTES_MAX: Final = 64 * 1024 * 1024
"""By how much the peak may lie above the level before; and twice the inflated bytes."""
_SHOWN_BYTES: Final = 400


class FaultError(Exception):
    """A reader did what none may; one sentence."""


class Answer(NamedTuple):
    """What a reader made of its input."""

    verdicts: Counter[str]
    """How many records ended in which verdict; together as many as came."""
    decided: Any = None
    """What a reader in another form must have decided, too."""


@dataclass(slots=True)
class Call:
    """One thing to be read, by one reader.

    ``read`` may be called again and does the same each time; ``twin`` reads the same in the plain form, and gives what
    ``decided`` must be.
    """

    read: Callable[[], Answer]
    records: int
    size_bytes: int
    """Of the input, inflated."""
    shown: Callable[[], bytes]
    """The input, for whoever has to find out what is wrong with it."""
    hows: Counter[str]
    twin: Callable[[], Any] | None = None
    answer: Answer | None = None
    """Set once it has been read, for whoever made the call and goes on."""
    record_seconds_max: float = RECORD_SECONDS_MAX
    batch: bool = False
    """Whether it is a record batch as a broker has it."""

    @property
    def seconds_max(self) -> float:
        """How much CPU it may take."""
        if self.batch:
            return SINGLE_SECONDS_MAX + BYTE_SECONDS_MAX * self.size_bytes
        if self.records == 1:
            return SINGLE_SECONDS_MAX
        return SINGLE_SECONDS_MAX + BYTE_SECONDS_MAX * self.size_bytes + self.record_seconds_max * self.records

    @property
    def bytes_max(self) -> int:
        """How much memory it may take."""
        return MEMORY_BYTES_MAX + 2 * self.size_bytes


@dataclass(frozen=True, slots=True)
class Reader:
    """One of the pipeline's readers: makes the calls of a case, which are one after another if they share state."""

    name: str
    case: Callable[[Chance], Iterator[Call]]
    verdicts: frozenset[str]
    """All that may come; each is to be reached."""
    seldom: frozenset[str] = field(default_factory=frozenset)
    """Verdicts that may come, and need not be reached."""
    weight: int = 1
    """How often it has its turn."""


def short(data: bytes) -> str:
    """Bytes as hex, the middle left out where there are many."""
    if len(data) <= _SHOWN_BYTES:
        return data.hex()
    half = _SHOWN_BYTES // 2
    return f"{data[:half].hex()}...({len(data)} bytes)...{data[-half:].hex()}"
