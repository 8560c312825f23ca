"""Input lines as records, to the letter of SPEC §10."""

from pathlib import Path

from producers.lines import SCANS, VENUES, Line, read_lines

TIME = "2021-10-14T08:00:00+07:00"
TIME_MS = 1_634_173_200_000


def _lines(tmp_path: Path, *lines: str) -> list[Line]:
    (tmp_path / "scans.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list(read_lines(tmp_path / "scans.jsonl", SCANS))


def test_the_record_timestamp(tmp_path: Path) -> None:
    """``_ts`` wins, then the event's own time, then the line before, 0 at the start; blank lines are no lines."""
    lines = _lines(
        tmp_path,
        "cut off {",
        "",
        f'{{"person_id": "p", "occurred_at": "{TIME}"}}',
        "[]",
        f'{{"person_id": "p", "occurred_at": "{TIME}", "_ts": 5}}',
        '{"occurred_at": "yesterday"}',
        '{"person_id": 7, "_ts": 6, "_ts": 8}',
        f'{{"occurred_at": "{TIME}", "_ts": "9"}}',
        "   ",
        f'{{"occurred_at": "{TIME}", "_ts": true}}',
    )
    assert [line.timestamp_ms for line in lines] == [0, TIME_MS, TIME_MS, 5, 5, 8, TIME_MS, TIME_MS]
    assert [line.key for line in lines] == [None, b"p", None, b"p", None, None, None, None]


def test_a_line_goes_out_as_it_stands(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, spaces and unknown fields are part of the record."""
    raw = b' {"person_id": "p", "x": "\xff"} '
    (tmp_path / "scans.jsonl").write_bytes(raw + b"\r\n")
    assert [line.value for line in read_lines(tmp_path / "scans.jsonl", SCANS)] == [raw]


def test_an_absent_file_holds_nothing(tmp_path: Path) -> None:
    """Any of the files may be missing; a venue is keyed by its id and timed by its registration."""
    assert list(read_lines(tmp_path / "venues.jsonl", VENUES)) == []
    (tmp_path / "venues.jsonl").write_text(f'{{"venue_id": "V", "registered_at": "{TIME}"}}\n', encoding="utf-8")
    assert [line[::2] for line in read_lines(tmp_path / "venues.jsonl", VENUES)] == [(b"V", TIME_MS)]
