"""What both backends must do alike: the same rows in, the same views out."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.areas import load_areas
from sinks.backends import Backend, Columns, StorageError, open_backend
from sinks.columns import decoder_of
from sinks.ddl import statements
from sinks.records import Records
from sinks.tables import TABLES, Column, ColumnType
from sinks.views import VIEWS
from tests.sinks import data
from truyvet.config import ConfigError, Settings

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")


READ_MS = 4_070_908_800_000
"""2099: later than any event's own time, so that no venue is from the future."""


class FakeRecord:
    """A record that never saw a broker."""

    def __init__(self, key: bytes | None, value: bytes | None, offset: int) -> None:
        self._key, self._value, self._offset = key, value, offset

    def key(self) -> bytes | None:
        """The key."""
        return self._key

    def value(self) -> bytes | None:
        """The value."""
        return self._value

    def offset(self) -> int | None:
        """The offset."""
        return self._offset

    def partition(self) -> int | None:
        """The partition."""
        return 0

    def timestamp(self) -> tuple[int, int]:
        """The timestamp: its own of each offset."""
        return 1, READ_MS + self._offset


def decoded(topic: str, events: Sequence[dict[str, Any]]) -> list[tuple[str, Columns]]:
    """Columns of events, through the sink's own decoder."""
    records = [
        FakeRecord(data.key_of(topic, event).encode(), data.encoded(event), offset)
        for offset, event in enumerate(events)
    ]
    decoder = decoder_of(topic, load_areas(), ZONE)
    return decoder(Records(records, keyed=decoder.keyed))


def store(backend: Backend, topic: str, events: Sequence[dict[str, Any]]) -> None:
    """Inserts events as the sink would."""
    for table, columns in decoded(topic, events):
        backend.insert(table, columns)


def rows(backend: Backend, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query."""
    return backend.query(sql)[1]


def test_schema_is_made_once(backend: Backend) -> None:
    """Every table and view is there; making them again changes nothing, not even the database's identity."""
    before = backend.identity()
    backend.ensure_schema()
    names = {name for (name,) in rows(backend, "SHOW TABLES")}
    assert set(TABLES) | set(VIEWS) <= names
    assert backend.identity() == before
    assert len(before) == 32
    assert rows(backend, "SELECT level, count() FROM areas FINAL GROUP BY level ORDER BY level") == [
        ("district", 705),
        ("nation", 1),
        ("province", 63),
        ("ward", 10599),
    ]


def test_every_type_survives(backend: Backend) -> None:
    """Texts, nulls, lists, large numbers and fractions come back as they went in."""
    name = "Chợ \"Hôm\" 'x' \\ \t<b>"
    store(backend, "venues", [data.venue("V1", name=name, capacity=2**31 - 1, codes=["A", "B"], lat=-0.1)])
    store(backend, "venues", [data.venue("V2", dwell_minutes=5, codes=[])])
    names = "venue_id, name, capacity, codes, lat, dwell_minutes, registered_at, registered_day"
    assert rows(backend, f"SELECT {names} FROM venues FINAL ORDER BY venue_id") == [
        ("V1", name, 2**31 - 1, ["A", "B"], -0.1, None, 1630458000000, 20210901),
        ("V2", "Điểm V2", None, [], 21.0, 5, 1630458000000, 20210901),
    ]
    store(backend, "case-states", [data.case_state("C1"), data.case_state("C2", status="erased", ruleset=None)])
    assert rows(backend, "SELECT case_id, onset_at, sampled_at, ruleset FROM cases FINAL ORDER BY case_id") == [
        ("C1", None, 1634169600000, "vn-2021-07"),
        ("C2", None, 1634169600000, None),
    ]


def test_texts_of_all_lengths_and_many_labels(backend: Backend) -> None:
    """Lengths that take one byte and those that take more, and labels whose number takes more than one."""
    lengths = [0, 1, 127, 128, 300, 16_383, 16_384, 70_000]
    letters = [
        data.reject(number, detail="đ" * (length // 2) + "d" * (length % 2)) for number, length in enumerate(lengths)
    ]
    store(backend, "rejects", letters)
    assert rows(backend, "SELECT length(detail) FROM rejects FINAL ORDER BY offset") == [
        (length,) for length in lengths
    ]
    assert rows(backend, "SELECT detail FROM rejects FINAL WHERE offset = 4") == [("đ" * 150,)]
    for many in (255, 256, 257, 1000):
        scans = [data.scan(number, source=f"s{number % many}", revision=many) for number in range(1000)]
        store(backend, "enriched", scans)
        found = rows(
            backend, "SELECT uniqExact(source), countIf(source != concat('s', substring(scan_id, 2))) FROM scans FINAL"
        )
        assert found == [(many, 1000 - many)]


def test_the_highest_revision_counts(backend: Backend) -> None:
    """Versions replace each other by revision, in one insert or several, in any order."""
    store(backend, "enriched", [data.scan(1, revision=3, venue_id="B"), data.scan(1, revision=2, venue_id="A")])
    store(backend, "enriched", [data.scan(1, revision=1, venue_id="C"), data.scan(2)])
    store(backend, "enriched", [data.scan(1, revision=3, venue_id="B")])
    assert rows(backend, "SELECT scan_id, venue_id FROM v_scans ORDER BY scan_id") == [("s1", "B"), ("s2", "CAFE")]


def test_retractions_hide_rows(backend: Backend) -> None:
    """A bare retraction hides its row from the view, before or after the row itself."""
    store(backend, "enriched", [data.scan(1), data.scan(2), data.scan(3)])
    store(backend, "enriched", [data.retraction(1), data.retraction(4, revision=9)])
    store(backend, "enriched", [data.scan(4)])
    assert rows(backend, "SELECT scan_id FROM v_scans ORDER BY scan_id") == [("s2",), ("s3",)]
    assert rows(backend, "SELECT count() FROM v_scans WHERE direction = 'in'") == [(2,)]


def test_visits_and_exposures_are_taken_back(backend: Backend) -> None:
    """Their views show the newest active versions; a retraction finds its row by what it carries, and is replaced."""
    for topic, make in (("visits", data.visit), ("exposures", data.exposure)):
        store(backend, topic, [make(number) for number in range(5)])
        store(backend, topic, [data.bare(topic, make(number, revision=2)) for number in (1, 2, 3)])
        store(backend, topic, [make(2, revision=3), make(0, revision=2, ward_code="00001")])
        store(backend, topic, [data.bare(topic, make(3, revision=2))])
    for view, key in (("v_visits", "visit_id"), ("v_exposures", "exposure_id")):
        assert rows(backend, f"SELECT {key}, ward_code FROM {view} ORDER BY {key}") == [
            (f"{0:032x}", "00001"),
            (f"{2:032x}", "00262"),
            (f"{4:032x}", "00262"),
        ]


def test_visits_and_exposures_show_their_times(backend: Backend) -> None:
    """Every time of the views is there as text and in milliseconds; the day is that of the first scan."""
    times = {"started_at": "2021-10-13T16:30:00.000Z", "first_scan_at": "2021-10-13T17:00:00.000Z"}
    store(backend, "visits", [data.visit(7) | times])
    assert rows(backend, "SELECT day, started_at, started_ms, ended_at, ended_ms, first_scan_at FROM v_visits") == [
        (
            "2021-10-14",
            "2021-10-13T16:30:00.000Z",
            1634142600000,
            "2021-10-14T02:15:30.007Z",
            1634177730007,
            "2021-10-13T17:00:00.000Z",
        )
    ]
    store(backend, "exposures", [data.exposure(7, contact_scan_at="2021-10-13T16:59:59.999Z")])
    names = "day, overlap_from, overlap_to_ms, contact_scan_at, detected_at, detected_ms, score, ruleset_version"
    assert rows(backend, f"SELECT {names} FROM v_exposures") == [
        (
            "2021-10-13",
            "2021-10-14T01:15:30.007Z",
            1634175930007,
            "2021-10-13T16:59:59.999Z",
            "2021-10-14T11:00:00.000Z",
            1634209200000,
            30.0,
            1,
        )
    ]


def test_partitions_are_local_days(backend: Backend) -> None:
    """A row's partition is the local day of its time: 17:00 UTC begins the next day in Vietnam."""
    times = ["2021-10-13T16:59:59.999Z", "2021-10-13T17:00:00.000Z"]
    store(backend, "enriched", [data.scan(number, occurred_at=time) for number, time in enumerate(times)])
    assert rows(backend, "SELECT day, occurred_at FROM v_scans ORDER BY day") == [
        ("2021-10-13", times[0]),
        ("2021-10-14", times[1]),
    ]
    parts = (
        "SELECT DISTINCT partition FROM system.parts WHERE active AND table = 'scans' AND database = currentDatabase()"
    )
    assert sorted(rows(backend, parts)) == [("20211013",), ("20211014",)]


def test_cells_of_many_days_fit_one_insert(backend: Backend) -> None:
    """An insert may be of more days than a server takes at once unless it is told."""
    days = [f"20{year:02d}-{month:02d}-11" for year in range(10, 22) for month in range(1, 13)]
    store(backend, "aggregates", [data.area_day(day, "VN", "person-0", (1, 1, 0)) for day in days])
    assert rows(backend, "SELECT count() FROM v_area_day") == [(144,)]


def test_cells_are_summed_over_parts(backend: Backend) -> None:
    """A view's cell is the sum of each part's newest value."""
    minute = "2021-10-14T01:15:00.000Z"
    store(
        backend,
        "aggregates",
        [
            data.ward_minute(minute, "00262", "person-0", (1, 0, 0), revision=1),
            data.ward_minute(minute, "00262", "person-0", (2, 1, 0), revision=2),
            data.ward_minute(minute, "00262", "person-1", (0, 0, 4), revision=1),
            data.venue_hour("2021-10-14T01:00:00.000Z", "CAFE", "person-1", (2, 1, 4), revision=1),
            data.area_day("2021-10-14", "00262", "person-0", (3, 2, 0)),
            data.area_day("2021-10-14", "00262", "venue-1", (0, 0, 1)),
        ],
    )
    assert rows(backend, "SELECT * FROM v_ward_minute") == [("2021-10-14", minute, 1634174100000, "00262", 7, 2, 1, 4)]
    assert rows(backend, "SELECT day, hour, venue_id, scans, ins, outs, passes FROM v_venue_hour") == [
        ("2021-10-14", "2021-10-14T01:00:00.000Z", "CAFE", 7, 2, 1, 4)
    ]
    assert rows(backend, "SELECT * FROM v_area_day") == [("2021-10-14", "ward", "00262", 3, 2, 1)]


def test_live_minutes_follow_the_data(backend: Backend) -> None:
    """The live view holds the fifteen minutes up to the newest stored, whatever the clock says."""
    minutes = ["2021-10-14T01:00:00.000Z", "2021-10-14T01:01:00.000Z", "2021-10-14T01:15:00.000Z"]
    store(backend, "aggregates", [data.ward_minute(minute, "00262", "person-0", (1, 0, 0)) for minute in minutes])
    assert rows(backend, "SELECT minute FROM v_live_15m ORDER BY minute") == [(minutes[1],), (minutes[2],)]


def test_report_views(backend: Backend) -> None:
    """Totals, means and silence come out as SPEC, section 5, counts them."""
    store(
        backend,
        "venues",
        [
            data.venue("A", day="2021-10-12"),
            data.venue("B", day="2021-10-14"),
            data.venue("C", day="2021-10-14", status="closed"),
        ],
    )
    store(
        backend,
        "aggregates",
        [
            data.area_day("2021-10-13", "VN", "person-0", (10, 7, 0)),
            data.area_day("2021-10-14", "VN", "person-0", (4, 3, 0)),
            data.area_day("2021-10-14", "VN", "venue-0", (0, 0, 2)),
            data.area_day("2021-10-14", "00262", "person-0", (4, 3, 0)),
            data.venue_hour("2021-10-13T01:00:00.000Z", "A", "person-0", (9, 0, 0)),
            data.venue_hour("2021-10-13T01:00:00.000Z", "B", "person-0", (1, 0, 0)),
            data.venue_hour("2021-10-14T01:00:00.000Z", "B", "person-0", (4, 0, 0)),
        ],
    )
    assert rows(backend, "SELECT * FROM v_report_daily WHERE code = 'VN' ORDER BY day") == [
        ("2021-10-13", "nation", "VN", 1, 0, 0, 10, 7),
        ("2021-10-14", "nation", "VN", 3, 2, 2, 4, 3),
    ]
    assert rows(backend, "SELECT * FROM v_rolling_7d WHERE code = 'VN' ORDER BY day") == [
        ("2021-10-13", "nation", "VN", 1, 1, 0),
        ("2021-10-14", "nation", "VN", 2, 1, 0),
    ]
    assert rows(backend, "SELECT day, venue_id FROM v_silent_venues") == [("2021-10-14", "A")]
    assert rows(backend, "SELECT day, count() FROM v_silent_areas GROUP BY day ORDER BY day") == [
        ("2021-10-13", 10599),
        ("2021-10-14", 10598),
    ]
    assert rows(backend, "SELECT count() FROM v_silent_areas WHERE code = '00262'") == [(1,)]


def test_analysts_see_no_small_cells(backend: Backend) -> None:
    """Cells of one to four persons are hidden, zero and five are shown; minutes follow their ward's day."""
    store(
        backend,
        "aggregates",
        [
            data.area_day("2021-10-14", "00262", "person-0", (9, 3, 0)),
            data.area_day("2021-10-14", "00262", "person-1", (2, 2, 0)),
            data.area_day("2021-10-14", "00001", "person-0", (8, 4, 0)),
            data.area_day("2021-10-14", "00004", "person-0", (0, 0, 0)),
            data.ward_minute("2021-10-14T01:15:00.000Z", "00262", "person-0", (1, 0, 0)),
            data.ward_minute("2021-10-14T01:15:00.000Z", "00001", "person-0", (1, 0, 0)),
            data.ward_minute("2021-10-13T01:15:00.000Z", "00262", "person-0", (1, 0, 0)),
        ],
    )
    assert rows(backend, "SELECT code, persons FROM a_area_day ORDER BY code") == [("00004", 0), ("00262", 5)]
    assert rows(backend, "SELECT day, ward_code FROM a_ward_minute") == [("2021-10-14", "00262")]
    assert rows(backend, "SELECT code FROM a_report_daily ORDER BY code") == [("00004",), ("00262",)]


def test_wrong_columns_are_our_own_bug(backend: Backend) -> None:
    """A column too few never reaches the database."""
    columns = dict(dict(decoded("enriched", [data.scan(1)]))["scans"])
    del columns["lat"]
    with pytest.raises(AssertionError, match="lat"):
        backend.insert("scans", columns)


def test_a_table_of_another_version_is_a_wrong_setting(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that another version made is not written to: one sentence names the setting."""
    spec = TABLES["scans"]
    changed = replace(spec, columns=(*spec.columns, Column("weather", ColumnType.TEXT)))
    monkeypatch.setattr("sinks.backends.TABLES", {**TABLES, "scans": changed})
    with pytest.raises(ConfigError, match=r"TRUYVET_DATABASE.*scans"):
        backend.ensure_schema()


def test_the_schema_is_the_one_that_was_agreed() -> None:
    """The statements are those of the committed file: a name or type that lasts does not change by accident."""
    agreed = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
    assert "".join(f"{statement};\n" for statement in statements("checkin")) == agreed


def test_a_server_that_is_away_is_a_storage_error() -> None:
    """A server that does not answer raises what the sink tries again on."""
    settings = Settings.model_validate({"clickhouse": "clickhouse://default:@127.0.0.1:1"})
    with open_backend(settings) as backend:
        with pytest.raises(StorageError, match="away"):
            backend.ensure_schema()
        with pytest.raises(StorageError, match="away"):
            backend.query("SELECT 1")


def test_a_database_outlives_its_backend(backend_settings: Settings, backend: Backend) -> None:
    """What was stored is there after the database was closed and opened again, under the same identity."""
    store(backend, "enriched", [data.scan(1)])
    identity = backend.identity()
    backend.close()
    with open_backend(backend_settings) as again:
        again.ensure_schema()
        assert again.identity() == identity
        assert rows(again, "SELECT scan_id FROM v_scans") == [("s1",)]


def test_the_embedded_database_has_one_owner(tmp_path: Path) -> None:
    """A second process is told, in one sentence, that another one owns the folder."""
    settings = Settings.model_validate({"embedded_dir": tmp_path / "db", "database": "t"})
    program = "import sys; from sinks.backends import open_backend; from truyvet.config import load_settings\n"
    program += "try: open_backend(load_settings())\nexcept Exception as error: print(error); sys.exit(7)"
    with open_backend(settings):
        other = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **settings.environment()},
            capture_output=True,
            text=True,
            check=False,
        )
    assert other.returncode == 7, other.stderr
    assert "one process at a time" in other.stdout
