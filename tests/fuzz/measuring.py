"""What a call costs: CPU of its thread, and the peak of the process's memory above the level before."""

import ctypes
import gc
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

_STATUS_BYTES: Final = 4_096
_RESET_PEAK: Final = b"5"
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
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._peak = os.open("/proc/self/clear_refs", os.O_WRONLY)
        self._least = self._resident(b"VmRSS:") if memory else 0

    def measure(self, call: Callable[[], T]) -> tuple[T, Cost]:
        """What the call gives, and what it cost."""
        before = self._level() if self._memory else 0
        began = time.thread_time_ns()
        given = call()
        seconds = (time.thread_time_ns() - began) / 1e9
        return given, Cost(seconds, self._resident(b"VmHWM:") - before if self._memory else 0)

    def _level(self) -> int:
        level = self._resident(b"VmRSS:")
        if level > self._least + _TRIM_BYTES:
            gc.collect()
            self._trim(0)
            level = self._least = self._resident(b"VmRSS:")
        os.write(self._peak, _RESET_PEAK)
        return level

    def _resident(self, name: bytes) -> int:
        text = os.pread(self._status, _STATUS_BYTES, 0)
        at = text.index(name) + len(name)
        return int(text[at : text.index(b"kB", at)]) * _KIB
