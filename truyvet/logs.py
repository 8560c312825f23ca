"""Structured logs on stderr: one line an event, as text or JSON, never with personal data.

``log = logs.get("sink")``, then ``log.info("rows stored", table="scans", rows=1000)``. The message is a
fixed sentence; whatever varies is a field. Fields that could name a person are banned: using one is
our own bug, and crashes.
"""

import json
import logging
import sys
from datetime import UTC, datetime

from truyvet.config import Settings

BANNED_FIELDS = frozenset({"person_id", "scan_id", "case_id", "visit_id", "payload", "key", "value", "sasl_password"})
"""Field names that may never be logged."""

_ROOT = "truyvet"
_FIELDS = "truyvet_fields"
_SELDOM_SECONDS = 60.0
_SAID_MAX = 1_000


class BannedFieldError(AssertionError):
    """A log line would have carried personal data."""


class Log:
    """A named logger whose events are a message and fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{name}")

    def debug(self, message: str, **fields: object) -> None:
        """Says something only a developer wants to know."""
        self._log(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: object) -> None:
        """Says that something happened as it should."""
        self._log(logging.INFO, message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """Says that something is wrong and will be tried again."""
        self._log(logging.WARNING, message, fields)

    def error(self, message: str, **fields: object) -> None:
        """Says that something failed."""
        self._log(logging.ERROR, message, fields)

    def exception(self, message: str, **fields: object) -> None:
        """Says that something failed, with the traceback of the exception being handled."""
        self._log(logging.ERROR, message, fields, traceback=True)

    def _log(self, level: int, message: str, fields: dict[str, object], *, traceback: bool = False) -> None:
        banned = BANNED_FIELDS.intersection(fields)
        if banned:
            raise BannedFieldError(f"log field {min(banned)} may name a person")
        if self._logger.isEnabledFor(level):
            self._logger.log(level, message, exc_info=traceback, extra={_FIELDS: fields})


def get(name: str) -> Log:
    """The logger of one part of the project, such as ``sink`` or ``worker``."""
    return Log(name)


def configure(settings: Settings) -> None:
    """Sends all logs of this process to stderr, in the settings' format and from their level on.

    Libraries speak from WARNING on, since their INFO lines are about themselves, and say the same once a minute.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    handler.addFilter(_Seldom())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(settings.log_level)


class _Seldom(logging.Filter):
    """Lets a library say the same thing once a minute: a broker that is away made fifty lines a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is the project's own, or was not said within the last minute."""
        if record.name.startswith(_ROOT):
            return True
        # By the text without what varies in it, of which a library has few.
        what = (record.name, str(record.msg))
        if record.created - self._said.get(what, -_SELDOM_SECONDS) < _SELDOM_SECONDS:
            return False
        if len(self._said) >= _SAID_MAX:
            self._said.clear()
        self._said[what] = record.created
        return True


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, _FIELDS, {})
    return fields


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """``2021-10-14T01:15:30.000Z INFO sink rows stored table=scans rows=1000``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a value with spaces or quotes is quoted as JSON does, so that it stays one."""
        name = record.name.removeprefix(_ROOT + ".")
        parts = [_time_of(record), record.levelname, name, _one_line(record.getMessage())]
        parts += [f"{field}={_plain(value)}" for field, value in _fields_of(record).items()]
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback is the field ``traceback``."""
        event: dict[str, object] = {
            "time": _time_of(record),
            "level": record.levelname,
            "logger": record.name.removeprefix(_ROOT + "."),
            "message": record.getMessage(),
        }
        event |= _fields_of(record)
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=False, default=str)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def _plain(value: object) -> str:
    text = str(value)
    if text and not any(char.isspace() or char in '"=' for char in text):
        return text
    return json.dumps(text, ensure_ascii=False)
