"""Steps that may fail: what the core raises is told apart from what store, disk and memory raise, and costs itself.

A step in which the core raises leaves no trace, so it can be taken again: of fewer records, or of fewer keys.
"""

import json
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Final, NamedTuple, TypeVar

from streams.core import intake
from streams.core.reasons import FAILED
from streams.core.rejected import Origin
from streams.core.returned import Provenance, Returned
from streams.core.room import TIMESTAMP_MS_MAX, RoomPartition
from streams.core.step import KAFKA_TIMESTAMP_MIN_MS, InRecord, StateReader, Step
from streams.core.times import format_ms
from streams.core.wire import reject_revision

Compute = Callable[[int, StateReader], Step]
"""What makes a step of the number it is to have, and of the state."""
Take = Callable[[Sequence[InRecord], int, StateReader], Step]
"""The same of some records."""

Result = TypeVar("Result")
One = TypeVar("One")

_CORE: Final = "streams.core."
_PROJECT: Final = "streams."


class CoreFailedError(Exception):
    """The core raised. ``detail`` says what and where in the code, and no value."""

    def __init__(self, error: Exception) -> None:
        self.detail = f"{type(error).__name__} at {_place(error.__traceback__)}"
        super().__init__(self.detail)


class _StoreFailedError(Exception):
    """The store raised ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Stopped(NamedTuple):
    """Why a partition of a stage stands still, and at which record, if it is one that can be passed over."""

    sentence: str
    topic: str = ""
    record: InRecord | None = None
    detail: str = ""


class _Marked:
    """A state whose own errors are told from those of who asks it."""

    def __init__(self, state: StateReader) -> None:
        self._state = state

    def get(self, key: bytes) -> bytes | None:
        try:
            return self._state.get(key)
        except Exception as error:
            raise _StoreFailedError(error) from error

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            return self._state.get_many(keys)
        except Exception as error:
            raise _StoreFailedError(error) from error

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        try:
            return self._state.scan(prefix, limit, after)
        except Exception as error:
            raise _StoreFailedError(error) from error

    def between(self, first: bytes, stop: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        try:
            return self._state.between(first, stop, limit)
        except Exception as error:
            raise _StoreFailedError(error) from error


def purely(compute: Callable[[StateReader], Result], state: StateReader) -> Result:
    """What ``compute`` makes of the state.

    Raises:
        CoreFailedError: it raised; nothing has changed.
        Exception: the store's own, or the operating system's.
    """
    try:
        return compute(_Marked(state))
    except _StoreFailedError as error:
        raise error.error from error
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise CoreFailedError(error) from error


def _place(trace: TracebackType | None) -> str:
    """The innermost place in the core, else in the project, as ``module:function:line``."""
    places: list[tuple[bool, bool, int, str]] = []
    depth = 0
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", "?"))
        name = f"{module}:{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
        places.append((module.startswith(_CORE), module.startswith(_PROJECT), depth, name))
        depth += 1
        trace = trace.tb_next
    return max(places)[-1] if places else "nowhere"


def take_each(
    records: Sequence[One], take: Callable[[Sequence[One]], object], failed: Callable[[One, str], None]
) -> None:
    """Takes records, where that raises in halves, in their order; ``failed`` is told of single ones at which it does.

    ``take`` may have taken some of them before it raised, so taking them again must change nothing.
    """
    parts = [records]
    while parts:
        part = parts.pop()
        try:
            take(part)
        except (MemoryError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - a bug costs the record at which it shows, and no more
            middle = len(part) // 2
            if middle:
                parts += [part[middle:], part[:middle]]
            else:
                failed(part[0], CoreFailedError(error).detail)


def take_failed(
    room: RoomPartition, number: int, topic: str, epoch: int, record: InRecord, detail: str, state: StateReader
) -> Step:
    """The step that writes the row ``failed`` of a record from outside, and changes nothing else."""
    try:
        step = Step(number, max(record.timestamp, 0))
        desk = intake.Desk(step, room, topic, state, epoch)
        desk.reject(record, reason=FAILED, detail=detail)
    except (MemoryError, OSError):
        raise
    except Exception:  # noqa: BLE001 - at this record even the writing of rejects may fail
        step = take_passed(room, number, topic, record, detail, epoch)
    step.count("rejected")
    return step


def take_passed(room: RoomPartition, number: int, topic: str, record: InRecord, detail: str, epoch: int = 0) -> Step:
    """The step that writes the bare row ``failed`` of a record; it asks next to nothing of the core."""
    record_ms = min(max(record.timestamp, 0), TIMESTAMP_MS_MAX)
    step = Step(number, record_ms)
    came = Provenance(Origin(topic, epoch, room.partition, record.offset), record_ms)
    if isinstance(record, Returned):
        came = record.came
    row = {
        "topic": room.topic_prefix + came.origin.topic,
        "epoch": came.origin.epoch,
        "partition": came.origin.partition,
        "offset": came.origin.offset,
        "record_at": format_ms(came.now_ms),
        "key": None,
        "reason": FAILED,
        "detail": detail,
        "payload": None,
        "attempts": came.attempt,
        "status": "open",
        "revision": reject_revision("open", came.attempt, bare=False),
    }
    at_ms = max(record_ms, KAFKA_TIMESTAMP_MIN_MS)
    step.to("rejects").append((None, json.dumps(row, separators=(",", ":")).encode(), room.partition, at_ms))
    step.rejects[FAILED] = 1
    return step


class Hiding:
    """A state in which scans do not find some keys."""

    def __init__(self, state: StateReader, hidden: Collection[bytes], shown: Collection[bytes] | None = None) -> None:
        """``shown`` are the only keys found, if they are named."""
        self.found: list[bytes] = []
        """The keys that scans have found so far, in their order."""
        self._state = state
        self._hidden = hidden
        self._shown = shown

    def get(self, key: bytes) -> bytes | None:
        """As ``StateReader``'s."""
        return self._state.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As ``StateReader``'s."""
        return self._state.get_many(keys)

    def between(self, first: bytes, stop: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        """As ``StateReader``'s."""
        return self._state.between(first, stop, limit)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """As ``StateReader.scan``."""
        pairs: list[tuple[bytes, bytes]] = []
        while True:
            page = self._state.scan(prefix, limit, after)
            pairs += [pair for pair in page if self._shows(pair[0])]
            if len(page) < limit or len(pairs) >= limit:
                break
            after = page[-1][0]
        pairs = pairs[:limit]
        self.found += [key for key, _ in pairs]
        return pairs

    def _shows(self, key: bytes) -> bool:
        return key not in self._hidden and (self._shown is None or key in self._shown)


def failing_key(
    compute: Callable[[StateReader], object], state: StateReader, hidden: Collection[bytes]
) -> bytes | None:
    """The first key found by scans at which ``compute`` raises, found by halving; None if it raises at none of them."""
    whole = Hiding(state, hidden)
    if not _raises(compute, whole) or _raises(compute, Hiding(state, hidden, frozenset())):
        return None
    keys = list(dict.fromkeys(whole.found))
    passing, raising = 0, len(keys)  # of how many of the first keys it passes, and raises
    while raising - passing > 1:
        middle = (passing + raising) // 2
        if _raises(compute, Hiding(state, hidden, frozenset(keys[:middle]))):
            raising = middle
        else:
            passing = middle
    return keys[raising - 1]


def _raises(compute: Callable[[StateReader], object], state: StateReader) -> bool:
    try:
        purely(compute, state)
    except CoreFailedError:
        return True
    return False


def without_failing(
    compute: Callable[[StateReader], Result],
    state: StateReader,
    hidden: set[bytes],
    leave_out: Callable[[bytes, CoreFailedError], None],
) -> Result:
    """What ``compute`` makes of a state without the keys at which it raises; those are added to ``hidden``.

    Raises:
        CoreFailedError: it raises at no key in particular.
    """
    while True:
        try:
            return purely(compute, Hiding(state, hidden) if hidden else state)
        except CoreFailedError as error:
            key = failing_key(compute, state, hidden)
            if key is None:
                raise
            hidden.add(key)
            leave_out(key, error)
