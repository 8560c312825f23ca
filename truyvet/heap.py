"""glibc's allocator, set for a process of ours; with another C library nothing happens."""

import contextlib
import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1
"""Bytes of freed memory that are kept."""
M_MMAP_THRESHOLD: Final = -3
"""Bytes from which on a block is asked of the kernel by itself."""
M_ARENA_MAX: Final = -8
"""How many heaps all threads share."""


def set_heap(options: dict[int, int]) -> None:
    """Sets these of the options above, as ``mallopt`` takes them."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in options.items():
            libc.mallopt(option, value)
