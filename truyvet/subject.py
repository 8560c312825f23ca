"""``truyvet subject PERSON_ID``: everything that is held on a person, as one JSON object, for whoever asks for it.

Rows are as they stand, erased ones too. An exposure never names the case's person. Of a dead letter the payload is
shown decoded: what a faulty producer sent may hold more than the pipeline ever wanted.
"""

import argparse
import base64
import json
import os
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from sinks import held
from sinks.backends import QueryFailedError, Reader, StorageError
from sinks.client import open_reader
from sinks.export import day_text, shown_rows
from sinks.paging import pages
from sinks.retention import gone_on
from sinks.tables import TABLES, TableSpec
from streams.core.times import LocalClock, format_ms
from truyvet.config import Settings, load_settings
from truyvet.elsewhere import elsewhere
from truyvet.erase import pseudonym

_TAKEN_BACK: Final = ("erased", "retracted")
"""Of such a row nothing is held but what a retraction carries."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's own arguments."""
    parser.add_argument("person", type=pseudonym, metavar="PERSON_ID", help="the person's pseudonym, 32 digits 0-9 a-f")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there, readable by its owner only")


def run(args: argparse.Namespace) -> int:
    """Prints or writes the export; exit status 1 if nothing is held."""
    settings = load_settings()
    try:
        with open_reader(settings) as reader:
            export = export_of(reader, settings, args.person)
        if not any(table["rows"] for table in export["held"].values()):
            print("truyvet subject: nothing is held on this person", file=sys.stderr)
            return 1
        text = json.dumps(export, ensure_ascii=False, indent=1) + "\n"
        if args.out is None:
            print(text, end="")
        else:
            handle = os.open(args.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
    except (StorageError, QueryFailedError, OSError) as error:
        print(f"truyvet subject: {error}", file=sys.stderr)
        return 1
    return 0


def export_of(reader: Reader, settings: Settings, person_id: str) -> dict[str, Any]:
    """The export as JSON has it.

    Raises:
        StorageError: the database does not answer.
    """
    clock = LocalClock(ZoneInfo(settings.report_timezone))
    tables = {}
    for name in (*held.TIME_OF, held.REJECTS.name):
        spec = TABLES[name]
        tables[name] = {
            "as_of": format_ms(time.time_ns() // 1_000_000),
            "retention_days": spec.retention.days(settings.retention_days),
            "rows": _rows(reader, settings, spec, person_id, clock),
        }
    return {
        "person_id": person_id,
        "database": settings.database,
        "held": tables,
        "elsewhere": [place._asdict() for place in elsewhere(settings)],
    }


def _rows(
    reader: Reader, settings: Settings, spec: TableSpec, person_id: str, clock: LocalClock
) -> list[dict[str, Any]]:
    """The table's rows about the person; ``gone_on`` is the local day on which a purge takes each away."""
    where = held.naming(person_id) if spec is held.REJECTS else f"person_id = '{person_id}'"
    at = spec.partition or spec.retention_of
    days = spec.retention.days(settings.retention_days)
    assert at is not None, "rows about persons have a day or a time"
    assert days is not None, "rows about persons are not kept for ever"
    bare = spec.required | {"person_id", "status"}
    names = [column.name for column in spec.exported if column.name != at]
    rows = []
    for page in pages(reader, spec, [*names, at], where):
        for shown, (*_, value) in zip(shown_rows(spec, [*names, at], page), page, strict=True):
            day = day_text(value) if spec.partition else None if value is None else clock.day_text(value)
            told = bare if shown["status"] in _TAKEN_BACK else set(names) | {at}
            row = {name: field for name, field in shown.items() if name in told - {spec.partition}}
            if spec is held.REJECTS:
                row |= _decoded(row.pop("payload"))
            gone = None if day is None else gone_on(date.fromisoformat(day), days).isoformat()
            rows.append({**row, "gone_on": gone})
    return rows


def _decoded(payload: str | None) -> dict[str, str | None]:
    """A payload as text; as base64 where it is none."""
    if payload is None:
        return {"payload": None}
    try:
        return {"payload": base64.b64decode(payload).decode()}
    except UnicodeDecodeError:
        return {"payload_base64": payload}
