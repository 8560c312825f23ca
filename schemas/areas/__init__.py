"""The administrative list: Vietnam's 63 provinces, 705 districts and 10,599 wards of October 2021.

It is data kept beside this file; README.md there names its sources. Codes are texts of 2, 3 and 5 digits.
Five island districts have no wards: no venue can be registered there.
"""

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Final, Literal

NATION_CODE: Final = "VN"
NATION_NAME: Final = "Việt Nam"
UNITS_FILE: Final = "units-2021-10.csv"

Level = Literal["nation", "province", "district", "ward"]


@dataclass(frozen=True, slots=True)
class Areas:
    """The units of one date, by code."""

    parents: Mapping[str, tuple[str, str]]
    """Ward to (district, province)."""
    districts: Mapping[str, str]
    """District to province."""
    names: Mapping[str, str]
    """Every unit's full name, such as ``Phường Phố Huế``; the nation's too."""
    centres: Mapping[str, tuple[float, float]]
    """Ward to (latitude, longitude) in degrees."""

    @property
    def provinces(self) -> tuple[str, ...]:
        """The codes of all provinces, in order."""
        return tuple(code for code in self.names if len(code) == 2 and code != NATION_CODE)  # noqa: PLR2004

    def level(self, code: str) -> Level:
        """What kind of unit a code names.

        Raises:
            KeyError: the list has no such unit.
        """
        if code not in self.names:
            raise KeyError(code)
        if code == NATION_CODE:
            return "nation"
        levels: dict[int, Level] = {2: "province", 3: "district", 5: "ward"}
        return levels[len(code)]


@functools.cache
def load_areas() -> Areas:
    """Reads the list; the same object each time."""
    parents: dict[str, tuple[str, str]] = {}
    districts: dict[str, str] = {}
    names = {NATION_CODE: NATION_NAME}
    ward_names: dict[str, str] = {}
    district_names: dict[str, str] = {}
    centres: dict[str, tuple[float, float]] = {}
    text = resources.files(__package__).joinpath(UNITS_FILE).read_text(encoding="utf-8")
    rows = csv.reader(text.splitlines())
    next(rows)
    for ward, district, province, ward_name, district_name, province_name, lat, lon in rows:
        districts[district] = province
        names[province] = province_name
        district_names[district] = district_name
        if ward:
            parents[ward] = (district, province)
            ward_names[ward] = ward_name
            centres[ward] = (float(lat), float(lon))
    return Areas(
        parents=MappingProxyType(parents),
        districts=MappingProxyType(districts),
        names=MappingProxyType(names | district_names | ward_names),
        centres=MappingProxyType(centres),
    )
