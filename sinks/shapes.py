"""Thousands of records of one form to columns at once, without a Python object for any of them.

The pipeline writes its records by template (``streams/core/wire.py``), so those of a run differ in their values alone.
One record of a run says what the others look like; then numpy finds all quotes of the run, compares what stands between
the values, byte for byte, and cuts the values out.

What is read here is what JSON would have read, or it is not read here at all. A run is left alone if it holds a
backslash, a control character or a byte beyond ASCII; a record, if it is not its form's pieces and values to the last
byte, or if a number is not written in digits as JSON wants them. Whatever is left alone is read as JSON
(``sinks.columns``), which alone judges.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]

_FIELD: Final = re.compile(rb'"([a-z_]+)":(?:"([^"]*)"|([0-9.]+))')
_FORMS_MAX: Final = 4
"""How many forms are looked for among records with as many quotes; the rest is read as JSON."""
_TEXT_BYTES_MAX: Final = 128
"""A longer text would make room for itself in every record of the run."""
_DIGITS_MAX: Final = 18
_QUOTE: Final = ord('"')
_SPACE: Final = ord(" ")
_ZERO: Final = ord("0")
_POINT: Final = ord(".")


class OddValueError(Exception):
    """A value that is better read as JSON."""


class Form(NamedTuple):
    """What records of one form have in common."""

    pieces: tuple[bytes, ...]
    """What stands before each value, and behind the last."""
    fields: dict[str, bool]
    """Names in order; whether the value is a text."""
    ends: tuple[int, ...]
    """Which quote of the record ends each value, or is the next one after it."""
    family: str | None
    """The value of the field that tells families apart; it is a piece, not a value."""

    @classmethod
    def of(cls, record: bytes, tag: str | None) -> Self | None:
        """The form of a record; None if it is none that is read here. ``tag`` names the family's field."""
        pieces, fields, ends, family = [], {}, [], None
        at, begun, quotes = 1, 0, 0
        while (field := _FIELD.match(record, at)) is not None:
            name, is_text = field[1].decode(), field[2] is not None
            start, end = field.span(2 if is_text else 3)
            quotes += 4 if is_text else 2
            if name in fields or (name == tag and (family is not None or not is_text)):
                return None
            if name == tag:
                family = field[2].decode()
            else:
                fields[name] = is_text
                pieces.append(record[begun:start])
                ends.append(quotes - 1 if is_text else quotes)
                begun = end
            at = field.end() + 1
            if record[at - 1 : at] != b",":
                break
        whole = record[:1] == b"{" and fields and at == len(record) and record[-1:] == b"}"
        return cls((*pieces, record[begun:]), fields, tuple(ends), family) if whole else None


class Run:
    """Records as one text, with padding behind it so that no piece reaches beyond."""

    def __init__(self, values: Sequence[bytes]) -> None:
        longest = max(map(len, values))
        self.text = b"\n".join(values) + b"\n" * (longest + _TEXT_BYTES_MAX)
        self.bytes = np.frombuffer(self.text, np.uint8)
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        self.ends: Ints = np.cumsum(lengths + 1) - 1
        self.starts: Ints = self.ends - lengths
        added = len(values) - 1 + longest + _TEXT_BYTES_MAX
        controls = int(np.count_nonzero(self.bytes < _SPACE))
        self.plain = self.text.isascii() and b"\\" not in self.text and controls == added

    def cut(self, at: Ints, width: int) -> npt.NDArray[np.bytes_]:
        """So many bytes from each place on."""
        windows: npt.NDArray[np.bytes_] = np.ndarray(
            (len(self.text) - width + 1,), f"S{width}", self.text, strides=(1,)
        )
        return windows[at]

    def by_quotes(self) -> Iterator[tuple[Ints, Ints]]:
        """Rows that have as many quotes, and the places of those, a row each."""
        quotes = np.flatnonzero(self.bytes == _QUOTE)
        rows = len(self.starts)
        each, more = divmod(len(quotes), rows)
        if each and not more:
            square = quotes.reshape(rows, each)
            if (square[:, 0] >= self.starts).all() and (square[:, -1] < self.ends).all():
                yield np.arange(rows), square
                return
        first = np.searchsorted(quotes, self.starts)
        counts = np.diff(first, append=len(quotes))
        for count in np.unique(counts).tolist():
            found = np.flatnonzero(counts == count)
            yield found, quotes[first[found][:, None] + np.arange(count)]


class Group(NamedTuple):
    """Rows of one form, and where the values of each field begin and end."""

    run: Run
    form: Form
    rows: Ints
    begins: dict[str, Ints]
    ends: dict[str, Ints]

    def texts(self, name: str) -> pa.StringArray:
        """The values of a field as texts.

        Raises:
            OddValueError: one is long.
        """
        begins, lengths = self.begins[name], self.ends[name] - self.begins[name]
        width = int(lengths.max())
        if width > _TEXT_BYTES_MAX:
            raise OddValueError
        cut = self.run.cut(begins, max(width, 1)).view(np.uint8)
        offsets = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        if int(offsets[-1]) != width * len(lengths):
            cut = cut.reshape(len(lengths), width)[np.arange(width) < lengths[:, None]]
        return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(cut))

    def counts(self, name: str) -> npt.NDArray[np.uint64]:
        """The values of a field as whole numbers.

        Raises:
            OddValueError: one is not written in up to 18 digits.
        """
        begins, ends = self.begins[name], self.ends[name]
        lengths = ends - begins
        width = int(lengths.max())
        if width > _DIGITS_MAX or int(lengths.min()) < 1:
            raise OddValueError
        if ((self.run.bytes[begins] == _ZERO) & (lengths > 1)).any():
            raise OddValueError
        digits = self.run.cut(ends - width, width).view(np.uint8).reshape(len(lengths), width) - np.uint8(_ZERO)
        digits[np.arange(width) < (width - lengths)[:, None]] = 0
        if int(digits.max()) > 9:  # noqa: PLR2004 - the largest digit
            raise OddValueError
        numbers = digits[:, 0].astype(np.uint64)
        for place in range(1, width):
            numbers = numbers * np.uint64(10) + digits[:, place]
        return numbers

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """The values of a field as numbers.

        Raises:
            OddValueError: one is written otherwise than in digits with a point between them.
        """
        begins, ends = self.begins[name], self.ends[name]
        if (begins == ends).any():
            raise OddValueError
        texts, written = self.texts(name), self.run.bytes
        parts = np.frombuffer(texts.buffers()[2], np.uint8)
        others = (parts - np.uint8(_ZERO) > 9) & (parts != _POINT)  # noqa: PLR2004 - the largest digit
        first, second, last = written[begins], written[begins + 1], written[ends - 1]
        in_front = (first == _ZERO) & (second != _POINT) & (ends - begins > 1)
        if others.any() or in_front.any() or (first == _POINT).any() or (last == _POINT).any():
            raise OddValueError
        try:
            numbers: npt.NDArray[np.float64] = texts.cast(pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            raise OddValueError from None
        return numbers


def groups(values: Sequence[bytes], tag: str | None) -> Iterator[Group]:
    """Those of the records that have one of a few forms, form by form.

    Args:
        values: Records, at least one.
        tag: The field that tells families apart, if the topic has several.
    """
    run = Run(values)
    if not run.plain:
        return
    for rows, quotes in run.by_quotes():
        left, places = rows, quotes
        for _ in range(_FORMS_MAX):
            form = Form.of(values[left[0]], tag)
            if form is None:
                break
            group, matches = _match(run, form, left, places)
            if group is not None:
                yield group
            left, places = left[~matches], places[~matches]
            if not len(left):
                break


def _match(run: Run, form: Form, rows: Ints, quotes: Ints) -> tuple[Group | None, npt.NDArray[Any]]:
    """The rows of this form, and which they are: those that its pieces and their values fill from end to end."""
    matches = run.cut(run.starts[rows], len(form.pieces[0])) == form.pieces[0]
    chosen, places = (rows, quotes) if matches.all() else (rows[matches], quotes[matches])
    begins: dict[str, Ints] = {}
    ends: dict[str, Ints] = {}
    at, limit = run.starts[chosen], run.ends[chosen]
    last = places.shape[1]
    # A column of a wide square lies all over it: those that matter are gathered once, row by row.
    columns = np.ascontiguousarray(places[:, [min(end, last - 1) for end in form.ends]].T)
    good = np.ones(len(chosen), np.bool_)
    for (name, is_text), piece, end, column in zip(form.fields.items(), form.pieces, form.ends, columns, strict=False):
        if begins:
            good &= run.cut(at, len(piece)) == piece
        begins[name] = at + len(piece)
        at = limit - 1 if end == last else column if is_text else column - 1
        good &= begins[name] <= at
        ends[name] = at
    good &= (run.cut(at, len(form.pieces[-1])) == form.pieces[-1]) & (at + len(form.pieces[-1]) == limit)
    if not good.all():
        begins = {name: found[good] for name, found in begins.items()}
        ends = {name: found[good] for name, found in ends.items()}
        chosen = chosen[good]
        matches[np.flatnonzero(matches)[~good]] = False
    return (Group(run, form, chosen, begins, ends) if len(chosen) else None), matches
