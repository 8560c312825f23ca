"""Rulesets from their files: those shipped in ``streams/rulesets/`` and those of the setting ``rulesets_dir``.

Whoever starts with rulesets reads and checks them all first. A file that is wrong is told whole: one sentence for
each key that is, with the file, the key and what it may hold.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

import streams
from schemas.ruleset import LevelTable, RulesetFile, TailTable, WeightTable
from streams.core.ruleset import Ruleset
from truyvet.config import ConfigError

SHIPPED_DIR: Final = Path(streams.__file__).parent / "rulesets"
SUFFIX: Final = ".toml"
FILE_BYTES_MAX: Final = 65_536

_TABLES: Final[Mapping[str, type[BaseModel]]] = {"tail": TailTable, "weights": WeightTable, "levels": LevelTable}
_SHOWN_CHARS_MAX: Final = 80
_INTEGER_BITS_MAX: Final = 63


class RulesetError(ConfigError):
    """Files that are no rulesets; ``sentences`` says of each what is wrong with it."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self.sentences = tuple(sentences)
        super().__init__("; ".join(sentences))


def load_rulesets(directory: str | Path | None = None, *, shipped: bool = True) -> Mapping[str, Ruleset]:
    """Every ruleset by name, as the rooms know them; arguments and errors as for ``load_files``."""
    return {name: file.ruleset() for name, file in load_files(directory, shipped=shipped).items()}


def load_files(directory: str | Path | None = None, *, shipped: bool = True) -> dict[str, RulesetFile]:
    """Every ruleset's file by name: the shipped ones, and those of the directory, which replace them.

    Args:
        directory: The setting ``rulesets_dir``; empty or None: only the shipped ones.
        shipped: The setting ``rulesets_shipped``: whether those are known at all.

    Raises:
        RulesetError: something is wrong; all of it, not only the first.
    """
    files: dict[str, RulesetFile] = {}
    wrong: list[str] = []
    for path in known_paths(directory, shipped=shipped):
        try:
            files[path.stem] = read_file(path)
        except RulesetError as error:
            wrong += error.sentences
    if wrong:
        raise RulesetError(wrong)
    return files


def known_paths(directory: str | Path | None, *, shipped: bool = True) -> list[Path]:
    """The shipped files, if they are wanted, then those of the setting ``rulesets_dir``; errors as for ``files_of``."""
    try:
        return (files_of(SHIPPED_DIR) if shipped else []) + (files_of(Path(directory)) if directory else [])
    except RulesetError as error:
        raise RulesetError([f"TRUYVET_RULESETS_DIR: {error}"]) from None


def files_of(directory: Path) -> list[Path]:
    """The folder's TOML files, by name.

    Raises:
        RulesetError: it is no folder, or cannot be read.
    """
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX)
    except OSError as error:
        raise RulesetError([f"{directory}: must be a folder that can be read ({error.strerror})"]) from None


def read_file(path: Path) -> RulesetFile:
    """One ruleset's file.

    Raises:
        RulesetError: it cannot be read, is no TOML, or no ruleset.
    """
    values = _toml(path)
    name = values.get("name", path.stem)
    wrong = [] if name == path.stem else [_sentence(path, ("name",), f"got {_shown(name)}")]
    try:
        file = RulesetFile.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        wrong += [_sentence(path, one["loc"], _complaint(one)) for one in found if one["loc"] != ("name",) or not wrong]
        raise RulesetError(wrong) from None
    if wrong:
        raise RulesetError(wrong)
    return file


def _toml(path: Path) -> dict[str, Any]:
    if path.suffix != SUFFIX:
        raise RulesetError([f"{path}: must be a file whose name ends in {SUFFIX}"])
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise RulesetError([f"{path}: must be a file that can be read ({error.strerror})"]) from None
    if len(content) > FILE_BYTES_MAX:
        raise RulesetError([f"{path}: must be a file of at most {FILE_BYTES_MAX} bytes (it is larger)"])
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RulesetError([f"{path}: must be UTF-8 (byte {error.start} is not)"]) from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # no TOML, a number of thousands of digits, tables in tables in …
        complaint = " ".join(str(error).split())
        place = re.search(r"at line (\d+)", complaint)
        if place:
            line = text.split("\n")[int(place[1]) - 1].strip()
            complaint += f": {_cut(repr(line))}"
        raise RulesetError([f"{path}: must be TOML with each key and table once ({complaint})"]) from None


def _complaint(error: ErrorDetails) -> str:
    """What the model found; empty if the key is none of ours."""
    if error["type"] == "extra_forbidden":
        return ""
    if error["type"] == "missing":
        return "it is missing"
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    return f"got {_shown(error['input'])}"


def _sentence(path: Path, place: tuple[int | str, ...], complaint: str) -> str:
    """One complaint as a sentence that names file, key and what may stand there."""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in place).removeprefix(".")
    *tables, name = [part for part in place if isinstance(part, str)]
    fields = (_TABLES[tables[-1]] if tables else RulesetFile).model_fields
    if not complaint:
        return f"{path}: {key}: must not be there; the keys are {', '.join(fields)}"
    return f"{path}: {key}: must be {fields[name].description} ({complaint})"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) else _cut(repr(name))


def _shown(value: object) -> str:
    """What was given, short: never a whole table, nor a number that Python refuses to write."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > _INTEGER_BITS_MAX:
        return "a number that is far larger"
    return _cut(repr(value) if isinstance(value, str) else str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "…"
