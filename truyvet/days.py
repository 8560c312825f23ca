"""Local days as arguments of commands."""

import argparse
import re
from datetime import date
from typing import Final

FIRST_DAY: Final = date(1970, 1, 1)
"""No event is older (SPEC §2); days before it, which a report looks back to, are in the calendar still."""


def local_day(text: str) -> date:
    """A local day, ``YYYY-MM-DD``, from 1970 on.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None
    except ValueError:
        day = None
    if day is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2021-10-14")
    if day < FIRST_DAY:
        raise argparse.ArgumentTypeError(f"{text!r} is before {FIRST_DAY}, and no event is")
    return day
