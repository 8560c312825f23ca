"""``truyvet explain``: why an exposure was raised or taken back, from ClickHouse alone.

``explain_read`` finds what it came from, ``explain_why`` decides what may be told, ``explain_text`` shows it.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import Final
from zoneinfo import ZoneInfo

from sinks.backends import QueryFailedError, StorageError
from sinks.client import open_reader
from streams.core.times import LocalClock
from truyvet.config import load_settings
from truyvet.explain_told import Explanation, as_object
from truyvet.explain_why import Explainer
from truyvet.rulesets import load_files
from truyvet.terminal import console

LIMIT_DEFAULT: Final = 20


class UnknownError(Exception):
    """There is nothing of this id; one sentence."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's own arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("exposure", nargs="?", type=_pseudonym, metavar="EXPOSURE_ID", help="this exposure")
    which.add_argument("--person", type=_pseudonym, metavar="PERSON_ID", help="every exposure of a person")
    which.add_argument("--case", type=_case, metavar="CASE_ID", help="every exposure that a case has, or had")
    parser.add_argument(
        "--limit",
        type=_positive,
        default=LIMIT_DEFAULT,
        metavar="N",
        help=f"at most so many of a list, the latest first (default {LIMIT_DEFAULT})",
    )
    parser.add_argument("--lang", choices=("vi", "en"), default="en", help="language of the text (default: en)")
    parser.add_argument("--json", action="store_true", help="one JSON object an exposure, a line each")


def run(args: argparse.Namespace) -> int:
    """Prints the explanations."""
    settings = load_settings()
    clock = LocalClock(ZoneInfo(settings.report_timezone))
    rules = load_files(settings.rulesets_dir, shipped=settings.rulesets_shipped)
    try:
        with open_reader(settings) as reader:
            told, count = _explained(Explainer(reader, rules, clock), args)
    except (StorageError, QueryFailedError, UnknownError) as error:
        print(f"truyvet explain: {error}", file=sys.stderr)
        return 1
    if args.json:
        for one in told:
            print(json.dumps(as_object(one), ensure_ascii=False))
    else:
        _print(told, count, clock, args)
    return 0


def _explained(explainer: Explainer, args: argparse.Namespace) -> tuple[Sequence[Explanation], int]:
    """The explanations wanted, and how many there are in all."""
    if args.exposure:
        one = explainer.exposure(args.exposure)
        if one is None:
            raise UnknownError(f"there is no exposure {args.exposure}")
        return [one], 1
    if args.person:
        told, count = explainer.of_person(args.person, args.limit)
        if not told and not explainer.knows_person(args.person):
            raise UnknownError("nothing is stored of this person")
    else:
        told, count = explainer.of_case(args.case, args.limit)
        if not told and not explainer.knows_case(args.case):
            raise UnknownError(f"there is no case {args.case}")
    return told, count


def _print(told: Sequence[Explanation], count: int, clock: LocalClock, args: argparse.Namespace) -> None:
    from truyvet.explain_text import print_explanation, print_more, print_none  # noqa: PLC0415 - a text is not always wanted

    out = console()
    if not told:
        print_none(out, args.lang)
    for place, one in enumerate(told):
        if place:
            out.print()
        print_explanation(out, one, clock, args.lang)
    if count > len(told):
        print_more(out, count - len(told), args.lang)


def _pseudonym(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise argparse.ArgumentTypeError("an id of 32 digits 0-9 a-f is wanted")
    return text


def _case(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no case_id")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
