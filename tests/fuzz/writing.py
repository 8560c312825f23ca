"""What a step sends, packed as the worker packs it, and read again."""

from collections import Counter
from typing import Any, Final

from streams.core.inbound import VALUE_BYTES_MAX
from streams.core.partition import partition_of
from streams.core.records import Records
from streams.core.step import BY_KEY, Step
from streams.shell.record_batches import Packing
from tests.fuzz.calls import Answer, Call
from tests.fuzz.events import PARTITIONS

WRITTEN: Final = "written and read"
_SECTION_BYTES: Final = 64 * 1024
_KEY_BYTES_MAX: Final = 1024
_TOO_LARGE: Final = "too large to be read"

Read = dict[int, list[Any]]


def written(step: Step) -> Call:
    """One call over all outputs of a step, and over its changes."""
    boxes = [*step.outputs.values(), *step.headed.topics.values()]
    records = sum(box.count for box in boxes) + len(step.changes)
    size = sum(box.size for box in boxes) + sum(len(key) + len(value or b"") for key, value in step.changes.items())

    def read() -> Answer:
        found = []
        for box in boxes:
            packing = Packing(PARTITIONS, _SECTION_BYTES)
            packing.add(box)
            found.append(_read(packing))
        packing = Packing(PARTITIONS, _SECTION_BYTES)
        packing.add_changes(step.changes, 0, max(step.timestamp_ms, 1))
        found.append(_read(packing))
        return Answer(+Counter({WRITTEN: sum(len(rows) for read in found for rows in read.values())}), found)

    return Call(read, records, size, lambda: repr(step.changes).encode(), Counter(), twin=lambda: _expected(step))


def _read(packing: Packing) -> Read:
    found: Read = {}
    for partition, count, first_ms, _, data in packing.sections_of():
        records = Records.parsed(bytes(data), count, 0, first_ms)
        rows = [(one.timestamp, one.key, one.value) if one.fault is None else _TOO_LARGE for one in records]
        found.setdefault(partition, []).extend(rows)
    return found


def _expected(step: Step) -> list[Read]:
    sent = [[message[:4] for message in box] for box in step.outputs.values()]
    headed: dict[str, list[Any]] = {topic: [] for topic in step.headed.topics}
    for topic, partition, key, value, timestamp_ms, _ in step.headed:
        headed[topic].append((key, value, partition, timestamp_ms))
    at_ms = max(step.timestamp_ms, 1)
    changes = [(key, value, 0, at_ms) for key, value in step.changes.items()]
    return [_sorted_out(messages) for messages in (*sent, *headed.values(), changes)]


def _sorted_out(messages: list[Any]) -> Read:
    found: Read = {}
    for key, value, partition, timestamp_ms in messages:
        large = len(key or b"") > _KEY_BYTES_MAX or len(value or b"") > VALUE_BYTES_MAX
        home = partition_of(key or b"", PARTITIONS) if partition == BY_KEY else partition
        found.setdefault(home, []).append(_TOO_LARGE if large else (timestamp_ms, key, value))
    return found
