"""What verbs show: tables at a terminal's own width and colours, else wide and plain; and progress on stderr."""

import sys
import time

from rich.console import Console

_WIDTH_OF_A_FILE = 200


def console() -> Console:
    """A console on stdout; text that goes to a file or a pipe is not folded to 80 columns."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, highlight=False)


class Teller:
    """Says on stderr what a verb is doing, but not more often than every ``seconds``."""

    def __init__(self, verb: str, seconds: float) -> None:
        self._verb = verb
        self._seconds = seconds
        self._next = 0.0

    def __call__(self, text: str) -> None:
        """Says it, unless something was said just now."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._seconds
            print(f"truyvet {self._verb}: {text}", file=sys.stderr)
