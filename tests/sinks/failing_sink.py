"""A sink with bugs that are met at some records: ``python -m`` this, with the places of the bugs, as ``columns.cut``.

What is at the first place raises wherever the word POISON0- stands in what it is given, whatever it is given it in; and
so on.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any

import pyarrow as pa

from sinks import process
from sinks.records import Records


def poison(number: int) -> str:
    """The word at which the bug at this place is met."""
    return f"POISON{number}-"


def is_poisoned(given: object, word: str) -> bool:
    """Whether the word stands anywhere in it."""
    if isinstance(given, bytes):
        return word.encode() in given
    if isinstance(given, str):
        return word in given
    parts: Iterable[object] = ()
    if isinstance(given, Records):
        parts = [given.values, given.keys]
    elif isinstance(given, Mapping):
        parts = given.values()
    elif isinstance(given, pa.Array):
        parts = given.to_pylist()
    elif isinstance(given, list | tuple):
        parts = given
    elif hasattr(given, "__struct_fields__"):
        parts = [getattr(given, name) for name in given.__struct_fields__]
    return any(is_poisoned(part, word) for part in parts)


def plant(place: str, word: str) -> None:
    """Puts a bug there: a module of ``sinks``, a class perhaps, a name."""
    module, *path, name = place.split(".")
    holder: Any = import_module(f"sinks.{module}")
    for step in path:
        holder = getattr(holder, step)
    sound: Callable[..., Any] = getattr(holder, name)

    @wraps(sound)
    def buggy(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - as it is called
        if is_poisoned(given, word):
            raise KeyError(f"{word} of a person")
        return sound(*given, **named)

    setattr(holder, name, buggy)


if __name__ == "__main__":
    for place_number, planted in enumerate(sys.argv[1:]):
        plant(planted, poison(place_number))
    sys.exit(process.run(argparse.Namespace()))
