"""Other builds of what is compiled, each in a folder of its own: with sanitisers, or counting the lines it runs.

A build is a copy of the packages whose ``.pyx`` are compiled with other options. A process that has that folder first
on its path imports the copy, and nothing of it reaches the project's own modules.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGES: Final = ("streams", "sinks", "producers", "schemas", "infra", "truyvet", "bench", "tests")
_UNCHECKED: Final = "boundscheck=False"
_CHECKED: Final = "boundscheck=True"
_LINES: Final = "--line-directives"
"""Has Cython say in C which line of the ``.pyx`` each statement is of."""
SUFFIX: Final[str] = sysconfig.get_config_var("EXT_SUFFIX")


class Kind(NamedTuple):
    """How a build differs from the project's own."""

    name: str
    options: tuple[str, ...]
    """Of the C compiler."""
    environment: Mapping[str, str]
    """Of the processes that import it; ``{folder}`` stands for the build's folder."""
    preloaded: tuple[str, ...] = ()
    """Libraries that must be there before Python is."""


SANITIZED: Final = Kind(
    "sanitized",
    (
        *("-O1", "-g", "-fno-omit-frame-pointer", "-fno-common"),
        *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    ),
    {
        # Objects of Python's own allocator lie side by side: reading past one would not be seen.
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=64:handle_segv=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    },
    ("libasan.so", "libubsan.so"),
)
COVERED: Final = Kind("covered", ("-O0", "-g", "--coverage", "-fprofile-update=atomic"), {})


def compiled_sources(root: Path = ROOT) -> list[Path]:
    """Every ``.pyx`` below ``root``, relative to it."""
    return sorted(
        path.relative_to(root) for package in ("streams", "sinks") for path in (root / package).rglob("*.pyx")
    )


def build(kind: Kind, folder: Path, change: Callable[[Path], None] | None = None) -> Path:
    """Makes the build in ``folder`` unless it is there and up to date; returns the folder.

    ``change`` may alter the copied sources before they are compiled.

    Raises:
        RuntimeError: a compiler refused; with what it said.
    """
    stamp = _stamp(kind)
    marked = folder / "stamp"
    if change is None and marked.exists() and marked.read_text() == stamp:
        _copy(folder, anew=False)
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    _copy(folder, anew=True)
    if change is not None:
        change(folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda source: _compile(kind, folder, source), compiled_sources(folder)):
            pass
    marked.write_text(stamp)
    return folder


def environment(kind: Kind | None, folder: Path) -> dict[str, str]:
    """What a process needs to import the build; of the project's own, where ``kind`` is None."""
    own = dict(os.environ) | {"PYTHONPATH": str(folder), "PYTHONFAULTHANDLER": "1"}
    if kind is None:
        return own
    own |= {name: value.format(folder=folder) for name, value in kind.environment.items()}
    if kind.preloaded:
        own["LD_PRELOAD"] = " ".join(_library(name) for name in kind.preloaded)
        own["PYTHONFAULTHANDLER"] = ""  # the sanitiser says more of a bad address
    return own


def _library(name: str) -> str:
    said = subprocess.run(["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True)
    return str(Path(said.stdout.strip()).resolve())


def _stamp(kind: Kind) -> str:
    hashed = sha256(repr((kind, sys.version)).encode())
    for source in sorted(path for package in ("streams", "sinks") for path in (ROOT / package).rglob("*.p[yx][xd]")):
        hashed.update(source.name.encode() + source.read_bytes())
    return hashed.hexdigest()


def _copy(folder: Path, *, anew: bool) -> None:
    """Brings the copy's sources up to date; those that are compiled only where it is made anew."""
    for package in _PACKAGES:
        for source in (ROOT / package).rglob("*"):
            compiled = source.suffix in {".pyx", ".pxd"}
            if not source.is_file() or source.suffix in {".so", ".c", ".pyc"} or (compiled and not anew):
                continue
            copied = folder / source.relative_to(ROOT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            if not copied.exists() or copied.stat().st_mtime_ns != source.stat().st_mtime_ns:
                shutil.copy2(source, copied)


def _compile(kind: Kind, folder: Path, source: Path) -> None:
    written = folder / source
    if kind is SANITIZED:
        written.write_text(written.read_text().replace(_UNCHECKED, _CHECKED))
    _run(folder, [sys.executable, "-m", "cython", "-3", _LINES, str(source)])
    target = source.with_suffix(SUFFIX)
    include = sysconfig.get_paths()["include"]
    fixed = ["gcc", "-shared", "-fPIC", "-fwrapv", "-w", f"-I{include}", *kind.options]
    if kind is SANITIZED:
        fixed.remove("-fwrapv")  # an overflow is to be seen
    _run(folder, [*fixed, str(source.with_suffix(".c")), "-o", str(target)])


def _run(folder: Path, command: list[str]) -> None:
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if said.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{said.stdout}{said.stderr}")
