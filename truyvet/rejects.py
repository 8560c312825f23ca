"""``truyvet rejects``: lists dead letters, counts them by reason, sends them again; passes over what cannot be taken.

Sending again (``--redrive``) puts the payload on the topic ``returns``, whose headers name the row: the workers set it
``resolved`` when they accept the event, or refuse it again as the same row with one attempt more.
"""

# ruff: noqa: S608 - what stands in these queries comes from closed lists, and from numbers

import argparse
import base64
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sinks.backends import QueryFailedError, Reader, StorageError
from sinks.client import open_reader
from sinks.export import shown_rows
from sinks.paging import literal, pages
from sinks.tables import TABLES
from streams.core.partition import partition_of
from streams.core.reasons import REASONS
from streams.core.rejected import Origin
from streams.core.returned import RETURNED_TOPICS, RETURNS, Provenance, headers_of
from streams.shell.inputs import OWN_EVENTS
from streams.shell.passed import pass_over
from truyvet.config import Settings, load_settings
from truyvet.query import print_rows

STATUSES: Final = ("open", "waiting", "resolved")
OPEN: Final = "open"
LIMIT_DEFAULT: Final = 50
FLUSH_SECONDS_MAX: Final = 60.0
_QUEUE_FULL_WAIT_SECONDS: Final = 0.05

_SPEC: Final = TABLES["rejects"]
_LISTED: Final = ("record_at", "topic", "epoch", "partition", "offset", "attempts", "status", "reason", "detail")
_REDRIVEN: Final = (
    *("topic", "epoch", "partition", "offset", "record_at", "key", "reason", "detail", "payload", "attempts"),
)
# A worker that had to cut a payload says so in the detail; half an event is not worth sending.
_CUT: Final = "payload cut from"
_KEY_CUT: Final = "key cut from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's own arguments."""
    parser.add_argument("--reason", choices=sorted(REASONS), help="only those of this reason")
    parser.add_argument("--status", choices=STATUSES, help="only those of this status (default: all; --redrive: open)")
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help=f"at most so many (default {LIMIT_DEFAULT}; --redrive: all)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--count", action="store_true", help="count by reason and status instead of listing")
    what.add_argument("--redrive", action="store_true", help="send the open ones through the pipeline again")
    what.add_argument(
        "--pass",
        nargs=3,
        dest="passed",
        metavar=("TOPIC", "PARTITION", "OFFSET"),
        help="have the partition that stands still at this record (/healthz says so) pass over it",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line; a listing then holds key and payload"
    )


def run(args: argparse.Namespace) -> int:
    """Lists, counts or sends again."""
    settings = load_settings()
    if args.redrive and args.status not in (None, OPEN):
        print("truyvet rejects: --redrive takes open ones only: a waiting scan is taken up by itself", file=sys.stderr)
        return 2
    if args.passed is not None:
        return _pass_over(settings, *args.passed)
    try:
        with open_reader(settings) as reader:
            if args.redrive:
                return _say_redriven(redrive(settings, reader, args.reason, args.limit), as_json=args.json)
            if args.count:
                _print_counts(reader, args)
            else:
                _print_list(reader, args)
    except (StorageError, QueryFailedError, RedriveError) as error:
        print(f"truyvet rejects: {error}", file=sys.stderr)
        return 1
    return 0


def _pass_over(settings: Settings, topic: str, partition: str, offset: str) -> int:
    """Names a record to be passed over; wrong usage (2) where it cannot be one."""
    name = topic.removeprefix(settings.topic_prefix)
    if name not in OWN_EVENTS:
        known = ", ".join(sorted(OWN_EVENTS))
        print(f"truyvet rejects: {topic!r} is none of the pipeline's own inputs: {known}", file=sys.stderr)
        return 2
    if not partition.isdecimal() or int(partition) >= settings.partitions or not offset.isdecimal():
        print(
            f"truyvet rejects: PARTITION is a number below {settings.partitions}, OFFSET a number from 0 on",
            file=sys.stderr,
        )
        return 2
    try:
        pass_over(settings, name, int(partition), int(offset))
    except KafkaException as error:
        print(f"truyvet rejects: the broker does not take it: {error.args[0].str()}", file=sys.stderr)
        return 1
    print(
        f"{settings.topic(name)}-{partition}: the worker that stands still at offset {offset} passes over it within"
        " seconds, and writes a row `failed`; one that does not stand still there takes no notice"
    )
    return 0


class RedriveError(Exception):
    """The broker did not take what was sent again; one sentence."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of the rows that were looked at."""

    sent: int
    without_payload: int
    """Nothing left to send: the payload was erased, never kept, or had to be cut."""
    other_topics: int
    """Rows of topics that are no input of these settings."""


def redrive(settings: Settings, reader: Reader, reason: str | None = None, limit: int | None = None) -> Redriven:
    """Sends open dead letters through the pipeline again and waits until the broker has them.

    Raises:
        RedriveError: the broker did not take all of them.
        StorageError: the database does not answer.
    """
    inputs = {settings.topic(topic) for topic in RETURNED_TOPICS}
    sender = _Sender(settings)
    sent = without_payload = other_topics = 0
    for row in _rows(reader, _REDRIVEN, _where(reason, OPEN), limit):
        if row["topic"] not in inputs:
            other_topics += 1
        elif row["payload"] is None or _CUT in row["detail"]:
            without_payload += 1
        else:
            sender.send(row)
            sent += 1
    sender.finish()
    return Redriven(sent, without_payload, other_topics)


class _Sender:
    """An idempotent producer that does not lose a word."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._returns = settings.topic(RETURNS)
        self._failure: KafkaError | None = None
        self._producer = Producer(
            settings.librdkafka()
            | {
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "acks": "all",
                "delivery.report.only.error": True,
                "message.timeout.ms": int(FLUSH_SECONDS_MAX * 1000),
                "log_level": 0,
            }
        )

    def send(self, row: Mapping[str, Any]) -> None:
        """Hands over one row's record; waits where the queue is full."""
        topic = row["topic"].removeprefix(self._settings.topic_prefix)
        origin = Origin(topic, row["epoch"], row["partition"], row["offset"])
        came = Provenance(origin, row["record_at"], attempt=row["attempts"] + 1, reason=row["reason"])
        key = None if row["key"] is None or _KEY_CUT in row["detail"] else row["key"].encode()
        # By its key, or where it first lay: there its row is known.
        partition = row["partition"] if key is None else partition_of(key, self._settings.partitions)
        headers: list[tuple[str, str | bytes | None]] = [*headers_of(came)]
        payload = base64.b64decode(row["payload"], validate=True)
        while True:
            try:
                self._producer.produce(
                    self._returns, payload, key, partition, headers=headers, on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(_QUEUE_FULL_WAIT_SECONDS)
            except KafkaException as error:
                raise RedriveError(f"{row['topic']}: {error.args[0].str()}") from error
            else:
                break
        self._producer.poll(0)
        self._check()

    def finish(self) -> None:
        """Waits until the broker has everything."""
        left = self._producer.flush(FLUSH_SECONDS_MAX)
        self._check()
        if left:
            raise RedriveError(f"the broker did not acknowledge {left} records; run it again")

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._failure = self._failure or error

    def _check(self) -> None:
        if self._failure is not None:
            raise RedriveError(f"the broker did not take a record ({self._failure.str()}); run it again")


def _where(reason: str | None, status: str | None) -> str:
    wanted = [("reason", reason), ("status", status)]
    return " AND ".join([f"{column} = {literal(value)}" for column, value in wanted if value is not None] or ["1"])


def _rows(reader: Reader, columns: tuple[str, ...], where: str, limit: int | None) -> Iterator[dict[str, Any]]:
    left = limit
    for page in pages(reader, _SPEC, columns, where):
        for row in page:
            if left == 0:
                return
            left = None if left is None else left - 1
            yield dict(zip(columns, row, strict=True))


def _print_list(reader: Reader, args: argparse.Namespace) -> None:
    """The newest ones, or all as JSON where a limit is not named."""
    where, limit = _where(args.reason, args.status), args.limit or LIMIT_DEFAULT
    names = tuple(column.name for column in _SPEC.exported) if args.json else _LISTED
    quoted = ", ".join(f"`{name}`" for name in names)
    _, rows = reader.query(
        f"SELECT {quoted} FROM rejects FINAL WHERE {where}"
        f" ORDER BY record_at DESC, topic, epoch DESC, `partition`, `offset` DESC LIMIT {limit}"
    )
    shown = list(shown_rows(_SPEC, names, rows))
    if args.json:
        for row in shown:
            print(json.dumps(row, ensure_ascii=False))
    else:
        print_rows(names, [tuple(row.values()) for row in shown])


def _print_counts(reader: Reader, args: argparse.Namespace) -> None:
    names, rows = reader.query(
        "SELECT reason, status, count() AS records FROM rejects FINAL"
        f" WHERE {_where(args.reason, args.status)} GROUP BY reason, status ORDER BY records DESC, reason, status"
    )
    if args.json:
        for row in rows:
            print(json.dumps(dict(zip(names, row, strict=True))))
    else:
        print_rows([*names, "meaning"], [(*row, REASONS.get(row[0], "")) for row in rows])


def _say_redriven(done: Redriven, *, as_json: bool) -> int:
    if as_json:
        print(
            json.dumps({"sent": done.sent, "without_payload": done.without_payload, "other_topics": done.other_topics})
        )
        return 0
    print(f"{done.sent} sent again; each becomes resolved once it is accepted")
    if done.without_payload:
        print(f"{done.without_payload} have no whole payload left and stay as they are")
    if done.other_topics:
        print(f"{done.other_topics} are of topics with another prefix and stay as they are")
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
