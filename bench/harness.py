"""What the measuring tools share: a broker in a fresh folder, results kept as JSON, tables of Markdown."""

import contextlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from infra.kafka import KafkaBroker
from infra.processes import RUNTIME_DIR

RESULTS_DIR: Final = RUNTIME_DIR / "bench"
"""Where each tool leaves ``<tool>.json``, and works in ``run-<tool>``."""
_HEAVY: Final = ("kafka/data", "*/state", "*/clickhouse", "state", "clickhouse")
"""What goes even after a failure, whose logs stay."""


@contextlib.contextmanager
def fresh_broker(tool: str) -> Iterator[tuple[KafkaBroker, Path]]:
    """A broker of the tool's own and a folder to fill; both are gone afterwards, a failure's logs excepted."""
    directory = RESULTS_DIR / f"run-{tool}"
    shutil.rmtree(directory, ignore_errors=True)
    try:
        with KafkaBroker(directory / "kafka") as broker:
            yield broker, directory
    except BaseException:
        for pattern in _HEAVY:
            for found in directory.glob(pattern):
                shutil.rmtree(found, ignore_errors=True)
        raise
    shutil.rmtree(directory)


def save(tool: str, arguments: Mapping[str, Any], **found: object) -> Path:
    """Keeps a result beside the machine and the arguments that it was found with; returns where."""
    path = RESULTS_DIR / f"{tool}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    whole = {"tool": tool, "taken_at": datetime.now(UTC).isoformat("T", "seconds"), "machine": machine()}
    path.write_text(json.dumps(whole | {"arguments": told} | found, indent=1) + "\n", encoding="utf-8")
    return path


def load(tool: str) -> dict[str, Any] | None:
    """The result that the tool left last; None if there is none."""
    path = RESULTS_DIR / f"{tool}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def machine() -> dict[str, Any]:
    """What a figure of this machine depends on."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "python": platform.python_version(),
    }


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def folder_bytes(folder: Path, pattern: str = "*") -> int:
    """Bytes of the files below a folder whose names match; files that go meanwhile do not count."""
    total = 0
    for file in folder.rglob(pattern):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def say(text: str) -> None:
    """Prints what is found, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Says how far a tool is, apart from what it finds."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
