"""Which lines of the compiled modules were run, as gcov counts them in a build of their own."""

import gzip
import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from tests.fuzz import building

REASONS: Final = building.ROOT / "tests" / "fuzz" / "unreached.txt"
_SOURCES: Final = (".pyx", ".pxd")
_NO_STATEMENT: Final = re.compile(
    r"\s*($|#|[\"']{3}|\)|cdef (enum|struct|extern|readonly|class|inline)\b|(cdef|cpdef) [^=]*$|def |@|from |cimport "
    r"|import |const |(int|double|char|int32_t|int64_t|uint8_t|Py_ssize_t|unsigned)\b|[A-Z_]+( = .*)?$|else:|self, "
    r"|and |or )"
)
"""Lines at which C has nothing to do, whatever its compiler counts: declarations, texts, the ends of statements."""


def forget(folder: Path) -> None:
    """Forgets what was counted before."""
    for counts in folder.rglob("*.gcda"):
        counts.unlink()


def lines(folder: Path) -> dict[str, dict[int, int]]:
    """How often each line was run, by file, as its path in the project."""
    counted: dict[str, dict[int, int]] = defaultdict(dict)
    for notes in sorted(folder.rglob("*.gcno")):
        said = subprocess.run(
            ["gcov", "--json-format", "--stdout", str(notes)], cwd=folder, capture_output=True, check=True
        )
        text = gzip.decompress(said.stdout) if said.stdout[:2] == b"\x1f\x8b" else said.stdout
        for document in text.splitlines():
            _count(json.loads(document), counted)
    return counted


def _count(document: dict[str, Any], counted: dict[str, dict[int, int]]) -> None:
    for file in document["files"]:
        name = file["file"]
        if not name.endswith(_SOURCES) or not (building.ROOT / name).exists():
            continue
        for line in file["lines"]:
            number = line["line_number"]
            counted[name][number] = counted[name].get(number, 0) + line["count"]


def reasons() -> dict[tuple[str, str], str]:
    """Why some lines are not reached, by file and the line's text."""
    found, why = {}, ""
    for line in REASONS.read_text().splitlines() if REASONS.exists() else []:
        if line.startswith("# "):
            why = line[2:]
        elif line.strip():
            name, _, text = line.partition(": ")
            found[name, text.strip()] = why
    return found


def report(folder: Path) -> list[str]:
    """Prints for each file how many lines were run, and those that were not; returns those without a reason."""
    known, without = reasons(), []
    for name, counts in sorted(lines(folder).items()):
        source = (building.ROOT / name).read_text().splitlines()
        counted = {
            number: count
            for number, count in sorted(counts.items())
            if number <= len(source) and (count or not _NO_STATEMENT.match(source[number - 1]))
        }
        missed = [number for number, count in counted.items() if not count]
        print(f"{name}: {len(counted) - len(missed)} of {len(counted)} lines")
        for number in missed:
            text = source[number - 1].strip()
            why = known.get((name, text))
            print(f"  {number}: {text}{'' if why is None else '    # ' + why}")
            if why is None:
                without.append(f"{name}: {text}")
    return without
