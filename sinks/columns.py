"""Records of a topic to columns of its tables, many at once.

Records of one form, as nearly all are, are cut up where they lie (``cut.pyx``, ``sinks.shapes``); the others are read
as lines of JSON by msgspec into typed structs, made from the table registry. Of a record that the pipeline cannot have
written nothing is known here but that it is there: ``sinks.taking`` finds which it is. The register is the exception:
``venues`` is an input (``venue_rows.py``).
"""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import UNSET, Meta, UnsetType

from sinks.backends import Columns, ColumnValues
from sinks.cut import cut
from sinks.days import DAYS, local_days
from sinks.records import Records
from sinks.shapes import KINDS, Form, Group
from sinks.tables import Column, ColumnType, TableSpec, specs_of_topic
from sinks.venue_rows import VENUES, VenueDecoder
from streams.core import wire
from streams.core.inbound import AreaList
from streams.core.times import LocalClock, own_ms

_FAMILY: Final = "family"
_CUT_MIN: Final = 8
"""Fewer records are read faster as JSON than room is made for each field."""
_UTC_MS: Final = pa.timestamp("ms", tz="UTC")

_INTEGER_MAX: Final = 2**63 - 1
_NUMBER_MAX: Final = 1.7976931348623157e308
_REVISION_MAX: Final = 2**53 - 1
"""Far beyond what the pipeline reaches; a larger one would stand for good."""
_PARTITION_MS: Final = (-86_400_000, 4_102_531_199_999)
_DAY_RANGE: Final = (19691231, 21000101)
"""Times of events are of 1970 to 2099, in whatever zone: of other days there are no partitions."""

_WIRE_TYPES: Final[Mapping[ColumnType, tuple[Any, Any]]] = {
    ColumnType.TEXT: (str, ""),
    ColumnType.OPTIONAL_TEXT: (str | None, None),
    ColumnType.LABEL: (str, ""),
    ColumnType.TEXTS: (list[str], ()),
    ColumnType.TIME: (str, "1970-01-01T00:00:00.000Z"),
    ColumnType.OPTIONAL_TIME: (str | None, None),
    ColumnType.DAY: (str, "1970-01-01"),
    ColumnType.COUNT: (Annotated[int, Meta(ge=0, le=_INTEGER_MAX)], 0),
    ColumnType.OPTIONAL_COUNT: (Annotated[int, Meta(ge=0, le=_INTEGER_MAX)] | None, None),
    ColumnType.INTEGER: (Annotated[int, Meta(ge=0, le=_INTEGER_MAX)], 0),
    ColumnType.NUMBER: (Annotated[float, Meta(ge=-_NUMBER_MAX, le=_NUMBER_MAX)], 0.0),
}
"""What stands on the wire, and what a field that a retraction leaves out becomes."""


_REJECT_STATUS: Final[Any] = Literal["open", "waiting", "resolved"]
"""The order of a row of ``rejects`` hangs on it."""
_STAGES: Final = range(1, 5)
"""Revisions of rows of ``rejects`` as releases wrote them that knew no epochs."""
_STAGE_BARE: Final = 3


class NotOursError(Exception):
    """Some record on one of the pipeline's own topics is none that the pipeline can have written."""


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
            NotOursError: at least one record is none that the pipeline writes.
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
        self._decode = msgspec.json.Decoder(union).decode_lines

    def __call__(self, records: Records) -> Tables:
        tables: Tables = []
        taken = 0
        if self._may_be_cut and len(records) >= _CUT_MIN:
            found, values = cut(records.values, self._group_of)
            taken = sum(group.rows for group in found)
            tables = [(group.spec.name, self._cut_columns(group)) for group in found]
        else:
            values = [value for value in records.values if value is not None]
        if taken + len(values) != len(records):
            # The pipeline ends no key of a compacted topic: a row stays until its day goes.
            raise NotOursError(f"{self._topic}: a record without a value")
        return tables + self._read(values) if values else tables

    def _group_of(self, record: bytes, rows_max: int) -> Group | None:
        """What takes records of the form of this one."""
        form = Form.of(record, self._tag)
        spec = None if form is None else self._specs.get(form.family)
        return None if form is None or spec is None else Group.of(form, spec, rows_max)

    def _read(self, values: Sequence[bytes]) -> Tables:
        """Reads values as JSON; none of them can be taken for a part of the next one, since none has a line break."""
        lines = b"\n".join(values)
        try:
            events = self._decode(lines)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise NotOursError(f"{self._topic}: a record is no such event") from None
        if len(events) != len(values) or lines.count(b"\n") != len(values) - 1:
            raise NotOursError(f"{self._topic}: a record is not one line of JSON")
        if len(self._tables) == 1:
            spec = self._tables[0][0]
            if spec.added:
                _bring_up(events)
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
        return _checked(spec, columns)

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
        return _checked(group.spec, columns)

    def _days(self, times: ColumnValues) -> npt.NDArray[np.uint32]:
        assert isinstance(times, np.ndarray), "the time column stands before its day"
        if int(times.min()) < _PARTITION_MS[0] or int(times.max()) > _PARTITION_MS[1]:
            raise NotOursError(f"{self._topic}: a time far from those of events")
        return local_days(times, self._clock)


def _bring_up(events: Sequence[Any]) -> None:
    """Rows of ``rejects`` as older releases wrote them, as this one does."""
    for event in events:
        if event.epoch is UNSET:
            if event.revision not in _STAGES:
                raise NotOursError("rejects: a stage that no release wrote")
            event.epoch = 0
            event.revision = wire.reject_revision(event.status, 0, bare=event.revision >= _STAGE_BARE)
        if event.attempts is UNSET:
            event.attempts = 0


def _checked(spec: TableSpec, columns: Columns) -> Columns:
    """The columns, if no record has a revision or a day that nothing could follow, or that no calendar has."""
    if int(np.max(columns["revision"])) > _REVISION_MAX:
        raise NotOursError(f"{spec.topic}: a revision that the pipeline does not reach")
    for column in spec.columns:
        if column.type is ColumnType.DAY and column.local_day_of is None:
            _check_days(spec, np.asarray(columns[column.name]))
    return columns


def _check_days(spec: TableSpec, days: npt.NDArray[Any]) -> None:
    years, months, of_month = days // 10_000, days // 100 % 100, days % 100
    real = (days >= _DAY_RANGE[0]) & (days <= _DAY_RANGE[1]) & (months >= 1) & (months <= _MONTHS) & (of_month >= 1)
    leap = (months == _FEBRUARY) & (years % 4 == 0) & ((years % 100 != 0) | (years % 400 == 0))
    real &= of_month <= _LENGTHS[np.minimum(months, _MONTHS)] + leap
    if not real.all():
        raise NotOursError(f"{spec.topic}: a day that no calendar has")


_FEBRUARY: Final = 2
_MONTHS: Final = 12
_LENGTHS: Final = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.uint32)


def _struct_of(spec: TableSpec, *, tagged: bool) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for column in spec.exported:
        wire_type, default = _WIRE_TYPES[column.type]
        required = column.name in spec.required
        if column.name in spec.added:
            wire_type, default = wire_type | UnsetType, UNSET
        elif spec.added and column.name == "status":
            wire_type, required = _REJECT_STATUS, True
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
    try:
        if column.type is ColumnType.DAY:
            return np.array([DAYS[value] for value in values], np.uint32)
        if column.type is ColumnType.OPTIONAL_TIME:
            return [None if value is None else own_ms(value) for value in values]
    except (ValueError, OverflowError):
        raise NotOursError(f"{column.name} holds what is none") from None
    return values


def times_ms(texts: list[str]) -> npt.NDArray[np.int64]:
    """Epoch milliseconds of times as the pipeline writes them, always ``YYYY-MM-DDTHH:MM:SS.mmmZ``.

    Raises:
        NotOursError: one is no time.
    """
    array = pa.array(texts, pa.string())
    try:
        milliseconds: npt.NDArray[np.int64] = array.cast(_UTC_MS).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        raise NotOursError("a time is none") from None
    return milliseconds
