"""The simulator: totals exact to the digit when counted again naively, and shares as they should be."""

import argparse
import itertools
import json
import statistics
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producers.simulate import cli
from producers.simulate.arrays import day_start_ms
from producers.simulate.generate import generate
from producers.simulate.profile import ArrivalProfile
from producers.simulate.totals import DEFAULT_TOTALS, Publication, TotalsError, load_publication
from schemas.areas import load_areas
from tests.oracle import wire
from tests.oracle.files import Files
from tests.oracle.naive import Views, naive_views

HUE = {
    "title": "Huế, made up",
    "province": "46",
    "seven_day_means": {"scans": 333, "persons": 250, "venues_active": 60, "venues_new": 5},
    "days": [
        {"date": "2021-11-28", "scans": 41, "persons": 41, "venues_active": 41},
        {"date": "2021-11-30", "scans": 500, "persons": 120, "venues_active": 7},
        {
            "date": "2021-12-01",
            "venues_total": 180,
            "venues_new": 9,
            "venues_active": 150,
            "scans": 400,
            "persons": 399,
        },
    ],
}
TINY = {
    "days": [
        {"date": "2022-03-05", "venues_total": 1, "venues_new": 1, "venues_active": 1, "scans": 1, "persons": 1},
        {"date": "2022-03-06", "venues_total": 1, "scans": 0},
        {"date": "2022-03-07", "venues_total": 4, "venues_active": 4, "scans": 300, "persons": 1},
    ],
}


def _generated(tmp_path: Path, values: dict[str, Any], seed: int = 3) -> tuple[dict[str, Any], Files, Views]:
    manifest = generate(tmp_path, Publication.model_validate_json(json.dumps(values)), seed=seed)
    files = Files.read(tmp_path)
    return manifest, files, naive_views(files)


def _recounted(views: Views, province: str, day: str) -> dict[str, int]:
    """The day's figures, from the naive checker's tables alone."""
    cells = [row for row in views["area_day"] if (row["day"], row["level"], row["code"]) == (day, "province", province)]
    cell = cells[0] if cells else {"scans": 0, "persons": 0, "active_venues": 0}
    starts_ms = day_start_ms(date.fromisoformat(day))
    registered = [wire.instant(row["registered_at"]) for row in views["venues"] if row["province_code"] == province]
    return {
        "venues_total": sum(moment < starts_ms + wire.DAY_MS for moment in registered),
        "venues_new": sum(starts_ms <= moment < starts_ms + wire.DAY_MS for moment in registered),
        "venues_active": cell["active_venues"],
        "scans": cell["scans"],
        "persons": cell["persons"],
    }


def _check_exact(manifest: dict[str, Any], views: Views) -> None:
    expected = manifest["expected"]["days"]
    recounted = [_recounted(views, manifest["province"], day["day"]) for day in expected]
    for day, figures in zip(expected, recounted, strict=True):
        assert {name: day[name] for name in figures} == figures, day["day"]
    assert len(views["scans"]) == sum(day["scans"] for day in expected)
    assert {row["reason"]: row["rows"] for row in views["rejects"]} == manifest["rejects"]


@pytest.fixture(scope="module")
def hanoi(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Files, Views]:
    """A hundredth of Hanoi's week."""
    folder = tmp_path_factory.mktemp("hanoi")
    manifest = generate(folder, load_publication(DEFAULT_TOTALS), scale=0.01)
    files = Files.read(folder)
    return manifest, files, naive_views(files)


def test_hanoi_is_exact(hanoi: tuple[dict[str, Any], Files, Views]) -> None:
    """Copies, delays and bad lines change none of the week's totals, and each bad line is rejected as planned."""
    manifest, files, views = hanoi
    _check_exact(manifest, views)
    assert manifest["lines"] == {name: len(getattr(files, name)) for name in ("venues", "scans", "cases")}
    assert manifest["expected"]["days"][-1]["scans"] == 3049


def test_unseen_totals_are_exact(tmp_path: Path) -> None:
    """Another province, other days, other shapes: unknown days, as many persons as scans, few venues."""
    manifest, _, views = _generated(tmp_path, HUE)
    _check_exact(manifest, views)
    days = manifest["expected"]["days"]
    assert [day["day"] for day in days] == [f"2021-11-{day}" for day in range(25, 31)] + ["2021-12-01"]
    assert days[-1]["seven_day_means"] == HUE["seven_day_means"]
    assert {row["province_code"] for row in views["scans"]} == {"46"}
    assert Counter(row["source"] for row in views["scans"])["hue_s"] > 0.2 * len(views["scans"])


def test_tiny_totals_are_exact(tmp_path: Path) -> None:
    """One venue and one scan, a day of nothing, one person with three hundred scans."""
    manifest, _, views = _generated(tmp_path, TINY)
    _check_exact(manifest, views)


@pytest.mark.parametrize("seed", range(5))
def test_any_seed_is_exact(tmp_path: Path, seed: int) -> None:
    """Exactness is no luck of one seed."""
    manifest, _, views = _generated(tmp_path, HUE, seed)
    _check_exact(manifest, views)


def test_the_means_of_new_venues_count_the_days_before(tmp_path: Path) -> None:
    """What the manifest expects of each day's mean of new venues is what the register gives."""
    manifest, _, views = _generated(
        tmp_path, TINY | {"days": [{"date": "2022-03-07", "venues_total": 900, "scans": 9}]}
    )
    day = manifest["expected"]["days"][0]
    end_ms = day_start_ms(date(2022, 3, 8))
    registered = [wire.instant(row["registered_at"]) for row in views["venues"]]
    count = sum(end_ms - 7 * wire.DAY_MS <= moment < end_ms for moment in registered)
    assert count > day["venues_new"]
    assert day["seven_day_means"]["venues_new"] == int(count / 7 + 0.5)


def test_bytes_depend_on_seed_totals_and_scale_alone(tmp_path: Path) -> None:
    """Twice the same gives the same files, another seed others."""
    publication = Publication.model_validate_json(json.dumps(HUE))
    made = [generate(tmp_path / name, publication, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert made[0] == made[1]
    for name in ("venues.jsonl", "scans.jsonl", "cases.jsonl", "manifest.json"):
        one, two, other = ((tmp_path / folder / name).read_bytes() for folder in "abc")
        assert one == two
        assert one != other


def _scan_times(views: Views, person_id: str) -> list[int]:
    return [wire.instant(row["occurred_at"]) for row in views["scans"] if row["person_id"] == person_id]


def test_cases_are_visitors_reported_in_the_last_evening(hanoi: tuple[dict[str, Any], Files, Views]) -> None:
    """Even a hundredth of a city has three: of people seen on several days, each report after the last scan."""
    manifest, files, views = hanoi
    reports = [json.loads(line) for line in files.cases]
    assert manifest["cases"] == {"count": 3, "persons": 2, "withdrawn": "BN01-0003"}
    assert {row["case_id"]: row["status"] for row in views["cases"]} == {
        "BN01-0001": "confirmed",
        "BN01-0002": "confirmed",
        "BN01-0003": "withdrawn",
    }
    records = [report["_ts"] for report in reports]
    assert records == sorted(records)
    assert records == [wire.instant(report["reported_at"]) for report in reports]
    for report in reports:
        times = _scan_times(views, report["person_id"])
        assert 8 <= len(times) <= 20
        assert len({(moment + 7 * 3_600_000) // wire.DAY_MS for moment in times}) >= 3
        assert max(times) < report["_ts"]
    assert all(report["reported_at"] > "2021-10-14T19:00" for report in reports)


def test_cases_are_of_every_kind(tmp_path: Path) -> None:
    """With and without symptoms, isolated, of both rulesets, two of one person, one withdrawn after all."""
    publication = Publication.model_validate_json(json.dumps(HUE))
    manifest = generate(tmp_path, publication, cases=12)
    files = Files.read(tmp_path)
    *confirmed, withdrawal = (json.loads(line) for line in files.cases)
    assert manifest["cases"] == {"count": 12, "persons": 11, "withdrawn": withdrawal["case_id"]}
    assert withdrawal["status"] == "withdrawn"
    assert {(report["onset_at"] is not None, report["ruleset"]) for report in confirmed} == {
        (ill, ruleset) for ill in (True, False) for ruleset in ("vn-2021-07", "vn-2021-12")
    }
    assert sum(report["isolated_at"] is not None for report in confirmed) == 1
    assert all(report["sampled_at"] < report["reported_at"] for report in confirmed)
    assert all((report["onset_at"] or "") < report["sampled_at"] for report in confirmed)
    twice = {report["case_id"] for report in confirmed if report["person_id"] == withdrawal["person_id"]}
    assert len(twice) == 2
    assert withdrawal["case_id"] in twice
    assert {row["case_id"] for row in naive_views(files)["cases"]} == {report["case_id"] for report in confirmed}


@pytest.mark.parametrize("cases", [0, 1, 2, 40])
def test_any_number_of_cases_changes_no_scan(tmp_path: Path, cases: int) -> None:
    """As many as are asked for, also more than there are people, and none; the scans stay as they are."""
    publication = Publication.model_validate_json(json.dumps(TINY))
    generate(tmp_path / "usual", publication)
    manifest = generate(tmp_path / "asked", publication, cases=cases)
    statuses = Counter(row["status"] for row in naive_views(Files.read(tmp_path / "asked"))["cases"])
    assert manifest["cases"]["count"] == cases == statuses.total()
    assert statuses["withdrawn"] == min(cases, 1)
    assert (tmp_path / "asked/scans.jsonl").read_bytes() == (tmp_path / "usual/scans.jsonl").read_bytes()


def test_lines_come_in_order_of_arrival(hanoi: tuple[dict[str, Any], Files, Views]) -> None:
    """Record timestamps never fall along the file, though times of scans do."""
    _, files, _ = hanoi
    records, times = [], []
    for line in files.scans:
        try:
            event = wire.scan(wire.parse(line))
        except wire.BadEventError:
            continue
        records.append(json.loads(line)["_ts"])
        times.append(event["t"])
    assert records == sorted(records)
    late = sum(after < before for before, after in itertools.pairwise(times))
    assert 0.02 < late / len(times) < 0.5


def test_shares_are_as_they_should_be(hanoi: tuple[dict[str, Any], Files, Views]) -> None:
    """Check-outs 35 %, copies 2 % within two minutes and 0.5 % later, paper 3 %, and 1.29 scans a person-day."""
    manifest, files, views = hanoi
    scans = views["scans"]
    count = len(scans)
    assert sum(row["direction"] == "out" for row in scans) / count == pytest.approx(0.35, abs=0.001)
    assert sum(row["source"] == "paper" for row in scans) / count == pytest.approx(0.03, abs=0.001)
    last = manifest["expected"]["days"][-1]
    assert last["scans"] / last["persons"] == pytest.approx(1.29, abs=0.005)
    lines: dict[tuple[str, str], list[int]] = {}
    known = {(row["person_id"], row["scan_id"]): row["source"] for row in scans}
    for line in files.scans:
        try:
            event = wire.scan(wire.parse(line))
        except wire.BadEventError:
            continue
        identity = (event["person_id"], event["scan_id"])
        if known.get(identity) == event["source"]:  # else it is bad, or a conflicting copy
            lines.setdefault(identity, []).append(json.loads(line)["_ts"])
    copies = [after - moments[0] for moments in lines.values() for after in moments[1:]]
    assert len(lines) == count
    assert sum(wait <= 120_000 for wait in copies) / count == pytest.approx(0.02, abs=0.001)
    assert sum(wait > 120_000 for wait in copies) / count == pytest.approx(0.005, abs=0.001)


def test_paper_forms_come_late(hanoi: tuple[dict[str, Any], Files, Views]) -> None:
    """Their delay has a median of four hours and a tail that reaches up to 72."""
    _, files, _ = hanoi
    first: dict[str, int] = {}
    for line in files.scans:
        try:
            event = wire.scan(wire.parse(line))
        except wire.BadEventError:
            continue
        if event["source"] == "paper" and "BUG" not in event["scan_id"]:
            first.setdefault(event["scan_id"], json.loads(line)["_ts"] - event["t"])
    hours = [delay / 3_600_000 for delay in first.values()]
    assert len(hours) > 400
    assert statistics.median(hours) == pytest.approx(4, rel=0.2)
    assert 36 < max(hours) <= 72.1
    assert min(hours) >= 0


def test_venues_are_skewed_by_rank(tmp_path: Path) -> None:
    """The scans of a day's venues fall with the rank to the power of about −0.63."""
    day = {"date": "2021-10-14", "venues_total": 4000, "venues_active": 700, "scans": 6000, "persons": 4700}
    _, _, views = _generated(tmp_path, {"days": [day]})
    counts = sorted(Counter(row["venue_id"] for row in views["scans"]).values(), reverse=True)
    slope = np.polyfit(np.log(np.arange(1, 301)), np.log(counts[:300]), 1)[0]
    assert slope == pytest.approx(-0.63, abs=0.04)


def test_arrivals_follow_the_profile(hanoi: tuple[dict[str, Any], Files, Views]) -> None:
    """Hour by hour, a weekday looks like the real day it was taken from; every day of the week has one."""
    _, _, views = hanoi
    day = date(2021, 10, 14)
    hours = Counter(
        (wire.instant(row["occurred_at"]) - day_start_ms(day)) // 3_600_000
        for row in views["scans"]
        if 0 <= wire.instant(row["occurred_at"]) - day_start_ms(day) < wire.DAY_MS
    )
    shares = ArrivalProfile().shares(day).reshape(24, 60).sum(axis=1)
    for hour in range(24):
        assert hours[hour] / hours.total() == pytest.approx(shares[hour], abs=0.03)
    for offset in range(14):
        assert ArrivalProfile().shares(date.fromordinal(day.toordinal() + offset)).sum() == pytest.approx(1)


def test_people_come_back_and_places_are_real(hanoi: tuple[dict[str, Any], Files, Views]) -> None:
    """Many people are seen on several days; scans and venues spread over the city; nobody scans before a venue is."""
    _, _, views = hanoi
    days: dict[str, set[str]] = {}
    for row in views["scans"]:
        days.setdefault(row["person_id"], set()).add(row["occurred_at"][:10])
    assert 0.3 < sum(len(seen) > 1 for seen in days.values()) / len(days) < 0.9
    assert len({row["ward_code"] for row in views["venues"]}) > 550
    registered = {row["venue_id"]: wire.instant(row["registered_at"]) for row in views["venues"]}
    assert all(registered[row["venue_id"]] < wire.instant(row["occurred_at"]) for row in views["scans"])
    assert any(row["venue_code"] != row["venue_id"] for row in views["scans"])
    assert {row["status"] for row in views["venues"]} == {"active", "closed"}
    assert {row["category"] for row in views["venues"]} == set(wire.CATEGORIES)
    centres = load_areas().centres
    far = [row for row in views["venues"] if abs(row["lat"] - centres[row["ward_code"]][0]) > 0.03]
    assert not far


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(words))


def test_the_command_writes_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verb takes totals, province, scale and seed; with --json it prints the manifest."""
    totals = tmp_path / "totals.json"
    totals.write_text(json.dumps(HUE), encoding="utf-8")
    words = [
        "--out",
        str(tmp_path / "out"),
        "--totals",
        str(totals),
        "--province",
        "48",
        "--scale",
        "0.5",
        "--seed",
        "9",
        "--cases",
        "5",
    ]
    assert _run(*words) == 0
    said = capsys.readouterr().out
    assert "2021-11-25 to 2021-12-01" in said
    assert "5 positive cases" in said
    assert _run(*words, "--json") == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["province"] == "48"
    assert manifest["expected"]["days"][-1]["scans"] == 200
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "words",
    [
        ["--scale", "0"],
        ["--scale", "-1"],
        ["--scale", "nan"],
        ["--seed", "-1"],
        ["--province", "Hà"],
        ["--seed", "x"],
        ["--cases", "-1"],
    ],
)
def test_wrong_arguments_are_wrong_usage(tmp_path: Path, words: list[str]) -> None:
    """They end with status 2 before anything is written."""
    with pytest.raises(SystemExit) as caught:
        _run("--out", str(tmp_path / "out"), *words)
    assert caught.value.code == 2
    assert not (tmp_path / "out").exists()


def test_totals_that_cannot_be_are_told_in_one_sentence(tmp_path: Path) -> None:
    """The sentence names the file; a province without wards and a folder that cannot be made are told too."""
    totals = tmp_path / "totals.json"
    totals.write_text(json.dumps({"days": [TINY["days"][0] | {"persons": 2}]}), encoding="utf-8")
    with pytest.raises(TotalsError, match=r"totals\.json: 2022-03-05: persons \(2\) may not be more than scans \(1\)"):
        _run("--out", str(tmp_path / "out"), "--totals", str(totals))
    with pytest.raises(TotalsError, match="no province '99'"):
        _run("--out", str(tmp_path / "out"), "--province", "99", "--scale", "0.001")
    with pytest.raises(TotalsError, match="--out"):
        _run("--out", str(totals / "out"), "--scale", "0.001")
    assert not (tmp_path / "out").exists()
