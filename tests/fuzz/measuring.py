"""What a call costs: CPU of its thread, and the peak of the process's memory above the level before."""

import ctypes
import gc
import time
from pathlib import Path
from typing import Final, NamedTuple, TypeVar
from collections.abc import Callable

_PEAK: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")
_RESET_PEAK: Final = "5"
_KIB: Final = 1024
_TRIM_BYTES: Final = 32 * 1024 * 1024

T = TypeVar("T")


class Cost(NamedTuple):
    """Of one call."""

    seconds: float
    bytes: int


class Meter:
    """Measures calls. What was freed and is still the process's is given back first, or it would hide a peak."""

    def __init__(self, *, memory: bool) -> None:
        self._memory = memory
        self._trim = ctypes.CDLL(None).malloc_trim
        self._least = _resident("VmRSS") if memory else 0

    def measure(self, call: Callable[[], T]) -> tuple[T, Cost]:
        """What the call gives, and what it cost."""
        before = self._level() if self._memory else 0
        began = time.thread_time_ns()
        given = call()
        seconds = (time.thread_time_ns() - began) / 1e9
        return given, Cost(seconds, _resident("VmHWM") - before if self._memory else 0)

    def _level(self) -> int:
        level = _resident("VmRSS")
        if level > self._least + _TRIM_BYTES:
            gc.collect()
            self._trim(0)
            level = self._least = _resident("VmRSS")
        _PEAK.write_text(_RESET_PEAK)
        return level


def _resident(name: str) -> int:
    text = _STATUS.read_bytes()
    at = text.index(name.encode()) + len(name) + 1
    return int(text[at : text.index(b"kB", at)]) * _KIB
