"""The certificate of an erasure: what was removed where, what stays and why. As text, and as one JSON object."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from streams.core.times import format_ms
from truyvet.config import Settings
from truyvet.elsewhere import Place, elsewhere
from truyvet.query import print_rows


class Removed(NamedTuple):
    """What became of one kind of row; each row once, however many versions of it were stored."""

    table: str
    rows_before: int
    """Rows from at or before the request."""
    rows_left: int
    """Those of them that are still there: none, if all is well."""
    rows_kept: int
    """Rows that the request does not cover."""
    blanked: bool
    """Whether rows stay, without what named the person."""

    @property
    def rows_removed(self) -> int:
        """Rows that are gone, or no longer name the person."""
        kept = self.rows_kept if self.table == "exposures of others" else 0
        return max(0, self.rows_before - self.rows_left - kept)

    @property
    def why(self) -> str:
        """What the figures mean."""
        if self.blanked:
            return "key and payload were removed; the row stays and says why the record was rejected"
        if self.table == "exposures of others":
            return "raised by this person's cases, and taken back; kept are those that other reports owe"
        return "kept are those from after the request"


class Certificate(NamedTuple):
    """What an erasure came to."""

    person_id: str
    requested_at: str
    done_at: str
    database: str
    removed: Sequence[Removed]
    stays: Sequence[Place]

    @property
    def complete(self) -> bool:
        """Whether nothing is left that should not be."""
        return not any(one.rows_left for one in self.removed)


def certificate_of(settings: Settings, person_id: str, until_ms: int, removed: Sequence[Removed]) -> Certificate:
    """The certificate of an erasure that has just ended."""
    done_at = format_ms(time.time_ns() // 1_000_000)
    return Certificate(person_id, format_ms(until_ms), done_at, settings.database, removed, elsewhere(settings))


def as_object(certificate: Certificate) -> dict[str, Any]:
    """The certificate as JSON has it."""
    removed = [
        {name: getattr(one, name) for name in ("table", "rows_before", "rows_removed", "rows_left", "rows_kept", "why")}
        for one in certificate.removed
    ]
    stays = [place._asdict() for place in certificate.stays]
    return certificate._asdict() | {"complete": certificate.complete, "removed": removed, "stays": stays}


def print_certificate(certificate: Certificate) -> None:
    """The certificate as text."""
    print(f"Erasure of {certificate.person_id}, of everything until {certificate.requested_at}")
    print(f"Done {certificate.done_at}, database {certificate.database}")
    columns = ("rows", "before", "removed", "left", "kept", "meaning")
    rows = [
        (one.table, one.rows_before, one.rows_removed, one.rows_left, one.rows_kept, one.why)
        for one in certificate.removed
    ]
    print_rows(columns, rows)
    print("What stays elsewhere, or stays as numbers:")
    print_rows(("where", "what", "until"), certificate.stays)
    if certificate.complete:
        print("Complete: no row from before the request names the person, and no file of the tables.")
    else:
        print("NOT complete: rows are left that should not be; run it again.")
