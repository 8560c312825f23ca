"""The contract of the four input events. JSON Schemas are made from these; what they refuse is rejected.

Types are strict, unknown fields are ignored, nullable fields may be absent. Choices where the specification
leaves one:

- Nullable are: of a venue ``capacity``, ``dwell_minutes`` and ``codes`` (null or absent: none); of a case
  its five optional times and ``ruleset``. Everything else is required, ``lat`` and ``lon`` too: an accepted
  scan takes them from its venue.
- A whole number is one without fraction or exponent: ``5.0`` is no integer. Any number serves for a degree.
- A ``case_id`` is spelled like the other ids. ``name`` has at most 1,000 characters and may be empty, a venue
  has at most 100 codes, ``capacity`` is 0 to 2,147,483,647.
- A case is checked for structure only: whether its ruleset is known and its period can be told comes later
  in the order of checks, and a withdrawal needs neither.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.areas import load_areas
from schemas.fields import (
    CategoryName,
    Direction,
    DistrictCode,
    Id,
    Instant,
    Lat,
    Lon,
    PersonId,
    ProvinceCode,
    Source,
    WardCode,
)
from streams.core.categories import CATEGORIES

_PERSON = "9f86d081884c7d659a2feaa0c55ad015"


class Event(BaseModel):
    """What all events share."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Scan(Event):
    """One QR check-in or check-out, or one passage of a checkpoint."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "scan_id": "01HF3ZK8T2Q4V6X8Y0A2C4E6G8",
                    "person_id": _PERSON,
                    "venue_id": "01-7Q4ZK2",
                    "direction": "in",
                    "occurred_at": "2021-10-14T08:15:30+07:00",
                    "source": "pc_covid",
                }
            ]
        }
    )

    scan_id: Annotated[Id, Field(description="Made once by the scanning device; retries reuse it.")]
    person_id: PersonId
    venue_id: Annotated[Id, Field(description="A venue's id, or one of its codes.")]
    direction: Direction
    occurred_at: Instant
    source: Source


class Venue(Event):
    """One version of a venue; the last one in the log counts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "venue_id": "01-7Q4ZK2",
                    "name": "Chợ Hôm",
                    "category": "market",
                    "province_code": "01",
                    "district_code": "007",
                    "ward_code": "00262",
                    "lat": 21.018,
                    "lon": 105.851,
                    "capacity": 900,
                    "registered_at": "2021-09-23T09:00:00+07:00",
                    "status": "active",
                    "dwell_minutes": None,
                    "codes": ["OLD1"],
                }
            ]
        }
    )

    venue_id: Id
    name: Annotated[str, Field(max_length=1000)]
    category: CategoryName
    province_code: ProvinceCode
    district_code: Annotated[DistrictCode, Field(description="A district of that province.")]
    ward_code: Annotated[WardCode, Field(description="A ward of that district, of the list of October 2021.")]
    lat: Lat
    lon: Lon
    capacity: Annotated[int, Field(ge=0, le=2_147_483_647, description="Persons.")] | None = None
    registered_at: Instant
    status: Annotated[Literal["active", "closed"], Field(description="Scans of a closed venue still count.")]
    dwell_minutes: (
        Annotated[int, Field(ge=1, le=1440, description="The venue's own, at most its category's maximum.")] | None
    ) = None
    codes: (
        Annotated[list[Id], Field(max_length=100, description="QR identities that resolve to this venue.")] | None
    ) = None

    @model_validator(mode="after")
    def _stay_fits_category(self) -> Self:
        if self.dwell_minutes is not None and self.dwell_minutes > CATEGORIES[self.category].dwell_minutes_max:
            raise ValueError("dwell_minutes is more than the category's maximum")
        return self

    @model_validator(mode="after")
    def _areas_contain_each_other(self) -> Self:
        if load_areas().parents.get(self.ward_code) != (self.district_code, self.province_code):
            raise ValueError("there is no such ward in this district of this province")
        return self


class Case(Event):
    """One report of a case; the one with the latest ``reported_at`` counts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "case_id": "HN-0001",
                    "person_id": _PERSON,
                    "status": "confirmed",
                    "onset_at": None,
                    "sampled_at": "2021-10-14T07:00:00+07:00",
                    "infectious_from": None,
                    "infectious_to": None,
                    "isolated_at": None,
                    "reported_at": "2021-10-14T18:00:00+07:00",
                    "ruleset": "vn-2021-07",
                }
            ]
        }
    )

    case_id: Id
    person_id: PersonId
    status: Literal["confirmed", "withdrawn"]
    onset_at: Instant | None = None
    sampled_at: Instant | None = None
    infectious_from: Annotated[Instant | None, Field(description="Overrides what the ruleset gives.")] = None
    infectious_to: Annotated[Instant | None, Field(description="Overrides what the ruleset gives.")] = None
    isolated_at: Instant | None = None
    reported_at: Instant
    ruleset: Annotated[str | None, Field(description="A confirmed case names a known one.")] = None


class Erasure(Event):
    """A request to forget what a person did up to ``requested_at``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"person_id": _PERSON, "requested_at": "2021-10-20T09:00:00+07:00"}]}
    )

    person_id: PersonId
    requested_at: Instant
