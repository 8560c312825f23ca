"""Where both ends of the exposed person's visit come from: which scan, or which estimate from which scan."""

from collections.abc import Sequence

from streams.core.categories import CATEGORIES
from streams.core.times import MINUTE_MS
from truyvet.explain_read import Facts, Scan, Venue, Visit
from truyvet.explain_told import End, Estimate, Place, Stay


def place_of(venue_id: str, facts: Facts) -> Place:
    """The venue; by its id alone if the register that is stored does not have it."""
    venue = facts.venues.get(venue_id)
    return Place(*venue[:6]) if venue else Place(venue_id, None, "", "", "", "")


def stay_of(visit: Visit, facts: Facts) -> Stay:
    """The visit and its ends."""
    scans = [scan for scan in facts.scans.get(visit.person_id, ()) if scan.status == "active"]
    first = next((place for place, scan in enumerate(scans) if scan.scan_id == visit.first_scan_id), len(scans))
    # In the person's order a visit's scans follow one another, and one that ended it by being elsewhere comes next.
    own, following = scans[first : first + visit.scan_count], scans[first + visit.scan_count :]
    venue = facts.venues.get(visit.venue_id)
    if visit.start_kind == "scanned":
        began = _scanned("scanned", own[:1])
    else:
        began = _estimated(own[:1], _start_estimate(visit, venue, facts), visit.end_ms - visit.start_ms)
    if visit.end_kind == "scanned":
        ended = _scanned("scanned", own[-1:])
    elif visit.end_kind == "moved":
        ended = _scanned("moved", [scan for scan in following[:1] if scan.at_ms == visit.end_ms], facts)
    else:
        estimate, after_ms = _end_estimate(visit, own[-1:], venue)
        ended = _estimated(own[-1:], estimate, after_ms)
    return Stay(visit.start_ms, visit.end_ms, visit.scan_count, began, ended)


def _scanned(kind: str, scans: Sequence[Scan], facts: Facts | None = None) -> End:
    """An end that a scan made; without scans, that one is not stored (any more)."""
    if not scans:
        return End(kind, None, None, None, None, None, None)
    scan = scans[0]
    return End(
        kind, scan.scan_id, scan.source, scan.at_ms, place_of(scan.venue_id, facts) if facts else None, None, None
    )


def _estimated(scans: Sequence[Scan], estimate: Estimate | None, length_ms: int) -> End:
    """An end reckoned from a scan; ``length_ms`` is what the estimate came to."""
    made = _scanned("estimated", scans)
    minutes = length_ms // MINUTE_MS
    return End("estimated", made.scan_id, made.source, made.scan_at_ms, None, estimate, minutes if estimate else None)


def _start_estimate(visit: Visit, venue: Venue | None, facts: Facts) -> Estimate:
    dwell = _dwell(visit.end_ms - visit.start_ms, visit, venue)
    if dwell is not None:
        return dwell
    before = (
        one.end_ms == visit.start_ms and one.person_id == visit.person_id and one.visit_id != visit.visit_id
        for one in facts.visits.values()
    )
    return "visit_before" if any(before) else "former_dwell"


def _end_estimate(visit: Visit, last: Sequence[Scan], venue: Venue | None) -> tuple[Estimate | None, int]:
    """Why it ended when it did, and how long after the last scan, or, of the longest stay, after its start."""
    length_ms = visit.end_ms - visit.start_ms
    dwell_ms = visit.end_ms - last[0].at_ms if last else None
    dwell = _dwell(dwell_ms, visit, venue)
    if dwell_ms is not None and dwell is not None:
        return dwell, dwell_ms
    if length_ms == CATEGORIES[visit.category].dwell_minutes_max * MINUTE_MS:
        return "longest_stay", length_ms
    return (None, 0) if dwell_ms is None else ("former_dwell", dwell_ms)


def _dwell(length_ms: int | None, visit: Visit, venue: Venue | None) -> Estimate | None:
    """Whose dwell so long is: the venue's own, or its category's."""
    if venue and venue.dwell_minutes is not None and length_ms == venue.dwell_minutes * MINUTE_MS:
        return "venue_dwell"
    return "category_dwell" if length_ms == CATEGORIES[visit.category].dwell_minutes * MINUTE_MS else None
