"""Checks the output topics: what they say, read from the start and folded, is what the tables hold."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from streams.core.step import InRecord

Row = dict[str, Any]

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "scans": ("person_id", "scan_id"),
    "visits": ("visit_id",),
    "venues": ("venue_id",),
    "cases": ("case_id", "person_id"),
    "exposures": ("exposure_id",),
    "rejects": ("topic", "epoch", "partition", "offset"),
    "ward_minute": ("minute", "ward_code", "part"),
    "venue_hour": ("hour", "venue_id", "part"),
    "area_day": ("day", "level", "code", "part"),
}
"""What a stored row is known by."""
_TABLES: Final = {"enriched": "scans", "case-states": "cases"}
TOPICS: Final = ("enriched", "visits", "case-states", "exposures", "rejects", "aggregates")
_decode = msgspec.json.Decoder(Row).decode


def key_text(key: Iterable[object]) -> str:
    """A row's key as a difference shows it."""
    return "|".join(map(str, key))


def folded(topic: str, records: Iterable[InRecord]) -> Iterator[tuple[str, Row]]:
    """(table, row) of each record of an output topic."""
    table = _TABLES.get(topic, topic)
    for record in records:
        row = _decode(record.value or b"{}")
        yield row.pop("family", table), row


def check_topics(rows: Mapping[str, list[Row]], topics: Mapping[str, Sequence[InRecord]]) -> Iterator[str]:
    """One line for each revision that has two contents or comes too late, and each row that is not its topic's last."""
    newest: dict[str, dict[tuple[Any, ...], Row]] = defaultdict(dict)
    for topic in TOPICS:
        contents: dict[tuple[Any, ...], Row] = {}
        for table, row in folded(topic, topics.get(topic, ())):
            key, revision = tuple(row[name] for name in KEYS[table]), row["revision"]
            last = newest[table].get(key)
            said = contents.setdefault((table, *key, revision), row)
            if said != row:
                yield f"{topic} {key_text(key)}: revision {revision} says {_short(said)}, and {_short(row)}"
            elif topic != "rejects" and last is not None and last["revision"] >= revision:
                # A dead letter's revision is its stage, which two partitions may reach in any order.
                yield f"{topic} {key_text(key)}: revision {revision} after {last['revision']}"
            if last is None or last["revision"] < revision:
                newest[table][key] = row
    for table, names in KEYS.items():
        if table == "venues":  # the only table that an input is read into
            continue
        yield from _check_fold(table, newest[table], {tuple(row[name] for name in names): row for row in rows[table]})


def _check_fold(
    table: str, said: Mapping[tuple[Any, ...], Row], stored: Mapping[tuple[Any, ...], Row]
) -> Iterator[str]:
    for key in sorted(said.keys() | stored.keys()):
        row, other = said.get(key), stored.get(key)
        if row is None or other is None:
            yield f"{table} {key_text(key)}: topic says {_short(row)}, table {_short(other)}"
            continue
        # A row that takes back another is bare in the topic; what its table fills in does not matter.
        unlike = [name for name in row if row[name] != other.get(name)]
        if unlike:
            one, two = ({name: each.get(name) for name in unlike} for each in (row, other))
            yield f"{table} {key_text(key)}: topic says {_short(one)}, table {_short(two)}"


def _short(row: Row | None) -> str:
    return "nothing" if row is None else json.dumps(row)[:300]
