"""Columns in the bytes of ClickHouse's native format, and a client that sends such bytes as they are.

clickhouse-driver writes a column value by value, from Python objects: 1.3 µs a row. Here a column is Arrow's or numpy's
memory, and its bytes are a few copies of that. The driver keeps the connection, the protocol and its errors.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from clickhouse_driver import Client, defines
from clickhouse_driver.block import BlockInfo
from clickhouse_driver.protocol import ClientPacketTypes
from clickhouse_driver.varint import write_varint
from clickhouse_driver.writer import write_binary_str, write_binary_uint8

from sinks.tables import ColumnType

_SHORT_BYTES_MAX: Final = 127
"""The length of a longer text takes more than a byte."""
_LABELS_VERSION: Final = 1
_LABELS_WITH_OWN_INDEX: Final = 1 << 9 | 1 << 10
_NULLABLE: Final = frozenset({ColumnType.OPTIONAL_TEXT, ColumnType.OPTIONAL_TIME, ColumnType.OPTIONAL_COUNT})
_TEXTS: Final = frozenset({ColumnType.TEXT, ColumnType.OPTIONAL_TEXT})


class NativeBlock(NamedTuple):
    """Rows of a table, column by column."""

    rows: int
    columns: list[bytes]


class Blocks(list[NativeBlock]):
    """What an insert sends instead of rows."""


class BlockClient(Client):  # type: ignore[misc]  # the driver has no types
    """A client whose inserts may be ``Blocks``; the server makes one part of all of them."""

    def send_data(
        self,
        sample_block: Any,  # noqa: ANN401 - the driver has no types
        data: Any,  # noqa: ANN401 - same
        types_check: bool = False,  # noqa: FBT001, FBT002 - as the driver calls it
        columnar: bool = False,  # noqa: FBT001, FBT002 - same
    ) -> int:
        """Sends the rows of an insert, and that there are no more."""
        if not isinstance(data, Blocks):
            return int(super().send_data(sample_block, data, types_check, columnar) or 0)
        for block in data:
            self._send_block(sample_block.columns_with_types, block)
            self.receive_profile_events()
        super().send_data(sample_block, [], columnar=True)
        return sum(block.rows for block in data)

    def _send_block(self, columns_with_types: Sequence[tuple[str, str]], block: NativeBlock) -> None:
        """As ``Connection.send_data`` and ``BlockOutputStream.write`` do it."""
        out, revision = self.connection.fout, self.connection.server_info.used_revision
        write_varint(ClientPacketTypes.DATA, out)
        write_binary_str("", out)
        BlockInfo().write(out)
        write_varint(len(block.columns), out)
        write_varint(block.rows, out)
        for (name, clickhouse_type), column in zip(columns_with_types, block.columns, strict=True):
            write_binary_str(name, out)
            write_binary_str(clickhouse_type, out)
            if revision >= defines.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION:
                write_binary_uint8(0, out)
            out.write(column)
        out.flush()


def column_bytes(array: pa.Array, column_type: ColumnType) -> bytes:
    """A column of at least one row as ClickHouse's native format has it."""
    nulls = b""
    if column_type in _NULLABLE:
        nulls = array.is_null().to_numpy(zero_copy_only=False).astype(np.uint8).tobytes()
        array = array.fill_null("" if column_type in _TEXTS else 0)
    if column_type in _TEXTS:
        return nulls + _texts(array)
    if column_type is ColumnType.LABEL:
        return _labels(array)
    if column_type is ColumnType.TEXTS:
        ends = np.asarray(array.offsets, np.uint64)
        return bytes((ends[1:] - ends[0]).tobytes()) + _texts(array.flatten())
    return nulls + bytes(array.to_numpy().tobytes())


def _texts(array: pa.StringArray) -> bytes:
    """Each text with its length in front of it."""
    rows = len(array)
    if not rows:
        return b""
    _, places, data = array.buffers()
    offsets = np.frombuffer(places, np.int32)[array.offset : array.offset + rows + 1].astype(np.int64)
    written = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]
    lengths = np.diff(offsets)
    longest = int(lengths.max())
    if longest > _SHORT_BYTES_MAX:
        return b"".join([_varint(len(text)) + text for text in array.cast(pa.binary()).to_pylist()])
    out: npt.NDArray[np.uint8]
    if longest * rows == len(written):
        out = np.empty((rows, longest + 1), np.uint8)
        out[:, 0] = longest
        out[:, 1:] = written.reshape(rows, longest)
        return out.tobytes()
    out = np.empty(len(written) + rows, np.uint8)
    heads = offsets[:-1] - offsets[0] + np.arange(rows)
    is_text = np.ones(len(out), np.bool_)
    is_text[heads] = False
    out[heads] = lengths
    out[is_text] = written
    return out.tobytes()


def _labels(array: pa.StringArray) -> bytes:
    """The different texts, then which of them each row has."""
    encoded = array.dictionary_encode()
    different, rows = encoded.dictionary, encoded.indices.to_numpy()
    width = 0 if len(different) <= 1 << 8 else 1 if len(different) <= 1 << 16 else 2
    head = np.array([_LABELS_VERSION, _LABELS_WITH_OWN_INDEX | width, len(different)], np.int64)
    index: npt.NDArray[Any] = rows.astype((np.uint8, np.uint16, np.uint32)[width])
    counted = np.array([len(rows)], np.int64)
    return b"".join([head.tobytes(), _texts(different), counted.tobytes(), index.tobytes()])


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > _SHORT_BYTES_MAX:
        out.append(number & _SHORT_BYTES_MAX | _SHORT_BYTES_MAX + 1)
        number >>= 7
    out.append(number)
    return bytes(out)
