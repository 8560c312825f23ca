"""The manners of ``truyvet explain``: unknown ids, wrong usage, errors, words."""

from contextlib import nullcontext
from string import Formatter
from typing import Any

import pytest

from sinks.backends import QueryFailedError
from tests.oracle.wire import CATEGORIES
from tests.sinks.asking import SICK, THIRD, Ask, met
from tests.sinks.world import World
from truyvet import explain
from truyvet.cli import main
from truyvet.explain_words import CATEGORIES_VI, WORDS


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["0" * 32], 1, f"there is no exposure {'0' * 32}"),
        (["--person", THIRD], 1, "nothing is stored of this person"),
        (["--case", "NONE"], 1, "there is no case NONE"),
    ],
)
def test_unknown_ids(
    world: World, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, sentence: str
) -> None:
    """What does not exist is one sentence and exit status 1."""
    met(world)
    assert main(["explain", *arguments]) == status
    assert capsys.readouterr().err == f"truyvet explain: {sentence}\n"


def test_known_without_exposures(world: World, ask: Ask) -> None:
    """A person and a case that are known and have no exposure are a good answer, an empty one."""
    met(world)
    world.case("HN-2", SICK, infectious_to="2021-10-10T00:00:00.000Z")
    world.scan(THIRD, "t1", "20:00")
    world.settle()
    for arguments in (["--person", THIRD], ["--case", "HN-2"]):
        told = ask(*arguments)
        assert (told.english, told.objects) == ("No exposure.\n", [])


@pytest.mark.parametrize("arguments", [[], ["x"], ["--person", "0912345678"], ["--case", "a b"], ["--lang", "fr"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without an id, or with one that cannot be, it is one line and exit status 2."""
    with pytest.raises(SystemExit) as ended:
        main(["explain", *arguments])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_engine_that_quotes_the_query_names_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of the database may hold the case's person; the command's does not."""

    class Failing:
        def query(self, _sql: str) -> tuple[list[str], list[Any]]:
            raise QueryFailedError(f"there is no table in SELECT 1 WHERE person_id = '{SICK}'")

    monkeypatch.setattr(explain, "open_reader", lambda _settings: nullcontext(Failing()))
    assert main(["explain", "0" * 32]) == 1
    told = capsys.readouterr()
    assert SICK not in told.err
    assert "there is no table" in told.err


def test_both_languages_say_the_same() -> None:
    """Every sentence is there in both languages, with the same gaps; every category has a name."""
    assert WORDS["en"].keys() == WORDS["vi"].keys()
    for key, english in WORDS["en"].items():
        gaps = [{name for _, name, _, _ in Formatter().parse(text)} for text in (english, WORDS["vi"][key])]
        assert gaps[0] - {None} == gaps[1] - {None}, key
    assert CATEGORIES_VI.keys() == CATEGORIES.keys()
