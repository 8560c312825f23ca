"""``truyvet erase PERSON_ID``: has a person forgotten everywhere, and certifies it.

The order makes it safe. The request goes to ``erasures``; the rooms forget and take back what they had sent; the sink
stores that, and commits its offsets. Only then are rows deleted: what a sink that crashes reads and inserts again is by
now from behind the retractions. Nothing is deleted that no retraction has taken back: a request that the rooms refused
leaves everything as it is. Ended anywhere and run again, it ends the same.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable

from infra.topics import check_topics
from producers.feed import Feed, FeedError
from producers.lines import ERASURES, Line
from sinks import held
from sinks.backends import QueryFailedError, Reader, StorageError
from sinks.client import maintain, open_reader
from sinks.maintenance import ForgetAction, RefusedError
from streams.core.times import format_ms, parse_ms
from truyvet.config import ConfigError, Settings, load_settings
from truyvet.erase_certificate import Certificate, Removed, as_object, certificate_of, print_certificate
from truyvet.erase_passage import Passage
from truyvet.terminal import Teller

WAIT_SECONDS_DEFAULT = 600
_POLL_SECONDS = 0.2
_TELL_SECONDS = 2.0


class NotErasedError(Exception):
    """The erasure is not through, and nothing was deleted; one sentence that says what it waits for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's own arguments."""
    parser.add_argument("person", type=pseudonym, metavar="PERSON_ID", help="the person's pseudonym, 32 digits 0-9 a-f")
    parser.add_argument(
        "--requested-at",
        type=_instant,
        metavar="TIME",
        help="what is from at or before this instant goes (RFC 3339; default: now)",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=WAIT_SECONDS_DEFAULT,
        metavar="SECONDS",
        help=f"how long workers and sink may take to follow (default {WAIT_SECONDS_DEFAULT})",
    )
    parser.add_argument("--json", action="store_true", help="print the certificate as JSON")
    parser.add_argument("--yes", action="store_true", help="do not ask on a terminal whether it is meant")


def run(args: argparse.Namespace) -> int:
    """Erases and prints the certificate; exit status 1 if something is left that should not be."""
    settings = load_settings()
    now_ms = time.time_ns() // 1_000_000
    until_ms = now_ms if args.requested_at is None else args.requested_at
    if until_ms > now_ms:
        raise ConfigError("--requested-at: must not be ahead of the clock")
    if not args.yes and sys.stdin.isatty() and not _meant():
        print("truyvet erase: nothing was done", file=sys.stderr)
        return 1
    try:
        certificate = erase(settings, args.person, until_ms, args.wait, Teller("erase", _TELL_SECONDS))
    except (StorageError, QueryFailedError, FeedError, RefusedError, NotErasedError) as error:
        print(f"truyvet erase: {error}; run it again", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(as_object(certificate), ensure_ascii=False, indent=1))
    else:
        print_certificate(certificate)
    return 0 if certificate.complete else 1


def erase(
    settings: Settings, person_id: str, until_ms: int, wait_seconds: float, tell: Callable[[str], None]
) -> Certificate:
    """Erases a person and certifies what was removed.

    Raises:
        NotErasedError: rooms or sink have not followed in time, or the rooms refused the request.
        FeedError: the broker did not take the request.
        StorageError: the database does not answer.
        ConfigError: the topics are not there.
    """
    missing = check_topics(settings)
    if missing:
        raise ConfigError(f"TRUYVET_TOPIC_PREFIX: there is no topic {missing[0]}")
    with open_reader(settings) as reader:
        before = held.count_rows(reader, person_id, until_ms)
        raised = held.exposures_of_others(reader, person_id, until_ms)
        request = {"person_id": person_id, "requested_at": format_ms(until_ms)}
        line = Line(person_id.encode(), json.dumps(request).encode(), time.time_ns() // 1_000_000)
        Feed(settings).send(ERASURES.topic, [line])
        _wait(settings, reader, person_id, wait_seconds, tell)
        standing = sum(held.count_active(reader, person_id, until_ms).values())
        if standing:
            raise NotErasedError(f"{standing} rows were not taken back; did the rooms refuse it? (truyvet rejects)")
        tell("rows are being deleted, and files with them")
        maintain(settings, ForgetAction(person_id, until_ms))
        after = held.count_rows(reader, person_id, until_ms)
        left = held.exposures_of_others(reader, person_id, until_ms)
    tables = [
        Removed(table, before[table].before, after[table].before, after[table].after, held.REJECTS.name == table)
        for table in before
    ]
    others = Removed("exposures of others", raised.active + raised.left, left.left, left.active, blanked=False)
    return certificate_of(settings, person_id, until_ms, [*tables, others])


def _wait(settings: Settings, reader: Reader, person_id: str, wait_seconds: float, tell: Callable[[str], None]) -> None:
    _, ((identity,),) = reader.query("SELECT min(id) FROM identity")
    passage = Passage(settings, str(identity))
    deadline = time.monotonic() + wait_seconds
    try:
        for pending in passage.pending(person_id):
            if time.monotonic() > deadline:
                raise NotErasedError(f"{pending}; after {wait_seconds:.0f} s nothing was deleted")
            tell(pending)
            time.sleep(_POLL_SECONDS)
    finally:
        passage.close()


def _meant() -> bool:
    print("Everything of this person until then goes for good. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def pseudonym(text: str) -> str:
    """A person_id, as an argument of a command."""
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise argparse.ArgumentTypeError("a pseudonym of 32 digits 0-9 a-f is wanted")
    return text


def _instant(text: str) -> int:
    try:
        return parse_ms(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2021-10-14T12:00:00+07:00") from None
