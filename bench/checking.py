"""Whether a contender's output is what it must be; naive, and apart from every contender's own code."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from bench.workload import Cell, Counts, Expected, Identity

CountsForm = Literal["upserts", "changes"]
"""``upserts``: a key's last record is its value; ``changes``: records are added up, each with its ``diff``."""
FAMILY: Final = "ward_minute"
Record = tuple[bytes | None, bytes]
"""Key and value."""


@dataclass(frozen=True)
class Verdict:
    """How one round's output differs from what is expected; all zero if it does not."""

    outputs: int
    """Enriched records in all."""
    missing: int
    """Scans that should have been accepted and were not."""
    unknown: int
    """Outputs of scans that were never sent."""
    doubled: int
    """Outputs beyond the first of their scan."""
    wrong: int
    """Outputs with another venue, ward, district, province or category than their scan's."""
    cells_wrong: int
    """Minutes of wards whose counts are not those expected, missing and superfluous ones included."""

    @property
    def right(self) -> bool:
        """Whether every scan is there with its venue's attributes, and every count is right; copies are told apart."""
        return not (self.missing or self.unknown or self.wrong or self.cells_wrong)

    def text(self) -> str:
        """In a few words."""
        if self.right:
            return "right" if not self.doubled else f"right, {self.doubled} doubled"
        return (
            f"WRONG: {self.missing} missing, {self.unknown} unknown, {self.wrong} wrong, {self.doubled} doubled, "
            f"{self.cells_wrong} cells wrong"
        )


def check(
    expected: Expected, enriched: Iterable[bytes], counts: Iterable[Record], form: CountsForm = "upserts"
) -> Verdict:
    """Holds the values of ``enriched`` and the records of ``counts``, in their order, against what is expected."""
    seen: set[Identity] = set()
    outputs = unknown = doubled = wrong = 0
    for value in enriched:
        event = json.loads(value)
        outputs += 1
        identity = event["person_id"], event["scan_id"]
        venue = expected.venue_of.get(identity)
        if venue is None:
            unknown += 1
        elif identity in seen:
            doubled += 1
        else:
            wrong += not _attributes_right(event, venue, expected)
        seen.add(identity)
    found = counts_of(counts, form)
    cells = expected.counts.keys() | found.keys()
    return Verdict(
        outputs=outputs,
        missing=len(expected.venue_of.keys() - seen),
        unknown=unknown,
        doubled=doubled,
        wrong=wrong,
        cells_wrong=sum(expected.counts.get(cell, (0, 0, 0)) != found.get(cell, (0, 0, 0)) for cell in cells),
    )


def _attributes_right(event: Mapping[str, Any], venue: str, expected: Expected) -> bool:
    names = ("ward_code", "district_code", "province_code", "category")
    return event["venue_id"] == venue and tuple(event[name] for name in names) == expected.venues[venue]


def counts_of(records: Iterable[Record], form: CountsForm) -> dict[Cell, Counts]:
    """The cells that a topic of counts comes to, summed over the parts that emit them."""
    last: dict[bytes | None, dict[str, Any]] = {}
    sums: dict[Cell, Counts] = {}
    for key, value in records:
        event = json.loads(value)
        if event.get("family", FAMILY) != FAMILY:
            continue
        if form == "upserts":
            last[key] = event
        else:
            _add(sums, event, event["diff"])
    for event in last.values():
        _add(sums, event, 1)
    return sums


def _add(sums: dict[Cell, Counts], event: Mapping[str, Any], times: int) -> None:
    cell = event["minute"], event["ward_code"]
    ins, outs, passes = sums.get(cell, (0, 0, 0))
    sums[cell] = (ins + times * event["ins"], outs + times * event["outs"], passes + times * event["passes"])
