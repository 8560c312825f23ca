"""``truyvet rules try`` on an embedded database filled by hand, and by chance beside the naive checker."""

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sinks.backends import Backend, QueryFailedError, open_backend
from streams.core.ruleset import DayWeight, Level, Ruleset
from streams.core.times import DAY_MS, MINUTE_MS, LocalClock, format_ms
from tests.oracle.contacts import Rule, all_exposures, rule
from tests.oracle.visits import Visit, all_visits, visit_row
from tests.sinks import data
from tests.sinks.test_backends import store
from truyvet import rules, rules_try
from truyvet.cli import main
from truyvet.config import Settings
from truyvet.rules_try import Judged, try_ruleset

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
CASE, OTHER_CASE, SECOND, THIRD = (data.PERSON.format(0xCA5E_0000_0000 + number) for number in range(4))


def _id(*parts: str) -> str:
    return blake2b("|".join(parts).encode(), digest_size=16).hexdigest()


def _visit(number: int, person: str, times: str, **changes: object) -> dict[str, Any]:
    """A visit of 14 October; ``times`` are its UTC hours and minutes, such as 01:00-02:00."""
    start, end = (f"2021-10-14T{time}:00.000Z" for time in times.split("-"))
    moments = {"started_at": start, "ended_at": end, "first_scan_at": start}
    return data.visit(number, person_id=person) | moments | changes


def _exposure(case_id: str, case_visit: int, contact: int, person: str, **changes: object) -> dict[str, Any]:
    identity = _id(case_id, f"{case_visit:032x}", f"{contact:032x}")
    return data.exposure(1, exposure_id=identity, case_id=case_id, person_id=person) | changes


ELSEWHERE = {"venue_id": "ĐÌNH-1", "district_code": "001", "ward_code": "00001", "category": "worship"}
VISITS = [
    _visit(1, CASE, "01:00-02:00"),
    _visit(2, CASE, "03:00-04:00", **ELSEWHERE),
    # Thirty minutes, ten, none in common, gone, at another venue.
    _visit(11, SECOND, "01:30-03:00"),
    _visit(12, THIRD, "01:50-02:30"),
    _visit(13, SECOND, "02:00-02:30"),
    _visit(15, THIRD, "01:10-01:40", **ELSEWHERE),
    # Fifty minutes elsewhere, of a stay that only its scan out shows; and twenty with another case's person.
    _visit(16, SECOND, "03:10-05:00", **ELSEWHERE, first_scan_at="2021-10-14T05:00:00.000Z"),
    _visit(21, OTHER_CASE, "01:00-01:20"),
]
GONE = _visit(14, THIRD, "01:00-02:00")
STORED = [
    _exposure("SHARED", 1, 11, SECOND, contact_scan_at="2021-10-14T01:30:00.000Z"),
    _exposure("SHARED", 21, 1, CASE, contact_scan_at="2021-10-14T01:00:00.000Z", level="low"),
    _exposure("HN-1", 1, 11, SECOND, contact_scan_at="2021-10-14T01:30:00.000Z", level="low"),
    _exposure("HN-1", 1, 12, THIRD, contact_scan_at="2021-10-14T01:50:00.000Z", level="low"),
]
CASES = [
    data.case_state("HN-1", person_id=CASE),
    data.case_state("SHARED", person_id=CASE),
    data.case_state("SHARED", person_id=OTHER_CASE),
    data.case_state("SHARED", person_id=THIRD, status="withdrawn"),
    data.case_state("TAKEN-BACK", person_id=CASE, status="withdrawn"),
    data.case_state("FORGOTTEN", person_id=CASE, status="erased"),
    data.case_state("MOVED", person_id=OTHER_CASE, status="withdrawn"),
    data.case_state("MOVED", person_id=CASE),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded engine knows one folder at a time; tests have databases of their own in it."""
    return tmp_path_factory.mktemp("try")


@pytest.fixture(scope="module")
def backend(folder: Path) -> Iterator[Backend]:
    """The visits, cases and exposures above."""
    with open_backend(Settings(embedded_dir=folder, database="filled")) as opened:
        opened.ensure_schema()
        store(opened, "visits", [*VISITS, GONE, data.bare("visits", GONE | {"revision": 2})])
        store(opened, "case-states", CASES)
        retracted = data.bare("exposures", _exposure("HN-1", 1, 14, THIRD, revision=2))
        store(opened, "exposures", [*STORED, _exposure("HN-1", 1, 14, THIRD), retracted])
        yield opened


@dataclass
class Told:
    """What the command said."""

    status: int
    out: str
    err: str


class Command:
    """``truyvet rules try`` on the database of the test."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Told:
        status = main(["rules", "try", *arguments])
        told = self._capsys.readouterr()
        # Whoever is tried, the persons of cases are never named.
        assert "ca5e" not in told.out + told.err
        return Told(status, told.out, told.err)


@pytest.fixture
def tried(backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, reading the filled database."""
    monkeypatch.setattr(rules, "open_reader", lambda _settings: nullcontext(backend))
    return Command(capsys)


def _ids(case_id: str, *pairs: tuple[int, int]) -> list[str]:
    return sorted(_id(case_id, f"{case:032x}", f"{contact:032x}") for case, contact in pairs)


def test_appears_vanishes_and_changes(tried: Command) -> None:
    """Of two stored exposures one is too short for the other rules, one has another level; one is not stored yet."""
    told = tried("--case", "HN-1", "--ruleset", "vn-2021-12", "--json")
    assert (told.status, told.err) == (0, "")
    assert json.loads(told.out) == {
        "case_id": "HN-1",
        "ruleset_now": "vn-2021-07",
        "ruleset": "vn-2021-12",
        "ruleset_version": 1,
        "infectious_from": "2021-10-12T00:00:00.000Z",
        "infectious_to": "2021-10-24T00:00:00.000Z",
        "exposures": {"now": 2, "then": 3},
        "levels": {"low": {"now": 2, "then": 0}, "medium": {"now": 0, "then": 3}, "high": {"now": 0, "then": 0}},
        "districts": {"001": {"now": 0, "then": 1}, "007": {"now": 2, "then": 2}},
        "appear": _ids("HN-1", (1, 21), (2, 16)),
        "vanish": _ids("HN-1", (1, 12)),
        "changed": [{"exposure_id": _ids("HN-1", (1, 11))[0], "now": "low", "then": "medium"}],
    }


def test_a_table_for_people(tried: Command) -> None:
    """Counts by level, by district with its name, and the ids; times are local."""
    told = tried("--case", "HN-1", "--ruleset", "vn-2021-12")
    assert told.status == 0
    assert "Case HN-1: now by vn-2021-07, tried by vn-2021-12 version 1" in told.out
    assert "from 2021-10-12 07:00 to 2021-10-24 07:00" in told.out
    assert "Quận Ba Đình" in told.out
    assert "Would appear: 2\n  {}\n  {}\n".format(*_ids("HN-1", (1, 21), (2, 16))) in told.out
    assert f"Would vanish: 1\n  {_ids('HN-1', (1, 12))[0]}\n" in told.out
    assert f"Other level: 1\n  {_ids('HN-1', (1, 11))[0]}: low to medium\n" in told.out


def test_a_file_is_tried_like_a_known_one(tried: Command, tmp_path: Path) -> None:
    """A ruleset that no process knows: with a tail, so that who came just after the case is a contact too."""
    text = (Path("streams/rulesets/vn-2021-07.toml")).read_text(encoding="utf-8").replace("vn-2021-07", "aired")
    path = tmp_path / "aired.toml"
    path.write_text(text.replace('mode = "none"', 'mode = "fixed"\nminutes = 20'), encoding="utf-8")
    told = tried("--case", "HN-1", "--ruleset", str(path), "--json")
    assert json.loads(told.out)["appear"] == _ids("HN-1", (1, 13), (1, 21), (2, 16))
    path.write_text(text.replace('mode = "none"', 'mode = "some"'), encoding="utf-8")
    told = tried("--case", "HN-1", "--ruleset", str(path))
    assert (told.status, told.out) == (2, "")
    assert "tail.mode: must be one of" in told.err


def test_several_persons_have_a_case_of_this_id(tried: Command) -> None:
    """Nobody is named, only how many there are; with a person only that person's exposures are looked at."""
    told = tried("--case", "SHARED", "--ruleset", "vn-2021-07")
    assert (told.status, told.out) == (1, "")
    assert told.err == "truyvet rules: 2 persons have a case SHARED: say with --person which one is meant\n"
    own = json.loads(tried("--case", "SHARED", "--ruleset", "vn-2021-07", "--person", CASE, "--json").out)
    assert own["exposures"] == {"now": 1, "then": 4}
    assert own["appear"] == _ids("SHARED", (1, 12), (1, 21), (2, 16))
    others = json.loads(tried("--case", "SHARED", "--ruleset", "vn-2021-07", "--person", OTHER_CASE, "--json").out)
    assert others["exposures"] == {"now": 1, "then": 1}
    assert others["changed"] == [{"exposure_id": _ids("SHARED", (21, 1))[0], "now": "low", "then": "medium"}]


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--case", "NONE"], 1, "the case NONE is not known"),
        (["--case", "FORGOTTEN"], 1, "the case FORGOTTEN is not known"),
        (["--case", "HN-1", "--person", SECOND], 1, "the case HN-1 of this person is not known"),
        (["--case", "TAKEN-BACK"], 1, "the case TAKEN-BACK is withdrawn: no ruleset gives it exposures"),
        (
            ["--case", "HN-1", "--ruleset", "none"],
            2,
            "--ruleset: must be a .toml file or one of vn-2021-07, vn-2021-12",
        ),
    ],
)
def test_what_cannot_be_tried_is_one_sentence(tried: Command, arguments: list[str], status: int, sentence: str) -> None:
    """An unknown case, one of somebody else, a withdrawn one, an unknown ruleset."""
    told = tried("--ruleset", "vn-2021-07", *arguments)
    assert (told.status, told.out, told.err) == (status, "", f"truyvet rules: {sentence}\n")


def test_a_case_that_moved_is_the_one_that_is_left(tried: Command) -> None:
    """Withdrawn of one person and confirmed of another, it needs no person."""
    assert tried("--case", "MOVED", "--ruleset", "vn-2021-07").status == 0


def test_an_engine_that_quotes_the_query_names_nobody(tried: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the database may hold the person of the case; the command's does not."""

    class Failing:
        def query(self, sql: str) -> tuple[list[str], list[Any]]:
            if "FROM cases" in sql:
                return [], [(CASE, None, 0, None, None, None, "vn-2021-07", "confirmed")]
            raise QueryFailedError(f"there is no table in {sql}")

    monkeypatch.setattr(rules, "open_reader", lambda _settings: nullcontext(Failing()))
    told = tried("--case", "HN-1", "--ruleset", "vn-2021-07")
    assert told.status == 1
    assert "there is no table" in told.err


RULES = [
    rule("plain", 3, 14, 14),
    rule("short", 1, 2, 1, min_overlap_minutes=15, min_stay_minutes=30),
    rule("aired", 2, 2, 10, tail="fixed", tail_minutes=1440),
    rule("stayed", 2, 2, 10, tail="equal_to_stay", tail_minutes=45, min_overlap_minutes=1),
    rule(
        "weighed",
        3,
        3,
        3,
        weights=[{"day": -1, "weight": 2.5}, {"day": 2, "weight": 0}],
        levels=[{"name": "a", "min_score": 0}, {"name": "b", "min_score": 100.5}],
    ),
]
NOON_MS = 1_634_187_600_000  # 2021-10-14T12:00:00+07:00
PLACES = [("A", "hotel", "001", "00001"), ("B", "cafe", "007", "00262"), ("C", "office", "007", "00262")]


def _ruleset(plain: Rule) -> Ruleset:
    weights = tuple(DayWeight(**each) for each in plain["weights"])
    return Ruleset(**{**plain, "weights": weights, "levels": tuple(Level(**each) for each in plain["levels"])})


def _random_visits(rng: random.Random) -> list[Visit]:
    """A week of six people at three venues, with stays that only a scan out shows."""
    scans = []
    for number in range(150):
        venue, category, district, ward = rng.choice(PLACES)
        scans.append(
            {
                "person_id": rng.choice([CASE, OTHER_CASE, *(data.PERSON.format(n) for n in range(4))]),
                "scan_id": f"s{number}",
                "venue_id": venue,
                "occurred_at": format_ms(NOON_MS + rng.randrange(-3 * DAY_MS, 4 * DAY_MS, MINUTE_MS)),
                "direction": rng.choice(["in", "in", "out"]),
                "category": category,
                "province_code": "01",
                "district_code": district,
                "ward_code": ward,
            }
        )
    dwell = {"hotel": 720, "cafe": 60, "office": 480}
    return all_visits(scans, {(scan["person_id"], scan["scan_id"]): dwell[scan["category"]] for scan in scans})


def _random_case(rng: random.Random) -> dict[str, Any]:
    """A case around those days, with some of its times, so that its period can be told."""

    def some_time() -> int | None:
        return rng.choice([None, NOON_MS + rng.randrange(-2 * DAY_MS, 3 * DAY_MS)])

    times = {name: some_time() for name in ("onset_at", "infectious_from", "infectious_to", "isolated_at")}
    return {"case_id": "R", "person_id": CASE, "status": "confirmed", "ruleset": "x", **times, "sampled_at": NOON_MS}


def _then(backend: Backend, plain: Rule) -> Mapping[str, Judged]:
    return try_ruleset(backend, LocalClock(ZONE), "R", None, _ruleset(plain)).then


@pytest.mark.parametrize("seed", range(3))
def test_what_would_be_is_what_the_naive_checker_says(seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any visits, any case, any rules: the same ids, levels and districts; from few stays a query, so from several."""
    monkeypatch.setattr(rules_try, "STAYS_PER_QUERY", 3)
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    found = 0
    with open_backend(Settings(embedded_dir=folder, database=f"random{seed}")) as backend:
        backend.ensure_schema()
        visits = _random_visits(rng)
        store(backend, "visits", [visit_row(visit) | {"revision": 1} for visit in visits])
        for revision in range(1, 6):
            case = _random_case(rng)
            texts = {name: format_ms(at) for name, at in case.items() if name.endswith(("_at", "from", "to")) and at}
            store(backend, "case-states", [case | texts | {"reported_at": texts["sampled_at"], "revision": revision}])
            for plain in RULES:
                wanted = all_exposures(visits, [case | {"ruleset": plain["name"]}], {plain["name"]: plain}, ZONE)
                then = {row["exposure_id"]: Judged(row["level"], row["district_code"]) for row in wanted}
                assert _then(backend, plain) == then
                found += len(then)
    assert found > 100
