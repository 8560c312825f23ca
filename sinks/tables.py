"""The registry of ClickHouse tables (SPEC, section 9): adding a table is adding one entry to ``TABLES``.

An entry says which topic fills the table, its columns in order, its key (the sorting key, by which
ReplacingMergeTree keeps the row of the highest revision) and the column that its partition is. From the
entry alone come the DDL, the decoder of the topic's records, the insert and the export.

Rules:
    1. Times are Int64 epoch milliseconds (UTC); the views format them.
    2. A partition is a plain column that the sink computes, ``day`` as the number yyyymmdd of the local day
       in ``report_timezone``, so that it depends on nothing but the row.
    3. Columns that a retraction leaves out must have a default: a retraction carries key, partition time,
       status and revision only.
    4. Every table says how long its rows are kept; whole days go (``sinks.retention``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

CASES_RETENTION_DAYS: Final = 90
CELLS_RETENTION_DAYS: Final = 400
DAYS_BEYOND: Final = 1
"""A day goes once so many whole days lie between the end of its retention and the day that is asked about."""


class Retention(Enum):
    """How long a table's rows are kept (SPEC, section 8)."""

    EVENTS = auto()
    """As long as scans: the setting ``retention_days``."""
    CASES = auto()
    CELLS = auto()
    FOR_EVER = auto()

    def days(self, retention_days: int) -> int | None:
        """In days, given the setting; None for ever."""
        fixed = {Retention.EVENTS: retention_days, Retention.CASES: CASES_RETENTION_DAYS}
        return {**fixed, Retention.CELLS: CELLS_RETENTION_DAYS}.get(self)


class ColumnType(Enum):
    """What a column holds."""

    TEXT = auto()
    OPTIONAL_TEXT = auto()
    LABEL = auto()
    """A text of few different values. Never part of a key: on the oldest server they are experimental."""
    TEXTS = auto()
    TIME = auto()
    """Epoch milliseconds; on the wire RFC 3339."""
    OPTIONAL_TIME = auto()
    DAY = auto()
    """The number yyyymmdd; on the wire YYYY-MM-DD."""
    COUNT = auto()
    OPTIONAL_COUNT = auto()
    INTEGER = auto()
    NUMBER = auto()


CLICKHOUSE_TYPES: Final[Mapping[ColumnType, str]] = MappingProxyType(
    {
        ColumnType.TEXT: "String",
        ColumnType.OPTIONAL_TEXT: "Nullable(String)",
        ColumnType.LABEL: "LowCardinality(String)",
        ColumnType.TEXTS: "Array(String)",
        ColumnType.TIME: "Int64",
        ColumnType.OPTIONAL_TIME: "Nullable(Int64)",
        ColumnType.DAY: "UInt32",
        ColumnType.COUNT: "UInt64",
        ColumnType.OPTIONAL_COUNT: "Nullable(UInt64)",
        ColumnType.INTEGER: "Int64",
        ColumnType.NUMBER: "Float64",
    }
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column; ``local_day_of`` names the time column whose local day it holds."""

    name: str
    type: ColumnType
    local_day_of: str | None = None

    @property
    def storage_only(self) -> bool:
        """Computed by the sink for partitions and views; no column of SPEC and never exported."""
        return self.local_day_of is not None


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table; ``required`` are the fields without which a record is none of ours."""

    name: str
    topic: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: str | None
    retention: Retention
    retention_of: str | None = None
    """The time that retention is reckoned from where the table has no day partitions."""
    added: frozenset[str] = frozenset()
    """Fields that records of an older release lack; then they are 0 (``sinks.columns``)."""

    @property
    def required(self) -> frozenset[str]:
        """Key, partition time and revision: what every record carries, retractions too."""
        times = {column.local_day_of or column.name for column in self.columns if column.name == self.partition}
        return frozenset({*self.key, *times, "revision"}) - self.added

    @property
    def exported(self) -> tuple[Column, ...]:
        """The columns of SPEC, in order."""
        return tuple(column for column in self.columns if not column.storage_only)

    def column(self, name: str) -> Column:
        """The column of this name.

        Raises:
            KeyError: the table has none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


_T = ColumnType

_AREA = (
    Column("province_code", _T.LABEL),
    Column("district_code", _T.LABEL),
    Column("ward_code", _T.LABEL),
)
_PLACE = (Column("lat", _T.NUMBER), Column("lon", _T.NUMBER))
_STATUS = (Column("status", _T.LABEL), Column("revision", _T.COUNT))
_PASSAGES = (
    Column("scans", _T.COUNT),
    Column("ins", _T.COUNT),
    Column("outs", _T.COUNT),
    Column("passes", _T.COUNT),
    Column("revision", _T.COUNT),
)


def _day_of(time_column: str) -> Column:
    return Column("day", _T.DAY, local_day_of=time_column)


_SPECS: Final = (
    TableSpec(
        name="scans",
        topic="enriched",
        columns=(
            Column("person_id", _T.TEXT),
            Column("scan_id", _T.TEXT),
            Column("venue_id", _T.TEXT),
            Column("venue_code", _T.TEXT),
            Column("occurred_at", _T.TIME),
            Column("direction", _T.LABEL),
            Column("source", _T.LABEL),
            Column("category", _T.LABEL),
            *_AREA,
            *_PLACE,
            *_STATUS,
            _day_of("occurred_at"),
        ),
        key=("person_id", "scan_id"),
        partition="day",
        retention=Retention.EVENTS,
    ),
    TableSpec(
        name="visits",
        topic="visits",
        columns=(
            Column("visit_id", _T.TEXT),
            Column("person_id", _T.TEXT),
            Column("venue_id", _T.TEXT),
            Column("started_at", _T.TIME),
            Column("ended_at", _T.TIME),
            Column("start_kind", _T.LABEL),
            Column("end_kind", _T.LABEL),
            Column("first_scan_id", _T.TEXT),
            Column("first_scan_at", _T.TIME),
            Column("scan_count", _T.COUNT),
            Column("category", _T.LABEL),
            *_AREA,
            *_STATUS,
            _day_of("first_scan_at"),
        ),
        key=("visit_id",),
        partition="day",
        retention=Retention.EVENTS,
    ),
    TableSpec(
        name="venues",
        topic="venues",
        columns=(
            Column("venue_id", _T.TEXT),
            Column("name", _T.TEXT),
            Column("category", _T.LABEL),
            *_AREA,
            *_PLACE,
            Column("capacity", _T.OPTIONAL_COUNT),
            Column("registered_at", _T.TIME),
            Column("status", _T.LABEL),
            Column("dwell_minutes", _T.OPTIONAL_COUNT),
            Column("codes", _T.TEXTS),
            Column("revision", _T.COUNT),
            Column("registered_day", _T.DAY, local_day_of="registered_at"),
        ),
        key=("venue_id",),
        partition=None,
        retention=Retention.FOR_EVER,
    ),
    TableSpec(
        name="cases",
        topic="case-states",
        columns=(
            Column("case_id", _T.TEXT),
            Column("person_id", _T.TEXT),
            Column("onset_at", _T.OPTIONAL_TIME),
            Column("sampled_at", _T.OPTIONAL_TIME),
            Column("infectious_from", _T.OPTIONAL_TIME),
            Column("infectious_to", _T.OPTIONAL_TIME),
            Column("isolated_at", _T.OPTIONAL_TIME),
            Column("reported_at", _T.OPTIONAL_TIME),
            Column("ruleset", _T.OPTIONAL_TEXT),
            *_STATUS,
        ),
        key=("case_id", "person_id"),
        partition=None,
        retention=Retention.CASES,
        retention_of="reported_at",
    ),
    TableSpec(
        name="exposures",
        topic="exposures",
        columns=(
            Column("exposure_id", _T.TEXT),
            Column("case_id", _T.TEXT),
            Column("person_id", _T.TEXT),
            Column("venue_id", _T.TEXT),
            Column("category", _T.LABEL),
            *_AREA,
            Column("overlap_from", _T.TIME),
            Column("overlap_to", _T.TIME),
            Column("overlap_minutes", _T.COUNT),
            Column("score", _T.NUMBER),
            Column("level", _T.LABEL),
            Column("ruleset", _T.LABEL),
            Column("ruleset_version", _T.COUNT),
            Column("contact_scan_at", _T.TIME),
            Column("reason", _T.LABEL),
            Column("detected_at", _T.TIME),
            *_STATUS,
            _day_of("contact_scan_at"),
        ),
        key=("exposure_id",),
        partition="day",
        retention=Retention.EVENTS,
    ),
    TableSpec(
        name="rejects",
        topic="rejects",
        columns=(
            Column("topic", _T.TEXT),
            Column("epoch", _T.INTEGER),
            Column("partition", _T.INTEGER),
            Column("offset", _T.INTEGER),
            Column("record_at", _T.TIME),
            Column("key", _T.OPTIONAL_TEXT),
            Column("reason", _T.LABEL),
            Column("detail", _T.TEXT),
            Column("payload", _T.OPTIONAL_TEXT),
            Column("attempts", _T.COUNT),
            *_STATUS,
            _day_of("record_at"),
        ),
        key=("topic", "epoch", "partition", "offset"),
        partition="day",
        retention=Retention.EVENTS,
        added=frozenset({"epoch", "attempts"}),
    ),
    TableSpec(
        name="ward_minute",
        topic="aggregates",
        columns=(
            Column("minute", _T.TIME),
            Column("ward_code", _T.TEXT),
            Column("part", _T.TEXT),
            *_PASSAGES,
            _day_of("minute"),
        ),
        key=("minute", "ward_code", "part"),
        partition="day",
        retention=Retention.CELLS,
    ),
    TableSpec(
        name="venue_hour",
        topic="aggregates",
        columns=(
            Column("hour", _T.TIME),
            Column("venue_id", _T.TEXT),
            Column("part", _T.TEXT),
            *_PASSAGES,
            _day_of("hour"),
        ),
        key=("hour", "venue_id", "part"),
        partition="day",
        retention=Retention.CELLS,
    ),
    TableSpec(
        name="area_day",
        topic="aggregates",
        columns=(
            Column("day", _T.DAY),
            Column("level", _T.TEXT),
            Column("code", _T.TEXT),
            Column("part", _T.TEXT),
            Column("scans", _T.COUNT),
            Column("persons", _T.COUNT),
            Column("active_venues", _T.COUNT),
            Column("revision", _T.COUNT),
        ),
        key=("day", "level", "code", "part"),
        partition="day",
        retention=Retention.CELLS,
    ),
)

TABLES: Final[Mapping[str, TableSpec]] = MappingProxyType({spec.name: spec for spec in _SPECS})
"""Every table by name, in the order of SPEC, section 9."""


def specs_of_topic(topic: str) -> tuple[TableSpec, ...]:
    """The tables that a topic (without prefix) fills; several share it where records carry a ``family``."""
    return tuple(spec for spec in TABLES.values() if spec.topic == topic)


SINK_TOPICS: Final = tuple(dict.fromkeys(spec.topic for spec in TABLES.values()))
"""The topics that the sink reads, without prefix."""
