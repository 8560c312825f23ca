"""The topic ``returns``: events that the pipeline sends to itself (SPEC §1), and what their headers say.

An event comes back where it lay on a partition not its key's (a detour), where a dead letter is sent again, and where
an erasure is told to other partitions. Its headers hold what the record itself cannot: which topic the event is of,
where it was first written, its first timestamp and how often it was tried. The pipeline alone writes this topic, so
here headers count; they are checked all the same, and a record that has them not is foreign.

The headers are ``topic`` (without prefix), ``epoch``, ``partition``, ``offset``, ``first-ts`` (epoch ms), ``attempt``,
``hops``, ``reason`` (of the row, where one is sent again) and ``echo`` (where an erasure is told). Numbers are decimal.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from streams.core.reasons import REASONS
from streams.core.rejected import Origin
from streams.core.step import Fault, HeadedMessage, Headers, InRecord, Step

RETURNS: Final = "returns"
RETURNED_TOPICS: Final = ("scans", "venues", "cases", "erasures")
"""What comes back; each is taken as its own topic is."""
NUMBER_MAX: Final = (1 << 62) - 1
_DIGITS_MAX: Final = 19
_SMALL_MAX: Final = 1 << 30
"""Of partitions, epochs, attempts and hops."""


class Provenance(NamedTuple):
    """Where an event came from; of one that did not come back, all that follows ``now_ms`` is as it stands here."""

    origin: Origin
    now_ms: int
    """Its "now", epoch ms: the timestamp of the record by which it first came."""
    attempt: int = 0
    """How often it was sent again."""
    hops: int = 0
    """How often it was sent on to another partition."""
    echo: bool = False
    """Whether it is an erasure that the person's own partition tells the others."""
    reason: str = ""
    """Why its row stands in ``rejects``, where it is sent again."""


class Returned(NamedTuple):
    """A record of ``returns`` whose headers are right: the event's record, and where that came from."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    came: Provenance
    headers: Headers = ()
    fault: Fault | None = None


def headers_of(came: Provenance) -> list[tuple[str, bytes]]:
    """What a record of ``returns`` says of where its event came from."""
    topic, epoch, partition, offset = came.origin
    numbers = {"epoch": epoch, "partition": partition, "offset": offset, "first-ts": came.now_ms}
    numbers |= {"attempt": came.attempt, "hops": came.hops}
    headers = [("topic", topic.encode()), *((name, b"%d" % number) for name, number in numbers.items())]
    if came.reason:
        headers.append(("reason", came.reason.encode()))
    if came.echo:
        headers.append(("echo", b"1"))
    return headers


def send_back(step: Step, record: InRecord, came: Provenance, partition: int) -> None:
    """Sends a record's event to a partition of ``returns``."""
    timestamp_ms = max(record.timestamp, 1)
    step.headed.append(HeadedMessage(RETURNS, partition, record.key, record.value, timestamp_ms, headers_of(came)))


def came_of(record: InRecord) -> Provenance | None:
    """What the headers of a record of ``returns`` say; None where it cannot be the pipeline's own."""
    said = dict(record.headers)
    topic = (said.get("topic") or b"").decode("ascii", "replace")
    small = ("epoch", "partition", "attempt", "hops")
    epoch, partition, attempt, hops = (_number(said, name, _SMALL_MAX) for name in small)
    offset, first_ms = _number(said, "offset", NUMBER_MAX), _number(said, "first-ts", NUMBER_MAX)
    reason = (said.get("reason") or b"").decode("ascii", "replace")
    if topic not in RETURNED_TOPICS or (reason and reason not in REASONS):
        return None
    if epoch is None or partition is None or attempt is None or hops is None or offset is None or first_ms is None:
        return None
    # A first time that is later than the record itself is none.
    now_ms = min(first_ms, max(record.timestamp, 0))
    return Provenance(Origin(topic, epoch, partition, offset), now_ms, attempt, hops, "echo" in said, reason)


def _number(said: Mapping[str, bytes | None], name: str, most: int) -> int | None:
    """A header's number; None where it is absent or no plain number up to ``most``."""
    value = said.get(name)
    if value is None or len(value) > _DIGITS_MAX or not (value.isascii() and value.isdigit()):
        return None
    number = int(value)
    return number if number <= most else None


def by_topic(records: Iterable[InRecord]) -> Iterator[tuple[str, Sequence[InRecord]]]:
    """Records of ``returns`` in their order, in runs of one topic each; what is foreign runs under ``returns``."""

    def read(record: InRecord) -> tuple[str, InRecord]:
        came = None if record.fault is not None else came_of(record)
        if came is None:
            return RETURNS, record
        return came.origin.topic, Returned(record.offset, record.timestamp, record.key, record.value, came)

    for topic, run in groupby(map(read, records), key=lambda pair: pair[0]):
        yield topic, [record for _, record in run]
