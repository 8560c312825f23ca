"""The form of a record, and what takes records of it: thousands at once without a Python object for any value.

The pipeline writes its records by template (``streams/core/wire.py``), so those of a run differ in their values alone.
One record says what the others look like; ``cut.pyx`` then compares what stands between the values, byte for byte, and
takes the values out.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pyarrow as pa

from sinks.backends import ColumnValues
from sinks.cut import FIELDS_MAX, Cutter, Kind
from sinks.tables import ColumnType, TableSpec

_FIELD: Final = re.compile(rb'"([a-z_]+)":(?:"([ !#-\[\]-\x7f]*)"|([0-9.]+))')

KINDS: Final[Mapping[ColumnType, Kind]] = MappingProxyType(
    {
        ColumnType.TEXT: Kind.TEXT,
        ColumnType.LABEL: Kind.TEXT,
        ColumnType.TIME: Kind.TIME,
        ColumnType.DAY: Kind.DAY,
        ColumnType.COUNT: Kind.COUNT,
        ColumnType.NUMBER: Kind.NUMBER,
    }
)
"""What is cut out of records of one form. Topics that hold anything else are read as JSON."""
_UNQUOTED: Final = frozenset({Kind.COUNT, Kind.NUMBER})
_DTYPES: Final[Mapping[Kind, Any]] = MappingProxyType(
    {Kind.TIME: np.int64, Kind.DAY: np.uint32, Kind.COUNT: np.uint64, Kind.NUMBER: np.float64}
)


class Form(NamedTuple):
    """What records of one form have in common."""

    pieces: tuple[bytes, ...]
    """What stands before each value, and behind the last."""
    fields: dict[str, bool]
    """Names in order; whether the value is a text."""
    family: str | None
    """The value of the field that tells families apart; it is a piece, not a value."""

    @classmethod
    def of(cls, record: bytes, tag: str | None) -> Self | None:
        """The form of a record; None if it is none that is cut up. ``tag`` names the family's field."""
        pieces, fields, family = [], {}, None
        at, begun = 1, 0
        while (field := _FIELD.match(record, at)) is not None:
            name, is_text = field[1].decode(), field[2] is not None
            if name in fields or (name == tag and (family is not None or not is_text)):
                return None
            if name == tag:
                family = field[2].decode()
            else:
                start, end = field.span(2 if is_text else 3)
                fields[name] = is_text
                pieces.append(record[begun:start])
                begun = end
            at = field.end() + 1
            if record[at - 1 : at] != b",":
                break
        whole = record[:1] == b"{" and 0 < len(fields) <= FIELDS_MAX and at == len(record) and record[-1:] == b"}"
        return cls((*pieces, record[begun:]), fields, family) if whole else None


class Group(Cutter):
    """Records of one form on their way into the columns of a table."""

    def __init__(self, spec: TableSpec, fields: Mapping[str, Kind], pieces: tuple[bytes, ...], rows_max: int) -> None:
        super().__init__(pieces, list(fields.values()), rows_max)
        self.spec = spec
        self._places = {name: (place, kind) for place, (name, kind) in enumerate(fields.items())}

    @classmethod
    def of(cls, form: Form, spec: TableSpec, rows_max: int) -> Self | None:
        """Takes up to so many records of this form; None if they are better read as JSON."""
        kinds = {column.name: KINDS[column.type] for column in spec.exported}
        # What the table does not have must be JSON, too.
        fields = {name: kinds.get(name, Kind.TEXT if text else Kind.NUMBER) for name, text in form.fields.items()}
        odd = any((kind in _UNQUOTED) is form.fields[name] for name, kind in fields.items())
        return cls(spec, fields, form.pieces, rows_max) if not odd and spec.required <= fields.keys() else None

    def values(self, name: str) -> ColumnValues | None:
        """The values of a field, by row; None if the records have no such field."""
        if name not in self._places:
            return None
        place, kind = self._places[name]
        values, ends = self.column(place)
        if kind is Kind.TEXT:
            return pa.StringArray.from_buffers(self.rows, pa.py_buffer(ends), pa.py_buffer(values))
        return np.frombuffer(values, _DTYPES[kind])
