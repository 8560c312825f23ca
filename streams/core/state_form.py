"""What a record of a changelog must look like to be one: a look at key and value that costs next to nothing.

What passes is not known to be right; what does not pass would end whoever opens the state.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streams.core.intervals import CLASSES
from streams.core.keys import EXPIRED, META

_KEY_BYTES_MAX: Final = 1024
_KEY_BYTES_MIN: Final[Mapping[bytes, int]] = MappingProxyType(
    {
        b"p": 17, b"c": 25, b"i": 17, b"d": 27, b"w": 18, b"m": 9, b"h": 11, b"a": 12, b"k": 11, b"s": 17, b"r": 26,
        b"j": 13, b"n": 19, b"v": 28, b"x": 29, b"y": 2, b"!": 2,
    }
)  # fmt: skip
"""By first letter, as ``keys.py`` lists them."""
_VALUE_BYTES: Final[Mapping[bytes, tuple[int, ...]]] = MappingProxyType(
    {b"v": (43,), b"y": (4 * CLASSES,), b"a": (8, 16), b"n": (4,)}
)
"""Of values that are of few lengths."""
_TIME_BYTES: Final = 8
_META_NUMBERS: Final = ("version", "step", "waiting", "newest", "expired")


def may_be_state(key: bytes | None, value: bytes | None) -> bool:
    """Whether a changelog record may be one that a room wrote; a value of None deletes the key."""
    if not key or not _KEY_BYTES_MIN.get(key[:1], _KEY_BYTES_MAX) <= len(key) < _KEY_BYTES_MAX:
        return False
    if key[:1] == b"!":
        return _may_be_own(key, value)
    lengths = _VALUE_BYTES.get(key[:1])
    return value is None or lengths is None or len(value) in lengths


def _may_be_own(key: bytes, value: bytes | None) -> bool:
    """The same of the room's own records, which are never deleted where a partition would begin anew without them."""
    if key == META:
        return value is not None and _may_be_meta(value)
    return (value is None and key != EXPIRED) or (value is not None and len(value) == _TIME_BYTES)


def _may_be_meta(value: bytes) -> bool:
    try:
        meta = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(meta, dict)
        and all(type(meta.get(name)) is int for name in _META_NUMBERS)
        and isinstance(meta.get("next"), dict)
        and all(type(offset) is int for offset in meta["next"].values())
        and isinstance(meta.get("migrating", ""), str)
    )
