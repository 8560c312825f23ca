"""Takes a person's rows of before an instant out of the tables and off the disk (SPEC, section 8).

To be called once the rooms have taken the erasure and the sink has committed what they sent: what a sink inserts again
after a crash is then from behind that, and the order of what follows does not matter to any reader.

Within ``cases`` it does matter: a bare row has no time, and stands for reports of any. So all that it replaced is
merged away first; else one of those might count again. And the cases go last, for they lead to the exposures they
raised among others. Killed anywhere and run again, it ends the same.
"""

import uuid
from functools import partial
from typing import Final

import msgspec

from sinks import held
from sinks.backends import Backend
from sinks.changing import Changing
from sinks.ddl import FORGETTING_TABLE
from sinks.paging import literal

_KEYS_AT_ONCE: Final = 500
_NOTHING: Final = "nullIf(substring(topic, 1, 0), '')"
"""A null that overwrites: a plain one only marks the row, and the text stays in the file under the mark."""


class Forgotten(msgspec.Struct, frozen=True):
    """Which tables were changed."""

    tables: list[str]


def forget(backend: Backend, database: str, person_id: str, until_ms: int) -> Forgotten:
    """Deletes the person's rows from at or before ``until_ms``, blanks their dead letters, and waits for the disk.

    Raises:
        StorageError: ClickHouse refused, is away or has not finished in time; to be run again.
    """
    changing = Changing(backend, database)
    run = uuid.uuid4().hex
    named = f"person_id IN (SELECT person_id FROM {changing.place(FORGETTING_TABLE)} WHERE run = '{run}')"
    counts = held.count_rows(backend, person_id, until_ms)
    changed = [table for table, count in counts.items() if count.before]
    changing.rows(f"INSERT INTO {changing.place(FORGETTING_TABLE)} SELECT '{run}', '{person_id}'")
    for table in ("scans", "visits", "exposures"):
        if counts[table].before:
            changing.mutate(table, f"DELETE WHERE {named} AND {held.TIME_OF[table]} <= {until_ms}")
    _blank_rejects(changing, backend, person_id, until_ms)
    days = held.days_of_others(backend, person_id, until_ms)
    for day in days:
        merged = partial(_merged, backend, person_id, until_ms, day)
        changing.merge("exposures", merged, day)
    if counts["cases"].before:
        whose = f"person_id = '{person_id}'"
        changing.merge("cases", lambda: changing.count("cases", whose) == changing.count("cases", whose, final=True))
        changing.mutate("cases", f"DELETE WHERE {named} AND {held.TIME_OF['cases']} <= {until_ms}")
    # A second erasure at the same moment would have to be run again; a name left behind would be worse.
    changing.rows(f"TRUNCATE TABLE {changing.place(FORGETTING_TABLE)}")
    # Also where nothing was left to delete: the one who did it may have been killed while waiting for this.
    changing.wait_until_off_disk(counts)
    return Forgotten(sorted({*changed, *(["exposures"] if days else [])}))


def _merged(backend: Backend, person_id: str, until_ms: int, day: int) -> bool:
    return day not in held.days_of_others(backend, person_id, until_ms)


def _blank_rejects(changing: Changing, backend: Backend, person_id: str, until_ms: int) -> None:
    """The rows stay and say why a record was rejected, as those do that the rooms have blanked themselves."""
    rows = [reject[:4] for reject in held.rejects(backend, person_id) if reject.event_ms <= until_ms]
    rows += held.replaced_rejects(backend, person_id)
    for start in range(0, len(rows), _KEYS_AT_ONCE):
        keys = ", ".join(f"({literal(topic)}, {e}, {p}, {o})" for topic, e, p, o in rows[start : start + _KEYS_AT_ONCE])
        where = f"(topic, epoch, `partition`, `offset`) IN ({keys})"
        changing.mutate("rejects", f"UPDATE `key` = {_NOTHING}, payload = {_NOTHING} WHERE {where}")
