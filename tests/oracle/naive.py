"""The views of SPEC §9 for one input, worked out event by event with plain dictionaries.

What SPEC leaves to processing order is done in file order: first the register, then scans and cases, then the
late register as a whole, and erasures last of all. ``certain`` leaves out what another order may make otherwise
where somebody was erased: some rejects, and the cells that their scans were in.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from json import dumps
from math import inf
from zoneinfo import ZoneInfo

from schemas.areas import load_areas
from tests.golden.compare import CELL_KEYS
from tests.oracle import wire
from tests.oracle.contacts import RULESETS, Rule, all_exposures
from tests.oracle.files import Files
from tests.oracle.visits import Row, all_visits, visit_row
from tests.oracle.wire import BadEventError, Object

Views = dict[str, list[Row]]

CASE_RETENTION_MS = 90 * wire.DAY_MS


@dataclass(frozen=True)
class Line:
    """One line of a file with its record timestamp (epoch ms), and the event or the reason why it is none."""

    record_ms: int
    event: Object | None
    whole: Object
    reason: str = ""
    number: int | None = None
    """Which record of the input this is, where the input is of records."""
    removed: str = ""
    """The venue that a null record takes out of the register."""


@dataclass(frozen=True)
class Told:
    """The lines of each file, or the records of each topic; the register's in two parts."""

    venues: Iterable[Line]
    scans: Iterable[Line]
    cases: Iterable[Line]
    erasures: Iterable[Line]
    venues_late: Iterable[Line]


@dataclass
class State:
    """Everything that the files have said so far."""

    venues: dict[str, Object] = field(default_factory=dict)
    removed: dict[str, Object] = field(default_factory=dict)
    """The last version of each venue that is no longer registered."""
    seen: dict[tuple[str, str], Object] = field(default_factory=dict)
    accepted: dict[tuple[str, str], Row] = field(default_factory=dict)
    dwell_minutes: dict[tuple[str, str], int] = field(default_factory=dict)
    waiting: dict[tuple[str, str], tuple[Object, Row]] = field(default_factory=dict)
    cases: dict[tuple[str, str], list[tuple[int, bytes, Object]]] = field(default_factory=dict)
    erased_ms: dict[str, int] = field(default_factory=dict)
    forgotten: list[Row] = field(default_factory=list)
    rejects: list[Row] = field(default_factory=list)


def naive_views(
    files: Files,
    *,
    retention_days: int = 28,
    timezone: str = "Asia/Ho_Chi_Minh",
    rulesets: Mapping[str, Rule] = RULESETS,
) -> Views:
    """The rows of each table, as ``truyvet replay`` writes them but without part, revision, and bookkeeping.

    ``rejects`` counts by reason without resolved rows; ``reject_rows`` names each row, resolved ones too.
    ``erased`` names whom erasures forget until when; ``forgotten`` and ``forgotten_…`` are the accepted scans that
    they remove, and the cells of these alone.
    ``rulesets`` are those that a case may name, by name, each as ``contacts.rule`` makes it.
    """
    told = Told(
        _lines(files.venues, registered, "registered_at"),
        _lines(files.scans, wire.scan, "occurred_at"),
        _lines(files.cases, wire.case, "reported_at"),
        _lines(files.erasures, wire.erasure, "requested_at"),
        _lines(files.venues_late, registered, "registered_at"),
    )
    return views_of(told, retention_days=retention_days, timezone=timezone, rulesets=rulesets)


def registered(value: object) -> Object:
    """``wire.venue`` with the administrative list of the project."""
    return wire.venue(value, load_areas().parents)


def views_of(told: Told, *, retention_days: int, timezone: str, rulesets: Mapping[str, Rule]) -> Views:
    """``naive_views`` of lines that were read before."""
    zone = ZoneInfo(timezone)
    state = State()
    _register(state, told.venues)
    for line in told.scans:
        _scan(state, line, retention_days * wire.DAY_MS)
    for line in told.cases:
        _case(state, line, rulesets)
    for line in told.erasures:
        _erasure(state, line)
    _register(state, told.venues_late)
    for identity, (event, reject) in list(state.waiting.items()):
        resolved = _resolve(state, event["venue_id"])
        if resolved is not None:
            del state.waiting[identity]
            reject["status"] = "resolved"
            _accept(state, event, resolved)
    _forget(state)
    scans = sorted(state.accepted.values(), key=lambda row: (row["person_id"], row["scan_id"]))
    visits = all_visits(scans, state.dwell_minutes)
    cases = [max(reports, key=lambda report: report[:2])[2] for _, reports in sorted(state.cases.items()) if reports]
    return {
        "scans": scans,
        "visits": [visit_row(visit) for visit in visits],
        "venues": _venue_rows(state),
        "cases": [_case_row(event) for event in cases],
        "exposures": all_exposures(visits, cases, rulesets, zone),
        "rejects": _by_reason(state.rejects),
        "reject_rows": state.rejects,
        **cells_of(scans, zone),
        "erased": [{"person_id": who, "until_ms": until_ms} for who, until_ms in sorted(state.erased_ms.items())],
        "forgotten": state.forgotten,
        **{f"forgotten_{table}": cells for table, cells in cells_of(state.forgotten, zone).items()},
    }


# These checks come after SPEC's ``erased``, or may be resolved by an erasure.
ORDERED_REASONS = ("erased", "unknown_venue", "conflicting_duplicate", "unknown_ruleset", "schema_violation")


def certain(views: Views, table: str, rows: list[Row]) -> list[Row]:
    """Of these rows of a table, expected or actual, those that any order of the events behind ``views`` gives.

    Law 1 excepts the cells of erased persons: one that was counted stays, so cells that an erased scan was or may
    have been in are left out; and where anybody is erased at all, rejects that erasures have to do with.
    """
    if table == "rejects":
        return [row for row in rows if not views["erased"] or row["reason"] not in ORDERED_REASONS]
    if table not in CELL_KEYS:
        return rows
    names = CELL_KEYS[table]
    left_out = {tuple(row[name] for name in names) for row in views[f"forgotten_{table}"]}
    return [row for row in rows if tuple(row[name] for name in names) not in left_out]


def _lines(lines: Iterable[bytes], judge: Callable[[object], Object], time_field: str) -> Iterator[Line]:
    """Each line with the record timestamp that SPEC §10 gives it."""
    before_ms = 0
    for raw in lines:
        whole: object = None
        event: Object | None = None
        reason = ""
        try:
            whole = wire.parse(raw, bytes_max=inf)  # even an oversized line may state its time
            wire.parse(raw)
            event = judge(whole)
        except BadEventError as error:
            reason = "oversized" if len(raw) > wire.VALUE_BYTES_MAX else error.reason
        fields = whole if isinstance(whole, dict) else {}
        before_ms = _record_ms(fields, time_field, before_ms)
        is_null = judge is registered and fields.get("_null") is True and isinstance(fields.get("venue_id"), str)
        yield Line(before_ms, event, fields, reason, removed=fields["venue_id"] if is_null else "")


def _record_ms(fields: Object, time_field: str, before_ms: int) -> int:
    stated = fields.get("_ts")
    if isinstance(stated, int) and not isinstance(stated, bool) and 0 <= stated < 2**63:
        return stated
    try:
        return max(wire.instant(fields.get(time_field)), 0)
    except ValueError:
        return before_ms


def _reject(state: State, topic: str, line: Line, reason: str, status: str = "open") -> Row:
    row: Row = {
        "topic": "checkin." + topic,
        "record_at": wire.instant_text(min(line.record_ms, 253_402_300_799_999)),
        "reason": reason,
        "status": status,
        "epoch": 0,
        "attempts": 0,
    }
    if line.number is not None:
        row["number"] = line.number
    state.rejects.append(row)
    return row


def _register(state: State, lines: Iterable[Line]) -> None:
    for line in lines:
        if line.removed:
            if line.removed in state.venues:
                state.removed[line.removed] = state.venues.pop(line.removed)
        elif line.event is None:
            _reject(state, "venues", line, line.reason)
        elif line.event["t"] > line.record_ms + wire.FUTURE_MS:
            _reject(state, "venues", line, "in_future")
        else:
            state.venues[line.event["venue_id"]] = line.event
            state.removed.pop(line.event["venue_id"], None)


def _resolve(state: State, venue_id: str) -> Object | None:
    """The venue that a scanned identity stands for: itself, or the earliest that claims it as a code."""
    if venue_id in state.venues:
        return state.venues[venue_id]
    claims = [venue for venue in state.venues.values() if venue_id in venue["codes"]]
    return min(claims, key=lambda venue: (venue["t"], venue["venue_id"]), default=None)


def _scan(state: State, line: Line, retention_ms: int) -> None:
    event = line.event
    if event is None:
        _reject(state, "scans", line, line.reason)
    elif event["t"] > line.record_ms + wire.FUTURE_MS:
        _reject(state, "scans", line, "in_future")
    elif event["t"] < line.record_ms - retention_ms:
        _reject(state, "scans", line, "too_old")
    else:
        identity = (event["person_id"], event["scan_id"])
        before = state.seen.setdefault(identity, event)
        if before is not event:
            if before != event:
                _reject(state, "scans", line, "conflicting_duplicate")
            return
        venue = _resolve(state, event["venue_id"])
        if venue is None:
            state.waiting[identity] = (event, _reject(state, "scans", line, "unknown_venue", "waiting"))
        else:
            _accept(state, event, venue)


def _accept(state: State, event: Object, venue: Object) -> None:
    areas = {name: venue[name] for name in ("category", "province_code", "district_code", "ward_code", "lat", "lon")}
    identity = (event["person_id"], event["scan_id"])
    own = venue["dwell_minutes"]
    state.dwell_minutes[identity] = wire.CATEGORIES[venue["category"]][0] if own is None else own
    state.accepted[identity] = {
        "person_id": event["person_id"],
        "scan_id": event["scan_id"],
        "venue_id": venue["venue_id"],
        "venue_code": event["venue_id"],
        "occurred_at": wire.instant_text(event["t"]),
        "direction": event["direction"],
        "source": event["source"],
        **areas,
        "status": "active",
    }


def _case(state: State, line: Line, rulesets: Mapping[str, Rule]) -> None:
    event = line.event
    reason = line.reason
    if event is not None:
        if event["t"] > line.record_ms + wire.FUTURE_MS:
            reason = "in_future"
        elif event["t"] < line.record_ms - CASE_RETENTION_MS:
            reason = "too_old"
        elif event["status"] == "confirmed":
            reason = _confirmed_reason(event, rulesets)
    if reason or event is None:
        _reject(state, "cases", line, reason)
        return
    whole = {name: value for name, value in line.whole.items() if name != "_ts"}
    canonical = dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    state.cases.setdefault((event["case_id"], event["person_id"]), []).append((event["t"], canonical, event))


def _confirmed_reason(event: Object, rulesets: Mapping[str, Rule]) -> str:
    """Why a confirmed case is rejected; empty if it is not."""
    if event["ruleset"] not in rulesets:
        return "unknown_ruleset"
    anchored = event["onset_at"] is not None or event["sampled_at"] is not None
    begins = anchored or event["infectious_from"] is not None
    ends = anchored or event["infectious_to"] is not None or event["isolated_at"] is not None
    return "" if begins and ends else "schema_violation"


def _erasure(state: State, line: Line) -> None:
    event = line.event
    if event is None:
        _reject(state, "erasures", line, line.reason)
    elif event["t"] > line.record_ms + wire.FUTURE_MS:
        _reject(state, "erasures", line, "in_future")
    else:
        before_ms = state.erased_ms.get(event["person_id"], event["t"])
        state.erased_ms[event["person_id"]] = max(before_ms, event["t"])


def _forget(state: State) -> None:
    """Removes what erasures cover: scans, waiting ones too, and every report of a case (SPEC §8)."""

    def is_erased(person_id: str, instant_ms: int) -> bool:
        return person_id in state.erased_ms and instant_ms <= state.erased_ms[person_id]

    for identity, row in list(state.accepted.items()):
        if is_erased(identity[0], wire.instant(row["occurred_at"])):
            state.forgotten.append(state.accepted.pop(identity))
    for identity, (event, reject) in list(state.waiting.items()):
        if is_erased(identity[0], event["t"]):
            del state.waiting[identity]
            reject["status"] = "resolved"
    for (_, person_id), reports in state.cases.items():
        reports[:] = [report for report in reports if not is_erased(person_id, report[0])]


def _case_row(event: Object) -> Row:
    row = {name: event[name] for name in ("case_id", "person_id", "status", "ruleset")}
    row["reported_at"] = wire.instant_text(event["t"])
    for name in wire.CASE_TIMES:
        row[name] = None if event[name] is None else wire.instant_text(event[name])
    return row


def _venue_rows(state: State) -> list[Row]:
    """Those that are registered, and those that were, with what was last said of them."""
    told = state.venues | {venue_id: event | {"status": "removed"} for venue_id, event in state.removed.items()}
    rows = []
    for venue_id in sorted(told):
        row = {name: value for name, value in told[venue_id].items() if name != "t"}
        rows.append(row | {"registered_at": wire.instant_text(told[venue_id]["t"])})
    return rows


def _by_reason(rejects: list[Row]) -> list[Row]:
    counts: dict[str, int] = {}
    for row in rejects:
        if row["status"] != "resolved":
            counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return [{"reason": reason, "rows": counts[reason]} for reason in sorted(counts)]


def cells_of(scans: list[Row], zone: ZoneInfo) -> Views:
    """The three cell families, as recounts of the accepted scans."""
    minutes: dict[tuple[str, str], list[Row]] = {}
    hours: dict[tuple[str, str], list[Row]] = {}
    days: dict[tuple[str, str, str], list[Row]] = {}
    for row in scans:
        local = datetime.fromisoformat(row["occurred_at"]).astimezone(zone)
        # Wall-clock time that is cut, with the offset at the scan: whatever the clock was set to within that hour.
        minute = local.astimezone(UTC) - timedelta(seconds=local.second, microseconds=local.microsecond)
        hour = minute - timedelta(minutes=local.minute)
        minutes.setdefault((_utc(minute), row["ward_code"]), []).append(row)
        hours.setdefault((_utc(hour), row["venue_id"]), []).append(row)
        day = local.date().isoformat()
        for level, code in (
            ("ward", row["ward_code"]),
            ("district", row["district_code"]),
            ("province", row["province_code"]),
            ("nation", "VN"),
        ):
            days.setdefault((day, level, code), []).append(row)
    return {
        "ward_minute": [{"minute": key[0], "ward_code": key[1], **_counts(minutes[key])} for key in sorted(minutes)],
        "venue_hour": [{"hour": key[0], "venue_id": key[1], **_counts(hours[key])} for key in sorted(hours)],
        "area_day": [
            {
                "day": key[0],
                "level": key[1],
                "code": key[2],
                "scans": len(days[key]),
                "persons": len({row["person_id"] for row in days[key]}),
                "active_venues": len({row["venue_id"] for row in days[key]}),
            }
            for key in sorted(days)
        ],
    }


def _utc(moment: datetime) -> str:
    return wire.instant_text(round(moment.timestamp() * 1000))


def _counts(rows: list[Row]) -> Row:
    directions = [row["direction"] for row in rows]
    return {
        "scans": len(rows),
        "ins": directions.count("in"),
        "outs": directions.count("out"),
        "passes": directions.count("pass"),
    }
