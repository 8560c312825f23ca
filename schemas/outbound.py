"""The contract of what the pipeline emits: full upserts, and the bare retractions that take rows back.

A retraction carries its key, the field that its ClickHouse partition comes from, status and revision only
(an exposure's also its person_id). Readers keep, per key, the row with the largest revision.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from schemas.fields import (
    CategoryName,
    Count,
    Digest,
    Direction,
    DistrictCode,
    Id,
    Lat,
    LocalDay,
    Lon,
    Part,
    PersonId,
    ProvinceCode,
    Revision,
    Source,
    UtcInstant,
    WardCode,
)
from schemas.models import Event

_PERSON = "9f86d081884c7d659a2feaa0c55ad015"
_DIGEST = "6b51d431df5d7f141cbececcf79edf3d"
_AREA_CODES = {"province_code": "01", "district_code": "007", "ward_code": "00262"}


def _example(**fields: Any) -> ConfigDict:  # noqa: ANN401  # as JSON holds them
    return ConfigDict(json_schema_extra={"examples": [fields]})


class EnrichedScan(Event):
    """An accepted scan with the attributes its venue had when it was accepted."""

    model_config = _example(
        scan_id="01HF3ZK8T2Q4V6X8Y0A2C4E6G8",
        person_id=_PERSON,
        venue_id="01-7Q4ZK2",
        venue_code="OLD1",
        direction="in",
        occurred_at="2021-10-14T01:15:30.000Z",
        source="pc_covid",
        category="market",
        **_AREA_CODES,
        lat=21.018,
        lon=105.851,
        status="active",
        revision=42,
    )

    scan_id: Id
    person_id: PersonId
    venue_id: Annotated[Id, Field(description="The venue that the code resolved to.")]
    venue_code: Annotated[Id, Field(description="The venue_id as sent.")]
    direction: Direction
    occurred_at: UtcInstant
    source: Source
    category: CategoryName
    province_code: ProvinceCode
    district_code: DistrictCode
    ward_code: WardCode
    lat: Lat
    lon: Lon
    status: Literal["active"]
    revision: Revision


class ErasedScan(Event):
    """Takes an accepted scan back: its person asked to be forgotten."""

    model_config = _example(
        scan_id="01HF3ZK8T2Q4V6X8Y0A2C4E6G8",
        person_id=_PERSON,
        occurred_at="2021-10-14T01:15:30.000Z",
        status="erased",
        revision=43,
    )

    scan_id: Id
    person_id: PersonId
    occurred_at: UtcInstant
    status: Literal["erased"]
    revision: Revision


class WardMinute(Event):
    """The scans of one ward in one minute, as one partition counts them."""

    model_config = _example(
        family="ward_minute",
        minute="2021-10-14T01:15:00.000Z",
        ward_code="00262",
        part="person-3",
        scans=3,
        ins=2,
        outs=1,
        passes=0,
        revision=12,
    )

    family: Literal["ward_minute"]
    minute: UtcInstant
    ward_code: WardCode
    part: Part
    scans: Count
    ins: Count
    outs: Count
    passes: Count
    revision: Revision


class VenueHour(Event):
    """The scans of one venue in one hour, as one partition counts them."""

    model_config = _example(
        family="venue_hour",
        hour="2021-10-14T01:00:00.000Z",
        venue_id="01-7Q4ZK2",
        part="person-3",
        scans=3,
        ins=2,
        outs=1,
        passes=0,
        revision=12,
    )

    family: Literal["venue_hour"]
    hour: UtcInstant
    venue_id: Id
    part: Part
    scans: Count
    ins: Count
    outs: Count
    passes: Count
    revision: Revision


class AreaDay(Event):
    """One area on one local day; a person part counts scans and persons, a venue part active venues."""

    model_config = _example(
        family="area_day",
        day="2021-10-14",
        level="ward",
        code="00262",
        part="person-3",
        scans=3,
        persons=2,
        active_venues=0,
        revision=12,
    )

    family: Literal["area_day"]
    day: LocalDay
    level: Literal["ward", "district", "province", "nation"]
    code: Annotated[str, Field(pattern=r"^([0-9]{2}|[0-9]{3}|[0-9]{5}|VN)$")]
    part: Part
    scans: Count
    persons: Annotated[Count, Field(description="Distinct.")]
    active_venues: Annotated[Count, Field(description="Distinct.")]
    revision: Revision


class Visit(Event):
    """One stay of one person at one venue."""

    model_config = _example(
        visit_id=_DIGEST,
        person_id=_PERSON,
        venue_id="01-7Q4ZK2",
        started_at="2021-10-14T01:15:30.000Z",
        ended_at="2021-10-14T02:00:30.000Z",
        start_kind="scanned",
        end_kind="estimated",
        first_scan_id="01HF3ZK8T2Q4V6X8Y0A2C4E6G8",
        first_scan_at="2021-10-14T01:15:30.000Z",
        scan_count=1,
        category="market",
        **_AREA_CODES,
        status="active",
        revision=42,
    )

    visit_id: Annotated[Digest, Field(description="Over person_id|venue_id|first_scan_id.")]
    person_id: PersonId
    venue_id: Id
    started_at: UtcInstant
    ended_at: UtcInstant
    start_kind: Literal["scanned", "estimated"]
    end_kind: Literal["scanned", "moved", "estimated"]
    first_scan_id: Id
    first_scan_at: UtcInstant
    scan_count: Annotated[int, Field(ge=1, description="The scans that opened, prolonged or closed it.")]
    category: CategoryName
    province_code: ProvinceCode
    district_code: DistrictCode
    ward_code: WardCode
    status: Literal["active"]
    revision: Revision


class RetractedVisit(Event):
    """Takes a visit back; its id may return later."""

    model_config = _example(visit_id=_DIGEST, first_scan_at="2021-10-14T01:15:30.000Z", status="retracted", revision=43)

    visit_id: Digest
    first_scan_at: UtcInstant
    status: Literal["retracted"]
    revision: Revision


class Exposure(Event):
    """One person's contact with one visit of a case; it never names the case's person."""

    model_config = _example(
        exposure_id=_DIGEST,
        case_id="HN-0001",
        person_id=_PERSON,
        venue_id="01-7Q4ZK2",
        category="market",
        **_AREA_CODES,
        overlap_from="2021-10-14T01:15:30.000Z",
        overlap_to="2021-10-14T02:00:30.000Z",
        overlap_minutes=45,
        score=45.0,
        level="medium",
        ruleset="vn-2021-07",
        ruleset_version=1,
        contact_scan_at="2021-10-14T01:15:30.000Z",
        status="active",
        reason="case",
        detected_at="2021-10-14T11:00:00.000Z",
        revision=42,
    )

    exposure_id: Annotated[Digest, Field(description="Over case_id|case visit_id|contact visit_id.")]
    case_id: Id
    person_id: Annotated[PersonId, Field(description="The exposed.")]
    venue_id: Id
    category: CategoryName
    province_code: ProvinceCode
    district_code: DistrictCode
    ward_code: WardCode
    overlap_from: UtcInstant
    overlap_to: UtcInstant
    overlap_minutes: Annotated[Count, Field(description="Whole minutes, rounded down.")]
    score: Annotated[float, Field(ge=0, allow_inf_nan=False, description="Weight times overlap_minutes.")]
    level: Annotated[str, Field(description="The highest of the ruleset's levels whose min_score is reached.")]
    ruleset: str
    ruleset_version: Count
    contact_scan_at: Annotated[UtcInstant, Field(description="The contact visit's first scan.")]
    status: Literal["active"]
    reason: Annotated[
        str, Field(description="What came last: `case`, a report of the case, or `visit`, either person's scans.")
    ]
    detected_at: Annotated[UtcInstant, Field(description="Record timestamp of the input that caused it.")]
    revision: Revision


class RetractedExposure(Event):
    """Takes an exposure back."""

    model_config = _example(
        exposure_id=_DIGEST,
        person_id=_PERSON,
        contact_scan_at="2021-10-14T01:15:30.000Z",
        status="retracted",
        revision=43,
    )

    exposure_id: Digest
    person_id: PersonId
    contact_scan_at: UtcInstant
    status: Literal["retracted"]
    revision: Revision


class CaseState(Event):
    """The report that counts for a case; of an erased one, only its identity is left."""

    model_config = _example(
        case_id="HN-0001",
        person_id=_PERSON,
        status="confirmed",
        onset_at=None,
        sampled_at="2021-10-14T00:00:00.000Z",
        infectious_from=None,
        infectious_to=None,
        isolated_at=None,
        reported_at="2021-10-14T11:00:00.000Z",
        ruleset="vn-2021-07",
        revision=7,
    )

    case_id: Id
    person_id: PersonId
    status: Literal["confirmed", "withdrawn", "erased"]
    onset_at: UtcInstant | None = None
    sampled_at: UtcInstant | None = None
    infectious_from: UtcInstant | None = None
    infectious_to: UtcInstant | None = None
    isolated_at: UtcInstant | None = None
    reported_at: UtcInstant | None = None
    ruleset: str | None = None
    revision: Revision


ReasonCode = Literal[
    "oversized",
    "malformed_json",
    "schema_violation",
    "key_mismatch",
    "misrouted",
    "in_future",
    "too_old",
    "erased",
    "unknown_ruleset",
    "conflicting_duplicate",
    "unknown_venue",
    "too_many_waiting",
    "corrupt_batch",
    "failed",
    "foreign_record",
]


class Reject(Event):
    """One input record that did not become an event, and why."""

    model_config = _example(
        topic="checkin.scans",
        epoch=0,
        partition=3,
        offset=17,
        record_at="2021-10-14T01:15:31.000Z",
        key=_PERSON,
        reason="schema_violation",
        detail="direction: must be one of in out pass",
        payload="eyJzY2FuX2lkIjoi4oCmIn0=",
        attempts=0,
        status="open",
        revision=1,
    )

    topic: str
    epoch: Annotated[
        Count, Field(description="How often that topic was made anew or cut before; absent from older releases.")
    ] = 0
    partition: Count
    offset: Count
    record_at: UtcInstant
    key: Annotated[str | None, Field(description="The record's key; null after an erasure.")] = None
    reason: ReasonCode
    detail: str
    payload: Annotated[str | None, Field(description="The record's value, base64; null after an erasure.")] = None
    attempts: Annotated[Count, Field(description="How often it was sent again; absent from older releases.")] = 0
    status: Literal["open", "waiting", "resolved"]
    revision: Revision
