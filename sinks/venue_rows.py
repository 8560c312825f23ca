"""Rows of ``venues``: versions, removals, and which of two counts.

The register is an input, of which only what counts makes rows: versions on their venue's own partition that the workers
take, too (``streams.core.versions``); what is bad has a row in ``rejects`` already, which the workers write.

A row's revision is its offset, so the last version in the log counts; above it stands the generation of the topic, for
one made anew begins at offset 0 again and counts nevertheless.

A null record says nothing of its venue but that it is gone, while a row is replaced whole. So the last row is read
again when the removal is stored, behind all that came before it: it is a function of the log up to there, however often
and in whatever batches it is stored. A row that is newer already stays, and of a venue that has none there is none.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from operator import attrgetter
from typing import Final

import numpy as np

from sinks import ddl
from sinks.backends import Backend, Columns, ColumnValues
from sinks.days import local_days
from sinks.records import Records
from sinks.tables import TABLES, TableSpec
from streams.core.inbound import AreaList, VenueIn
from streams.core.step import Record
from streams.core.times import LocalClock
from streams.core.versions import Removal, judge_versions

VENUES: Final = "venues"
REMOVALS: Final = "removals of venues"
"""Stands for a table where removals go beside rows."""
GENERATION_BIT: Final = 48
"""A generation of the topic counts this power of two of offsets."""
_REMOVED: Final = "removed"
_KEYS_AT_ONCE: Final = 1_000
"""In key order, so that each question reads but a piece of the table."""


class VenueDecoder:
    """Decodes the register; removals come as columns of ``REMOVALS``: venue_id and revision."""

    keyed = True

    def __init__(self, areas: AreaList, zone: tzinfo, partitions: int, generation: int = 0) -> None:
        self._spec: TableSpec = TABLES[VENUES]
        self._areas = areas
        self._clock = LocalClock(zone)
        self._partitions = partitions
        self._base = generation << GENERATION_BIT

    def __call__(self, records: Records) -> list[tuple[str, Columns]]:
        """The rows and removals; what does not count is passed over."""
        runs: dict[int, list[Record]] = defaultdict(list)
        whole = zip(records.places(), records.times_ms, records.keys, records.values, strict=True)
        for (partition, offset), at_ms, key, value in whole:
            runs[partition].append(Record(offset, at_ms, key, value))
        venues: list[VenueIn] = []
        revisions: list[int] = []
        removed: dict[str, int] = {}
        for partition, run in runs.items():
            verdicts = judge_versions(run, partition, self._partitions, self._areas)
            for record, verdict in zip(run, verdicts, strict=True):
                if isinstance(verdict, VenueIn):
                    venues.append(verdict)
                    revisions.append(self._base + record.offset)
                elif isinstance(verdict, Removal):
                    removed[verdict.venue_id.decode()] = self._base + record.offset
        tables: list[tuple[str, Columns]] = [(VENUES, self._columns(venues, revisions))] if venues else []
        if removed:
            tables.append((REMOVALS, {"venue_id": list(removed), "revision": list(removed.values())}))
        return tables

    def _columns(self, venues: list[VenueIn], revisions: list[int]) -> Columns:
        times = np.array([venue.registered_ms for venue in venues], np.int64)
        columns: dict[str, ColumnValues] = {
            "registered_at": times,
            "registered_day": local_days(times, self._clock),
            "revision": np.array(revisions, np.uint64),
            "codes": [list(venue.codes) for venue in venues],
        }
        for column in self._spec.columns:
            if column.name not in columns:
                columns[column.name] = list(map(attrgetter(column.name), venues))
        return columns


def store_removals(backend: Backend, removals: Mapping[str, int]) -> int:
    """Stores that venues were removed (venue_id to revision), once all rows before that are stored; the rows written.

    Raises:
        StorageError: ClickHouse refused or is away; some of the rows may be stored.
    """
    names = [column.name for column in TABLES[VENUES].columns]
    venue_id, status, revision = map(names.index, ("venue_id", "status", "revision"))
    written = 0
    for keys in _portions(sorted(removals)):
        rows = []
        for row in backend.final_rows(VENUES, keys):
            if row[revision] < removals[row[venue_id]]:
                changed = list(row)
                changed[status], changed[revision] = _REMOVED, removals[row[venue_id]]
                rows.append(changed)
        if rows:
            columns = zip(*rows, strict=True)
            backend.insert(VENUES, {name: list(values) for name, values in zip(names, columns, strict=True)})
            written += len(rows)
    return written


def _portions(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + _KEYS_AT_ONCE] for start in range(0, len(keys), _KEYS_AT_ONCE)]


def generation_of(backend: Backend, database: str, topic_id: str) -> int:
    """The generation of the register's topic with this id of the broker's: each one that is new is one more.

    A database that holds venues of a topic whose id nobody noted, as older releases made them, has the first one behind
    it: what they stored of records that do not count is replaced.

    Raises:
        StorageError: ClickHouse is away.
    """
    known: dict[str, int] = dict(
        backend.maintain(f"SELECT topic_id, generation FROM {ddl.place(database, ddl.REGISTERS_TABLE)} FINAL")
    )
    if topic_id in known:
        return int(known[topic_id])
    ((before,),) = backend.maintain(f"SELECT count() FROM {ddl.place(database, VENUES)}")
    generation = max(map(int, known.values()), default=-1 if before == 0 else 0) + 1
    backend.maintain(
        f"INSERT INTO {ddl.place(database, ddl.REGISTERS_TABLE)} (topic_id, generation)"
        f" SELECT '{topic_id}', toUInt64({generation})"
    )
    return generation
