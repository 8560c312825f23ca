"""Readers of what is kept: the register, changelogs, backups, copies on disk, and the payloads of dead letters."""

import base64
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaError

from sinks.held import event_ms
from streams.core.decode import VenueIn, decode_venue
from streams.core.directory import Directory
from streams.core.state_form import may_be_state
from streams.core.step import Record
from streams.shell import restore as restoring
from streams.shell.register_copy import Copied, RegisterCopy
from streams.shell.store import Store
from tests.fuzz import events
from tests.fuzz.calls import Answer, Call, Reader
from tests.fuzz.chance import Chance
from tests.fuzz.events import AREAS, ONE, VALID
from tests.fuzz.rooms import shown, size_of
from tests.fuzz.values import hostile_value
from truyvet.backup_files import (
    BackupError,
    Manifest,
    PartitionCopy,
    PartitionWriter,
    check_file,
    read_blocks,
    read_manifest,
    write_manifest,
)

_SENT_AT_MS: Final = events.NOW_MS
_WHOLE: Final = "whole"
_DAMAGED: Final = "damaged"


def _register(chance: Chance) -> Iterator[Call]:
    """What codes mean, after each of some versions; beside a dictionary that says it slowly."""
    records, hows = [], Counter[str]()
    for offset in range(1 + chance.below(30)):
        record, how = events.made(chance, "venues", offset)
        records.append(record)
        hows[how] += 1
    good = [venue for record in records if isinstance(venue := decode_venue(record.value, AREAS), VenueIn)]
    codes = [*events.VENUES, *events.CODES, *events.GHOSTS, *(chance.randbytes(3) for _ in range(4))]

    def read() -> Answer:
        directory = Directory()
        for venue in good:
            directory.put(venue)
        meant = [found[0] if (found := directory.resolve(code)) else None for code in codes]
        return Answer(Counter(put=len(good), skipped=len(records) - len(good)), meant)

    yield Call(
        read, len(records), size_of(records), shown(records), hows, twin=lambda: [_meaning(good, c) for c in codes]
    )


def _meaning(venues: Sequence[VenueIn], code: bytes) -> bytes | None:
    newest = {venue.venue_id: venue for venue in venues}
    name = code.decode("latin-1")
    if name in newest:
        return code
    claims = [(venue.registered_ms, venue.venue_id.encode()) for venue in newest.values() if name in venue.codes]
    return min(claims)[1] if claims else None


class _Message:
    """A record, or the end of its partition, as the Kafka client hands it out."""

    def __init__(self, record: Record, code: int = 0) -> None:
        self._record = record
        self._error = KafkaError(code) if code else None

    def error(self) -> KafkaError | None:
        return self._error

    def offset(self) -> int:
        return self._record.offset

    def key(self) -> bytes | None:
        return self._record.key

    def value(self) -> bytes | None:
        return self._record.value


class _Changelog:
    """A consumer of one partition."""

    def __init__(self, messages: list[_Message], runs: list[int]) -> None:
        self._messages = messages
        self._runs = list(runs)

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 0, len(self._messages)

    def assign(self, _: object) -> None:
        """Does nothing: it has one place."""

    def consume(self, *_: object) -> list[_Message]:
        size = self._runs.pop() if self._runs else len(self._messages)
        run, self._messages = self._messages[:size], self._messages[size:]
        return run


class _Held:
    """A store in memory."""

    stale = False
    as_of: float | None = None

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.position = 0

    def wipe(self) -> None:
        self.data.clear()

    def flush(self) -> None:
        """Has nothing to flush."""

    def write(self, changes: dict[bytes, bytes | None], position: int, _: float) -> None:
        self.position = position
        for key, value in changes.items():
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value


def _restore(chance: Chance) -> Iterator[Call]:
    """A changelog of anything at all."""
    records = []
    for offset in range(1 + chance.below(60)):
        key = chance.pick((None, b"", b"!meta", b"p" + bytes(16), chance.randbytes(chance.below(20))))
        value = chance.pick((None, b"", chance.randbytes(chance.below(60)), hostile_value(chance)))
        records.append(Record(offset, _SENT_AT_MS, key, value))
    runs = [1 + chance.below(20) for _ in range(chance.below(6))]

    def read() -> Answer:
        store = _Held()
        messages = [_Message(record) for record in records]
        consumer = cast("Consumer", _Changelog(messages, runs))
        applied = restoring.restore_state(cast("Store", store), consumer, "t", 0)
        if store.position != len(records):
            return Answer(Counter({"not all of it": len(records)}))
        own = sum(may_be_state(record.key, record.value) for record in records)
        return Answer(Counter(applied=own, skipped=applied - own), None)

    yield Call(read, len(records), size_of(records), shown(records), Counter({ONE: len(records)}))


def _backup(chance: Chance) -> Iterator[Call]:
    """A backup's files, as they were written or changed in one place."""
    records = []
    for offset in range(1 + chance.below(20)):
        record, _ = events.made(chance, "scans", offset * (1 + chance.below(3)) + offset)
        records.append((offset * 9 + chance.below(9), record.timestamp, record.key, record.value, [*record.headers]))
    spoilt = chance.once_in(2)
    seed = chance.getrandbits(64)

    def read() -> Answer:
        with tempfile.TemporaryDirectory() as folder:
            return _backed_up(Path(folder), records, Chance(seed) if spoilt else None)

    size = sum(len(one[2] or b"") + len(one[3] or b"") for one in records)
    yield Call(read, 1, size, lambda: repr(records).encode("utf-8", "replace"), Counter({ONE if spoilt else VALID: 1}))


def _backed_up(folder: Path, records: list[Any], spoiling: Chance | None) -> Answer:
    copy = PartitionCopy()
    writer = PartitionWriter(folder, copy)
    for record in records:
        writer.add(record)
    writer.finish()
    write_manifest(folder, Manifest("t.", {}))
    if spoiling is not None:
        path = spoiling.pick(sorted(folder.iterdir()))
        path.write_bytes(spoiling.bend(path.read_bytes()))
    try:
        if read_manifest(folder) is None:
            return Answer(Counter({"no manifest": 1}))
        for segment in copy.segments:
            check_file(folder, segment)
        found = [one for block in read_blocks(folder, copy, 1 << 62) for one in block]
    except BackupError:
        return Answer(Counter({_DAMAGED: 1}))
    return Answer(Counter({_WHOLE if found == records else "not what was written": 1}))


def _copies(chance: Chance) -> Iterator[Call]:
    """A worker's copy of the register, as it was written or changed in one place."""
    directory = Directory()
    for _ in range(1 + chance.below(20)):
        venue = decode_venue(events.venue(chance).written(), AREAS)
        if isinstance(venue, VenueIn):
            directory.put(venue)
    spoilt, seed = chance.once_in(2), chance.getrandbits(64)

    def read() -> Answer:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "copy"
            copy = RegisterCopy(path, "topic")
            copy.save(Copied({0: 5}, 7, directory.contents))
            if spoilt:
                path.write_bytes(Chance(seed).bend(path.read_bytes()))
            found = copy.load()
        if found is None:
            return Answer(Counter({_DAMAGED: 1}))
        other = Directory()
        other.take_up(found.contents)
        same = len(other) == len(directory) and found.positions == {0: 5}
        return Answer(Counter({_WHOLE if same else "not what was written": 1}))

    yield Call(read, 1, 4_096, lambda: b"%d" % seed, Counter({ONE if spoilt else VALID: 1}))


def _payloads(chance: Chance) -> Iterator[Call]:
    """The time of the event in a dead letter, by which an erasure goes."""
    records, hows = [], Counter[str]()
    topic = chance.pick(("scans", "cases", "erasures"))
    for offset in range(1 + chance.below(60)):
        record, how = events.made(chance, topic, offset)
        records.append(record)
        hows[how] += 1
    payloads = [None if one.value is None else base64.b64encode(one.value).decode() for one in records]

    def read() -> Answer:
        times = [event_ms(payload, _SENT_AT_MS) for payload in payloads]
        own = times.count(_SENT_AT_MS)
        return Answer(Counter({"the event's time": len(times) - own, "the record's time": own}), None)

    yield Call(read, len(records), size_of(records), shown(records), hows)


READERS: Final = (
    Reader("register", _register, frozenset({"put", "skipped"})),
    Reader("restore", _restore, frozenset({"applied", "skipped"})),
    Reader("backup files", _backup, frozenset({_WHOLE, _DAMAGED})),
    Reader("register's copy", _copies, frozenset({_WHOLE, _DAMAGED})),
    Reader("payloads", _payloads, frozenset({"the event's time", "the record's time"})),
)
