"""Where record batches come in."""

from streams.shell.batch_gate import judged

__all__ = ["judged"]
