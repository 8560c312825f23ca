"""Writes the JSON Schemas of all topics and the AsyncAPI description: ``python -m schemas.generate``.

They are made from the models and kept in ``schemas/json``, one file a topic, and ``schemas/asyncapi.json``; a test
fails when they are not current.
"""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter

from schemas.models import Case, Erasure, Scan, Venue
from schemas.outbound import (
    AreaDay,
    CaseState,
    EnrichedScan,
    ErasedScan,
    Exposure,
    Reject,
    RetractedExposure,
    RetractedVisit,
    VenueHour,
    Visit,
    WardMinute,
)

FOLDER: Final = Path(__file__).with_name("json")
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

TOPIC_MODELS: Final = MappingProxyType(
    {
        "scans": TypeAdapter[Any](Scan),
        "venues": TypeAdapter[Any](Venue),
        "cases": TypeAdapter[Any](Case),
        "erasures": TypeAdapter[Any](Erasure),
        "enriched": TypeAdapter[Any](EnrichedScan | ErasedScan),
        "visits": TypeAdapter[Any](Visit | RetractedVisit),
        "aggregates": TypeAdapter[Any](WardMinute | VenueHour | AreaDay),
        "case-states": TypeAdapter[Any](CaseState),
        "exposures": TypeAdapter[Any](Exposure | RetractedExposure),
        "rejects": TypeAdapter[Any](Reject),
    }
)
"""What stands on each topic, by the topic's name without prefix."""


def schema_text(topic: str) -> str:
    """The JSON Schema of a topic's values, as its file holds it."""
    schema = TOPIC_MODELS[topic].json_schema()
    head = {"$schema": DIALECT, "$id": f"urn:truyvet:{topic}"}
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"


def schema_files() -> dict[Path, str]:
    """Every schema file with what it should hold."""
    return {FOLDER / f"{topic}.schema.json": schema_text(topic) for topic in TOPIC_MODELS}


def main() -> None:
    """Writes all files, and removes those of topics that are no more."""
    files = schema_files()
    FOLDER.mkdir(exist_ok=True)
    for stale in set(FOLDER.glob("*.schema.json")) - set(files):
        stale.unlink()
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    from schemas.asyncapi import FILE, asyncapi_text  # noqa: PLC0415 - it needs what stands above

    FILE.write_text(asyncapi_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
