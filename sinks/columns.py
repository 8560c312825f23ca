"""Records of a topic to columns of its tables, many at once.

Records of one form, as nearly all are, are cut up where they lie (``cut.pyx``, ``sinks.shapes``); the others are read
as one JSON list by msgspec into typed structs, made from the table registry. The topics are the pipeline's own, so a
record that is none of ours is our own bug: it stops the sink, by topic, partition and offset, and is never skipped. The
register is the exception: ``venues`` is an input (``venue_rows.py``).
"""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from operator import attrgetter
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sinks.backends import Columns, ColumnValues
from sinks.cut import cut
from sinks.days import DAYS, local_days
from sinks.records import Records
from sinks.shapes import KINDS, Form, Group
from sinks.tables import Column, ColumnType, TableSpec, specs_of_topic
from sinks.venue_rows import VENUES, VenueDecoder
from streams.core.inbound import AreaList
from streams.core.times import LocalClock, own_ms

_FAMILY: Final = "family"
_CUT_MIN: Final = 8
"""Fewer records are read faster as JSON than room is made for each field."""
_UTC_MS: Final = pa.timestamp("ms", tz="UTC")

_WIRE_TYPES: Final[Mapping[ColumnType, tuple[Any, Any]]] = {
    ColumnType.TEXT: (str, ""),
    ColumnType.OPTIONAL_TEXT: (str | None, None),
    ColumnType.LABEL: (str, ""),
    ColumnType.TEXTS: (list[str], ()),
    ColumnType.TIME: (str, "1970-01-01T00:00:00.000Z"),
    ColumnType.OPTIONAL_TIME: (str | None, None),
    ColumnType.DAY: (str, "1970-01-01"),
    ColumnType.COUNT: (int, 0),
    ColumnType.OPTIONAL_COUNT: (int | None, None),
    ColumnType.INTEGER: (int, 0),
    ColumnType.NUMBER: (float, 0.0),
}
"""What stands on the wire, and what a field that a retraction leaves out becomes."""


class NotOursError(Exception):
    """A record on one of the pipeline's own topics that the pipeline cannot have written; names its place."""


Tables = list[tuple[str, Columns]]
"""Columns by table; a table may be there several times."""


class TopicDecoder(Protocol):
    """Records of one topic, in order of each partition, to rows."""

    @property
    def keyed(self) -> bool:
        """Whether it looks at the records' keys."""

    def __call__(self, records: Records) -> Tables:
        """The rows; tables without any are left out.

        Raises:
            NotOursError: a record is none that the pipeline writes.
        """


def decoder_of(
    topic: str, areas: AreaList, zone: tzinfo, partitions: int = 1, register_generation: int = 0
) -> TopicDecoder:
    """The decoder of a topic (without prefix) of so many partitions; local days are those of ``zone``.

    ``register_generation`` is that of the ``venues`` topic (``venue_rows.generation_of``).
    """
    if topic == VENUES:
        return VenueDecoder(areas, zone, partitions, register_generation)
    return _EventDecoder(topic, specs_of_topic(topic), zone)


class _EventDecoder:
    """Decodes a topic of the pipeline's own; several tables share one where records name their family."""

    keyed = False

    def __init__(self, topic: str, specs: Sequence[TableSpec], zone: tzinfo) -> None:
        self._topic = topic
        self._clock = LocalClock(zone)
        shared = len(specs) > 1
        self._tag = _FAMILY if shared else None
        self._specs = {spec.name if shared else None: spec for spec in specs}
        self._may_be_cut = all(column.type in KINDS for spec in specs for column in spec.exported)
        self._tables = [(spec, _struct_of(spec, tagged=shared)) for spec in specs]
        union: Any = self._tables[0][1]
        for _, struct in self._tables[1:]:
            union |= struct
        self._many = msgspec.json.Decoder(list[union])
        self._one = msgspec.json.Decoder(union)

    def __call__(self, records: Records) -> Tables:
        # A null value is the end of a key in a compacted log: the row stays until its day goes.
        tables: Tables = []
        if self._may_be_cut and len(records) >= _CUT_MIN:
            found, values = cut(records.values, self._group_of)
            tables = [(group.spec.name, self._cut_columns(group)) for group in found]
        else:
            values = [value for value in records.values if value is not None]
        return tables + self._read(values, records) if values else tables

    def _group_of(self, record: bytes, rows_max: int) -> Group | None:
        """What takes records of the form of this one."""
        form = Form.of(record, self._tag)
        spec = None if form is None else self._specs.get(form.family)
        return None if form is None or spec is None else Group.of(form, spec, rows_max)

    def _read(self, values: Sequence[bytes], records: Records) -> Tables:
        """Reads values as JSON."""
        try:
            events = self._many.decode(b"[" + b",".join(values) + b"]")
        except msgspec.MsgspecError:
            raise self._not_ours(records) from None
        if len(events) != len(values):
            raise self._not_ours(records)
        if len(self._tables) == 1:
            spec = self._tables[0][0]
            return [(spec.name, self._columns(spec, events))]
        sorted_out = [(spec, [event for event in events if type(event) is struct]) for spec, struct in self._tables]
        return [(spec.name, self._columns(spec, rows)) for spec, rows in sorted_out if rows]

    def _columns(self, spec: TableSpec, events: list[Any]) -> Columns:
        columns: dict[str, ColumnValues] = {}
        for column in spec.columns:
            if column.local_day_of is not None:
                columns[column.name] = self._days(columns[column.local_day_of])
            else:
                columns[column.name] = _values(column, list(map(attrgetter(column.name), events)))
        return columns

    def _cut_columns(self, group: Group) -> Columns:
        """The columns of records of one form."""
        columns: dict[str, ColumnValues] = {}
        for column in group.spec.columns:
            if column.local_day_of is not None:
                columns[column.name] = self._days(columns[column.local_day_of])
                continue
            values = group.values(column.name)
            columns[column.name] = (
                _values(column, [_WIRE_TYPES[column.type][1]] * group.rows) if values is None else values
            )
        return columns

    def _days(self, times: ColumnValues) -> npt.NDArray[np.uint32]:
        assert isinstance(times, np.ndarray), "the time column stands before its day"
        return local_days(times, self._clock)

    def _not_ours(self, records: Records) -> NotOursError:
        """The record that does not decode by itself; its content stays out of the sentence."""
        for value, place in zip(records.values, records.places(), strict=True):
            if value is None:
                continue
            try:
                self._one.decode(value)
            except msgspec.MsgspecError:
                where = f"{self._topic}, partition {place.partition}, offset {place.offset}"
                return NotOursError(f"{where}: the record is none that this version writes")
        return NotOursError(f"{self._topic}: a run of records decodes one by one but not together")


def _struct_of(spec: TableSpec, *, tagged: bool) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for column in spec.exported:
        wire_type, default = _WIRE_TYPES[column.type]
        required = column.name in spec.required
        fields.append((column.name, wire_type) if required else (column.name, wire_type, default))
    # Fields without a default come first in a struct; on the wire and in the table the order is free.
    fields.sort(key=len)
    tags: dict[str, Any] = {"tag_field": _FAMILY, "tag": spec.name} if tagged else {}
    return msgspec.defstruct(f"{spec.name}_event", fields, gc=False, **tags)


_DTYPES: Final[Mapping[ColumnType, Any]] = {
    ColumnType.COUNT: np.uint64,
    ColumnType.INTEGER: np.int64,
    ColumnType.NUMBER: np.float64,
}


def _values(column: Column, values: list[Any]) -> ColumnValues:
    if column.type in _DTYPES:
        return np.array(values, _DTYPES[column.type])
    if column.type is ColumnType.TIME:
        return times_ms(values)
    if column.type is ColumnType.DAY:
        return np.array([DAYS[value] for value in values], np.uint32)
    if column.type is ColumnType.OPTIONAL_TIME:
        return [None if value is None else own_ms(value) for value in values]
    return values


def times_ms(texts: list[str]) -> npt.NDArray[np.int64]:
    """Epoch milliseconds of times as the pipeline writes them, always ``YYYY-MM-DDTHH:MM:SS.mmmZ``."""
    array = pa.array(texts, pa.string())
    milliseconds: npt.NDArray[np.int64] = array.cast(_UTC_MS).cast(pa.int64()).to_numpy()
    return milliseconds
