"""The administrative list of October 2021."""

import pytest

from schemas.areas import load_areas


def test_counts_of_october_2021() -> None:
    """63 provinces, 705 districts, 10,599 wards, each with a name and a parent."""
    areas = load_areas()
    assert (len(areas.provinces), len(areas.districts), len(areas.parents)) == (63, 705, 10_599)
    assert set(areas.names) == {"VN", *areas.provinces, *areas.districts, *areas.parents}
    assert all(areas.names.values())
    assert all(areas.districts[district] == province for district, province in areas.parents.values())
    assert set(areas.districts.values()) == set(areas.provinces)


def test_codes_are_texts_of_their_length() -> None:
    """2, 3 and 5 digits, leading zeros kept."""
    areas = load_areas()
    for codes, digits in ((areas.provinces, 2), (areas.districts, 3), (areas.parents, 5)):
        assert {len(code) for code in codes} == {digits}
        assert all(code.isascii() and code.isdigit() for code in codes)


def test_some_units_by_name() -> None:
    """Spot checks, one of them a ward of the specification's sample."""
    areas = load_areas()
    assert areas.parents["00262"] == ("007", "01")
    assert [areas.names[code] for code in ("00262", "007", "01", "VN")] == [
        "Phường Phố Huế",
        "Quận Hai Bà Trưng",
        "Thành phố Hà Nội",
        "Việt Nam",
    ]
    assert areas.names["769"] == "Thành phố Thủ Đức"
    assert [areas.level(code) for code in ("VN", "01", "007", "00262")] == ["nation", "province", "district", "ward"]


def test_every_ward_has_a_centre_in_the_country() -> None:
    """Near enough to its district's other wards to be no mistake of the join."""
    areas = load_areas()
    assert set(areas.centres) == set(areas.parents)
    assert all(8 < lat < 24 and 102 < lon < 115 for lat, lon in areas.centres.values())
    hanoi = [areas.centres[ward] for ward, (_, province) in areas.parents.items() if province == "01"]
    assert len(hanoi) == 579
    assert all(20.5 < lat < 21.5 and 105.2 < lon < 106.1 for lat, lon in hanoi)


def test_an_unknown_code_has_no_level() -> None:
    """No guess from its length."""
    with pytest.raises(KeyError):
        load_areas().level("00000")


def test_the_list_is_read_once() -> None:
    """And cannot be changed by who reads it."""
    areas = load_areas()
    assert areas is load_areas()
    with pytest.raises(TypeError):
        areas.parents["00000"] = ("000", "00")  # type: ignore[index]  # that is the point
