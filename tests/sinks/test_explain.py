"""``truyvet explain`` of exposures that stand, on an embedded database whose rows the naive checker made."""

import json
from pathlib import Path

import pytest

from tests.sinks.asking import SICK, THIRD, WELL, Ask, met
from tests.sinks.world import World
from truyvet.cli import main


def test_an_exposure_that_stands(world: World, ask: Ask) -> None:
    """Where, when, how long, by which rule, from which scans, found when; the JSON holds the same."""
    met(world)
    told = ask(world.only(WELL))
    assert told.only["status"] == "active"
    assert told.only["case_id"] == "HN-1"
    assert told.only["venue"]["name"] == "Cà phê [red]Phố"
    assert told.only["contact"] == {
        "from": "2021-10-14T01:30:00.000Z",
        "to": "2021-10-14T02:00:00.000Z",
        "minutes": 30,
        "score": 30.0,
        "weight": 1.0,
        "weight_day": None,
        "level": "medium",
        "level_from": 15.0,
        "reason": "case",
        "detected_at": "2021-10-14T11:00:00.000Z",
    }
    assert told.only["rule"]["source"] == "Decision 3638/QĐ-BYT of 30/7/2021"
    assert (told.only["stay"]["began"]["scan_id"], told.only["stay"]["began"]["source"]) == ("w1", "bluezone")
    moved = told.only["stay"]["ended"]
    assert (moved["kind"], moved["scan_id"], moved["elsewhere"]["venue_id"]) == ("moved", "w2", "SHOP")
    assert told.only["case_stay"] == {
        "start": "2021-10-14T01:00:00.000Z",
        "end": "2021-10-14T02:00:00.000Z",
        "start_kind": "scanned",
        "end_kind": "scanned",
        "period_from": "2021-09-30T00:00:00.000Z",
        "period_to": "2021-10-28T00:00:00.000Z",
        "counts_from": "2021-10-14T01:00:00.000Z",
        "counts_to": "2021-10-14T02:00:00.000Z",
        "tail_to": "2021-10-14T02:00:00.000Z",
    }
    for line in (
        f"{WELL}, exposed to case HN-1",
        "Cà phê [red]Phố (CAFE), cafe",
        "Phường Phố Huế (00262), Quận Hai Bà Trưng (007), Thành phố Hà Nội (01)",
        "2021-10-14, 08:30:00 to 09:00:00: 30 min",
        "medium: score 30 = 30 min × weight 1",
        "levels by score: low from 0, medium from 15, high from 60",
        "vn-2021-07, version 1",
        "Decision 3638/QĐ-BYT",
        "began with scan w1 (bluezone) at 2021-10-14 08:30:00",
        "ended because of scan w2 (vneid) elsewhere, Điểm SHOP (SHOP), market, at 2021-10-14 09:10:00",
        "the case was infectious 2021-09-30 07:00:00 to 2021-10-28 07:00:00",
        "cut to that, the stay is 2021-10-14, 08:00:00 to 09:00:00",
        "2021-10-14 18:00:00, with a report of the case",
    ):
        assert line in told.english
    for line in ("14/10/2021, từ 08:30:00 đến 09:00:00: 30 phút", "quán cà phê", "hệ số 1", "08:30:00 ngày 14/10/2021"):
        assert line in told.vietnamese


def test_estimated_ends(world: World, ask: Ask) -> None:
    """An end that no scan made says whose dwell it is: the venue's, the category's, the longest; or what cut it."""
    world.venue("LONG", "pharmacy")
    for hour, venue in (("09", "CAFE"), ("12", "SHOP"), ("15", "LONG")):
        world.scan(SICK, f"secret-{hour}", f"{hour}:00", venue, source="hue_s")
    world.scan(WELL, "a1", "09:10")
    world.scan(WELL, "b1", "12:10", "SHOP")
    for minute in range(0, 60, 12):
        world.scan(WELL, f"c{minute}", f"15:{minute:02d}", "LONG")
    # Checked out without having checked in: once long after the visit before, once right after it.
    world.scan(THIRD, "d1", "09:30", direction="out")
    world.scan(THIRD, "e1", "11:55", direction="out", venue_id="LONG")
    world.scan(THIRD, "e2", "12:10", direction="out", venue_id="SHOP")
    world.case("HN-1", SICK)
    world.settle()
    told = ask("--person", WELL)
    ends = {one["venue"]["venue_id"]: one["stay"]["ended"] for one in told.objects}
    assert {venue: (end["scan_id"], end["estimate"], end["estimate_minutes"]) for venue, end in ends.items()} == {
        "CAFE": ("a1", "category_dwell", 60),
        "SHOP": ("b1", "venue_dwell", 20),
        "LONG": ("c48", "longest_stay", 60),
    }
    assert "the 60 min that count for a venue of this kind (cafe) after scan a1 (pc_covid) at 2021-10-14 09:1" in (
        told.english
    )
    assert "20 phút mà địa điểm tự đặt" in told.vietnamese
    told = ask("--person", THIRD)
    begins = {one["venue"]["venue_id"]: one["stay"]["began"] for one in told.objects}
    assert {venue: (end["scan_id"], end["estimate"], end["estimate_minutes"]) for venue, end in begins.items()} == {
        "CAFE": ("d1", "category_dwell", 60),
        "SHOP": ("e2", "visit_before", 15),
    }
    assert "right after the visit before it ended" in told.english
    assert "60 min that count for a venue of this kind (cafe) before scan d1" in told.english
    # What the venue says today need not be what counted then.
    world.venue("SHOP", "market", dwell_minutes=33)
    (shop,) = [one for one in ask("--person", WELL).objects if one["venue"]["venue_id"] == "SHOP"]
    assert (shop["stay"]["ended"]["estimate"], shop["stay"]["ended"]["estimate_minutes"]) == ("former_dwell", 20)


def test_tail_and_weight(world: World, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contact with the air that a case left behind, at half weight; the rule's text comes from the file."""
    shipped = Path("streams/rulesets/vn-2021-07.toml").read_text(encoding="utf-8").replace("vn-2021-07", "tailed")
    text = shipped.replace('mode = "none"', 'mode = "fixed"\nminutes = 30\n[[weights]]\nday = 0\nweight = 0.5')
    (tmp_path / "tailed.toml").write_text(text, encoding="utf-8")
    world.scan(SICK, "secret-1", "08:00", source="hue_s")
    world.scan(SICK, "secret-2", "09:00", source="hue_s", direction="out")
    world.scan(WELL, "w1", "09:05")
    world.case("HN-1", SICK, ruleset="tailed", onset_at="2021-10-13T00:00:00.000Z")
    world.settle()
    # Without its file, what the row says is told, and what it does not say is not made up.
    told = ask(world.only(WELL))
    assert told.only["rule"] is None
    assert told.only["case_stay"]["counts_to"] is None
    assert "no ruleset of this name is here" in told.english
    assert "only the rule that was applied could tell" in told.english
    monkeypatch.setenv("TRUYVET_RULESETS_DIR", str(tmp_path))
    told = ask(world.only(WELL))
    assert "low: score 12.5 = 25 min × weight 0.5" in told.english
    assert "the weight is that of day +1" in told.english
    assert "the case had left by 2021-10-14 09:00:00; its air and surfaces counted until 2021-10-14 09:30:00" in (
        told.english
    )
    assert "air and surfaces count for 30 min once the case has left" in told.english
    assert "day +0: 0.5" in told.english
    (tmp_path / "tailed.toml").write_text(text.replace("version = 1", "version = 2"), encoding="utf-8")
    told = ask(world.only(WELL))
    assert "tailed, version 1" in told.english
    assert "here is version 2 of it" in told.english
    assert told.only["contact"]["weight_day"] is None


def test_two_cases_who_met(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is named where it is the exposed one, and there alone, even where both have one case_id."""
    met(world)
    world.case("HN-1", WELL)
    world.settle()
    for key, row in world.exposures.items():
        other = {SICK: WELL, WELL: SICK}[row["person_id"]]
        for arguments in ([], ["--json"], ["--lang", "vi"]):
            assert main(["explain", key, *arguments]) == 0
            out = capsys.readouterr().out
            assert row["person_id"] in out
            assert other not in out
    assert main(["explain", "--case", "HN-1", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(one["person_id"] for one in told) == sorted([SICK, WELL])
    assert all(one["case_stay"] and one["stay"] for one in told)


def test_lists_are_cut(world: World, ask: Ask) -> None:
    """A list holds the latest contacts up to the limit, and says how many more there are."""
    for hour in range(8, 14):
        world.scan(SICK, f"secret-{hour}", f"{hour:02d}:00", source="hue_s")
        world.scan(SICK, f"secret-out-{hour}", f"{hour:02d}:30", source="hue_s", direction="out")
        world.scan(WELL, f"w{hour}", f"{hour:02d}:10")
        world.scan(WELL, f"x{hour}", f"{hour:02d}:40", direction="out")
    world.case("HN-1", SICK)
    world.settle()
    told = ask("--case", "HN-1", "--limit", "2")
    assert [one["stay"]["began"]["scan_id"] for one in told.objects] == ["w13", "w12"]
    assert "… and 4 more" in told.english
    assert "… và 4 lần khác" in told.vietnamese
