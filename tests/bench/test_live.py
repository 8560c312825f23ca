"""Scans in real time: what they are, when they are due, and what the watchers' findings come to."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import day, harness, latency
from bench.live import MARKERS, Scans, micros, percentiles_ms, stamped
from bench.picture import Line, Panel, draw, ticks
from bench.workload import Shape, venue_ids
from streams.core.decode import decode_scan
from streams.core.inbound import BadEvent

SHAPE = Shape(people=40, venues=20)


def test_live_scans_are_valid_and_say_when_they_were_sent() -> None:
    """Each is one that the pipeline takes, at a registered venue, of now, and no two are the same."""
    scans = Scans(SHAPE)
    before = micros()
    made = [scans.make(number) for number in range(1000)]
    ids = set()
    for key, value in made:
        event = decode_scan(value)
        assert not isinstance(event, BadEvent)
        assert event.person_id.encode() == key
        assert event.venue_id in venue_ids(SHAPE)
        assert abs(event.occurred_ms - before // 1000) < 60_000
        assert before <= stamped(value) <= micros()
        ids.add(event.scan_id)
    assert len(ids) == 1000


def test_a_marker_scans_now_and_then() -> None:
    """The first scan is a marker's, those right after it are not."""
    scans = Scans(SHAPE)
    assert len(set(scans.markers)) == MARKERS
    people = [json.loads(scans.make(number)[1])["person_id"] for number in range(10)]
    assert people[0] in scans.markers
    assert people[1] not in scans.markers


def test_percentiles_are_in_milliseconds() -> None:
    """Median, p99, worst; nothing of nothing."""
    assert percentiles_ms(np.arange(101) / 1000) == {"p50": 50.0, "p99": 99.0, "max": 100.0}
    assert percentiles_ms(np.zeros(0)) == {}


def test_a_level_is_a_row() -> None:
    """What was not seen is told."""
    times = {"p50": 1.4, "p99": 20.0, "max": 1500.0}
    found: dict[str, Any] = {
        "share": 0.5,
        "rate": 5000.0,
        "sent": 15_000,
        "missing": 0,
        "late_ms": 12.0,
        "behind_seconds": 0.02,
    }
    found |= {"enriched_ms": times, "row_ms": {}, "row_count": 100, "cores": {"kafka": 0.25, "sink": 0.5}}
    busy = "kafka 0.25, sink 0.50"
    assert latency.row_of(found) == ["50%", "5,000", "15,000", "1, 20, 1,500", "–", "100", "0.0", busy, "12"]
    assert latency.row_of(found | {"missing": 3})[2] == "15,000, 3 NOT SEEN"


def test_the_busiest_day_is_the_published_one() -> None:
    """Minute by minute as counted, played within its own time divided by the speed."""
    minutes = day.minutes_of(day.DAY)
    assert minutes.sum() == 3_888_111
    played = day.Played(minutes[660:720], 60.0, 660)
    assert played.seconds == 60.0
    assert (played.due(0.0), played.due(60.0)) == (0.0, minutes[660:720].sum())
    assert played.due(1.5) == minutes[660] + minutes[661] / 2
    assert (played.hour(0.0), played.hour(60.0)) == (11.0, 12.0)
    with pytest.raises(ValueError, match="has 0 minutes"):
        day.minutes_of("2021-12-24")


def test_windows_go_by_when_scans_were_sent() -> None:
    """Ten seconds each, the last one shorter; an empty one has no latency."""
    found = day.windows(np.array([0.0, 1.0, 9.9, 21.0]), np.array([0.1, 0.1, 0.1, 0.4]), 25.0)
    assert [span["at"] for span in found] == [5.0, 15.0, 22.5]
    assert [span["rate"] for span in found] == [0.3, 0.0, 0.2]
    assert [span.get("p50") for span in found] == [100.0, None, 400.0]


def test_the_greatest_lag_of_a_window_is_shown() -> None:
    """What is noted after the last one ended is its own."""
    found = day.lag_windows([(0.0, 1), (9.9, 5), (8.0, 3), (20.0, 0), (30.1, 7)], 3)
    assert found == [5, None, 7]


def test_the_picture_of_a_day_is_an_svg() -> None:
    """Well formed, with a curve for each thing that is told."""
    played = day.Played(day.minutes_of(day.DAY), 60.0, 0)
    spans = [{"at": at, "rate": 1.0, "p50": 100.0, "p99": 400.0} for at in np.arange(5.0, played.seconds, 10.0)]
    found = {"sent": 5, "windows": [*spans, {"at": played.seconds, "rate": 0.0}], "lag": [(0.0, 1), (1440.0, 3)]}
    root = ET.fromstring(day.picture(found, played))  # noqa: S314 - made here
    curves = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("fill") == "none"]
    assert len(curves) == 4
    assert "at 60 times its speed" in "".join(root.itertext())


def test_axes_have_round_numbers() -> None:
    """From nothing to at least the highest value."""
    assert ticks(0.0) == [0.0, 1.0]
    assert ticks(9.0) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert ticks(4300.0)[-1] == 5000.0


def test_gaps_are_gaps() -> None:
    """Where there is no value there is no line, and one point alone is no error."""
    text = draw("a & b", [0.0, 1.0, 2.0, 3.0], [(0.0, "0:00")], [Panel("p", [Line("x", [1.0, None, 2.0, 3.0])])])
    curve = next(line for line in text.splitlines() if 'stroke="#1f5fa8"' in line)
    assert curve.count("M") == 2
    assert "a &amp; b" in text
    assert "<svg" in draw("t", [1.0], [], [Panel("p", [Line("x", [None])])])


def test_a_short_stretch_is_played_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute before dawn through the real parts: everything comes out, and there is a picture."""
    monkeypatch.setattr(harness, "RESULTS_DIR", tmp_path)
    picture = tmp_path / "day.svg"
    arguments = ["--speed", "60", "--begin", "05:00", "--end", "05:03", "--partitions", "2", "--picture", str(picture)]
    assert day.main(arguments) == 0
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    found = harness.load("day-60") or {}
    assert found["sent"] == day.minutes_of(day.DAY)[300:303].sum()
    assert found["missing"] == 0
