"""What the rooms tell of their steps: to the metrics registry, and of foreign records and detours to the log."""

import time
from typing import Final

from streams.core.step import Step
from truyvet import logs
from truyvet.metrics import (
    COMMIT_SECONDS,
    DETOURS,
    DUPLICATES,
    EXPIRED_KEYS,
    EXPIRY_SECONDS,
    RECORDS_IN,
    RECORDS_OUT,
    REJECTS,
    STATE_KEYS_WRITTEN,
    STEP_RECORDS,
    STEP_SECONDS,
)

SAY_AGAIN_SECONDS: Final = 3_600.0

log = logs.get("room")
_said: dict[str, float] = {}
"""By topic, when the log last spoke of detours (monotonic seconds)."""


def computed(room: str, records: int, seconds: float) -> None:
    """A step was computed."""
    STEP_SECONDS.labels(room).observe(seconds)
    STEP_RECORDS.labels(room).observe(records)


def expired(room: str, keys: int, seconds: float) -> None:
    """A portion of the state was looked through for what is too old."""
    EXPIRED_KEYS.labels(room).inc(keys)
    EXPIRY_SECONDS.labels(room).observe(seconds)


def committed(room: str, topic: str | None, records: int, step: Step, seconds: float) -> None:
    """A step was committed and stored."""
    COMMIT_SECONDS.labels(room).observe(seconds)
    STATE_KEYS_WRITTEN.labels(room).inc(len(step.changes))
    if topic is not None:
        RECORDS_IN.labels(room, topic).inc(records)
    for name, messages in step.outputs.items():
        RECORDS_OUT.labels(name).inc(len(messages))
    for reason, count in step.rejects.items():
        REJECTS.labels(reason).inc(count)
    for foreign, partition, offset in step.foreign:
        log.error("a foreign record is skipped", topic=foreign, partition=partition, offset=offset)
    if room == "person" and topic is not None:
        DUPLICATES.inc(step.counts.get("duplicate", 0))
    if topic is not None and (detours := step.counts.get("forwarded", 0)):
        DETOURS.labels(topic).inc(detours)
        _say_detours(topic, detours)


def _say_detours(topic: str, records: int) -> None:
    """Once an hour and topic: some producer places keys otherwise, and each of its records is read twice."""
    now = time.monotonic()
    if topic in _said and now - _said[topic] < SAY_AGAIN_SECONDS:
        return
    _said[topic] = now
    log.warning(
        "records lie on another partition than their key's and are sent on; a producer's partitioner is not murmur2",
        topic=topic,
        records=records,
    )
