"""What the library calls alone cost that no stage can do without: the same records, nothing else done.

What a call is given is made ready outside its clock. A stage's floor is no goal that can be reached, but a bound: below
it only another library helps, or fewer records.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic
from rocksdict import Rdict, WriteBatch, WriteOptions

from bench.stages import Ledger
from infra.topics import LONG_MAX, admin_client, answer_of
from streams.core.directory import Directory
from streams.core.inbound import ScanIn
from streams.core.step import InRecord, Step
from streams.core.times import HOUR_MS, MINUTE_MS
from streams.shell import store as stores
from truyvet.config import Settings

TEXTS: Final = {
    "fetch": "aiokafka getmany",
    "decode": "msgspec into the struct",
    "dedupe, enrich, encode": "look-up in a set and a dict, msgspec of ready structs",
    "visits": "msgspec of ready structs",
    "counts": "3 counters in a dict, msgspec of ready structs",
    "store, reads": "rocksdict get of as many keys",
    "store, write": "rocksdict WriteBatch",
    "produce": "librdkafka's produce(), no transaction",
    "commit": "a transaction of one record",
    "sink columns": "msgspec into structs",
    "sink insert, server": "clickhouse-driver, ready columns",
}
"""By stage, without its room."""
_DEDUPE: Final = "dedupe, enrich, encode"
_ENCODED: Final = {"enriched": _DEDUPE, "visits": "visits", "aggregates": "counts"}
"""Which stage writes what."""
_RUN_SCANS: Final = 256
_QUEUE_SECONDS: Final = 0.05
_CALL_SECONDS: Final = 30.0


def columns_struct(events: Sequence[Mapping[str, Any]]) -> type[msgspec.Struct]:
    """A struct that holds any of these events."""
    names = dict.fromkeys(name for event in events for name in event)
    return msgspec.defstruct("Event", [(name, Any, None) for name in names], gc=False)


class Floors:
    """The library calls, each charged to the ledger under the name of its stage."""

    def __init__(self, settings: Settings, directory: Path, ledger: Ledger, topic: str) -> None:
        """``topic`` is a scratch topic to be made; ``directory`` a folder for a scratch store."""
        self._ledger = ledger
        self._topic = topic
        self._seen: set[bytes] = set()
        self._counts: dict[tuple[int, bytes], int] = {}
        self._scans = msgspec.json.Decoder(list[ScanIn])
        self._structs: dict[tuple[str, ...], type[msgspec.Struct]] = {}
        self._db = Rdict(str(directory), stores._options())  # noqa: SLF001 - larger buffers would cost more
        write_options = WriteOptions()
        setattr(write_options, "disable_wal", True)  # noqa: B010 - the stub calls it a method; it is a property
        self._db.set_write_options(write_options)
        client = settings.librdkafka() | {"partitioner": "murmur2_random", "compression.type": "lz4", "linger.ms": 500}
        client |= {"batch.size": 1_000_000, "batch.num.messages": 100_000, "queue.buffering.max.messages": 500_000}
        self._producer = Producer(client)
        self._transactional = Producer(client | {"transactional.id": f"floor-{topic}"})
        _make_topic(settings, topic)
        self._transactional.init_transactions(_CALL_SECONDS)

    def decided(self, records: Sequence[InRecord], venues: Directory) -> None:
        """Decoding, looking up and counting of a batch of scans."""
        values = [record.value or b"" for record in records]
        texts = [b"[%b]" % b",".join(values[i : i + _RUN_SCANS]) for i in range(0, len(values), _RUN_SCANS)]
        decode = self._scans.decode
        with self._ledger.stage("decode"):
            for text in texts:
                decode(text)
        scans = [scan for text in texts for scan in decode(text)]
        identities = [(scan.person_id + scan.scan_id).encode() for scan in scans]
        seen = self._seen
        with self._ledger.stage(_DEDUPE):
            for identity in identities:
                if identity not in seen:
                    seen.add(identity)
        codes = [scan.venue_id.encode() for scan in scans]
        found = [venues.resolve(code) or (code, b"") for code in codes]
        attributes = dict(found)
        with self._ledger.stage(_DEDUPE):
            for code in codes:
                attributes.get(code)
        cells: list[tuple[int, bytes]] = []
        for record, (venue, place) in zip(records, found, strict=True):
            cells += [(record.timestamp // MINUTE_MS, place[:5]), (record.timestamp // HOUR_MS, venue), (0, place[:10])]
        counts = self._counts
        with self._ledger.stage("counts"):
            for cell in cells:
                counts[cell] = counts.get(cell, 0) + 1

    def written(self, room: str, step: Step) -> None:
        """Encoding, producing, storing and committing of a step."""
        encode = msgspec.json.Encoder().encode
        for topic, messages in step.outputs.items():
            if topic in _ENCODED:
                events = [self._struct(value) for _, value, _, _ in messages if value is not None]
                with self._ledger.stage(f"{room}: {_ENCODED[topic]}"):
                    for event in events:
                        encode(event)
        keys: list[str | int | float | bytes | bool] = list(step.changes)
        with self._ledger.stage(f"{room}: store, reads"):
            self._db.get(keys)
        with self._ledger.stage(f"{room}: store, write"):
            batch = WriteBatch(raw_mode=True)
            for key, value in step.changes.items():
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)
            self._db.write(batch)
        records = [
            (key, value, timestamp) for messages in step.outputs.values() for key, value, _, timestamp in messages
        ]
        records += [(key, value, max(step.timestamp_ms, 1)) for key, value in step.changes.items()]
        with self._ledger.stage(f"{room}: produce"):
            self._produce(records)
        with self._ledger.stage(f"{room}: commit"):
            self._transactional.begin_transaction()
            self._transactional.produce(self._topic, b"", b"", 0)
            self._transactional.commit_transaction(_CALL_SECONDS)

    def _produce(self, records: Sequence[tuple[bytes | None, bytes | None, int]]) -> None:
        produce = self._producer.produce
        for key, value, timestamp in records:
            while True:
                try:
                    produce(self._topic, value, key, 0, None, None, timestamp)
                except BufferError:
                    self._producer.poll(_QUEUE_SECONDS)
                else:
                    break
        self._producer.flush()

    def _struct(self, value: bytes) -> msgspec.Struct:
        event = msgspec.json.decode(value)
        names = tuple(event)
        struct = self._structs.get(names)
        if struct is None:
            struct = self._structs[names] = columns_struct([event])
        return msgspec.convert(event, struct)

    def close(self) -> None:
        """Lets go of the scratch store."""
        self._db.close()


def _make_topic(settings: Settings, topic: str) -> None:
    admin = admin_client(settings)
    config = {"retention.ms": "-1", "message.timestamp.before.max.ms": LONG_MAX, "max.message.bytes": "8388608"}
    for future in admin.create_topics([NewTopic(topic, 1, 1, config=config)]).values():
        answer_of(future)
