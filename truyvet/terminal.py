"""Where tables go: a terminal at its own width and colours, anything else wide and plain."""

import sys

from rich.console import Console

_WIDTH_OF_A_FILE = 200


def console() -> Console:
    """A console on stdout; text that goes to a file or a pipe is not folded to 80 columns."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, highlight=False)
