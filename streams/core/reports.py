"""Case reports as state keeps them: of each case the one that counts, and when the case is infectious by it.

The infectious period is as the ruleset told it when the report was accepted. A value is::

    reported_ms i64 | n u32, JSON of Infectious (n = 0: withdrawn) | canonical JSON
"""

import struct
from collections.abc import Iterator

import msgspec

from streams.core import keys
from streams.core.case_visits import Infectious
from streams.core.step import StateReader

_PAGE_REPORTS = 100
_FIXED = struct.Struct("<qI")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Infectious).decode


class Report(msgspec.Struct, frozen=True):
    """What state keeps of a report that counts."""

    reported_ms: int
    canonical: bytes
    infectious: Infectious | None

    @property
    def order(self) -> tuple[int, bytes]:
        """Of two reports the one with the larger order counts."""
        return self.reported_ms, self.canonical

    def pack(self) -> bytes:
        """The state value."""
        period = b"" if self.infectious is None else _encode(self.infectious)
        return _FIXED.pack(self.reported_ms, len(period)) + period + self.canonical


def unpack(packed: bytes) -> Report:
    """The report of a state value."""
    reported_ms, length = _FIXED.unpack_from(packed)
    period, canonical = packed[_FIXED.size : _FIXED.size + length], packed[_FIXED.size + length :]
    return Report(reported_ms, canonical, _decode(period) if period else None)


def reports(person: bytes, state: StateReader, after: bytes = b"") -> Iterator[tuple[bytes, Report]]:
    """The reports that count of a person (16 bytes), as state holds them: each by its state key, past ``after``."""
    return ((key, unpack(value)) for key, value in _packed(person, state, after))


def report_times(person: bytes, state: StateReader) -> Iterator[tuple[bytes, int]]:
    """The same, of each only when it was reported (epoch ms)."""
    return ((key, _FIXED.unpack_from(value)[0]) for key, value in _packed(person, state, b""))


def _packed(person: bytes, state: StateReader, after: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Page by page, since a person may have any number of cases."""
    prefix = keys.case_reports(person)
    read = _PAGE_REPORTS
    while read == _PAGE_REPORTS:
        pairs = state.between(after + b"\0" if after else prefix, prefix + b"\xff", _PAGE_REPORTS)
        read = len(pairs)
        yield from pairs
        after = pairs[-1][0] if pairs else after


def case_id_of(key: bytes) -> str:
    """The case that a report's state key names."""
    return key[len(keys.case_reports(bytes(16))) :].decode()
