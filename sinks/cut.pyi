# Types of cut.pyx.
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final, TypeVar

FIELDS_MAX: Final[int]

class Kind(IntEnum):
    TEXT = 0
    TIME = 1
    DAY = 2
    COUNT = 3
    NUMBER = 4

class Cutter:
    rows: int
    def __init__(self, pieces: tuple[bytes, ...], kinds: Sequence[Kind], rows_max: int) -> None: ...
    def column(self, number: int) -> tuple[bytearray, bytearray]: ...

_Cutter = TypeVar("_Cutter", bound=Cutter)

def cut(
    values: list[bytes | None], cutter_of: Callable[[bytes, int], _Cutter | None]
) -> tuple[list[_Cutter], list[bytes]]: ...
