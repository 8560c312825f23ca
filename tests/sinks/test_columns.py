"""Records to columns: types, days, foreign records, the register's own rules."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.areas import load_areas
from sinks.columns import decoder_of, times_ms
from sinks.days import local_days
from sinks.records import Records
from sinks.tables import CLICKHOUSE_TYPES, SINK_TOPICS, TABLES, ColumnType
from streams.core.times import LocalClock, format_ms
from tests.sinks import data
from tests.sinks.test_backends import ZONE, FakeRecord, decoded


def records(*values: bytes | None) -> Records:
    """Records of these values."""
    return Records([FakeRecord(b"k", value, offset) for offset, value in enumerate(values)])


def test_the_registry_is_whole() -> None:
    """Each table's key and partition are columns, labels are never keys, and every type has a ClickHouse type."""
    assert set(CLICKHOUSE_TYPES) == set(ColumnType)
    for spec in TABLES.values():
        key_types = {spec.column(name).type for name in spec.key}
        assert ColumnType.LABEL not in key_types
        assert spec.partition is None or spec.column(spec.partition).type is ColumnType.DAY
        assert spec.column("revision").type is ColumnType.COUNT


def test_unknown_fields_are_ignored() -> None:
    """A newer worker may add a field before the sink knows it."""
    assert list(dict(decoded("enriched", [data.scan(1, weather="rain")]))["scans"]["scan_id"]) == ["s1"]


def test_the_register_passes_over_what_is_bad() -> None:
    """Null, broken and wrongly keyed venues are no rows; the revision is the offset."""
    good = data.encoded(data.venue("CAFE"))
    decode = decoder_of("venues", load_areas(), ZONE)
    register = Records(
        [
            FakeRecord(b"CAFE", good, 5),
            FakeRecord(b"CAFE", None, 6),
            FakeRecord(b"OTHER", good, 7),
            FakeRecord(None, good, 8),
            FakeRecord(b"CAFE", b"{", 9),
            FakeRecord(b"CAFE", data.encoded(data.venue("CAFE", ward="00001")), 10),
            FakeRecord(b"CAFE", data.encoded(data.venue("CAFE", status="closed")), 11),
        ],
        keyed=True,
    )
    found = dict(decode(register))["venues"]
    assert list(found["revision"]) == [5, 11]
    assert list(found["status"]) == ["active", "closed"]


@given(
    st.lists(st.integers(-86_400_000, 4_102_444_799_999), min_size=1),
    st.sampled_from(["Asia/Ho_Chi_Minh", "UTC", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"]),
)
def test_local_days_are_the_calendar_s(times: list[int], name: str) -> None:
    """The day of each instant is that of Python's own calendar, in zones of odd offsets and summer times too."""
    zone = ZoneInfo(name)
    expected = [int(datetime.fromtimestamp(time / 1000, UTC).astimezone(zone).strftime("%Y%m%d")) for time in times]
    assert local_days(np.array(times, np.int64), LocalClock(zone)).tolist() == expected


@given(st.lists(st.integers(-86_400_000, 4_102_444_799_999), min_size=1))
def test_times_are_read_back(times: list[int]) -> None:
    """Times as the pipeline writes them become the milliseconds they came from."""
    assert times_ms([format_ms(time) for time in times]).tolist() == times


def test_a_period_may_reach_beyond_the_years_that_may_be_written() -> None:
    """The last evening of 2099 in a zone behind UTC is 2100 there; the first morning of 1970 in Việt Nam is 1969."""
    event = data.case_state("C", isolated_at="2100-01-01T06:59:59.000Z", infectious_from="1969-12-31T17:00:00.000Z")
    [(_, columns)] = decoder_of("case-states", load_areas(), ZONE)(records(msgspec.json.encode(event)))
    assert list(columns["isolated_at"]) == [4_102_469_999_000]
    assert list(columns["infectious_from"]) == [-25_200_000]


def test_sink_topics() -> None:
    """The topics that are read, in the registry's order."""
    assert SINK_TOPICS == ("enriched", "visits", "venues", "case-states", "exposures", "rejects", "aggregates")
