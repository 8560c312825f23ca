"""Whatever happens by chance in a small world, ``truyvet explain`` agrees with the naive checker that made its rows."""

import random
from collections import Counter

import pytest

from sinks.backends import Backend
from streams.core.times import LocalClock
from tests.sinks import data
from tests.sinks.world import ZONE, World
from truyvet.explain_why import Explainer
from truyvet.rulesets import load_files

PERSONS = [data.PERSON.format(number) for number in range(1, 7)]


@pytest.mark.parametrize("seed", range(2))
def test_any_change_is_told(seed: int, backend: Backend) -> None:
    """Whatever comes late or changes, what stands follows from what is told, and what went has a cause."""
    world = World(backend)
    world.venue("CAFE")
    world.venue("SHOP", "market", dwell_minutes=20)
    _live(world, random.Random(seed))  # noqa: S311 - repeatable, not secret
    _look(world)


def _live(world: World, rng: random.Random) -> None:
    """A day of six people at two venues, then late scans; three have cases, whose reports change each time."""
    for turn, scans in enumerate((60, 10, 10, 10)):
        for number in range(scans):
            minute = rng.randrange(12 * 60)
            time = f"{7 + minute // 60:02d}:{minute % 60:02d}"
            change = {"direction": rng.choice(["in", "in", "out", "pass"])}
            world.scan(rng.choice(PERSONS), f"s{turn}-{number}", time, rng.choice(["CAFE", "SHOP"]), **change)
        for number, person in enumerate(PERSONS[:3]):
            dates = {"infectious_from": f"2021-10-14T{rng.randrange(12):02d}:00:00.000Z"} if rng.random() < 0.5 else {}
            dates["status"] = rng.choice(["confirmed", "confirmed", "confirmed", "withdrawn"])
            world.case(f"C{number % 2}", person, ruleset=rng.choice(["vn-2021-07", "vn-2021-12"]), **dates)
        world.settle()


def _look(world: World) -> None:
    explainer = Explainer(world.backend, load_files(), LocalClock(ZONE))
    everything = [one for person in PERSONS for one in explainer.of_person(person, 1000)[0]]
    assert {one.exposure_id for one in everything} == world.exposures.keys() | world.taken_back.keys()
    for told in everything:
        if told.contact:
            assert told.stay
            assert told.case_stay
            assert told.case_stay.counts_from_ms is not None
            assert told.case_stay.tail_to_ms is not None
            assert told.contact.from_ms == max(told.stay.start_ms, told.case_stay.counts_from_ms)
            assert told.contact.to_ms == min(told.stay.end_ms, told.case_stay.tail_to_ms)
            assert told.stay.began.scan_id
            assert told.stay.ended.scan_id
            assert "former_dwell" not in (told.stay.began.estimate, told.stay.ended.estimate)
    causes = Counter(cause.code for told in everything for cause in told.causes)
    assert len(causes) >= 3
    assert not causes.keys() & {"nothing_matches", "stands_again", "rule_unknown", "person_erased"}
    for case in ("C0", "C1"):
        ids = {told.exposure_id for told in everything if told.case_id == case}
        assert {told.exposure_id for told in explainer.of_case(case, 1000)[0]} == ids
