"""The gate: a batch is what it says, or one entry with a fault; whatever the bytes, and within bounds."""

import gzip
import random
import time
import tracemalloc
from collections.abc import Callable

import cramjam
import lz4.frame
import pytest
from aiokafka import codec
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.records import TIMESTAMP_MAX_MS, Records
from streams.core.step import Fault, Record
from streams.shell.batch_gate import Doubts, FetchedBatch, batches, committed, judged
from tests.pipeline.forging import COMPRESSIONS, MIB, NOW_MS, batch, bomb, record, varint, zeros

SAYS = "the record batch at offset 0 of {} records, as it says: "
OFFSETS = "the offsets of its records do not rise within what its head says"
DAMAGED = "one of its records is damaged"
FORGED: dict[str, tuple[bytes, int, str]] = {
    "jump": (batch([record(5_000)], 1), 1, OFFSETS),
    "jump, compressed": (batch([record(5_000)], 1, 3), 1, OFFSETS),
    "before the batch": (batch([record(0), record(-(2**31)), record(2)], 3), 3, OFFSETS),
    "beyond 64 bits": (batch([record(0), record(2**63 - 1)], 2), 2, OFFSETS),
    "twice the same": (batch([record(0), record(0)], 2), 2, OFFSETS),
    "falling": (batch([record(1), record(0)], 2), 2, OFFSETS),
    "fewer than said": (batch([record(0, value=b"v" * 20)], 2), 2, DAMAGED),
    "more than said": (batch([record(0), record(1)], 1), 1, "it goes on after its last record"),
    "more than there can be": (batch([record(0)], 2**31 - 1), 2**31 - 1, "it cannot hold so many"),
    "fewer than none": (batch([record(0)], -1, last_delta=0), -1, "it cannot hold so many"),
    "more than offsets": (batch([record(0), record(1)], 2, last_delta=0), 2, "it cannot hold so many"),
    "ends before it begins": (batch([record(0)], 1, last_delta=-1), 1, "its head is damaged"),
    "something behind": (batch([record(0), b"xx"], 1), 1, "it goes on after its last record"),
    "headers of 32 bits more": (batch([record(0, header_count=2**32)], 1), 1, DAMAGED),
    "headers fewer than none": (batch([record(0, header_count=-1)], 1), 1, DAMAGED),
    "headers that are not there": (batch([record(0, header_count=5)], 1), 1, DAMAGED),
    "a number too long": (batch([b"\x80" * 9 + b"\x02" + record(0)[1:]], 1), 1, DAMAGED),
    "a length beyond all": (batch([varint(2**62) + record(0)[1:]], 1), 1, DAMAGED),
    "a length below none": (batch([varint(-5) + record(0)[1:]], 1), 1, DAMAGED),
    "a key that is not there": (batch([b"\x10\0\0\0" + varint(2**40) + b"abc"], 1), 1, DAMAGED),
    "sum": (batch([record(0)], 1, sum_off_by=1), 1, "its checksum is wrong"),
    "compression 5": (batch(b"", 1, 5, packed=record(0)), 1, "its compression is unknown"),
    **{
        f"frame of {number}": (batch(b"", 1, number, packed=b"abcdefgh"), 1, "it cannot be inflated")
        for number in (1, 2, 3, 4)
    },
    **{
        f"frame of {number} cut off": (
            batch(b"", 9, number, packed=COMPRESSIONS[number](b"".join(map(record, range(9))))[:-5]),
            9,
            "it cannot be inflated",
        )
        for number in (1, 2, 3, 4)
    },
}


def _only(packed: bytes) -> tuple[int, int, bytes | None, bytes | None, str, str]:
    """The one entry of a batch, and its fault."""
    [records] = judged(packed)
    [entry] = records
    assert entry.headers == ()
    assert entry.fault is not None
    return entry.offset, entry.timestamp, entry.key, entry.value, entry.fault.reason, entry.fault.detail


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_batch_is_one_entry(name: str) -> None:
    """It says what is wrong and how many records the batch says it has; reading goes on behind its head's last."""
    packed, count, detail = FORGED[name]
    assert _only(packed) == (0, NOW_MS, None, None, "corrupt_batch", SAYS.format(count) + detail)
    [fetched] = batches(packed)
    assert fetched.next_offset == max(fetched.head.last_delta, 0) + 1


def test_an_older_format_is_one_entry() -> None:
    """Of what lay there before Kafka 0.11 the time is told; what is shorter than any batch is told too."""
    older = bytearray(batch([record(0)], 1))
    older[16] = 1
    older[18:26] = NOW_MS.to_bytes(8, "big")
    assert _only(bytes(older))[1:] == (
        NOW_MS, None, None, "corrupt_batch", SAYS.format(1) + "its format is older than Kafka 0.11",
    )  # fmt: skip
    for size in (0, 5, 20, 60):
        assert _only(batch([record(0)], 1)[:size])[5].endswith("its head is damaged")


@pytest.mark.parametrize("number", COMPRESSIONS)
def test_a_good_batch_passes(number: int) -> None:
    """In every compression, with offsets that compaction has thinned out, and cut where reading begins."""
    packed = batch([record(at, b"k%d" % at, b"v" * at) for at in (0, 3, 4, 9)], 4, number, base=70, last_delta=12)
    [records] = judged(packed)
    assert [(one.offset, one.key, one.value, one.fault) for one in records] == [
        (70 + at, b"k%d" % at, b"v" * at, None) for at in (0, 3, 4, 9)
    ]
    [fetched] = batches(packed + packed[:80])
    assert (fetched.next_offset, [one.offset for [one] in fetched.pieces(79)]) == (83, [79])
    assert list(fetched.pieces(80)) == []
    assert list(judged(batch(b"", 0, last_delta=4))) == []  # compaction leaves such


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (record(0, value=b"x" * 65_536, key=b"k" * 1_024), None),
        (record(0, value=b"x" * 65_537), "the value has 65537 bytes, more than 65536"),
        (record(0, key=b"k" * 1_025), "the key has 1025 bytes, more than 1024"),
        (record(0, headers=[(b"n", b"v")] * 64), None),
        (record(0, headers=[(b"", None)] * 65), "there are 65 headers, more than 64"),
        (record(0, headers=[(b"n" * 96, b"v" * 4_000)]), None),
        (record(0, headers=[(b"n" * 97, b"v" * 4_000)]), "the headers have 4097 bytes, more than 4096"),
    ],
)
def test_a_record_that_is_too_large_costs_itself(made: bytes, fault: str | None) -> None:
    """At the bounds it passes, beyond them it is an entry without value; those beside it are read."""
    [records] = judged(batch([made, record(1)], 2))
    first, second = records
    assert (second.value, second.fault) == (b"v", None)
    if fault is None:
        assert (first.fault, first.value is None) == (None, False)
        return
    key = None if "key" in fault else b"k"
    assert first == Record(0, NOW_MS, key, None, (), Fault("oversized", fault))
    # What was refused is let go of: the entries that are left hold their own bytes only.
    assert [*records.part(1, 2)] == [second]


def test_times_are_within_the_years_that_there_are() -> None:
    """Whatever a time and its difference add up to; where the broker's clock gives it, that is the time."""
    for first, later, expected in [
        (NOW_MS, 2**63 - 1, TIMESTAMP_MAX_MS),
        (-(2**62), -(2**63), 0),
        (2**63 - 1, 5, TIMESTAMP_MAX_MS),
        (-1, 0, 0),
        (2**62, NOW_MS - 2**62, NOW_MS),
    ]:
        [[one]] = judged(batch([record(0, later_ms=later)], 1, first_ms=first))
        assert one.timestamp == expected
        [[one]] = judged(batch([record(0, later_ms=later)], 1, first_ms=first, max_ms=NOW_MS, attributes=0x08))
        assert one.timestamp == NOW_MS


SMALL = b"".join(record(at) for at in range(50))
ZEROS = bytes(MIB)
BOMBS: dict[str, Callable[[], tuple[int, bytes]]] = {
    "gzip": lambda: (1, gzip.compress(bytes(80 * MIB), 1)),
    "gzip, in members": lambda: (1, gzip.compress(bytes(9 * MIB), 1) * 8),
    "snappy": lambda: (2, bytes(cramjam.snappy.compress_raw(bytes(80 * MIB)))),
    "snappy that declares 4 GiB": lambda: (2, b"\xff\xff\xff\xff\x0f" + b"\0a"),
    "snappy, in blocks": lambda: (2, codec.snappy_encode(bytes(80 * MIB))),
    "lz4": lambda: (3, lz4.frame.compress(bytes(80 * MIB))),
    "lz4, in frames": lambda: (3, lz4.frame.compress(bytes(9 * MIB)) * 8),
    "zstd": lambda: (4, bomb(2_000 * MIB)),
    "zstd, in frames": lambda: (4, zeros(b"", 9 * MIB, b"") * 8),
}


def _peak(packed: bytes) -> tuple[str, int]:
    """The fault's reason, and the bytes that Python's objects took at most."""
    tracemalloc.start()
    try:
        reason = _only(packed)[4]
        return reason, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_not_inflated(name: str) -> None:
    """What would be more than 64 MiB is one entry, in every compression, in one frame or many, at no more memory."""
    compression, packed = BOMBS[name]()
    reason, peak = _peak(batch(b"", 4, compression, packed=packed))
    assert reason == "oversized"
    assert peak < 3 * 64 * MIB + MIB


@pytest.mark.parametrize(
    ("compression", "declared"),
    [
        (3, lambda: lz4.frame.compress(SMALL, store_size=True)[:6] + (2**40).to_bytes(8, "little")),
        (2, lambda: b"\xff\xff\xff\x1f" + bytes(cramjam.snappy.compress_raw(SMALL))[2:]),
        (4, lambda: b"\x28\xb5\x2f\xfd\xe0" + (2**40).to_bytes(8, "little") + b"\x01\0\0"),
    ],
)
def test_a_size_that_is_declared_takes_no_memory(compression: int, declared: Callable[[], bytes]) -> None:
    """A frame that says it holds a terabyte is damaged, and nothing is made for it."""
    packed = declared()
    if compression == 3:
        packed += lz4.frame.compress(SMALL, store_size=True)[14:]
    reason, peak = _peak(batch(b"", 50, compression, packed=packed))
    assert reason == "corrupt_batch"
    assert peak < 2 * 64 * MIB + MIB


def test_frames_behind_each_other_are_read_to_their_end() -> None:
    """Two frames are one text; hundreds of empty ones are nobody's, and cost no time."""
    for number in (1, 3, 4):
        half = len(SMALL) // 2
        packed = COMPRESSIONS[number](SMALL[:half]) + COMPRESSIONS[number](SMALL[half:])
        [records] = judged(batch(b"", 50, number, packed=packed))
        assert len(records) == 50
        began = time.thread_time()
        assert _only(batch(b"", 1, number, packed=COMPRESSIONS[number](b"") * 40_000))[4] == "corrupt_batch"
        assert time.thread_time() - began < 0.2


def test_memory_goes_with_what_was_inflated() -> None:
    """Millions of records of seven bytes are handed out in pieces, and one that is too large is not held."""
    count = 300_000
    small = batch(b"", count, 3, packed=lz4.frame.compress(b"".join(_least(at) for at in range(count))))
    sizes, seen = [], 0
    for piece in judged(small):
        assert piece[0].offset == seen
        sizes.append(len(piece))
        seen += len(piece)
    assert (seen, max(sizes)) == (count, 65_536)
    tracemalloc.start()
    held = [records for _ in range(8) for records in judged(batch(b"", 1, 4, packed=bomb(60 * MIB)))]
    assert {one.fault.detail for [one] in held if one.fault} == {f"the value has {60 * MIB} bytes, more than 65536"}
    assert tracemalloc.get_traced_memory()[0] < MIB
    tracemalloc.stop()


def _least(delta: int) -> bytes:
    inside = b"\0\0" + varint(delta) + varint(-1) + varint(-1) + b"\0"
    return varint(len(inside)) + inside


def test_a_batch_damaged_on_its_way_is_fetched_again() -> None:
    """The same wrong sum twice lies so at the broker; one that differs may be the network's, and is asked for again."""
    good = batch([record(0)], 1)
    bad = batch([record(0)], 1, base=1, sum_off_by=1)
    doubts = Doubts()
    assert [one.next_offset for one, _ in committed(good + bad + good, None, doubts)] == [1]
    other = bytearray(bad)
    other[-1] ^= 1
    assert [one.next_offset for one, _ in committed(bytes(other), None, doubts)] == []
    [(again, counts)] = committed(bad, None, doubts)
    assert (again.sum_differs, counts) == (True, True)


def test_what_was_aborted_does_not_count() -> None:
    """A producer's batches from where its aborted transaction begins to the marker that ends it; no others."""

    def by(producer: int, base: int, attributes: int) -> bytes:
        return batch([record(0)], 1, base=base, producer_id=producer, attributes=attributes)

    data = by(7, 0, 0x10) + by(8, 1, 0x10) + by(7, 2, 0) + by(7, 3, 0x30) + by(7, 4, 0x10) + by(8, 5, 0x30)
    found = {one.head.base_offset: counts for one, counts in committed(data, [(7, 0)], Doubts())}
    assert found == {0: False, 1: True, 2: True, 3: False, 4: True, 5: False}


RECORDS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=40),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.binary(max_size=9), st.none() | st.binary(max_size=9)), max_size=3),
    ),
    max_size=8,
)


@settings(max_examples=150)
@given(RECORDS, st.sampled_from(list(COMPRESSIONS)), st.integers(0, 2**32), st.integers(0, 5))
def test_mutated_batches_are_judged(
    rows: list[tuple[bytes | None, bytes | None, list[tuple[bytes, bytes | None]]]],
    number: int,
    seed: int,
    mutations: int,
) -> None:
    """Nothing raises; what is read lies within the bytes and the head's offsets, whichever of them were changed."""
    rng = random.Random(seed)  # noqa: S311
    data = bytearray(b"".join(record(at, *row) for at, row in enumerate(rows)))
    inside, sealed = rng.random() < 0.5, rng.random() < 0.8
    if inside:
        _mutate(rng, data, mutations)
    packed = bytearray(batch(bytes(data), len(rows), number, last_delta=max(len(rows) - 1, 0), base=1_000))
    if not inside:
        _mutate(rng, packed, mutations)
    if sealed and len(packed) > 61:
        # With right sums and lengths, so that what lies behind those is reached.
        packed[8:17] = (len(packed) - 12).to_bytes(4, "big") + packed[12:16] + b"\x02"
        packed[17:21] = crc32c(bytes(packed[21:])).to_bytes(4, "big")
    _check(bytes(packed), len(data) + len(packed))


def _mutate(rng: random.Random, data: bytearray, count: int) -> None:
    for _ in range(count if data else 0):
        at = rng.randrange(len(data) or 1)
        match rng.randrange(4):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[at : at + rng.randint(1, 9)]
            case 2:
                data[at:at] = varint(rng.choice([-1, 2**31, -(2**31), 2**63 - 1, -(2**63), rng.randrange(1_000)]))
            case _:
                data[at : at + 4] = rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", bytes(4)])


def _check(packed: bytes, bytes_max: int) -> None:
    fetched = FetchedBatch(packed)
    found = [one for piece in fetched.pieces() for one in piece]
    offsets = [one.offset for one in found]
    assert offsets == sorted(set(offsets))
    if fetched.refused:
        [entry] = found
        assert entry.fault is not None
        assert (entry.key, entry.value, entry.offset) == (None, None, max(fetched.head.base_offset, 0))
        return
    assert all(fetched.head.base_offset <= offset < fetched.next_offset for offset in offsets)
    assert all(0 <= one.timestamp <= TIMESTAMP_MAX_MS for one in found)
    sizes = [len(one.key or b"") + len(one.value or b"") + 2 * len(one.headers) for one in found]
    assert sum(sizes) <= 255 * bytes_max


def test_parts_of_refused_records_stay_whole() -> None:
    """Entries with faults are cut, joined and looked at like any other."""
    records = Records.of([])
    assert list(records) == []
    [whole] = judged(batch([record(0), record(1, value=b"x" * 70_000), record(2)], 3))
    joined = whole.part(0, 1)
    joined.extend(whole.part(1, 3))
    joined.extend(next(judged(batch([record(9)], 1, base=3))))
    assert [(one.offset, one.fault.reason if one.fault else None) for one in joined] == [
        (0, None), (1, "oversized"), (2, None), (3, "corrupt_batch"),
    ]  # fmt: skip
    again = Records.of(list(joined))
    assert list(again) == list(joined)
    assert joined.fitting(1, 1, 10**9) == (2, 0)
