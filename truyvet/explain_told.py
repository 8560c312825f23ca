"""What may be told of an exposure: the exposed person by pseudonym, and nothing that names the case's person."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from schemas.ruleset import RulesetFile
from streams.core.times import format_ms

Estimate = Literal["venue_dwell", "category_dwell", "former_dwell", "longest_stay", "visit_before"]
CauseCode = Literal[
    "case_withdrawn",
    "case_erased",
    "person_erased",
    "contact_gone",
    "case_visit_gone",
    "outside_period",
    "stay_too_short",
    "no_overlap",
    "overlap_too_short",
    "rule_unknown",
    "nothing_matches",
    "stands_again",
]


@dataclass(frozen=True, slots=True)
class Place:
    """A venue."""

    venue_id: str
    name: str | None
    """None: the register that is stored does not have it."""
    category: str
    province_code: str
    district_code: str
    ward_code: str


@dataclass(frozen=True, slots=True)
class Contact:
    """How long, how much and how it was found."""

    from_ms: int
    to_ms: int
    minutes: int
    """Whole ones."""
    score: float
    weight: float | None
    """What each minute counted; None where there is no whole minute."""
    weight_day: int | None
    """Days from the case's anchor, where the rule weighs by day and is at hand."""
    level: str
    level_from: float | None
    """The level's least score, where the rule is at hand."""
    reason: str
    detected_at_ms: int


@dataclass(frozen=True, slots=True)
class End:
    """Where an end of the exposed person's visit comes from: from a scan, or estimated from the nearest scan."""

    kind: str
    scan_id: str | None
    source: str | None
    scan_at_ms: int | None
    elsewhere: Place | None
    """Of ``moved``: where that scan was."""
    estimate: Estimate | None
    estimate_minutes: int | None


@dataclass(frozen=True, slots=True)
class Stay:
    """The exposed person's visit as it is now."""

    start_ms: int
    end_ms: int
    scan_count: int
    began: End
    ended: End


@dataclass(frozen=True, slots=True)
class CaseStay:
    """The case's visit as it is now; ``period_*`` and ``counts_*`` are None where the rule is not at hand."""

    start_ms: int
    end_ms: int
    start_kind: str
    end_kind: str
    period_from_ms: int | None
    period_to_ms: int | None
    counts_from_ms: int | None
    """None also where the stay lies outside the period."""
    counts_to_ms: int | None
    tail_to_ms: int | None


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that took an exposure back; which fields are filled depends on the code."""

    code: CauseCode
    at_ms: int | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    minutes: int | None = None
    least_minutes: int | None = None
    scan_id: str | None = None
    ruleset: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that can be told of one exposure."""

    exposure_id: str
    status: str
    person_id: str
    case_id: str | None
    venue: Place | None
    contact: Contact | None
    """None of a retracted one."""
    ruleset: str | None
    ruleset_version: int | None
    """None of a retracted one: its row does not say."""
    rule: RulesetFile | None
    """The ruleset of that name as it is here, perhaps in another version."""
    stay: Stay | None
    case_stay: CaseStay | None
    causes: tuple[Cause, ...]
    """Of a retracted one, the plainest first."""


def as_object(explanation: Explanation) -> dict[str, Any]:
    """The explanation as JSON holds it: times as RFC 3339 in UTC, without the unit in their names."""
    rule = explanation.rule
    told = _shown(asdict(explanation))
    return told | {"rule": rule.model_dump(mode="json") if rule else None}


def _shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in fields.items():
        if name.endswith("_ms"):
            shown[name.removesuffix("_ms")] = None if value is None else format_ms(value)
        elif isinstance(value, dict):
            shown[name] = _shown(value)
        elif isinstance(value, tuple):
            shown[name] = [_shown(one) for one in value]
        else:
            shown[name] = value
    return shown
