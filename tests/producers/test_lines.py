"""Input lines as records, to the letter of SPEC §10."""

from pathlib import Path

from producers.lines import CASES, ERASURES, SCANS, VENUES, VENUES_LATE, Line, read_lines

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


def test_a_bad_line_of_the_register_is_a_record_under_its_number(tmp_path: Path) -> None:
    """A compacted topic takes no record without a key; of other topics, and of an empty key, nothing changes."""
    text = '\n[1]\n{"broken\r\n{"venue_id": 7}\n{"venue_id": ""}\n'
    for kind in VENUES, VENUES_LATE:
        (tmp_path / kind.file_name).write_text(text, encoding="utf-8")
        lines = list(read_lines(tmp_path / kind.file_name, kind))
        assert [line.key for line in lines] == [b"line-2", b"line-3", b"line-4", b""]
        assert [line.number for line in lines] == [2, 3, 4, 5]
    assert [line.key for line in _lines(tmp_path, *text.split("\n"))] == [None] * 4


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    """It is skipped at the beginning of every file, also of a blank first line, and stands as it is anywhere else."""
    event = b'{"venue_id": "V", "person_id": "V"}'
    for kind in VENUES, SCANS, CASES, ERASURES, VENUES_LATE:
        path = tmp_path / kind.file_name
        path.write_bytes(b"\xef\xbb\xbf" + event + b"\n\xef\xbb\xbf" + event + b"\n")
        first, second = read_lines(path, kind)
        assert (first.key, first.value) == (b"V", event)
        assert second.value == b"\xef\xbb\xbf" + event
        path.write_bytes(b"\xef\xbb\xbf\r\n" + event)
        assert [line.number for line in read_lines(path, kind)] == [2]


def test_a_line_stands_for_a_null_record(tmp_path: Path) -> None:
    """Of the register, where it says so with ``true`` and names a venue; timed as any line is."""
    lines = [
        '{"venue_id": "V", "_null": true}',
        f'{{"venue_id": "W", "registered_at": "{TIME}"}}',
        '{"venue_id": "V", "_null": true}',
        '{"venue_id": "V", "_null": true, "_ts": 9}',
        '{"venue_id": "V", "_null": false}',
        '{"venue_id": "V", "_null": 1}',
        '{"_null": true}',
    ]
    path = tmp_path / "venues.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    found = list(read_lines(path, VENUES))
    assert [line.value is None for line in found] == [True, False, True, True, False, False, False]
    assert [line.key for line in found] == [b"V", b"W", b"V", b"V", b"V", b"V", b"line-7"]
    assert [line.timestamp_ms for line in found] == [0, TIME_MS, TIME_MS, 9, 9, 9, 9]
    assert _lines(tmp_path, '{"person_id": "p", "_null": true}')[0].value is not None
