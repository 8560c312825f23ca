"""Asking ``truyvet explain`` of a small world, in every way it answers."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.oracle.contacts import rule
from tests.sinks import data
from tests.sinks.world import World
from truyvet.cli import main

SICK, WELL, THIRD = (data.PERSON.format(number) for number in (0xCA5E, 0xB0B, 0xC0C))
TAILED = rule("tailed", 3, 14, 14, tail="fixed", tail_minutes=30, weights=[{"day": 0, "weight": 0.5}])


@dataclass
class Told:
    """What the command said of some exposures, in each of its ways."""

    english: str
    vietnamese: str
    objects: list[dict[str, Any]]

    @property
    def only(self) -> dict[str, Any]:
        """The one object."""
        (one,) = self.objects
        return one

    @property
    def causes(self) -> list[str]:
        """The codes of what took the one exposure back."""
        return [cause["code"] for cause in self.only["causes"]]


class Ask:
    """Asks in every way, and looks that no answer names the case's person, its scans or their source."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Told:
        lines = self._said(*arguments, "--json").splitlines()
        texts = self._said(*arguments), self._said(*arguments, "--lang", "vi")
        return Told(*texts, [json.loads(line) for line in lines])

    def _said(self, *arguments: str) -> str:
        assert main(["explain", *arguments]) == 0
        told = self._capsys.readouterr()
        assert told.err == ""
        for secret in (SICK, "secret", "hue_s"):
            assert secret not in told.out
        return told.out


def met(world: World, **case: object) -> None:
    """The case stays from 8:00 to 9:00 local time, the exposed from 8:30 until elsewhere at 9:10."""
    world.scan(SICK, "secret-1", "08:00", source="hue_s")
    world.scan(SICK, "secret-2", "09:00", source="hue_s", direction="out")
    world.scan(WELL, "w1", "08:30", source="bluezone")
    world.scan(WELL, "w2", "09:10", "SHOP", source="vneid")
    world.case("HN-1", SICK, **case)
    world.settle()
