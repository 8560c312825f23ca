"""The readers, one entry each."""

from typing import Final

from sinks.tables import SINK_TOPICS
from streams.core import reasons
from streams.core.returned import RETURNED_TOPICS, RETURNS
from tests.fuzz import batches, decoding, filing, rooms, sinking, writing
from tests.fuzz.calls import Reader

_OF_ALL: Final = (
    reasons.OVERSIZED,
    reasons.MALFORMED_JSON,
    reasons.SCHEMA_VIOLATION,
    reasons.KEY_MISMATCH,
)
_OF_PERSONS: Final = ("forwarded", reasons.IN_FUTURE, reasons.ERASED, "accepted")
_OF_SCANS: Final = (reasons.CONFLICTING_DUPLICATE, reasons.TOO_MANY_WAITING, "waiting")
_ROOMS: Final = {
    "scans": (*_OF_PERSONS, *_OF_SCANS, reasons.TOO_OLD, "duplicate"),
    "cases": (*_OF_PERSONS, reasons.TOO_OLD, reasons.UNKNOWN_RULESET, "duplicate", "superseded"),
    "erasures": ("forwarded", reasons.IN_FUTURE, "accepted", "superseded"),
    "venues": ("accepted", "forwarded", reasons.IN_FUTURE),
}
_RETURNED: Final = {
    topic: ("accepted", "superseded", reasons.IN_FUTURE) if topic == "venues" else (*verdicts, reasons.MISROUTED)
    for topic, verdicts in _ROOMS.items()
}
_VERDICTS: Final = frozenset(
    {f"{topic} {verdict}" for topic, verdicts in _ROOMS.items() for verdict in (*_OF_ALL, *verdicts)}
    | {f"returned {topic} {verdict}" for topic, verdicts in _RETURNED.items() for verdict in (*_OF_ALL, *verdicts)}
    | {f"returns of {topic}" for topic in (*RETURNED_TOPICS, RETURNS)}
    | {f"returned {RETURNS} {reasons.FOREIGN_RECORD}"}
    | {writing.WRITTEN}
    | {"waiting resolved", "waiting waits on", "state taken", "state foreign_record"}
    | {"visits accepted", "case-visits accepted", "venue-marks accepted", "venue-marks duplicate"}
    | {f"{topic} {rooms.FOREIGN}" for topic in rooms.CROSSING}
)
_SELDOM: Final = frozenset(f"{topic} {rooms.UNFIT}" for topic in rooms.CROSSING) | {
    f"{came}venues {outcome}"
    for came in ("", "returned ")
    for outcome in ("ignored", "forwarded", "removed", "misrouted")
}

READERS: Final[tuple[Reader, ...]] = (
    Reader("rooms", rooms.episode, _VERDICTS, _SELDOM, weight=12),
    *(decoding.reader(topic) for topic in ("scans", "venues", "cases", "erasures")),
    *(sinking.reader(topic) for topic in SINK_TOPICS),
    *filing.READERS,
    batches.READER,
)
BY_NAME: Final = {reader.name: reader for reader in READERS}
