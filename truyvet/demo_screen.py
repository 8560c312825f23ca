"""The demo's live progress: what the processes say of themselves, while they work."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from producers.lines import SCANS
from truyvet.drain import Drain
from truyvet.stack import Stack

_PLAIN_LINE_SECONDS: Final = 5.0
_RATE_SECONDS: Final = 12.0


class Screen:
    """Live progress: one table that is redrawn on a terminal, a line every few seconds anywhere else."""

    def __init__(self, stack: Stack, drain: Drain, total: int, out: Console) -> None:
        self._stack = stack
        self._drain = drain
        self._total = total
        self._out = out
        self._live: Live | None = None
        self._began = time.monotonic()
        self._said = 0.0
        self._history: list[tuple[float, int]] = []

    @contextmanager
    def shown(self) -> Iterator["Screen"]:
        """Shows progress while the body runs."""
        if self._out.is_terminal and not self._out.quiet:
            with Live(console=self._out, auto_refresh=False, transient=True) as self._live:
                yield self
            self._live = None
        else:
            yield self

    def tell(self, phase: str, sent: int) -> None:
        """Looks at the processes and shows where they are."""
        now = time.monotonic()
        if self._live is None and (self._out.quiet or now - self._said < _PLAIN_LINE_SECONDS):
            return
        self._said = now
        lag = self._drain.lag()
        processed = self._processed()
        rows = self._drain.stored().get("rows", {})
        self._history = [(at, n) for at, n in self._history if now - at <= _RATE_SECONDS] + [(now, processed)]
        (first_at, first), (last_at, last) = self._history[0], self._history[-1]
        rate = (last - first) / (last_at - first_at) if last_at > first_at else 0.0
        figures = {
            "scans in": f"{sent:,} of {self._total:,}",
            "processed": f"{processed:,}",
            "rows stored": f"{sum(rows.values()):,}",
            "rate": f"{rate:,.0f} scans/s",
            "lag": f"{lag:,}",
            "time": f"{now - self._began:.0f} s",
        }
        if self._live is None:
            self._out.print(f"{phase}: " + ", ".join(f"{name} {text}" for name, text in figures.items()))
            return
        table = Table(title=phase)
        for name in figures:
            table.add_column(name, justify="right", min_width=9)
        table.add_row(*figures.values())
        self._live.update(table, refresh=True)

    def _processed(self) -> int:
        name = self._stack.settings.topic(SCANS.topic)
        return sum(state.get("next", {}).get(name, 0) for state in self._drain.rooms().values())
