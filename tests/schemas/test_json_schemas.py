"""The JSON Schemas in the repository are current, and what models, tables and schemas say of one thing agrees."""

import csv
import io
import json
from typing import Final, get_args

import pytest
from pydantic import TypeAdapter

from infra.topics import TOPICS
from schemas import asyncapi, fields, models, outbound
from schemas.areas import load_areas
from schemas.contract import Refusal, check_case, check_erasure, check_scan, check_venue
from schemas.generate import FOLDER, TOPIC_MODELS, schema_files, schema_text
from streams.core import inbound
from streams.core.categories import CATEGORIES
from streams.core.decode import BadEvent, decode_case, decode_erasure, decode_scan, decode_venue
from streams.core.reasons import REASONS

READINGS: Final = {
    "scans": (check_scan, decode_scan),
    "venues": (check_venue, lambda value: decode_venue(value, load_areas())),
    "cases": (check_case, decode_case),
    "erasures": (check_erasure, decode_erasure),
}

CATEGORY_TABLE: Final = """\
restaurant 60 240
cafe 60 240
supermarket 45 180
market 45 240
mall 90 360
transport 60 720
checkpoint 2 10
hotel 720 1440
hospital 120 1440
pharmacy 15 60
school 240 720
office 480 720
factory 480 720
worship 90 360
residence 720 1440
other 60 720
"""


def test_schema_files_are_current() -> None:
    """``python -m schemas.generate`` would change nothing."""
    on_disk = {path: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert on_disk == schema_files()


def test_the_asyncapi_description_is_current_and_whole() -> None:
    """Every public topic has a channel, an operation and a schema that is there."""
    assert asyncapi.FILE.read_text(encoding="utf-8") == asyncapi.asyncapi_text()
    document = json.loads(asyncapi.asyncapi_text())
    assert set(document["channels"]) == {spec.name for spec in TOPICS if spec.public}
    assert len(document["operations"]) == len(document["channels"])
    for name, channel in document["channels"].items():
        schema = channel["messages"][name]["payload"]["schema"]["$ref"]
        assert (asyncapi.FILE.parent / schema).is_file()
        assert channel["messages"][name]["examples"]


def _examples(topic: str) -> list[object]:
    schema = json.loads(schema_text(topic))
    shapes = [schema, *schema.get("$defs", {}).values()]
    return [example for shape in shapes for example in shape.get("examples", [])]


@pytest.mark.parametrize("topic", sorted(TOPIC_MODELS))
def test_examples_are_events_of_their_topic(topic: str) -> None:
    """Every shape has one, with every field that the shape knows."""
    examples = _examples(topic)
    shapes = json.loads(schema_text(topic)).get("$defs", {None: None})
    assert len(examples) == len(shapes)
    adapter: TypeAdapter[models.Event] = TOPIC_MODELS[topic]
    for example in examples:
        assert adapter.validate_python(example).model_dump() == example


@pytest.mark.parametrize("topic", sorted(READINGS))
def test_examples_of_inputs_pass_both_readings(topic: str) -> None:
    """What a producer copies from the schema is accepted."""
    for example in _examples(topic):
        value = json.dumps(example).encode()
        check, decode = READINGS[topic]
        assert not isinstance(check(value), Refusal)
        assert not isinstance(decode(value), BadEvent)


def test_closed_lists_are_the_same_everywhere() -> None:
    """The contract writes them out once more, so that a slip of the core shows."""
    assert get_args(fields.Direction) == get_args(inbound.Direction)
    assert get_args(fields.Source) == get_args(inbound.Source)
    assert get_args(fields.CategoryName) == tuple(CATEGORIES)
    assert set(get_args(outbound.ReasonCode)) == set(REASONS)


def test_category_minutes_are_the_specifications() -> None:
    """Name, dwell and maximum of all sixteen."""
    rows = csv.reader(io.StringIO(CATEGORY_TABLE), delimiter=" ")
    assert {name: (int(dwell), int(most)) for name, dwell, most in rows} == dict(CATEGORIES)
