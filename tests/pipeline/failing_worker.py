"""A worker with bugs that are met at some records: ``python -m`` this, with the places of the bugs.

A place is ``module:path``, such as ``streams.core.wire:enriched``. What stands at the first one raises wherever what it
is given is about the person or venue ``poison(0)``, in whatever form; and so on.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any

from streams.core.records import Records
from streams.shell import worker

_DEPTH_MAX = 6


def poison(number: int) -> str:
    """Where the bug at this place is met: the beginning of a person_id, and of a venue_id."""
    return f"bad0{number:04d}"


def is_about(given: object, word: str, depth: int = 0) -> bool:
    """Whether the word stands anywhere in it, as text or as a packed person_id."""
    if isinstance(given, bytes):
        return word.encode() in given or bytes.fromhex(word) in given
    if isinstance(given, str):
        return word in given
    if depth > _DEPTH_MAX or given is None or isinstance(given, int | float):
        return False
    parts: Iterable[object] = ()
    if isinstance(given, Records):
        parts = [(record.key, record.value) for record in given]
    elif isinstance(given, Mapping):
        parts = [*given.keys(), *given.values()]
    elif isinstance(given, list | tuple | set):
        parts = given
    elif hasattr(given, "__struct_fields__"):
        parts = [getattr(given, name) for name in given.__struct_fields__]
    elif hasattr(given, "key") and hasattr(given, "value") and not callable(given.key):
        parts = [given.key, given.value]
    else:
        parts = [getattr(given, name, None) for name in ("_person", "_person_id")]
    return any(is_about(part, word, depth + 1) for part in parts)


def plant(place: str, word: str) -> None:
    """Puts a bug at a place."""
    module, _, path = place.partition(":")
    holder: Any = import_module(module)
    *way, name = path.split(".")
    for step in way:
        holder = getattr(holder, step)
    sound: Callable[..., Any] = getattr(holder, name)

    @wraps(sound, updated=())
    def buggy(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - as it is called
        if is_about([*given, *named.values()], word):
            raise KeyError(f"{word} of a person")
        return sound(*given, **named)

    setattr(holder, name, buggy)


if __name__ == "__main__":
    for place_number, planted in enumerate(sys.argv[1:]):
        plant(planted, poison(place_number))
    sys.exit(worker.run(argparse.Namespace()))
