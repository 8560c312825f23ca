"""Style that ruff does not know: length of functions and modules, tests that say what they hold."""

import ast
from collections.abc import Iterator
from pathlib import Path

from infra.processes import PROJECT_DIR

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
PACKAGES = ("producers", "streams", "sinks", "schemas", "infra", "truyvet", "bench", "tests")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((PROJECT_DIR / package).rglob("*.py"))


def _functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def _where(path: Path, line: int) -> str:
    return f"{path.relative_to(PROJECT_DIR)}:{line}"


def test_modules_are_short() -> None:
    """A module of more than 400 lines is two rooms in one."""
    lengths = {_where(path, 1): len(path.read_text(encoding="utf-8").splitlines()) for path in _modules()}
    assert {where: lines for where, lines in lengths.items() if lines > MODULE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    """A function of more than 70 lines does not fit one look."""
    long = [
        f"{_where(path, function.lineno)} {function.name}: {function.end_lineno - function.lineno + 1} lines"
        for path in _modules()
        for function in _functions(path)
        if function.end_lineno is not None and function.end_lineno - function.lineno >= FUNCTION_LINES_MAX
    ]
    assert long == []


def test_every_test_says_what_it_holds() -> None:
    """A test begins with one sentence."""
    silent = [
        f"{_where(path, function.lineno)} {function.name}"
        for path in _modules()
        if path.name.startswith("test_")
        for function in _functions(path)
        if function.name.startswith("test_") and not (ast.get_docstring(function) or "").strip().endswith(".")
    ]
    assert silent == []
