"""Rulesets as files: what is good, what each wrong one says, and the verb that lists and checks them."""

import json
import tomllib
from datetime import date
from pathlib import Path

import pytest

from infra.processes import PROJECT_DIR
from schemas.ruleset import LevelTable, RulesetFile, TailTable, WeightTable
from streams.core.ruleset import DayWeight, Level, Ruleset
from tests.oracle.contacts import RULESETS
from truyvet.cli import main
from truyvet.config import ConfigError, Settings, load_settings
from truyvet.rulesets import FILE_BYTES_MAX, SHIPPED_DIR, RulesetError, load_files, load_rulesets, read_file

NAME = "own"
GOOD = """\
name = "own"
version = 7
valid_from = 2021-09-01
title = "Rules of our own"
source = "a decision of our own"
days_before = 1
days_before_asymptomatic = 2
days_after = 3
min_stay_minutes = 4
min_overlap_minutes = 5
[tail]
mode = "fixed"
minutes = 6
[[weights]]
day = 2
weight = 0.5
[[weights]]
day = -1
weight = 2
[[levels]]
name = "low"
min_score = 0
[[levels]]
name = "high"
min_score = 7.5
"""
DAYS = "must be a whole number of days from 0 to 365"
MINUTES = "must be a whole number of minutes from 0 to 1440"
TAIL_MINUTES = 'must be left out where mode is "none", else a whole number of minutes from 1 to 1440'
A_NAME = "a name of 1 to 64 characters of a-z 0-9 _ -"
WORDS = "must be a text of 1 to 200 characters"
WEIGHTS = "must be tables [[weights]] with day and weight, no day more than once"
LEVELS = (
    "must be 1 to 20 tables [[levels]] with name and min_score, min_score rising from 0 on and no name more than once"
)
TOML = "must be TOML with each key and table once"
VERSION = "must be a whole number from 1 to 2147483647"

# What is replaced in the good file, by what, and the sentence that follows the file's name.
WRONG = [
    ('name = "own"', 'name = "other"', f"name: must be the file's own name without .toml, {A_NAME} (got 'other')"),
    ('name = "own"', "name = 7", f"name: must be the file's own name without .toml, {A_NAME} (got 7)"),
    ('name = "own"\n', "", f"name: must be the file's own name without .toml, {A_NAME} (it is missing)"),
    ("version = 7", "version = 0", f"version: {VERSION} (got 0)"),
    ("version = 7", "version = 7.0", f"version: {VERSION} (got 7.0)"),
    ("version = 7", "version = true", f"version: {VERSION} (got True)"),
    ("version = 7", "version = 2147483648", f"version: {VERSION} (got 2147483648)"),
    ("version = 7", f"version = 0x{'f' * 9000}", f"version: {VERSION} (got a number that is far larger)"),
    ("2021-09-01", '"2021-09-01"', "valid_from: must be a date without quotes, such as 2021-07-30 (got '2021-09-01')"),
    (
        "2021-09-01",
        "2021-09-01T00:00:00Z",
        "valid_from: must be a date without quotes, such as 2021-07-30 (got 2021-09-01 00:00:00+00:00)",
    ),
    ('"Rules of our own"', '""', f"title: {WORDS} (got '')"),
    ('"a decision of our own"', f'"{"x" * 201}"', f"source: {WORDS} (got '{'x' * 79}…)"),
    ("days_before = 1", "days_before = -1", f"days_before: {DAYS} (got -1)"),
    ("asymptomatic = 2", "asymptomatic = 366", f"days_before_asymptomatic: {DAYS} (got 366)"),
    ("days_after = 3", "days_after = [3]", f"days_after: {DAYS} (got a list)"),
    ("days_after = 3\n", "", f"days_after: {DAYS} (it is missing)"),
    ("min_stay_minutes = 4", "min_stay_minutes = 1441", f"min_stay_minutes: {MINUTES} (got 1441)"),
    ("min_overlap_minutes = 5", 'min_overlap_minutes = "5"', f"min_overlap_minutes: {MINUTES} (got '5')"),
    ('[tail]\nmode = "fixed"\nminutes = 6', "", "tail: must be a table [tail] with mode and minutes (it is missing)"),
    ('mode = "fixed"', 'mode = "long"', 'tail.mode: must be one of "none", "fixed", "equal_to_stay" (got \'long\')'),
    ('mode = "fixed"', 'mode = "none"', f"tail.minutes: {TAIL_MINUTES} (does not fit the mode)"),
    ("minutes = 6\n", "", f"tail.minutes: {TAIL_MINUTES} (does not fit the mode)"),
    ('"fixed"\nminutes = 6', '"equal_to_stay"', f"tail.minutes: {TAIL_MINUTES} (does not fit the mode)"),
    ("minutes = 6\n", "minutes = 0\n", f"tail.minutes: {TAIL_MINUTES} (got 0)"),
    ("minutes = 6\n", "minutes = 1441\n", f"tail.minutes: {TAIL_MINUTES} (got 1441)"),
    ("minutes = 6\n", "minutes = 6\nmost = 7\n", "tail.most: must not be there; the keys are mode, minutes"),
    ("day = 2", "day = -1", f"weights: {WEIGHTS} (a day is listed twice)"),
    ("day = 2", "day = 366", "weights[0].day: must be a whole number of days from -365 to 365 (got 366)"),
    ("weight = 2", "weight = inf", "weights[1].weight: must be a number from 0 to 1000000 (got inf)"),
    ("weight = 2", "weight = nan", "weights[1].weight: must be a number from 0 to 1000000 (got nan)"),
    ("weight = 2", "weight = -0.5", "weights[1].weight: must be a number from 0 to 1000000 (got -0.5)"),
    ("weight = 2", "", "weights[1].weight: must be a number from 0 to 1000000 (it is missing)"),
    ("min_score = 0", "min_score = 1", f"levels: {LEVELS} (min_score does not rise from 0 on)"),
    ("min_score = 7.5", "min_score = 0", f"levels: {LEVELS} (min_score does not rise from 0 on)"),
    ("min_score = 7.5", "min_score = nan", "levels[1].min_score: must be a finite number from 0 on (got nan)"),
    ('name = "high"', 'name = "low"', f"levels: {LEVELS} (a name is given twice)"),
    ('name = "high"', 'name = "Cao"', f"levels[1].name: must be {A_NAME} (got 'Cao')"),
    (
        "days_after = 3",
        "days_after = 3\ndays_afer = 3",
        "days_afer: must not be there; the keys are name, version, valid_from",
    ),
    ("days_after = 3", 'days_after = 3\n"\\u001b[2J" = 3', "'\\x1b[2J': must not be there; the keys are name"),
    ("days_after = 3", "days_after = 3\ndays_after = 4", f"{TOML} (Cannot overwrite a value (at line"),
    ("days_after = 3", "days_after = 3\ndays_after = 4", ": 'days_after = 4')"),
    ("days_after = 3", "days_after =", f"{TOML} (Invalid value (at line"),
    ("days_after = 3", f"days_after = 1{'0' * 9000}", f"{TOML} ("),
    ("days_after = 3", f"days_after = {'[' * 20_000}", f"{TOML} ("),
    ("days_after = 3", f"# {'x' * FILE_BYTES_MAX}", f"must be a file of at most {FILE_BYTES_MAX} bytes (it is larger)"),
]


def written(directory: Path, text: str, name: str = NAME) -> Path:
    """A ruleset's file."""
    path = directory / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_ones_say_what_the_naive_checker_says() -> None:
    """The rules of the two files are those that the checker was given apart from them."""
    files = load_files()
    assert {name: (file.version, file.valid_from) for name, file in files.items()} == {
        "vn-2021-07": (1, date(2021, 7, 30)),
        "vn-2021-12": (1, date(2021, 12, 29)),
    }
    for name, rule in load_rulesets().items():
        weights = tuple(DayWeight(**each) for each in RULESETS[name]["weights"])
        levels = tuple(Level(**each) for each in RULESETS[name]["levels"])
        assert rule == Ruleset(**{**RULESETS[name], "weights": weights, "levels": levels})


def test_a_file_becomes_what_the_rooms_know(tmp_path: Path) -> None:
    """Every key reaches the ruleset, the weights by rising day."""
    assert read_file(written(tmp_path, GOOD)).ruleset() == Ruleset(
        name="own",
        version=7,
        days_before=1,
        days_before_asymptomatic=2,
        days_after=3,
        min_stay_minutes=4,
        min_overlap_minutes=5,
        tail="fixed",
        tail_minutes=6,
        weights=(DayWeight(-1, 2), DayWeight(2, 0.5)),
        levels=(Level("low", 0), Level("high", 7.5)),
    )


@pytest.mark.parametrize(("good", "bad", "sentence"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_says_file_key_and_what_may_stand_there(
    tmp_path: Path, good: str, bad: str, sentence: str
) -> None:
    """One fault is one sentence, however hostile the value; it never shows more than a line of it."""
    assert good in GOOD
    path = written(tmp_path, GOOD.replace(good, bad, 1))
    with pytest.raises(RulesetError) as caught:
        load_rulesets(tmp_path)
    (told,) = caught.value.sentences
    assert told.startswith(f"{path}: ")
    assert sentence in told
    assert len(told) < 500
    assert told.isprintable()


def test_what_is_no_text_or_no_file_is_said(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, and a folder that has a file's name; all are told together."""
    (tmp_path / "bytes.toml").write_bytes(b'name = "\xff"')
    (tmp_path / "folder.toml").mkdir()
    written(tmp_path, "version = 0\ndays_after = 400\n")
    with pytest.raises(ConfigError) as caught:
        load_rulesets(tmp_path)
    assert f"{tmp_path}/bytes.toml: must be UTF-8 (byte 8 is not); " in str(caught.value)
    assert f"{tmp_path}/folder.toml: must be a file that can be read (Is a directory); " in str(caught.value)
    assert f"{tmp_path}/own.toml: version: " in str(caught.value)
    assert f"{tmp_path}/own.toml: days_after: " in str(caught.value)


def test_own_rulesets_stand_beside_the_shipped_ones_or_replace_them(tmp_path: Path) -> None:
    """The folder of the setting adds names; one of a shipped name is the operator's; other files are not read."""
    written(tmp_path, GOOD)
    written(tmp_path, GOOD.replace('"own"', '"vn-2021-07"'), "vn-2021-07")
    (tmp_path / "README.md").write_text("no ruleset")
    settings = load_settings({"TRUYVET_RULESETS_DIR": str(tmp_path)})
    rules = load_rulesets(settings.rulesets_dir)
    assert {name: rule.version for name, rule in rules.items()} == {"own": 7, "vn-2021-07": 7, "vn-2021-12": 1}
    assert load_settings(settings.environment()).rulesets_dir == str(tmp_path)
    assert set(load_rulesets(Settings().rulesets_dir)) == {"vn-2021-07", "vn-2021-12"}


def test_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every known ruleset is a row, as JSON every key of its file."""
    written(tmp_path, GOOD)
    monkeypatch.setenv("TRUYVET_RULESETS_DIR", str(tmp_path))
    assert main(["rules", "list"]) == 0
    text = capsys.readouterr().out
    assert "3638/QĐ-BYT" in text
    assert "3 (asymptomatic 14)" in text
    assert "fixed, 6 min" in text
    assert "5 min, stay 4 min" in text
    assert "low 0, high 7.5" in text
    assert main(["rules", "list", "--json"]) == 0
    own, july, december = json.loads(capsys.readouterr().out)["rulesets"]
    assert [own["name"], july["name"], december["name"]] == ["own", "vn-2021-07", "vn-2021-12"]
    assert own["tail"] == {"mode": "fixed", "minutes": 6}
    assert own.keys() == RulesetFile.model_fields.keys()


def test_check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Files and folders are checked whole: a line for each good one, one for each fault, then exit status 1."""
    assert main(["rules", "check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{SHIPPED_DIR}/vn-2021-07.toml: good, version 1",
        f"{SHIPPED_DIR}/vn-2021-12.toml: good, version 1",
    ]
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    written(good, GOOD)
    faulty = written(bad, GOOD.replace("version = 7", "version = 0").replace("days_after", "days_afer"))
    assert main(["rules", "check", str(good), str(faulty), str(tmp_path / "none.toml"), "notes.txt"]) == 1
    told = capsys.readouterr()
    assert told.out == f"{good}/own.toml: good, version 7\n"
    lines = told.err.splitlines()
    assert all(line.startswith("truyvet rules: ") for line in lines)
    assert [line.split(": ")[2] for line in lines] == [
        "version",
        "days_after",
        "days_afer",
        "must be a file that can be read (No such file or directory)",
        "must be a file whose name ends in .toml",
    ]
    assert main(["rules", "check", str(good)]) == 0
    assert main(["rules", "check", str(tmp_path)]) == 1
    assert "no .toml file is there" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["list", "check"])
def test_a_wrong_folder_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, action: str
) -> None:
    """A folder that is not there is one sentence that names the setting, and exit status 2."""
    monkeypatch.setenv("TRUYVET_RULESETS_DIR", str(tmp_path / "none"))
    assert main(["rules", action]) == 2
    assert capsys.readouterr().err.startswith(f"truyvet: TRUYVET_RULESETS_DIR: {tmp_path}/none: must be a folder")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["try"],
        ["try", "--case", "a b", "--ruleset", "vn-2021-07"],
        ["try", "--case", "C1", "--ruleset", "vn-2021-07", "--person", "' OR 1"],
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A missing or impossible argument is one line, before anything is asked."""
    with pytest.raises(SystemExit) as ended:
        main(["rules", *arguments])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_page_names_every_key() -> None:
    """Whoever writes a ruleset finds each key and its bounds on the page."""
    page = (PROJECT_DIR / "docs" / "rulesets.md").read_text(encoding="utf-8")
    for table, prefix in ((RulesetFile, ""), (TailTable, "tail."), (WeightTable, "weights."), (LevelTable, "levels.")):
        for name, field in table.model_fields.items():
            assert f"| `{prefix}{name}` | {field.description} |" in page
    for path in SHIPPED_DIR.iterdir():
        assert path.read_text(encoding="utf-8") in page
    *_, example = page.split("```toml\n")
    assert RulesetFile.model_validate(tomllib.loads(example.removesuffix("```\n"))).name == "strict"
