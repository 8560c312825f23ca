"""What is packed into record batches, held to aiokafka's own writer and reader."""

from collections.abc import Sequence
from typing import cast

from aiokafka.record._crecords import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streams.core.outbox import Headed
from streams.core.partition import partition_of
from streams.core.step import BY_KEY, HeadedMessage
from streams.shell.record_batches import Packing, Section

Headers = list[tuple[str, bytes | None]]
PARTITIONS = 3
HEAD_BYTES = 61
"""Of a batch, before its records."""

texts = st.binary(max_size=40) | st.binary(min_size=100, max_size=20_000)
times = st.integers(0, 4_102_444_800_000)
messages = st.lists(
    st.tuples(texts, st.none() | texts, st.sampled_from([BY_KEY, 0, 1, 2]), times), min_size=1, max_size=40
)
headers = st.lists(st.tuples(st.text(max_size=300), st.none() | st.binary(max_size=200)), max_size=4)


def _written(records: Sequence[tuple[bytes | None, bytes | None, int, Headers]]) -> bytes:
    """The records as aiokafka writes them into one batch, without compression and without the batch's head."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, 7, 3, 0, 1 << 30)
    for offset, (key, value, timestamp_ms, more) in enumerate(records):
        builder.append(offset, timestamp_ms, key, value, more)
    return bytes(builder.build())[HEAD_BYTES:]


def _by_partition(sections: Sequence[Section]) -> dict[int, list[Section]]:
    found: dict[int, list[Section]] = {}
    for section in sections:
        found.setdefault(section[0], []).append(section)
    return found


@given(messages)
def test_records_are_written_as_the_library_writes_them(
    given_messages: list[tuple[bytes, bytes | None, int, int]],
) -> None:
    """Byte for byte, in the partition that is named or that Kafka's own partitioner gives, with counts and times."""
    packing = Packing(PARTITIONS, 1 << 30)
    packing.add(given_messages)
    expected: dict[int, list[tuple[bytes | None, bytes | None, int, Headers]]] = {}
    for key, value, partition, timestamp_ms in given_messages:
        place = partition_of(key, PARTITIONS) if partition == BY_KEY else partition
        expected.setdefault(place, []).append((key, value, timestamp_ms, []))
    found = _by_partition(packing.sections_of())
    assert found.keys() == expected.keys()
    for place, records in expected.items():
        ((_, count, first_ms, newest_ms, data),) = found[place]
        stamps = [timestamp_ms for _, _, timestamp_ms, _ in records]
        assert (count, first_ms, newest_ms) == (len(records), stamps[0], max(stamps))
        assert bytes(data) == _written(records)


@given(texts, st.none() | texts, headers, times)
def test_headers_are_written_as_the_library_writes_them(
    key: bytes, value: bytes | None, more: Headers, timestamp_ms: int
) -> None:
    """Names of any length and script, values of any bytes or none."""
    packing = Packing(PARTITIONS, 1 << 30)
    packing.add([(b"first", b"1", 0, 1_000)])
    headed = Headed()
    headed.append(HeadedMessage("t", 0, key, value, timestamp_ms, cast("list[tuple[str, bytes]]", more)))
    assert [*headed] == [("t", 0, key, value, timestamp_ms, more)]
    packing.add(headed.topics["t"])
    ((_, count, *_, data),) = packing.sections_of()
    assert count == 2
    assert bytes(data) == _written([(b"first", b"1", 1_000, []), (key, value, timestamp_ms, more)])


@given(st.lists(st.tuples(texts, st.none() | texts), min_size=1, max_size=40), st.integers(50, 30_000))
def test_a_section_that_is_full_is_followed_by_another(pairs: list[tuple[bytes, bytes | None]], bytes_max: int) -> None:
    """None is larger than the bound, but for one that holds a single record; together they hold all, in order."""
    packing = Packing(PARTITIONS, bytes_max)
    changes = dict(pairs)
    packing.add_changes(changes, 1, 5)
    packing.add([(key, value, 1, 6) for key, value in pairs])
    sections = packing.sections_of()
    assert packing.sections_of() == []
    read = []
    for partition, count, first_ms, newest_ms, data in sections:
        assert partition == 1
        # A record's own few bytes are not counted: they are less than what topics allow beyond the bound.
        assert count == 1 or len(data) <= bytes_max + 12 * count
        head = DefaultRecordBatchBuilder(2, 0, 1, 7, 3, 0, 1 << 30)
        head.append(0, first_ms, b"", b"", [])
        packed = bytearray(head.build()[:HEAD_BYTES])
        packed[8:12] = (HEAD_BYTES - 12 + len(data)).to_bytes(4, "big")
        packed[23:27] = (count - 1).to_bytes(4, "big")
        packed[57:61] = count.to_bytes(4, "big")
        batch = MemoryRecords(bytes(packed) + bytes(data)).next_batch()
        assert isinstance(batch, DefaultRecordBatch)
        records = [(record.key, record.value, record.timestamp) for record in batch]
        assert (len(records), max(at for _, _, at in records)) == (count, newest_ms)
        read += records
    assert read == [(key, value, 5) for key, value in changes.items()] + [(key, value, 6) for key, value in pairs]
