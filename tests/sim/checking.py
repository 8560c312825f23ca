"""Says whether what a run left behind is what its workload must give: against the naive checker, and without it.

``differences`` compares every table with the naive views, every output topic with its table, and what the rows
say about each other. ``coverage`` counts what the run went through.
"""

import base64
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

from streams.core import returned
from streams.core.intake import SETTLED
from streams.core.partition import partition_of
from streams.core.returned import RETURNS, Provenance
from streams.core.step import InRecord, Record
from tests.golden.compare import CELL_KEYS, CELL_VALUES
from tests.oracle import naive, wire
from tests.oracle.naive import ORDERED_REASONS, Line, Told, Views
from tests.sim.checking_rows import check_rows
from tests.sim.checking_topics import KEYS, check_topics, folded, key_text
from tests.sim.workload import EARLY, Workload
from tests.sim.workload_scans import Send
from tests.sim.workload_time import UTC_OFFSET_MS

Row = dict[str, Any]
Rows = Mapping[str, list[Row]]
Topics = Mapping[str, Sequence[InRecord]]

TIMEZONE: Final = "Asia/Ho_Chi_Minh"
SHOWN_MAX: Final = 20
_READERS: Final[Mapping[str, Callable[[object], Row]]] = {
    "venues": naive.registered,
    "scans": wire.scan,
    "cases": wire.case,
    "erasures": wire.erasure,
}
_KEY_FIELD: Final = {"venues": "venue_id"}
_HOPS_MAX: Final = 2


def differences(workload: Workload, rows: Rows, topics: Topics) -> list[str]:
    """What is wrong with the final rows of each table and the committed records of each topic, a line each.

    ``rows``: stored rows as ``truyvet replay`` writes them (``venues`` only where a sink was at work); ``topics``: by
    name without prefix, partition by partition.
    """
    wanted = wanted_of(workload)
    found = [
        *(line for table in ("scans", "visits", "cases", "exposures") for line in _check_table(wanted, table, rows)),
        *(_check_table(wanted, "venues", rows) if "venues" in rows else ()),
        *_check_cells(wanted, rows),
        *_check_rejects(wanted, rows["rejects"]),
        *check_topics(rows, topics),
        *check_rows(workload, rows, erased=bool(wanted.views["erased"])),
    ]
    return [*found[:SHOWN_MAX], *([f"{len(found) - SHOWN_MAX} more"] if len(found) > SHOWN_MAX else [])]


@dataclass(frozen=True)
class Judged:
    """What a record says by itself: its line for the naive checker, and whom and when a dead letter of it names."""

    line: Line
    persons: tuple[str, ...]
    event_ms: int


class Wanted:
    """What the naive checker says of a workload."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.judged = [_judged(number, send, workload.partitions) for number, send in enumerate(workload.sends)]
        by_topic: dict[str, list[Line]] = defaultdict(list)
        for send, judged in zip(workload.sends, self.judged, strict=True):
            if send.topic != "venues" or send.value is not None:
                late = send.topic == "venues" and send.at > EARLY
                by_topic["late" if late else topic_of(send)].append(judged.line)
        told = Told(*(by_topic[name] for name in ("venues", "scans", "cases", "erasures", "late")))
        days, rules = workload.retention_days, workload.rules
        self.views: Views = naive.views_of(told, retention_days=days, timezone=TIMEZONE, rulesets=rules)
        self.erased_ms = {row["person_id"]: row["until_ms"] for row in self.views["erased"]}

    def is_bare(self, number: int) -> bool:
        """Whether a dead letter of this record must have lost its key and payload in the end."""
        judged = self.judged[number]
        return any(judged.event_ms <= self.erased_ms.get(who, -1) for who in judged.persons)

    @cached_property
    def forgotten_cells(self) -> dict[str, dict[tuple[Any, ...], Row]]:
        """By table and key the cells of the scans that are forgotten, counting those alone."""
        return {table: _keyed(self.views[f"forgotten_{table}"], CELL_KEYS[table]) for table in CELL_KEYS}


@lru_cache(1)
def wanted_of(workload: Workload) -> Wanted:
    """What the naive checker says of a workload; of the last one it remembers it."""
    return Wanted(workload)


def came_of(send: Send) -> Provenance | None:
    """What a record of ``returns`` says of where its event came from."""
    if send.topic != RETURNS:
        return None
    return returned.came_of(Record(0, send.timestamp_ms, send.key, send.value, send.headers))


def topic_of(send: Send) -> str:
    """The topic whose event a record holds."""
    came = came_of(send)
    return send.topic if came is None else came.origin.topic


def _judged(number: int, send: Send, partitions: int) -> Judged:
    """Size, bytes, structure, key, partition; the rest is up to the naive checker (SPEC §2)."""
    now_ms, topic = max(send.timestamp_ms, 0), topic_of(send)
    came = came_of(send)
    if came is not None:
        now_ms = came.now_ms
    whole: object = None
    event: Row | None = None
    reason = ""
    key_field = _KEY_FIELD.get(topic, "person_id")
    named = [send.key.decode()] if send.key is not None and wire.PERSON.match(send.key.decode("latin-1")) else []
    event_ms = now_ms
    try:
        whole = wire.parse(send.value or b"")
        event = _READERS[topic](whole)
    except wire.BadEventError as error:
        reason = error.reason
    if event is not None:
        event_ms = event["t"]
        if key_field == "person_id":
            named.append(event["person_id"])
        key = event[key_field].encode()
        hops = 0 if came is None else came.hops
        home = partition_of(key, partitions) if send.partition >= 0 else send.partition
        if send.key != key:
            reason, event = "key_mismatch", None
        elif home != send.partition and hops >= _HOPS_MAX:
            reason, event = "misrouted", None
    fields = whole if isinstance(whole, dict) else {}
    return Judged(Line(now_ms, event, fields, reason, number), tuple(named), event_ms)


def _keyed(rows: Iterable[Row], names: Sequence[str]) -> dict[tuple[Any, ...], Row]:
    return {tuple(row[name] for name in names): row for row in rows}


def _unlike(wanted: Row, found: Row) -> list[str]:
    """The fields of the wanted row that the found one has otherwise."""
    return [
        name
        for name, value in wanted.items()
        if value != found.get(name) and not (isinstance(value, float) and abs(value - (found.get(name) or 0.0)) < 1e-9)
    ]


def _check_table(wanted: Wanted, table: str, rows: Rows) -> Iterator[str]:
    """Against the naive rows, by key; only rows that count."""
    names = KEYS[table]
    counting = ("confirmed", "withdrawn") if table == "cases" else ("active",)
    stored = [row for row in rows[table] if table == "venues" or row["status"] in counting]
    expected, found = _keyed(wanted.views[table], names), _keyed(stored, names)
    if len({tuple(row[name] for name in names) for row in rows[table]}) != len(rows[table]):
        yield f"{table}: {len(rows[table])} rows, but fewer keys"
    for key in sorted(expected.keys() | found.keys()):
        row, other = expected.get(key), found.get(key)
        if row is None or other is None:
            yield f"{table} {key_text(key)}: wanted {row or 'none'}, found {other or 'none'}"
        elif unlike := _unlike(row, other):
            yield f"{table} {key_text(key)}: wanted {_some(row, unlike)}, found {_some(other, unlike)}"


def _some(row: Row, names: Iterable[str]) -> Row:
    return {name: row.get(name) for name in names}


def summed(rows: Iterable[Row], names: Sequence[str]) -> dict[tuple[Any, ...], Counter[str]]:
    """Cells by key, summed over ``part``; without those that are all zero."""
    sums: dict[tuple[Any, ...], Counter[str]] = {}
    for row in rows:
        cell = sums.setdefault(tuple(row[name] for name in names), Counter())
        for name in CELL_VALUES:
            if name in row:
                cell[name] += row[name]
    return {key: cell for key, cell in sums.items() if any(cell.values())}


def _check_cells(wanted: Wanted, rows: Rows) -> Iterator[str]:
    """Exactly, where nobody is forgotten; else between what remains and that with what is forgotten."""
    floor_ms = wanted.workload.floor_ms
    first_day = wire.instant_text((floor_ms or 0) + UTC_OFFSET_MS)[:10]
    for table, names in CELL_KEYS.items():
        expected, found = summed(wanted.views[table], names), summed(rows[table], names)
        forgotten = wanted.forgotten_cells[table]
        for key in sorted(expected.keys() | found.keys()):
            least, cell = expected.get(key, Counter()), found.get(key, Counter())
            most = least
            if key in forgotten:
                most = least + Counter({name: int(forgotten[key].get(name, 0)) for name in CELL_VALUES})
                for name in {"persons", "active_venues"} & forgotten[key].keys():
                    most[name] = max(cell["scans"], least[name])
            elif table == "area_day" and key[0] < first_day:
                # A mark that comes days late, from a partition that was far behind, is no longer counted.
                least = Counter({name: value for name, value in least.items() if name != "active_venues"})
            if any(not least[name] <= cell[name] <= most[name] for name in CELL_VALUES):
                yield f"{table} {key_text(key)}: wanted {dict(least)} to {dict(most)}, found {dict(cell)}"


Dead = tuple[object, ...]


def _check_rejects(wanted: Wanted, rows: list[Row]) -> Iterator[str]:
    """Dead letters one by one: topic, time, reason, status, key, payload. What depends on the order is left out.

    That are the rows that an erasure covers, for reasons that it may come before; and those of scans that waited:
    whether they did depends on when their venue came.
    """
    sends = wanted.workload.sends
    expected: Counter[Dead] = Counter()
    perhaps: Counter[Dead] = Counter()
    for row in wanted.views["reject_rows"]:
        bare, send = wanted.is_bare(row["number"]), sends[row["number"]]
        key = None if bare or send.key is None else send.key.decode("utf-8", "backslashreplace")
        # A scan that was accepted late leaves a row without its payload: it waits without one.
        gone = bare or send.value is None or row["status"] == "resolved"
        payload = None if gone else base64.b64encode(send.value or b"").decode()
        dead: Dead = (row["topic"], row["record_at"], row["reason"], row["status"], key, payload)
        if bare and row["reason"] in ORDERED_REASONS:
            continue
        (perhaps if row["status"] == "resolved" else expected)[dead] += 1
    found: Counter[Dead] = Counter()
    for row in rows:
        if _is_settled(row):
            continue
        bare = row["key"] is None and row["payload"] is None
        if bare and row["reason"] in ORDERED_REASONS and wanted.erased_ms:
            continue
        dead = tuple(row[name] for name in ("topic", "record_at", "reason", "status", "key", "payload"))
        (perhaps if row["status"] == "resolved" else found)[dead] += -1 if row["status"] == "resolved" else 1
    for name, dead, count in (
        *(("wanted", dead, count) for dead, count in (expected - found).items()),
        *(("not wanted", dead, count) for dead, count in (found - expected).items()),
        *(("not wanted", dead, -count) for dead, count in perhaps.items() if count < 0),
    ):
        yield f"rejects: {name} {count} times {str(dead)[:400]}"
    yield from _check_sent_again(wanted, rows)


def _check_sent_again(wanted: Wanted, rows: list[Row]) -> Iterator[str]:
    """A scan that was sent again, and is there, has settled the row that it names (SPEC §1)."""
    names = KEYS["rejects"]
    settled = {tuple(row[name] for name in names) for row in rows if _is_settled(row)}
    there = {(row["person_id"], row["scan_id"]) for row in wanted.views["scans"]}
    gone = {(row["person_id"], row["scan_id"]) for row in wanted.views["forgotten"]}
    for number, (send, judged) in enumerate(zip(wanted.workload.sends, wanted.judged, strict=True)):
        came, event = came_of(send), judged.line.event
        if came is None or not came.attempt or event is None:
            continue
        topic, *where = came.origin
        key = (f"checkin.{topic}", *where)
        identity = (event["person_id"], event["scan_id"])
        late = any(row["status"] == "resolved" and tuple(row[name] for name in names) == key for row in rows)
        if (identity in there) != (key in settled or late) and identity not in gone and not wanted.is_bare(number):
            yield f"rejects {key_text(key)}: wanted it {'settled' if identity in there else 'open'}, found otherwise"
        settled.discard(key)
    yield from (f"rejects {key_text(key)}: settled by no scan" for key in sorted(settled))


def _is_settled(row: Row) -> bool:
    """Whether a row was resolved by sending its event again."""
    return bool(row["detail"] == SETTLED)


def coverage(workload: Workload, rows: Rows, topics: Topics) -> Counter[str]:
    """What a run went through, by name; zero where nothing did."""
    wanted = wanted_of(workload)
    counts: Counter[str] = Counter({"runs": 1, f"profile {workload.profile}": 1, "sends": len(workload.sends)})
    counts.update(f"reject {row['reason']}" for row in rows["rejects"])
    counts["waiting resolved"] = sum(
        row["reason"] == "unknown_venue" and row["status"] == "resolved" for row in rows["rejects"]
    )
    counts["waiting"] = sum(row["status"] == "waiting" for row in rows["rejects"])
    counts["sent again"] = sum(map(_is_settled, rows["rejects"]))
    counts["bare dead letters"] = sum(row["key"] is None and row["payload"] is None for row in rows["rejects"])
    for topic in ("visits", "exposures"):
        history = [row for _, row in folded(topic, topics.get(topic, ()))]
        counts[f"{topic} emitted"] = len(history)
        counts[f"{topic} retracted"] = sum(row["status"] == "retracted" for row in history)
        counts[f"{topic} returned"] = _returned(topic, history)
    for table in ("scans", "visits", "cases", "exposures"):
        counts.update(f"{table} {row['status']}" for row in rows[table])
    counts["exposures by rule"] = len({row["ruleset"] for row in rows["exposures"] if row["status"] == "active"})
    counts["erased persons"] = len(wanted.erased_ms)
    accepted = Counter(row["person_id"] for row in wanted.views["scans"])
    long_bytes = workload.chunk_bytes // 75
    counts["long timelines"] = sum(count > long_bytes for count in accepted.values())
    judged = [j.line for s, j in zip(workload.sends, wanted.judged, strict=True) if s.topic == "scans"]
    events = [line.event for line in judged if line.event is not None]
    counts["copies"] = len(events) - len({(event["person_id"], event["scan_id"]) for event in events})
    counts["misrouted and found"] = sum(
        s.partition >= 0 and j.line.event is not None for s, j in zip(workload.sends, wanted.judged, strict=True)
    )
    if workload.floor_ms is not None:
        gone = [row for row in wanted.views["scans"] if wire.instant(row["occurred_at"]) < workload.floor_ms]
        counts["scans expired"] = len(gone)
    return counts


def _returned(topic: str, history: list[Row]) -> int:
    """How often something came back after it had been taken back."""
    [name] = KEYS[topic]
    retracted: set[str] = set()
    returned = 0
    for row in history:
        if row["status"] == "retracted":
            retracted.add(row[name])
        elif row[name] in retracted:
            retracted.discard(row[name])
            returned += 1
    return returned
