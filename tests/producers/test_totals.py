"""Totals files: what is published is kept to the digit, what is not is filled in, and nonsense is refused."""

import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.simulate.fill import apportion, complete, mean_half_up, nearest_sum
from producers.simulate.totals import DEFAULT_TOTALS, Publication, Totals, TotalsError, load_publication

ONE_DAY = {
    "date": "2021-11-02",
    "venues_total": 900,
    "venues_new": 3,
    "venues_active": 40,
    "scans": 300,
    "persons": 200,
}


def _complete(values: dict[str, object], seed: int = 1) -> Totals:
    return complete(Publication.model_validate(values), seed)


def _means(totals: Totals) -> dict[str, int]:
    names = ("scans", "persons", "venues_active", "venues_new")
    return {name: mean_half_up(sum(getattr(day, name) for day in totals.days[-7:])) for name in names}


@pytest.mark.parametrize("seed", [0, 1, 20211014])
def test_hanoi_is_what_the_bulletin_published(seed: int) -> None:
    """Every published figure and every published mean of 8 to 14 October 2021 comes out to the digit."""
    totals = complete(load_publication(DEFAULT_TOTALS), seed)
    assert [day.date for day in totals.days] == [date(2021, 10, number) for number in range(8, 15)]
    before, last = totals.days[-2:]
    assert (before.venues_total, before.venues_active, before.scans, before.persons) == (600002, 68369, 245680, 194376)
    assert (last.venues_total, last.venues_active, last.scans, last.persons) == (604325, 69505, 304916, 236404)
    assert last.venues_new == 4323
    means = _means(totals)
    assert (means["scans"], means["persons"], means["venues_new"]) == (241740, 180930, 5533)
    assert totals.venues_before + sum(day.venues_new for day in totals.days) == 604325


def test_filling_is_repeatable_and_depends_on_the_seed() -> None:
    """The same seed fills the same figures in, another one others."""
    publication = load_publication(DEFAULT_TOTALS)
    assert complete(publication, 5) == complete(publication, 5)
    assert complete(publication, 5) != complete(publication, 6)


def test_a_single_day_stays_a_single_day() -> None:
    """Without means only the listed days are simulated, as they stand."""
    totals = _complete({"days": [ONE_DAY]})
    assert len(totals.days) == 1
    assert totals.days[0].model_dump(mode="json") == ONE_DAY
    assert totals.venues_before == 897


def test_means_ask_for_seven_days() -> None:
    """With a mean there are seven days, listed or not."""
    totals = _complete({"days": [ONE_DAY], "seven_day_means": {"scans": 251, "persons": 170, "venues_active": 30}})
    assert len(totals.days) == 7
    assert _means(totals) | {"venues_new": 0} == {"scans": 251, "persons": 170, "venues_active": 30, "venues_new": 0}


@pytest.mark.parametrize("active", [None, 900])
def test_scans_follow_from_persons_where_those_alone_are_known(active: int | None) -> None:
    """Persons of a day, or their mean, are enough: about 1.29 scans each."""
    days: list[dict[str, object]] = [
        {"date": "2021-11-01", "venues_active": active},
        {"date": "2021-11-02", "venues_total": 2000, "persons": 100},
    ]
    totals = _complete({"days": days, "seven_day_means": {"persons": 150}})
    assert totals.days[-1].persons == 100
    assert totals.days[-1].scans == 129
    assert _means(totals)["persons"] == 150
    assert _means(totals)["scans"] == pytest.approx(194 if active is None else 322, abs=1)


def test_days_between_are_filled_in() -> None:
    """A day that is not listed, or has unknown figures, gets some; totals of venues add up across it."""
    days = [
        {"date": "2021-11-01", "venues_total": 100, "scans": 50, "persons": 40, "venues_active": 20},
        {"date": "2021-11-04", "venues_total": 130, "scans": None},
    ]
    totals = _complete({"days": days})
    assert [day.date.day for day in totals.days] == [1, 2, 3, 4]
    assert totals.days[0].venues_total == 100
    assert totals.days[-1].venues_total == 130
    assert sum(day.venues_new for day in totals.days[1:]) == 30
    assert all(0 < day.persons <= day.scans for day in totals.days)


def test_a_day_without_scans_is_possible() -> None:
    """A closed town has days of nothing."""
    day = {"date": "2021-11-02", "venues_total": 5, "scans": 0}
    assert _complete({"days": [day]}).days[0].persons == 0


def test_json_is_read_too(tmp_path: Path) -> None:
    """A totals file may be JSON, with null for what is unknown."""
    path = tmp_path / "totals.json"
    path.write_text(json.dumps({"province": "46", "days": [ONE_DAY | {"persons": None}]}), encoding="utf-8")
    publication = load_publication(path)
    assert publication.province == "46"
    assert complete(publication, 1).days[0].persons == round(300 / 1.29)


@given(
    st.integers(0, 2**32),
    st.integers(1, 400),
    st.integers(0, 300),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=3),
)
def test_published_means_are_always_reached(
    seed: int,
    scans_mean: int,
    new_mean: int,
    known: list[tuple[int, int]],
) -> None:
    """Whatever is known of the last days, each mean comes out, or the file is refused as contradictory."""
    days = [
        {"date": f"2021-11-{number:02d}", "scans": max(pair), "persons": min(pair), "venues_new": pair[0]}
        for number, pair in enumerate(known, 10)
    ]
    days[-1]["venues_total"] = 10_000
    persons_mean = scans_mean * 7 // 10
    means = {"scans": scans_mean, "persons": persons_mean, "venues_new": new_mean}
    try:
        totals = _complete({"days": days, "seven_day_means": means}, seed)
    except TotalsError:
        known_sum = sum(max(pair) for pair in known)
        assert (
            any(max(pair) > 0 and min(pair) == 0 for pair in known)
            or known_sum > 7 * scans_mean
            or sum(pair[0] for pair in known) > 7 * new_mean
            or not 0 <= 7 * persons_mean - sum(min(pair) for pair in known) <= 7 * scans_mean - known_sum
            # Each day with scans has at least one person.
            or 7 * persons_mean < sum(min(pair) for pair in known) + 7
        )
        return
    reached = _means(totals)
    assert {name: reached[name] for name in means} == means
    assert all(day.persons <= day.scans and day.venues_active <= day.scans for day in totals.days)


@given(st.data(), st.integers(1, 8))
def test_apportioned_numbers_add_up_within_their_bounds(data: st.DataObject, count: int) -> None:
    """Any total between the sums of the bounds is reached."""
    weights = data.draw(st.lists(st.floats(0, 1000), min_size=count, max_size=count))
    lows = data.draw(st.lists(st.integers(0, 50), min_size=count, max_size=count))
    highs = [low + data.draw(st.integers(0, 50)) for low in lows]
    total = data.draw(st.integers(sum(lows), sum(highs)))
    shares = apportion(total, weights, lows, highs)
    assert sum(shares) == total
    assert all(low <= share <= high for low, share, high in zip(lows, shares, highs, strict=True))


@given(st.integers(0, 10**6), st.integers(-3, 3))
def test_means_are_rounded_half_up(mean: int, slack: int) -> None:
    """Exactly the sums from 7m − 3 to 7m + 3 have the mean m."""
    assert mean_half_up(7 * mean + slack) == mean
    assert mean_half_up(7 * mean + 4) == mean + 1
    assert nearest_sum("scans", mean, 7 * mean + 3, 10**9) == 7 * mean + 3


@pytest.mark.parametrize("scale", [0.001, 0.05, 0.5, 1, 3])
def test_scaled_totals_stay_consistent(scale: float) -> None:
    """Scaling rounds half up and keeps what must hold between figures."""
    totals = complete(load_publication(DEFAULT_TOTALS), 1)
    scaled = totals.scaled(scale)
    venues = scaled.venues_before
    for before, after in zip(totals.days, scaled.days, strict=True):
        venues += after.venues_new
        assert after.scans == int(before.scans * scale + 0.5)
        assert after.venues_total == venues
        assert 1 <= after.persons <= after.scans
        assert 1 <= after.venues_active <= min(after.scans, after.venues_total)
    assert abs(venues - 604325 * scale) <= 4


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"days": []}, "days: "),
        ({"dayz": []}, "dayz: no such key"),
        ({"province": "Hà Nội"}, "province: "),
        ({"days": [ONE_DAY | {"visitors": 1}]}, "days.1.visitors: no such key"),
        ({"days": [ONE_DAY | {"scans": "300"}]}, "days.1.scans: "),
        ({"days": [ONE_DAY | {"scans": 1.5}]}, "days.1.scans: "),
        ({"days": [ONE_DAY | {"scans": -1}]}, "days.1.scans: "),
        ({"days": [ONE_DAY | {"scans": 10**9}]}, "days.1.scans: "),
        ({"days": [ONE_DAY | {"date": "yesterday"}]}, "days.1.date: "),
        ({"days": [ONE_DAY | {"date": "1900-01-01"}]}, "days.1.date: "),
        ({"days": [ONE_DAY, ONE_DAY]}, "days must be in order"),
        ({"days": [{"date": "2019-11-02"}, ONE_DAY]}, "more than 400 days"),
        ({"seven_day_means": {"visits": 1}}, "seven_day_means.visits: no such key"),
    ],
)
def test_files_of_another_shape_are_refused(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    """The message names the file and the place in it."""
    path = tmp_path / "totals.json"
    path.write_text(json.dumps({"days": [ONE_DAY], **changes}), encoding="utf-8")
    with pytest.raises(TotalsError) as caught:
        load_publication(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("day", "means", "sentence"),
    [
        ({"persons": 301}, {}, "2021-11-02: persons (301) may not be more than scans (300)"),
        ({"venues_active": 301}, {}, "2021-11-02: venues_active (301) may not be more than scans (300)"),
        ({"venues_active": 50, "venues_total": 49}, {}, "may not be more than venues_total (49)"),
        ({"venues_new": 901}, {}, "2021-11-02: venues_new (901) may not be more than venues_total (900)"),
        ({"venues_total": None}, {}, "venues_total: give it for at least one day"),
        ({"scans": None, "persons": None}, {}, "scans: give it for at least one day, or its seven-day mean"),
        ({"persons": 0}, {}, "300 scans need at least one person"),
        ({}, {"scans": 42}, "seven_day_means.scans: 42 cannot be reached; with the days' figures it is 43 or more"),
        ({}, {"scans": 100, "persons": 101}, "seven_day_means.persons: 101 cannot be reached"),
        ({}, {"venues_new": 129}, "venues_total: more venues are new by 2021-11-02 than the 900 there are"),
    ],
)
def test_contradictions_are_refused(day: dict[str, object], means: dict[str, int], sentence: str) -> None:
    """The message names the figures that do not go together."""
    with pytest.raises(TotalsError) as caught:
        _complete({"days": [ONE_DAY | day], "seven_day_means": means})
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ({"venues_total": 100}, {"venues_total": 90}, "2021-11-02: venues_total (90) does not follow from 100"),
        ({"venues_total": 100}, {"venues_total": 90, "venues_new": 3}, "is not the 100 of the day before"),
        ({"venues_total": 10}, {"venues_active": 11, "venues_new": 0}, "may not be more than the 10 venues registered"),
    ],
)
def test_days_that_do_not_add_up_are_refused(
    first: dict[str, object],
    second: dict[str, object],
    sentence: str,
) -> None:
    """Totals of venues must follow from one another."""
    days = [{"date": "2021-11-01", "scans": 50, **first}, {"date": "2021-11-02", "scans": 50, **second}]
    with pytest.raises(TotalsError) as caught:
        _complete({"days": days})
    assert sentence in str(caught.value)


@pytest.mark.parametrize("text", ["days = ", "\x00", "[[days]]\ndate = 2021-13-01"])
def test_what_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    """A file that cannot be read is named in one sentence, and so is one that is not there."""
    path = tmp_path / "totals.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TotalsError, match="cannot be read as a totals file"):
        load_publication(path)
    with pytest.raises(TotalsError, match="cannot be read as a totals file"):
        load_publication(tmp_path / "absent.toml")
