"""The core holds no I/O: proved by what it imports, however far that reaches."""

import ast
import sys
from pathlib import Path

import streams.core

CORE = Path(streams.core.__file__).parent
ALLOWED_OUTSIDE = {"msgspec", "numpy"}
ALLOWED_STANDARD = {
    "base64", "bisect", "collections", "dataclasses", "datetime", "itertools", "json", "math", "re", "struct",
    "types", "typing", "hashlib", "codecs", "string", "array", "heapq", "zlib",
}  # fmt: skip
BANNED_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
BANNED_ATTRIBUTES = {"now", "utcnow", "today", "urandom", "getrandom"}


def _modules() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(CORE.rglob("*.py"))]


def _imports(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the core imports by full name"
            names.add(node.module or "")
    return names


def test_the_core_imports_nothing_that_does_io() -> None:
    """Every import is the core's own, or of a short list without I/O, clock or randomness."""
    for path, tree in _modules():
        for name in _imports(tree):
            root = name.partition(".")[0]
            own = name == "streams.core" or name.startswith("streams.core.")
            assert own or root in ALLOWED_OUTSIDE | ALLOWED_STANDARD, f"{path.name} imports {name}"


def test_the_core_asks_no_clock_and_opens_nothing() -> None:
    """No call of open, print or a clock stands anywhere in it."""
    for path, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name):
                    assert node.func.id not in BANNED_CALLS, f"{path.name}:{node.lineno}"
                elif isinstance(node.func, ast.Attribute):
                    assert node.func.attr not in BANNED_ATTRIBUTES, f"{path.name}:{node.lineno}"


def test_what_is_compiled_imports_no_more() -> None:
    """The same of the Cython modules, which may use C's memory and text functions and Python's bytes."""
    sources = sorted(CORE.rglob("*.p[yx][xd]"))
    assert len(sources) > 2
    for path in sources:
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"], ["cimport"]):
                root = words[1].partition(".")[0]
                own = words[1].startswith("streams.core")
                assert own or root in {"cpython", "libc"} | ALLOWED_STANDARD, f"{path.name}: {line}"


def test_the_walk_sees_the_core() -> None:
    """The walk has something to look at, and knows the standard library's names for what they are."""
    assert len(_modules()) > 10
    assert sys.stdlib_module_names >= ALLOWED_STANDARD
