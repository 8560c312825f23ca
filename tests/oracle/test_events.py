"""The input maker and the naive checker, held to what they promise."""

import ast
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.oracle import wire
from tests.oracle.events import random_input, shuffled, tripled
from tests.oracle.files import Files
from tests.oracle.naive import Views, naive_views

SEEDS = range(150)
ORDER_FREE_TABLES = ("scans", "visits", "venues", "cases", "exposures", "ward_minute", "venue_hour", "area_day")


def _order_free(views: Views) -> Views:
    return {table: views[table] for table in ORDER_FREE_TABLES}


def test_the_checker_is_kept_apart_from_what_it_checks() -> None:
    """Nothing of the oracle imports the pipeline's own code; the list of areas is data."""
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] in {"streams", "sinks", "producers"}], path


def test_a_seed_gives_one_input() -> None:
    """The same seed gives the same bytes, another seed gives others."""
    assert random_input(7) == random_input(7)
    assert len({random_input(seed) for seed in range(20)}) > 15


def test_files_survive_a_folder(tmp_path: Path) -> None:
    """What is written to a folder is read back line by line."""
    for seed in range(10):
        files = random_input(seed)
        files.write(tmp_path)
        assert Files.read(tmp_path) == files


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    """Blank lines are no lines."""
    (tmp_path / "scans.jsonl").write_bytes(b"\n{}\n  \n\r\n[]")
    assert Files.read(tmp_path).scans == (b"{}", b"[]")


def test_inputs_reach_every_outcome() -> None:
    """Over some seeds every reject reason of these rooms comes up, also resolved and waiting, and accepted rows."""
    reasons: Counter[tuple[str, str]] = Counter()
    cases = Counter[str]()
    through_codes = 0
    for seed in SEEDS:
        views = naive_views(random_input(seed))
        reasons.update((row["reason"], row["status"]) for row in views["reject_rows"])
        cases.update(row["status"] for row in views["cases"])
        through_codes += sum(row["venue_code"] != row["venue_id"] for row in views["scans"])
    assert set(reasons) == {
        *((reason, "open") for reason in ("oversized", "malformed_json", "schema_violation", "in_future", "too_old")),
        *((reason, "open") for reason in ("conflicting_duplicate", "unknown_ruleset")),
        ("unknown_venue", "waiting"),
        ("unknown_venue", "resolved"),
    }
    assert set(cases) == {"confirmed", "withdrawn"}
    assert min(reasons.values()) >= 5
    assert through_codes > 50


def test_inputs_provoke_visits_and_exposures() -> None:
    """Over some seeds visits and exposures come up in every way, and often; many are taken back on the way."""
    inputs = Counter[str]()
    exposures = 0
    for seed in SEEDS:
        files = random_input(seed)
        views = naive_views(files)
        exposures += len(views["exposures"])
        inputs.update(_met(views) | _taken_back(files, views) | _forgotten(files, views))
    assert exposures > 1.5 * len(SEEDS)
    shares = {name: inputs[name] / len(SEEDS) for name in SHARES_MIN}
    assert {name: share for name, share in shares.items() if share < SHARES_MIN[name]} == {}


# What share of the inputs shows this at least once.
SHARES_MIN = {
    "scanned": 0.6,
    "moved": 0.3,
    "estimated": 0.6,
    "started by a check-out": 0.5,
    "length zero": 0.3,
    "exposure": 0.3,
    "low": 0.1,
    "medium": 0.1,
    "high": 0.1,
    "both rulesets": 0.05,
    "withdrawn": 0.2,
    "two cases of a person": 0.15,
    "a case_id of two persons": 0.2,
    "two case persons who met": 0.1,
    "visit retracted": 0.3,
    "exposure retracted": 0.15,
    "exposure changed": 0.05,
    "scan erased": 0.2,
    "scan after an erasure": 0.15,
    "waiting scan erased": 0.05,
    "case erased": 0.1,
    "case after an erasure": 0.1,
    "visit erased": 0.2,
    "visit by erasure": 0.04,
    "exposure erased": 0.07,
    "erasure rejected": 0.05,
}


def _met(views: Views) -> set[str]:
    visits, exposures = views["visits"], views["exposures"]
    confirmed = [row for row in views["cases"] if row["status"] == "confirmed"]
    persons = {row["person_id"] for row in confirmed}
    found = {
        "started by a check-out": any(row["start_kind"] == "estimated" for row in visits),
        "length zero": any(row["started_at"] == row["ended_at"] for row in visits),
        "exposure": bool(exposures),
        "both rulesets": len({row["ruleset"] for row in exposures}) > 1,
        "withdrawn": len(confirmed) < len(views["cases"]),
        "two cases of a person": len(persons) < len(confirmed),
        "a case_id of two persons": len({row["case_id"] for row in views["cases"]}) < len(views["cases"]),
        "two case persons who met": any(row["person_id"] in persons for row in exposures),
    }
    kinds = {row["end_kind"] for row in visits} | {row["level"] for row in exposures}
    return kinds | {name for name, holds in found.items() if holds}


def _taken_back(files: Files, views: Views) -> set[str]:
    """What would have been said half-way and is taken back or changed at the end."""
    half = Files(files.venues, files.scans[: len(files.scans) // 2], files.cases[: len(files.cases) // 2])
    before = naive_views(half)
    found = set()
    for table, key in (("visits", "visit_id"), ("exposures", "exposure_id")):
        now = {row[key]: row for row in views[table]}
        if any(row[key] not in now for row in before[table]):
            found.add(f"{table[:-1]} retracted")
        if any(now.get(row[key], row) != row for row in before[table]):
            found.add(f"{table[:-1]} changed")
    return found


def _forgotten(files: Files, views: Views) -> set[str]:
    """What erasures remove, leave, and make otherwise."""
    before = naive_views(replace(files, erasures=()))
    found = {
        "waiting scan erased": before["rejects"] != views["rejects"]
        and any(
            was["status"] == "waiting" and row["status"] == "resolved"
            for was, row in zip(before["reject_rows"], views["reject_rows"], strict=False)
        ),
        "erasure rejected": any(row["topic"] == "checkin.erasures" for row in views["reject_rows"]),
        "visit by erasure": any(row not in before["visits"] for row in views["visits"]),
    }
    erased = {row["person_id"] for row in views["erased"]}
    for table in ("scans", "visits", "cases", "exposures"):
        found[f"{table[:-1]} erased"] = len(before[table]) > len(views[table])
        found[f"{table[:-1]} after an erasure"] = any(row["person_id"] in erased for row in views[table])
    return {name for name, holds in found.items() if holds}


@pytest.mark.parametrize("seed", range(60))
def test_order_free_inputs_are_order_free(seed: int) -> None:
    """For inputs without SPEC's exceptions any order and any number of copies gives the same views."""
    files = random_input(seed, order_free=True)
    views = naive_views(files)
    assert not any(row["reason"] == "conflicting_duplicate" for row in views["reject_rows"])
    assert _order_free(naive_views(shuffled(files, seed))) == _order_free(views)
    assert _order_free(naive_views(shuffled(tripled(files), seed))) == _order_free(views)
    assert naive_views(shuffled(files, seed))["rejects"] == views["rejects"]


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2021-10-14T08:15:30+07:00", 1_634_174_130_000),
        ("2021-10-14T01:15:30.1239Z", 1_634_174_130_123),
        ("2021-10-14T01:15:30.1-00:00", 1_634_174_130_100),
        ("2099-12-31T23:59:59.999Z", 4_102_444_799_999),
    ],
)
def test_times_are_read_to_the_millisecond(text: str, milliseconds: int) -> None:
    """Offsets are taken off and further digits cut."""
    assert wire.instant(text) == milliseconds
    assert wire.instant(wire.instant_text(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"x" * 65_537, "oversized"),
        (b"x" * 65_536, "malformed_json"),
        (b'{"a":NaN}', "malformed_json"),
        (b'{"a":"\\ud800","a":1}', "malformed_json"),
        (b"[" * 65 + b"]" * 65, "malformed_json"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
    ],
)
def test_bytes_that_are_no_json_are_told_apart(raw: bytes, reason: str) -> None:
    """Size is judged before content; what RFC 8259 does not allow is malformed."""
    with pytest.raises(wire.BadEventError) as caught:
        wire.parse(raw)
    assert caught.value.reason == reason


def test_nesting_of_64_is_allowed() -> None:
    """The deepest allowed value is read, and a huge integer too."""
    assert wire.parse(b"[" * 64 + b"]" * 64)
    assert wire.parse(b'{"a":' + b"9" * 5000 + b"}")


def test_record_timestamps_follow_the_rules_of_replay() -> None:
    """``_ts`` first, then the event's own time even if the event is bad, then the line before, 0 at the start."""
    lines = (
        b"{",
        b'{"_ts":5}',
        b'{"_ts":"7"}',
        b'{"occurred_at":"1970-01-01T00:00:01Z"}',
        b"]",
        b'{"occurred_at":"1970-01-01T00:00:02Z","_ts":9}',
    )
    rows = naive_views(Files(scans=lines))["reject_rows"]
    assert [wire.instant(row["record_at"]) for row in rows] == [0, 5, 5, 1000, 1000, 9]
