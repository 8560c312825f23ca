"""From records to rows in the backend's own form, where no record costs more than itself.

What the pipeline cannot have written (``NotOursError``) and what this code fails at (any other error) is found by
halving the run. Either becomes a row of ``rejects`` in the place of its own, and is said.
"""

from collections.abc import Mapping
from traceback import walk_tb
from typing import Any, Final, NamedTuple

from sinks.backends import Backend, Columns, StorageError
from sinks.columns import NotOursError, TopicDecoder
from sinks.records import Records
from sinks.venue_rows import REMOVALS
from streams.core import foreign, reasons
from truyvet import logs, metrics

PASSED_ON: Final = (MemoryError, StorageError)
"""What no record is to blame for."""

_log = logs.get("sink")


class Ready(NamedTuple):
    """Rows of a table as the backend takes them; of removals of venues, the venue_ids and the revision of each."""

    table: str
    rows: int
    block: Any


class Taking:
    """What makes rows of the records of every topic."""

    def __init__(self, backend: Backend, decoders: Mapping[str, TopicDecoder], rejects: str) -> None:
        """``decoders`` by topic (full name); ``rejects`` is the name of that of rejects."""
        self._backend = backend
        self._decoders = decoders
        self._rejects = rejects

    def all(self, topic: str, records: Records) -> list[Ready]:
        """The rows of all the records.

        Raises:
            Exception: at least one of them cannot be taken.
        """
        return [self._ready(table, columns) for table, columns in self._decoders[topic](records)]

    def each(self, topic: str, records: Records) -> list[Ready]:
        """The rows of those timed records that can be taken, and of each other one its row of ``rejects``."""
        taken: list[Ready] = []
        rejected: list[bytes] = []
        parts = [records]
        while parts:
            part = parts.pop()
            try:
                taken += self.all(topic, part)
            except PASSED_ON:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it costs the record alone
                if len(part) > 1:
                    parts += reversed(part.halves())
                else:
                    rejected.append(_row_of(topic, part, error))
        return taken + self._of_rejects(rejected)

    def rejected(self, topic: str, record: Records, error: Exception) -> list[Ready]:
        """The row of ``rejects`` of one record that cannot be taken, which is said."""
        return self._of_rejects([_row_of(topic, record, error)])

    def _of_rejects(self, values: list[bytes]) -> list[Ready]:
        if not values:
            return []
        return [self._ready(*found) for found in self._decoders[self._rejects](Records.of_values(values))]

    def _ready(self, table: str, columns: Columns) -> Ready:
        rows = len(next(iter(columns.values())))
        if table == REMOVALS:
            return Ready(table, rows, dict(zip(columns["venue_id"], columns["revision"], strict=True)))
        return Ready(table, rows, self._backend.prepare(table, columns))


def _row_of(topic: str, record: Records, error: Exception) -> bytes:
    (place,), (at_ms,) = record.places(), record.times_ms
    if isinstance(error, NotOursError):
        reason, detail, said = reasons.FOREIGN_RECORD, foreign.DETAIL, "a foreign record is skipped"
    else:
        reason, detail, said = reasons.FAILED, where_of(error), "the sink failed at a record, which is skipped"
    metrics.REJECTS.labels(reason=reason).inc()
    _log.error(said, topic=topic, partition=place.partition, offset=place.offset, reason=reason, detail=detail)
    return foreign.row_of(topic, place.partition, place.offset, at_ms, reason, detail)


def where_of(error: BaseException) -> str:
    """The kind of an error and where in the code it was raised; nothing of what it says, which may be a value."""
    where = ""
    for frame, line in walk_tb(error.__traceback__):
        where = f" in {frame.f_globals.get('__name__', '?')}, line {line}"
    return f"{type(error).__name__}{where}"
