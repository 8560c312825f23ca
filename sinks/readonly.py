"""What a query from outside may be: one statement that reads tables, and nothing else.

Two locks, each enough for what it covers. The connection that runs such queries is read-only (``readonly = 1``):
the engine refuses every write, every change of a setting, and table functions that reach out. It still lets
through what this module refuses: ``INTO OUTFILE`` writes a file, the function ``file()`` reads one, ``DESCRIBE
TABLE url(...)`` opens a connection, and more than one statement may be sent at once.

The check reads the text token by token as ClickHouse's own lexer does; what it does not know, it refuses. Table
functions are allowed by name, so one that a later engine brings is refused until somebody looked at it.

What a query read of persons is logged by whoever answers it, without the values it asked for (SPEC, section 8).
"""

import re
from collections.abc import Collection
from typing import Final

from sinks.tables import TABLES
from sinks.views import VIEWS

SQL_CHARACTERS_MAX: Final = 100_000

FIRST_WORDS: Final = frozenset({"select", "with", "show", "describe", "desc", "exists"})
"""A query from outside begins with one of these."""

SAFE_TABLE_FUNCTIONS: Final = frozenset(
    {"numbers", "numbers_mt", "zeros", "zeros_mt", "null", "values", "view", "merge", "format"}
    | {"generate_series", "generateseries", "generaterandom", "primes"}
)
"""Table functions that make rows up or read tables. ``view`` holds a query, which is checked as text with the rest."""

# fmt: off
KNOWN_TABLE_FUNCTIONS: Final = frozenset(
    {
        "arrowflight", "arrowstream", "azureblobstorage", "azureblobstoragecluster", "bigquery",
        "catboostpool", "cluster", "clusterallreplicas", "cosn", "deltalake", "deltalakeazure",
        "deltalakeazurecluster", "deltalakecluster", "deltalakelocal", "deltalakes3", "deltalakes3cluster",
        "dictionary", "eval", "executable", "file", "filecluster", "filesystem", "fuzzjson", "fuzzquery",
        "gcs", "hdfs", "hdfscluster", "hive", "hudi", "hudicluster", "iceberg", "icebergazure",
        "icebergazurecluster", "icebergcluster", "iceberghdfs", "iceberghdfscluster", "iceberglocal",
        "iceberglocalcluster", "icebergs3", "icebergs3cluster", "input", "jdbc", "loop", "mongodb", "mysql",
        "odbc", "oss", "paimon", "postgresql", "prometheusquery", "prometheusqueryrange", "python", "redis",
        "remote", "remotesecure", "s3", "s3cluster", "shardbyhash", "sqlite", "url", "urlcluster", "ytsaurus",
    }
)
# fmt: on
"""What is refused even if the engine does not list it; the engine's own list is added to it."""

FORBIDDEN_FUNCTIONS: Final = re.compile(
    r"file|ai[a-z]*|sleep|sleepeachrow|reversednsquery|catboostevaluate|logtrace|generateserialid|executable"
)
"""Ordinary functions that read files, call out (all of ``ai…``), write, or hold a thread. Refused wherever the word
stands, for a function may be named without a bracket."""

_PERSONAL_COLUMNS: Final = {"person_id", "payload"}
_PERSONAL_TABLES: Final = frozenset(
    spec.name for spec in TABLES.values() if not _PERSONAL_COLUMNS.isdisjoint(column.name for column in spec.columns)
)
PERSONAL: Final = _PERSONAL_TABLES | {
    name for name, select in VIEWS.items() if any(f"{{db}}.{table} " in select for table in _PERSONAL_TABLES)
}
"""Tables and views whose rows are about single persons."""
_WORD_SHOWN_CHARACTERS_MAX: Final = 31
"""The longest name in the shape of a query: no table or column has more, a person's pseudonym has."""

_TOKEN: Final = re.compile(
    r"""
      (?P<space>   [ \t\r\n\f\v]+ )
    | (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<string>  '(?:[^'\\]|\\.|'')*' )
    | (?P<quoted>  "(?:[^"\\]|"")*" | `(?:[^`\\]|``)*` )
    | (?P<number>  [0-9][0-9A-Za-z_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)? )
    | (?P<word>    [A-Za-z_][A-Za-z0-9_]* )
    | (?P<sign>    /(?!\*) | [-+*%=<>!(),.\[\]?:|] )
    | (?P<end>     ; )
    """,
    re.VERBOSE | re.DOTALL,
)
_PATH_SIGNS: Final = frozenset("/\\:*?{}|<>")


class QueryRefusedError(Exception):
    """The query may not be run; one sentence that says why."""


def check_read_only(sql: str, table_functions: Collection[str] = ()) -> str:
    """The query without a closing semicolon, if it may be run.

    Args:
        sql: The query.
        table_functions: The engine's own table functions, lower case.

    Raises:
        QueryRefusedError: it is empty, too long, more than one statement, no reading statement, or reaches
            beyond the tables.
    """
    if len(sql) > SQL_CHARACTERS_MAX:
        raise QueryRefusedError(f"a query has at most {SQL_CHARACTERS_MAX:,} characters")
    tokens = _tokens(sql)
    while tokens and tokens[-1][0] == "end":
        tokens.pop()
    if not tokens:
        raise QueryRefusedError("the query is empty")
    if any(kind == "end" for kind, _, _ in tokens):
        raise QueryRefusedError("one statement at a time")
    kind, first, start = tokens[0]
    if kind != "word" or first.lower() not in FIRST_WORDS:
        raise QueryRefusedError("only SELECT, WITH, SHOW, DESCRIBE and EXISTS are answered here")
    refused = (KNOWN_TABLE_FUNCTIONS | set(table_functions)) - SAFE_TABLE_FUNCTIONS
    for (kind, text, _), following in zip(tokens, [*tokens[1:], ("end", "", 0)], strict=True):
        _check_token(kind, text, following[:2], refused)
    return sql[start : tokens[-1][2] + len(tokens[-1][1])]


def personal_reads(sql: str) -> list[str]:
    """Which of ``PERSONAL`` a checked query names; all of them where it picks tables by pattern."""
    names = {text.strip('"`').lower() for kind, text, _ in _tokens(sql) if kind in {"word", "quoted"}}
    return sorted(PERSONAL if "merge" in names else PERSONAL & names)


def shape_of(sql: str) -> str:
    """A checked query without comments and with every value in it, or what may be one, replaced by ``?``."""
    return " ".join("?" if _may_be_a_value(kind, text) else text for kind, text, _ in _tokens(sql))


def _may_be_a_value(kind: str, text: str) -> bool:
    if kind == "quoted":
        text = text[1:-1]
        if not text.isidentifier():
            return True
    return kind in {"string", "number"} or len(text) > _WORD_SHOWN_CHARACTERS_MAX


def _check_token(kind: str, text: str, following: tuple[str, str], refused: Collection[str]) -> None:
    if kind == "word" and text.lower() in {"into", "outfile", "infile"}:
        raise QueryRefusedError(f"{text.upper()} is not allowed here: a query writes nothing")
    if kind == "word" and text.lower() == "apply":
        raise QueryRefusedError("APPLY is not allowed here: it calls functions by name")
    if kind == "word" and text.lower() == "format" and following[0] in {"word", "quoted"}:
        raise QueryRefusedError("leave FORMAT away: the command chooses it")
    if kind not in {"word", "quoted"}:
        return
    name = text if kind == "word" else text[1:-1]
    if kind == "quoted" and not _PATH_SIGNS.isdisjoint(name):
        raise QueryRefusedError(f"the name {text} looks like a path")
    if FORBIDDEN_FUNCTIONS.fullmatch(name.lower()) or (following == ("sign", "(") and name.lower() in refused):
        raise QueryRefusedError(f"the function {name} is not allowed here")


def _tokens(sql: str) -> list[tuple[str, str, int]]:
    """(kind, text, position) of all that is neither space nor comment."""
    found = []
    position = 0
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        if match is None:
            raise QueryRefusedError(f"the query has a character or an open quote at {position} that is not understood")
        position = match.end()
        kind = match.lastgroup or ""
        if kind not in {"space", "comment"}:
            found.append((kind, match.group(), match.start()))
    return found
