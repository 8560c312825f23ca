"""``truyvet query SQL``: reads through the views, from whatever database the settings name."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from sinks.backends import QueryFailedError, StorageError
from sinks.client import open_reader
from sinks.readonly import QueryRefusedError
from truyvet.config import load_settings
from truyvet.terminal import console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's own arguments."""
    parser.add_argument("sql", metavar="SQL", help="one SELECT, WITH, SHOW, DESCRIBE or EXISTS statement")
    parser.add_argument("--json", action="store_true", help="one JSON object a row, a line each")


def run(args: argparse.Namespace) -> int:
    """Prints the rows."""
    try:
        with open_reader(load_settings()) as reader:
            columns, rows = reader.query(args.sql)
    except QueryRefusedError as error:
        print(f"truyvet query: {error}", file=sys.stderr)
        return 2
    except (StorageError, QueryFailedError) as error:
        print(f"truyvet query: {error}", file=sys.stderr)
        return 1
    if args.json:
        for row in rows:
            print(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False, default=str))
    else:
        print_rows(columns, rows)
    return 0


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table; null shows as nothing, and no value can move the cursor or set a colour."""
    table = Table()
    for place, name in enumerate(columns):
        numeric = bool(rows) and isinstance(rows[0][place], int | float)
        table.add_column(Text(name), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(Text("" if value is None else printable(str(value))) for value in row))
    console().print(table)


def printable(text: str) -> str:
    """The text with whatever could command a terminal replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
