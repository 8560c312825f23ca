"""What the tables hold on one person, counted in the rows as stored: those that later ones replaced count, too.

A row names a person by its column ``person_id``; a dead letter by its key, or by what its payload says, read as text.
"From before" an instant means at or before it: by the time of the scan, of a visit's or a contact's first scan, of the
case's report; a dead letter's by the time of the event in it, or of its record where that cannot be read, as in the
rooms. A bare row of an erased case has no time and is from before.
"""

import base64
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from sinks.backends import Reader
from sinks.paging import pages
from sinks.tables import TABLES
from streams.core.times import parse_ms

TIME_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "scans": "occurred_at",
        "visits": "first_scan_at",
        "cases": "ifNull(reported_at, 0)",
        "exposures": "contact_scan_at",
    }
)
"""Tables whose rows are a person's, and the time by which a row is from before an instant or after it."""
_KEY_OF: Final[Mapping[str, str]] = MappingProxyType(
    {"scans": "scan_id", "visits": "visit_id", "cases": "case_id", "exposures": "exposure_id"}
)
"""What tells one person's rows apart."""
REJECTS: Final = TABLES["rejects"]
_EVENT_TIMES: Final = ("occurred_at", "reported_at", "requested_at")


class Count(NamedTuple):
    """Rows from before and from after an instant."""

    before: int
    after: int


class Reject(NamedTuple):
    """A dead letter that names a person."""

    topic: str
    epoch: int
    partition: int
    offset: int
    event_ms: int


class Taken(NamedTuple):
    """Exposures of others that a person's cases from before an instant raised."""

    active: int
    """Those that stand; by a later report, or another person's case of the same id."""
    left: int
    """Those that do not, of which a replaced row is still stored that tells of them."""


def count_rows(reader: Reader, person_id: str, until_ms: int) -> dict[str, Count]:
    """Rows by table that name the person, each key once; of ``rejects`` too."""
    counts = {}
    for table, at in TIME_OF.items():
        key = _KEY_OF[table]
        _, rows = reader.query(
            f"SELECT uniqExactIf({key}, {at} <= {until_ms}), uniqExactIf({key}, {at} > {until_ms})"
            f" FROM {table} WHERE person_id = '{person_id}'"
        )
        counts[table] = Count(int(rows[0][0]), int(rows[0][1]))
    replaced = len(replaced_rejects(reader, person_id))
    events = [reject.event_ms for reject in rejects(reader, person_id)]
    before = sum(event_ms <= until_ms for event_ms in events)
    return {**counts, "rejects": Count(before + replaced, len(events) - before)}


def count_active(reader: Reader, person_id: str, until_ms: int) -> dict[str, int]:
    """Rows from before that no retraction has taken back yet, by table."""
    taken_back = {"scans": "erased", "visits": "retracted", "cases": "erased", "exposures": "retracted"}
    counts = {}
    for table, status in taken_back.items():
        _, rows = reader.query(
            f"SELECT count() FROM {table} FINAL WHERE person_id = '{person_id}' AND status != '{status}'"
            f" AND {TIME_OF[table]} <= {until_ms}"
        )
        counts[table] = int(rows[0][0])
    return counts


def exposures_of_others(reader: Reader, person_id: str, until_ms: int) -> Taken:
    """Exposures that the person's cases raised among others."""
    active = _of_cases(person_id, until_ms)
    standing = f"SELECT exposure_id FROM exposures FINAL WHERE {active}"
    _, ((stored, left),) = reader.query(
        f"SELECT uniqExact(exposure_id), uniqExactIf(exposure_id, exposure_id NOT IN ({standing}))"
        f" FROM exposures WHERE {active}"
    )
    return Taken(int(stored) - int(left), int(left))


def days_of_others(reader: Reader, person_id: str, until_ms: int) -> list[int]:
    """The days (yyyymmdd) of which ``exposures_of_others`` finds rows ``left``."""
    active = _of_cases(person_id, until_ms)
    standing = f"SELECT exposure_id FROM exposures FINAL WHERE {active}"
    _, rows = reader.query(
        f"SELECT DISTINCT day FROM exposures WHERE {active} AND exposure_id NOT IN ({standing}) ORDER BY day"
    )
    return [int(day) for (day,) in rows]


def _of_cases(person_id: str, until_ms: int) -> str:
    cases = f"SELECT case_id FROM cases WHERE person_id = '{person_id}' AND {TIME_OF['cases']} <= {until_ms}"
    return f"status = 'active' AND case_id IN ({cases})"


def rejects(reader: Reader, person_id: str) -> Iterator[Reject]:
    """The dead letters that name the person, as they stand."""
    columns = [*REJECTS.key, "record_at", "payload"]
    for page in pages(reader, REJECTS, columns, naming(person_id)):
        for topic, epoch, partition, offset, record_ms, payload in page:
            yield Reject(topic, epoch, partition, offset, event_ms(payload, record_ms))


def replaced_rejects(reader: Reader, person_id: str) -> list[tuple[str, int, int, int]]:
    """The keys of dead letters that name the person in stored rows only that others have replaced."""
    key, named = "topic, epoch, `partition`, `offset`", naming(person_id)
    _, rows = reader.query(
        f"SELECT DISTINCT {key} FROM rejects WHERE {named}"
        f" AND ({key}) NOT IN (SELECT {key} FROM rejects FINAL WHERE {named})"
    )
    return [(topic, epoch, partition, offset) for topic, epoch, partition, offset in rows]


def naming(person_id: str) -> str:
    """SQL: whether a row of ``rejects`` names the person. The oldest server cannot read base64, but may look for it."""
    texts = " OR ".join(f"position(ifNull(payload, ''), '{text}') > 0" for text in base64_forms(person_id.encode()))
    return f"(position(ifNull(`key`, ''), '{person_id}') > 0 OR {texts})"


def base64_forms(needle: bytes) -> list[str]:
    """What stands in the base64 of any text that holds ``needle``, by its place there modulo 3.

    The bits that the needle shares a character with its neighbours are left out: four at most at either end.
    """
    forms = []
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + needle).decode()
        forms.append(encoded[-(-before * 8 // 6) : (before + len(needle)) * 8 // 6])
    return forms


def event_ms(payload: str | None, record_ms: int) -> int:
    """The time of the event in a dead letter's payload (base64), or its record's."""
    try:
        event: Any = msgspec.json.decode(base64.b64decode(payload or ""))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return record_ms
    for name in _EVENT_TIMES if isinstance(event, dict) else ():
        text = event.get(name)
        if isinstance(text, str):
            try:
                return parse_ms(text)
            except ValueError:
                continue
    return record_ms
