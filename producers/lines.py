"""Input files of ``replay`` and the demo: one JSON object a line, blank lines skipped (SPEC §10).

A line may state its record timestamp as ``_ts`` (epoch ms, not part of the event); else it is the event's
own time, else that of the line before. A line that is no valid event is still a record, as it stands; of the
register, whose topic takes no record without a key, under its line's number. There a line may stand for a null record.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from streams.core.times import parse_ms

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

TIMESTAMP_MS_MAX = (1 << 62) - 1
"""Further ahead than any clock, and still a number that every part of the pipeline can hold."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """What one input file holds: which topic its lines go to, and where a line says its key and time.

    ``compacted`` is whether the topic keeps the newest record of a key: it takes none without, and null ones.
    """

    file_name: str
    topic: str
    key_field: str
    time_field: str
    compacted: bool = False


VENUES = FileKind("venues.jsonl", "venues", "venue_id", "registered_at", compacted=True)
SCANS = FileKind("scans.jsonl", "scans", "person_id", "occurred_at")
CASES = FileKind("cases.jsonl", "cases", "person_id", "reported_at")
ERASURES = FileKind("erasures.jsonl", "erasures", "person_id", "requested_at")
VENUES_LATE = FileKind("venues-late.jsonl", "venues", "venue_id", "registered_at", compacted=True)


class Line(NamedTuple):
    """One line as a record; ``key`` is None where the line names none, ``value`` where it stands for a null record."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    number: int = 0
    """Which line of its file it is, counted from 1, blank ones too."""


class _Said(msgspec.Struct):
    """What a line says of itself, whatever else it is; ``id`` and ``time`` are renamed per file."""

    key: Any = None
    time: Any = None
    ts: Any = msgspec.field(name="_ts", default=None)
    null: Any = msgspec.field(name="_null", default=None)


def _decoder(kind: FileKind) -> msgspec.json.Decoder[_Said]:
    said = msgspec.defstruct(
        "Said",
        [
            ("key", Any, msgspec.field(name=kind.key_field, default=None)),
            ("time", Any, msgspec.field(name=kind.time_field, default=None)),
            ("ts", Any, msgspec.field(name="_ts", default=None)),
        ],
        bases=(_Said,),
    )
    return msgspec.json.Decoder(said)


def read_lines(path: Path, kind: FileKind) -> Iterator[Line]:
    """The file's lines in order; nothing where the file is absent.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.exists():
        return
    decode = _decoder(kind).decode
    before_ms = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            text = raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw
            value = text.rstrip(b"\r\n")
            if not value.strip():
                continue
            without_key = b"line-%d" % number if kind.compacted else None
            try:
                said = decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                yield Line(without_key, value, before_ms, number)
                continue
            before_ms = _timestamp_ms(said, before_ms)
            key = said.key.encode("utf-8", "surrogatepass") if isinstance(said.key, str) else None
            is_null = kind.compacted and key is not None and said.null is True
            yield Line(without_key if key is None else key, None if is_null else value, before_ms, number)


def _timestamp_ms(said: _Said, before_ms: int) -> int:
    if type(said.ts) is int and 0 <= said.ts < 1 << 63:
        return min(said.ts, TIMESTAMP_MS_MAX)
    if isinstance(said.time, str):
        try:
            return max(parse_ms(said.time), 0)
        except ValueError:
            return before_ms
    return before_ms
