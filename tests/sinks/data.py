"""Hand-made records of the sink's topics, and a way to put them on a broker."""

import json
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Producer

from truyvet.config import Settings

PERSON = "{:032x}"


def scan(
    number: int, *, day: int = 14, revision: int = 1, person: int | None = None, **changes: object
) -> dict[str, Any]:
    """An ``enriched`` value: scan ``s<number>`` at 08:15:30 local time of that day of October 2021."""
    return {
        "scan_id": f"s{number}",
        "person_id": PERSON.format(number if person is None else person),
        "venue_id": "CAFE",
        "venue_code": "OLD",
        "direction": "in",
        "occurred_at": f"2021-10-{day:02d}T01:15:30.{number % 1000:03d}Z",
        "source": "pc_covid",
        "category": "cafe",
        "province_code": "01",
        "district_code": "007",
        "ward_code": "00262",
        "lat": 21.018,
        "lon": 105.851,
        "status": "active",
        "revision": revision,
    } | changes


def retraction(number: int, *, day: int = 14, revision: int = 2) -> dict[str, Any]:
    """The retraction of ``scan(number)``: key, partition time, status and revision only."""
    whole = scan(number, day=day, revision=revision, status="erased")
    return {name: whole[name] for name in ("scan_id", "person_id", "occurred_at", "status", "revision")}


def visit(number: int, *, day: int = 14, revision: int = 1, **changes: object) -> dict[str, Any]:
    """A ``visits`` value: what ``scan(number)`` opens, estimated to last an hour."""
    opening = scan(number, day=day)
    return {
        "visit_id": f"{number:032x}",
        "person_id": opening["person_id"],
        "venue_id": "CAFE",
        "started_at": opening["occurred_at"],
        "ended_at": opening["occurred_at"].replace("T01:", "T02:"),
        "start_kind": "scanned",
        "end_kind": "estimated",
        "first_scan_id": opening["scan_id"],
        "first_scan_at": opening["occurred_at"],
        "scan_count": 1,
        **{name: opening[name] for name in ("category", "province_code", "district_code", "ward_code")},
        "status": "active",
        "revision": revision,
    } | changes


def exposure(number: int, *, day: int = 14, revision: int = 1, **changes: object) -> dict[str, Any]:
    """An ``exposures`` value: the person of ``visit(number)`` was with case HN-1 for its first half hour."""
    contact = visit(number, day=day)
    return {
        "exposure_id": f"{number:032x}",
        "case_id": "HN-1",
        **{name: contact[name] for name in ("person_id", "venue_id", "category")},
        **{name: contact[name] for name in ("province_code", "district_code", "ward_code")},
        "overlap_from": contact["started_at"],
        "overlap_to": contact["started_at"].replace("T01:15", "T01:45"),
        "overlap_minutes": 30,
        "score": 30.0,
        "level": "medium",
        "ruleset": "vn-2021-07",
        "ruleset_version": 1,
        "contact_scan_at": contact["first_scan_at"],
        "reason": "case",
        "detected_at": "2021-10-14T11:00:00.000Z",
        "status": "active",
        "revision": revision,
    } | changes


def bare(topic: str, event: dict[str, Any]) -> dict[str, Any]:
    """The retraction of a visit or an exposure, at the event's own revision."""
    names = {"visits": ("visit_id", "first_scan_at"), "exposures": ("exposure_id", "person_id", "contact_scan_at")}
    return {name: event[name] for name in names[topic]} | {"status": "retracted", "revision": event["revision"]}


def ward_minute(minute: str, ward: str, part: str, counts: tuple[int, int, int], revision: int = 1) -> dict[str, Any]:
    """A ``ward_minute`` cell; ``counts`` are ins, outs, passes."""
    return {"family": "ward_minute", "minute": minute, "ward_code": ward} | _passages(part, counts, revision)


def venue_hour(hour: str, venue: str, part: str, counts: tuple[int, int, int], revision: int = 1) -> dict[str, Any]:
    """A ``venue_hour`` cell; ``counts`` are ins, outs, passes."""
    return {"family": "venue_hour", "hour": hour, "venue_id": venue} | _passages(part, counts, revision)


def _passages(part: str, counts: tuple[int, int, int], revision: int) -> dict[str, Any]:
    ins, outs, passes = counts
    values = {"scans": sum(counts), "ins": ins, "outs": outs, "passes": passes}
    return {"part": part} | values | {"revision": revision}


def area_day(day: str, code: str, part: str, values: tuple[int, int, int], revision: int = 1) -> dict[str, Any]:
    """An ``area_day`` cell; ``values`` are scans, persons, active venues."""
    level = {"VN": "nation"}.get(code) or {2: "province", 3: "district", 5: "ward"}[len(code)]
    scans, persons, active_venues = values
    return {
        "family": "area_day",
        "day": day,
        "level": level,
        "code": code,
        "part": part,
        "scans": scans,
        "persons": persons,
        "active_venues": active_venues,
        "revision": revision,
    }


def reject(offset: int, *, status: str = "open", revision: int = 1, **changes: object) -> dict[str, Any]:
    """A ``rejects`` value for an unreadable scan at that offset."""
    return {
        "topic": "checkin.scans",
        "epoch": 0,
        "partition": 1,
        "offset": offset,
        "record_at": "2021-10-14T01:15:30.000Z",
        "key": PERSON.format(1),
        "reason": "malformed_json",
        "detail": "no JSON",
        "payload": "eyI=",
        "attempts": 0,
        "status": status,
        "revision": revision,
    } | changes


def older_reject(offset: int, *, status: str = "open", revision: int = 1) -> dict[str, Any]:
    """The same as releases wrote it whose rows had no epoch, and a revision of 1 to 4."""
    whole = reject(offset, status=status, revision=revision)
    return {name: value for name, value in whole.items() if name not in ("epoch", "attempts")}


def venue(venue_id: str, *, ward: str = "00262", day: str = "2021-09-01", **changes: object) -> dict[str, Any]:
    """A ``venues`` value, registered at 08:00 local time of that day."""
    return {
        "venue_id": venue_id,
        "name": f"Điểm {venue_id}",
        "category": "cafe",
        "province_code": "01",
        "district_code": "007",
        "ward_code": ward,
        "lat": 21.0,
        "lon": 105.8,
        "capacity": None,
        "registered_at": f"{day}T08:00:00+07:00",
        "status": "active",
        "dwell_minutes": None,
        "codes": ["OLD"],
    } | changes


def case_state(case_id: str, *, status: str = "confirmed", revision: int = 1, **changes: object) -> dict[str, Any]:
    """A ``case-states`` value."""
    return {
        "case_id": case_id,
        "person_id": PERSON.format(1),
        "status": status,
        "onset_at": None,
        "sampled_at": "2021-10-14T00:00:00.000Z",
        "infectious_from": None,
        "infectious_to": None,
        "isolated_at": None,
        "reported_at": "2021-10-14T11:00:00.000Z",
        "ruleset": "vn-2021-07",
        "revision": revision,
    } | changes


def encoded(event: dict[str, Any]) -> bytes:
    """The event as it stands on a topic."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def key_of(topic: str, event: dict[str, Any]) -> str:
    """The key that SPEC, section 1, gives a record of this topic."""
    if topic == "aggregates":
        names = {"ward_minute": "minute ward_code", "venue_hour": "hour venue_id", "area_day": "day level code"}
        cell = [str(event[name]) for name in names[event["family"]].split()]
        return "|".join([event["family"], *cell, event["part"]])
    if topic in ("venues", "visits"):
        return str(event.get("venue_id", "?"))
    return str(event.get("person_id", event.get("key")))


def producer(settings: Settings, *, transactional_id: str | None = None) -> Producer:
    """A producer as the pipeline's own are."""
    options: dict[str, Any] = settings.librdkafka() | {"partitioner": "murmur2_random", "acks": "all"}
    if transactional_id is not None:
        options["transactional.id"] = transactional_id
    return Producer(options)


def put(settings: Settings, topic: str, events: Iterable[dict[str, Any] | tuple[str, bytes | None]]) -> None:
    """Produces events (or keys with raw values) to a topic and waits until they are there."""
    client = producer(settings)
    produce(client, settings, topic, events)
    assert client.flush(15) == 0


def produce(
    client: Producer, settings: Settings, topic: str, events: Iterable[dict[str, Any] | tuple[str, bytes | None]]
) -> None:
    """Gives events to a producer without waiting."""
    for event in events:
        key, value = event if isinstance(event, tuple) else (key_of(topic, event), encoded(event))
        client.produce(settings.topic(topic), value, key)
        client.poll(0)
