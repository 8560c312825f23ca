"""Records read where they lie are those that aiokafka reads, and whatever is damaged is refused."""

import random

import pytest
from aiokafka.record._crecords import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streams.core.records import TIMESTAMP_MAX_MS, CorruptBatchError, Records, newest_ms
from streams.core.step import KAFKA_TIMESTAMP_MIN_MS, Record

HEAD_BYTES = 61
keys = st.none() | st.binary(max_size=30) | st.binary(min_size=120, max_size=1_000)
texts = st.none() | st.binary(max_size=30) | st.binary(min_size=120, max_size=9_000)
headers = st.lists(st.tuples(st.text(max_size=200), st.none() | st.binary(max_size=90)), max_size=3)
rows = st.lists(st.tuples(st.integers(0, TIMESTAMP_MAX_MS), keys, texts, headers), min_size=1, max_size=12)
Row = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def _written(given_rows: list[Row]) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for offset, (timestamp_ms, key, value, more) in enumerate(given_rows):
        builder.append(offset, timestamp_ms, key, value, more)
    return bytes(builder.build())


def _plain(records: Records) -> list[tuple[object, ...]]:
    return [(one.offset, one.timestamp, one.key, one.value, [*one.headers]) for one in records]


@given(rows, st.integers(0, 2**50), st.sampled_from([-1, 0, 1_634_200_000_000]))
def test_what_is_read_is_what_the_library_reads(given_rows: list[Row], first_offset: int, append_ms: int) -> None:
    """Offsets, times, keys, values and headers of any batch; under the broker's clock all have its time."""
    packed = _written(given_rows)
    batch = DefaultRecordBatch(packed)
    parsed = Records.parsed(packed[HEAD_BYTES:], len(given_rows), first_offset, batch.first_timestamp, append_ms)
    expected = [
        (first_offset + one.offset, one.timestamp if append_ms < 0 else append_ms, one.key, one.value, one.headers)
        for one in batch
    ]
    assert _plain(parsed) == expected
    assert (parsed[-1].offset, newest_ms(parsed)) == (expected[-1][0], max(one[1] for one in expected))
    sizes = [parsed.fitting(place, 1, 1)[1] for place in range(len(given_rows))]
    for size, (_, key, value, more) in zip(sizes, given_rows, strict=True):
        written = (
            len(key or b"") + len(value or b"") + sum(len(name.encode()) + len(text or b"") for name, text in more)
        )
        assert written < size <= written + 40
    assert parsed.fitting(0, len(sizes), sum(sizes) + 1) == (len(sizes), sum(sizes))
    for start in range(len(sizes)):
        assert parsed.fitting(start, 2, 10**9) == (min(start + 2, len(sizes)), sum(sizes[start : start + 2]))
        assert parsed.fitting(start, 10**9, 1) == (start + 1, sizes[start])
    assert parsed.distinct_keys() == list(dict.fromkeys(key or b"" for _, key, _, _ in given_rows))
    again = Records.of(list(parsed))
    assert (_plain(again), newest_ms(again), again.distinct_keys()) == (
        expected, newest_ms(parsed), parsed.distinct_keys(),
    )  # fmt: skip


@given(rows, rows, st.integers(-1, 14), st.integers(-1, 14))
def test_parts_put_together_are_the_whole(some: list[Row], others: list[Row], start: int, stop: int) -> None:
    """Cut anywhere and joined again, in either form; a part outlives what it was cut from."""
    for form in (lambda records: records, lambda records: Records.of(list(records))):
        records = form(Records.parsed(_written(some)[HEAD_BYTES:], len(some), 0, some[0][0]))
        records.extend(form(Records.parsed(_written(others)[HEAD_BYTES:], len(others), 50, others[0][0])))
        whole = _plain(records)
        part = records.part(start, stop)
        joined = records.part(0, 2)
        joined.extend(records.part(2, len(records)))
        del records
        assert _plain(part) == whole[max(start, 0) : max(stop, 0)]
        assert _plain(joined) == whole


@given(rows, st.integers(0, 2**32))
def test_what_is_damaged_is_refused_or_read_within_its_bytes(given_rows: list[Row], seed: int) -> None:
    """A batch cut short, with a byte changed, or with another count raises, or gives records of its own bytes."""
    rng = random.Random(seed)  # noqa: S311
    data = bytearray(_written(given_rows)[HEAD_BYTES:])
    count = len(given_rows) + rng.choice([0, 0, 1, -1])
    if rng.random() < 0.4:
        del data[rng.randrange(len(data)) :]
    else:
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        records = Records.parsed(bytes(data), count, 0, 0)
    except ValueError:
        return
    assert len(records) == count
    assert sum(len(one.key or b"") + len(one.value or b"") for one in records) <= len(data)


def test_a_count_that_cannot_be_is_refused() -> None:
    """No memory is taken for records that cannot be there."""
    for count in (-1, 2**31 - 1):
        with pytest.raises(CorruptBatchError, match="so many"):
            Records.parsed(b"", count, 0, 0)
    assert len(Records.parsed(b"", 0, 0, 0)) == 0
    assert newest_ms(Records.parsed(b"", 0, 0, 0)) == KAFKA_TIMESTAMP_MIN_MS


def test_the_two_forms_do_not_mix() -> None:
    """Records that were fetched and records that were made of objects are never one run; bytes are bytes."""
    fetched = Records.parsed(_written([(1, b"k", b"v", [])])[HEAD_BYTES:], 1, 0, 1)
    made = Records.of([Record(0, 1, b"k", b"v")])
    for one, other in ((fetched, made), (made, fetched)):
        with pytest.raises(TypeError):
            one.extend(other)
    with pytest.raises(TypeError, match="bytes"):
        Records.of([Record(0, 1, b"k", bytearray(b"v"))])  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        made[1]
