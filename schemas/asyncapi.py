"""The AsyncAPI description of the public topics, made from the registry of topics and the models."""

import json
from pathlib import Path
from typing import Any, Final

from infra.topics import TOPICS, TopicSpec
from schemas.generate import DIALECT, FOLDER, TOPIC_MODELS
from truyvet.config import Settings

FILE: Final = Path(__file__).with_name("asyncapi.json")
_SCHEMA_FORMAT: Final = f"application/schema+json;version={DIALECT}"
_HEADERS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "first-ts": {
            "type": "string",
            "description": "Epoch ms. The first timestamp of a record that is produced again; counts if not later.",
        },
        "origin": {"type": "string", "description": "JSON: the row of rejects that a record sent again settles."},
    },
}


def asyncapi_text() -> str:
    """The document as its file holds it."""
    public = [spec for spec in TOPICS if spec.public]
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Truy Vết",
            "version": "1",
            "description": "Venue check-ins in; accepted scans, visits, aggregates and exposures out. One JSON object "
            "a record, partitioned by murmur2 of the key. Read with isolation.level=read_committed.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {spec.name: _channel(spec) for spec in public},
        "operations": {
            f"{'take' if spec.direction == 'in' else 'emit'}-{spec.name}": {
                "action": "receive" if spec.direction == "in" else "send",
                "channel": {"$ref": f"#/channels/{spec.name}"},
            }
            for spec in public
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _channel(spec: TopicSpec) -> dict[str, Any]:
    settings = Settings.model_validate({})
    retention_ms = -1 if spec.retention_days is None else spec.retention_days * 86_400_000
    schema = {"$ref": f"./{FOLDER.name}/{spec.name}.schema.json"}
    message: dict[str, Any] = {
        "payload": {"schemaFormat": _SCHEMA_FORMAT, "schema": schema},
        "bindings": {"kafka": {"key": {"type": "string", "description": spec.key}}},
        "examples": [{"payload": example} for example in _examples(spec.name)],
    }
    if spec.direction == "in":
        message["headers"] = _HEADERS
    cleanup = spec.cleanup.split(",")
    return {
        "address": settings.topic(spec.name),
        "messages": {spec.name: message},
        "bindings": {
            "kafka": {
                "partitions": settings.partitions,
                "topicConfiguration": {"cleanup.policy": cleanup, "retention.ms": retention_ms},
            }
        },
    }


def _examples(topic: str) -> list[Any]:
    schema = TOPIC_MODELS[topic].json_schema()
    shapes = [schema, *schema.get("$defs", {}).values()]
    return [example for shape in shapes for example in shape.get("examples", [])]
