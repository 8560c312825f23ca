"""``truyvet topics``: the registry of topics, and their state on the broker."""

import argparse
import json
import sys

from confluent_kafka import KafkaException
from rich.table import Table

from infra.topics import TOPICS, check_topics, ensure_topics
from streams.shell.raw_log import OffsetGoneError, RawLogError
from truyvet.config import Settings, load_settings
from truyvet.resend import resend
from truyvet.terminal import console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``truyvet topics``."""
    parser.add_argument(
        "action",
        choices=["list", "check", "create", "resend"],
        nargs="?",
        default="list",
        help="list the registry (default, needs no broker); check the broker's topics; create those that are missing;"
        " resend what lies on partitions of inputs that nobody reads",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Lists, checks or creates; a check fails (1) if a topic is missing, (2) if one is set otherwise."""
    settings = load_settings()
    if args.action == "create":
        ensure_topics(settings)
    if args.action == "resend":
        return _resend(settings, as_json=args.json)
    if args.action == "list":
        _list(settings, as_json=args.json)
        return 0
    missing = check_topics(settings)
    if args.json:
        print(json.dumps({"missing": missing}))
    elif missing:
        print("missing: " + ", ".join(missing) + "; `truyvet topics create` makes them")
    else:
        print(f"all {len(TOPICS)} topics are there, as they must be")
    return 1 if missing else 0


def _resend(settings: Settings, *, as_json: bool) -> int:
    """Sends again what lies where nobody reads; says how much of each topic."""
    try:
        sent = resend(settings)
    except KafkaException as error:
        print(f"truyvet topics: the broker refuses: {error.args[0].str()}", file=sys.stderr)
        return 1
    except (OffsetGoneError, RawLogError) as error:
        print(f"truyvet topics: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps({"sent": {topic: of_topic._asdict() for topic, of_topic in sent.items()}}))
    for topic, (count, left) in {} if as_json else sent.items():
        cannot = f", {left} too large or damaged cannot be" if left else ""
        said = f"{topic}: {count} records sent again by their keys{cannot}"
        print(f"{said}; make it anew with {settings.partitions} partitions")
    if not sent and not as_json:
        print(f"no input has more than {settings.partitions} partitions")
    return 0


def _list(settings: Settings, *, as_json: bool) -> None:
    rows = [
        {
            "topic": settings.topic(spec.name),
            "key": spec.key,
            "direction": spec.direction,
            "public": spec.public,
            "partitions": settings.partitions,
            "config": spec.config(restating=settings.restating),
        }
        for spec in TOPICS
    ]
    if as_json:
        print(json.dumps({"topics": rows}, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("topic", "key", "direction", "cleanup", "retention days", "timestamps"):
        table.add_column(column)
    for spec in TOPICS:
        config = spec.config(restating=settings.restating)
        days = "for ever" if settings.restating or spec.retention_days is None else str(spec.retention_days)
        direction = f"{spec.direction}, public" if spec.public else spec.direction
        stamp = config["message.timestamp.type"]
        table.add_row(settings.topic(spec.name), spec.key, direction, spec.cleanup, days, stamp)
    console().print(table)
