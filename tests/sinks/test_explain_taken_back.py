"""``truyvet explain`` of exposures that were taken back: which of all causes it was."""

from tests.sinks.asking import SICK, THIRD, WELL, Ask, met
from tests.sinks.world import World


def test_withdrawn(world: World, ask: Ask) -> None:
    """An exposure of a withdrawn case is found again by its id, and so by its case; and says since when."""
    met(world)
    world.case("HN-1", SICK, status="withdrawn", reported_at="2021-10-14T12:00:00.000Z", ruleset=None)
    # Others at the place, with a case or without, do not confuse it.
    world.scan(THIRD, "t1", "08:10")
    world.case("HN-2", THIRD, ruleset="vn-2021-12")
    world.settle()
    gone = next(key for key, row in world.taken_back.items() if row["person_id"] == WELL)
    told = ask(gone)
    assert told.causes == ["case_withdrawn"]
    assert (told.only["case_id"], told.only["venue"]["venue_id"]) == ("HN-1", "CAFE")
    assert "Why" in told.english
    assert "the case was withdrawn, by the report of 2021-10-14 19:00:00" in told.english
    assert "đã được rút, theo báo cáo lúc 19:00:00 ngày 14/10/2021" in told.vietnamese
    assert [one["exposure_id"] for one in ask("--case", "HN-1").objects] == [gone]


def test_other_dates(world: World, ask: Ask) -> None:
    """Changed dates put the case's stay outside its period; what both stays are now is shown."""
    met(world)
    world.case("HN-1", SICK, infectious_from="2021-10-14T03:00:00.000Z")
    world.settle()
    told = ask(world.only(WELL))
    assert told.causes == ["outside_period"]
    assert "as its dates are now" in told.english
    assert "2021-10-14 10:00:00 to 2021-10-28 07:00:00" in told.english
    assert "the stay lies outside of that" in told.english


def test_a_late_scan_of_the_exposed(world: World, ask: Ask) -> None:
    """A late scan that merges the contact's visit into an earlier one, or takes it elsewhere, is told as such."""
    met(world)
    first = world.only(WELL)
    world.scan(WELL, "w0", "08:20")
    world.settle()
    told = ask(first)
    assert told.causes == ["contact_gone"]
    assert "made it part of their visit 2021-10-14, 08:20:00 to 09:10:00" in told.english
    assert "w1 mở ra lúc 08:30:00 ngày 14/10/2021" in told.vietnamese
    assert {one["status"] for one in ask("--person", WELL).objects} == {"active", "retracted"}


def test_stays_that_part(world: World, ask: Ask) -> None:
    """A late scan ends the contact's visit before the case comes: both visits are there and do not meet."""
    world.scan(SICK, "secret-1", "08:30", source="hue_s")
    world.scan(WELL, "w1", "08:00")
    world.case("HN-1", SICK)
    world.settle()
    gone = world.only(WELL)
    world.scan(WELL, "w2", "08:20", direction="out")
    world.settle()
    told = ask(gone)
    assert told.causes == ["no_overlap"]
    assert told.only["stay"]["ended"]["scan_id"] == "w2"
    assert "the two stays do not overlap" in told.english


def test_too_short_now(world: World, ask: Ask) -> None:
    """A minimum that was reached is not any more: minutes now, minutes wanted."""
    met(world, ruleset="vn-2021-12")
    gone = world.only(WELL)
    world.scan(WELL, "w3", "08:40", direction="out")
    world.settle()
    told = ask(gone)
    assert told.causes == ["overlap_too_short"]
    assert "they share 10 min; the rule counts from 15 min on" in told.english


def test_a_late_scan_of_the_case(world: World, ask: Ask) -> None:
    """A late scan of the case's person is told without its id."""
    met(world)
    gone = world.only(WELL)
    world.scan(SICK, "secret-0", "07:50", source="hue_s")
    world.settle()
    told = ask(gone)
    assert told.causes == ["case_visit_gone"]
    assert "part of its visit 2021-10-14, 07:50:00 to 09:00:00" in told.english
    assert len(ask("--case", "HN-1").objects) == 2


def test_a_rule_that_is_not_here(world: World, ask: Ask) -> None:
    """Where the rule that the case names is not here, the command says what it cannot say."""
    world.scan(SICK, "secret-1", "08:00", source="hue_s")
    world.scan(WELL, "w1", "08:30")
    world.case("HN-1", SICK, ruleset="tailed")
    world.settle()
    gone = world.only(WELL)
    world.case("HN-1", SICK, ruleset="tailed", sampled_at="2021-12-24T00:00:00.000Z")
    world.settle()
    assert ask(gone).causes == ["rule_unknown"]


def test_what_is_stored_says_it_should_stand(world: World, ask: Ask) -> None:
    """A retraction that what is stored does not bear out is not explained away."""
    met(world)
    row = world.exposures[world.only(WELL)]
    world.retract(row["exposure_id"])
    assert ask(row["exposure_id"]).causes == ["stands_again"]


def test_forgotten(world: World, ask: Ask) -> None:
    """After an erasure only the ids are left: of the exposed person, or of nobody; the case is not guessed."""
    met(world)
    world.scan(THIRD, "t1", "08:40")
    world.settle()
    ids = {row["person_id"]: key for key, row in world.exposures.items()}
    world.forget(WELL)
    world.settle()
    told = ask(ids[WELL])
    assert told.causes == ["person_erased"]
    assert (told.only["case_id"], told.only["venue"]) == (None, None)
    world.forget(SICK)
    world.settle()
    told = ask(ids[THIRD])
    assert told.causes == ["nothing_matches"]
    assert told.only["venue"]["venue_id"] == "CAFE"
    assert "không còn dữ liệu nào khớp" in told.vietnamese
