"""Chance from a seed, and what it does to bytes."""

import random
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

_MARKS: Final = (
    *(b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b"9", b"-", b"e", b".", b" ", b"\n", b"\t", b"\x00"),
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x7f", b"\x80", b"\x01", b"n", b"T", b"Z", b"+"),
)
_LONG_BYTES: Final = 40


class Chance(random.Random):
    """A source of chance; the same seed gives the same for ever."""

    def below(self, stop: int) -> int:
        """A number of 0 to ``stop`` - 1."""
        return int(self.random() * stop)

    def pick(self, these: Sequence[T]) -> T:
        """One of these."""
        return these[int(self.random() * len(these))]

    def once_in(self, times: int) -> bool:
        """True this seldom."""
        return self.random() * times < 1

    def number(self) -> int:
        """A whole number: small, at an edge of a type, or any."""
        return self.pick(_EDGES) if self.once_in(2) else self.randrange(-(1 << 63), 1 << 63)

    def bend(self, text: bytes) -> bytes:
        """These bytes, changed in one place."""
        at = self.below(len(text) + 1)
        how = self.below(8)
        if how == 0:
            return text[:at]
        if how == 1:
            return text[:at] + text[at + 1 + self.below(4) :]
        if how == 2:
            end = at + self.below(_LONG_BYTES)
            return text[:end] + text[at:]
        if how == 3:
            return text[:at] + self.randbytes(1 + self.below(3)) + text[at:]
        mark = self.pick(_MARKS)
        return text[:at] + mark + text[at + (1 if how & 1 else len(mark)) :]


_EDGES: Final = (
    *(0, 1, -1, 2, 60, 61, 63, 64, 65, 127, 128, 255, 256, 1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536, 65537),
    *(2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, -(2**63), 1 << 40),
)
