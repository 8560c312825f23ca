"""Bad lines, one builder for each kind in ``mixing.FAULTS``. Each takes a good event and spoils it."""

import json
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from producers.simulate.arrays import Generator, Ints, stream
from producers.simulate.lines import LOCAL_SECONDS, ScanLines, time_texts
from producers.simulate.mixing import FAULTS, Arrivals, future_ms, stale_ms

OVERSIZED_CHARACTERS: Final = 70 * 1024
RETENTION_DAYS: Final = 28
Event = dict[str, Any]
Spoil = Callable[[Generator, Event, list[str]], str]


def bad_lines(lines: ScanLines, arrivals: Arrivals, seed: int) -> dict[int, str]:
    """The bad lines by their position in ``arrivals``. Lone surrogates in them stand for bytes that are no UTF-8."""
    positions = np.flatnonzero(arrivals.fault >= 0)
    good = lines.chunk(arrivals.row[positions], arrivals.record_ms[positions])
    made = {}
    for number, (position, text) in enumerate(zip(positions.tolist(), good, strict=True)):
        fault = FAULTS[int(arrivals.fault[position])]
        rng = stream(seed, "faults", number)
        event = json.loads(text)
        if fault.name != "conflicting":
            event["scan_id"] = f"{event['scan_id'][:10]}BUG{number:013d}"  # a good one has no U
        made[position] = SPOILS[fault.name](rng, event, lines.register.unknown_ids)
    return made


def _text(event: Event) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _time_text(instant_ms: int) -> str:
    one: Ints = np.array([instant_ms])
    return time_texts(one, np.array([LOCAL_SECONDS]))[0]


def _pick(rng: Generator, options: list[Event]) -> Event:
    return options[int(rng.integers(len(options)))]


def _cut(rng: Generator, event: Event, _: list[str]) -> str:
    text = _text(event)
    return text[: int(rng.integers(2, len(text) - 1))]


def _garbled(rng: Generator, event: Event, _: list[str]) -> str:
    text = _text(event)
    at = int(rng.integers(2, len(text) - 1))
    return f"{text[:at]}\udcff\udcfe{text[at + 2 :]}"


def _wrong_type(rng: Generator, event: Event, _: list[str]) -> str:
    options: list[Event] = [
        {"venue_id": 17},
        {"scan_id": None},
        {"person_id": ["?"]},
        {"direction": True},
        {"source": {}},
    ]
    return _text(event | _pick(rng, options))


def _wrong_value(rng: Generator, event: Event, _: list[str]) -> str:
    options = [{"person_id": event["person_id"].upper() + "A"}, {"direction": "sideways"}, {"source": "fax"}]
    return _text(event | _pick(rng, [*options, {"venue_id": "Chợ Hôm"}]))


def _bad_time(rng: Generator, event: Event, _: list[str]) -> str:
    options: list[Event] = [
        {"occurred_at": event["occurred_at"][:19]},
        {"occurred_at": event["occurred_at"].replace("T", " ")},
        {"occurred_at": event["occurred_at"][:10]},
        {"occurred_at": "14/10/2021 08:15"},
        {"occurred_at": "2021-10-14T24:61:00+07:00"},
        {"occurred_at": event["_ts"] // 1000},
    ]
    return _text(event | _pick(rng, options))


def _oversized(_: Generator, event: Event, __: list[str]) -> str:
    return _text(event | {"photo": "A" * OVERSIZED_CHARACTERS})


def _future(rng: Generator, event: Event, _: list[str]) -> str:
    return _text(event | {"occurred_at": _time_text(future_ms(rng, event["_ts"]))})


def _stale(rng: Generator, event: Event, _: list[str]) -> str:
    return _text(event | {"occurred_at": _time_text(stale_ms(rng, event["_ts"], RETENTION_DAYS))})


def _unknown_venue(rng: Generator, event: Event, unknown_ids: list[str]) -> str:
    return _text(event | {"venue_id": unknown_ids[int(rng.integers(len(unknown_ids)))]})


def _conflicting(_: Generator, event: Event, __: list[str]) -> str:
    return _text(event | {"source": "vhd" if event["source"] == "other" else "other"})


SPOILS: Final[dict[str, Spoil]] = {
    "cut": _cut,
    "garbled": _garbled,
    "wrong_type": _wrong_type,
    "wrong_value": _wrong_value,
    "bad_time": _bad_time,
    "oversized": _oversized,
    "future": _future,
    "stale": _stale,
    "unknown_venue": _unknown_venue,
    "conflicting": _conflicting,
}
