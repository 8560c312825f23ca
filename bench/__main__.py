"""``./do bench [TOOL] [arguments]``: what the pipeline costs, stage by stage, and beside what else one would pick.

Each tool is a module with a ``main`` of its own, explains itself with ``--help``, and leaves what it found in
``var/bench``.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

TOOLS: Final = {
    "peers": ("bench.run", "the same job done by this project and by other libraries; the default"),
    "profile": ("bench.profile", "microseconds a scan by stage, beside the library call alone"),
    "scaling": ("bench.scaling", "1 and 2 workers, 1 to 24 partitions"),
    "state": ("bench.state", "cost of a scan with 1, 10, 50 million scans held"),
    "latency": ("bench.latency", "from produce to `enriched` and to a visible row, at 10, 50, 90 % load"),
    "day": ("bench.day", "the busiest day of New Zealand, played faster: latency and lag as a picture"),
    "sizing": ("bench.sizing", "cores, brokers and disk for a nation, computed from what the others found"),
}


def main(arguments: Sequence[str]) -> int:
    """Hands on to the tool that is named first; 2 if there is none of that name."""
    name, rest = (arguments[0], arguments[1:]) if arguments and arguments[0][:1] != "-" else ("peers", arguments)
    if name not in TOOLS:
        sys.stderr.writelines(f"{tool:8} {text}\n" for tool, (_, text) in TOOLS.items())
        sys.stderr.write(f"no such tool: {name}\n")
        return 2
    status: int = importlib.import_module(TOOLS[name][0]).main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
