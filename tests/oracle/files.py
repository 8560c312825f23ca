"""The input files of ``truyvet replay`` (SPEC §10), as lines of bytes."""

from codecs import BOM_UTF8
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Files:
    """One input: the lines of each file, without newlines and without blank lines."""

    venues: tuple[bytes, ...] = ()
    scans: tuple[bytes, ...] = ()
    cases: tuple[bytes, ...] = ()
    erasures: tuple[bytes, ...] = ()
    venues_late: tuple[bytes, ...] = ()

    @classmethod
    def read(cls, directory: Path) -> "Files":
        """Reads a folder; an absent file is an empty one."""
        return cls(**{field.name: _lines(directory / _file_name(field.name)) for field in fields(cls)})

    def write(self, directory: Path) -> None:
        """Writes a folder; a file without lines is left out, and removed if it is there."""
        directory.mkdir(parents=True, exist_ok=True)
        for field in fields(self):
            path = directory / _file_name(field.name)
            lines: tuple[bytes, ...] = getattr(self, field.name)
            if lines:
                # A line that begins with a mark is a bad one wherever it stands: first, the mark would be the file's.
                blank = b"\n" if lines[0].startswith(BOM_UTF8) else b""
                path.write_bytes(blank + b"".join(line + b"\n" for line in lines))
            else:
                path.unlink(missing_ok=True)


def _file_name(field: str) -> str:
    return field.replace("_", "-") + ".jsonl"


def _lines(path: Path) -> tuple[bytes, ...]:
    return tuple(kept(path.read_bytes().removeprefix(BOM_UTF8).split(b"\n"))) if path.exists() else ()


def kept(lines: Iterable[bytes]) -> Iterable[bytes]:
    """The lines that are not blank."""
    return (line for line in lines if line.strip())
