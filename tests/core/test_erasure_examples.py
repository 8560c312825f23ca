"""Erasures that meet what is rare: dead letters on any partition, those of one batch, headers, what has expired."""

from json import dumps

import pytest

from streams.core import held_scans
from streams.core.rejected import Origin
from streams.core.returned import RETURNS, Provenance, headers_of
from streams.core.step import Step
from streams.core.timeline import Timeline
from tests.core.pipeline import CLOCK, Pipeline, whole
from tests.core.test_erasure import OTHER, UNTIL_MS, VENUE, WHO, erase
from tests.oracle import wire


def _scan(occurred_ms: int = UNTIL_MS, direction: str = "in") -> bytes:
    event = {"scan_id": f"s{occurred_ms}", "person_id": WHO, "venue_id": "CAFE", "direction": direction}
    return dumps(event | {"source": "vhd", "occurred_at": wire.instant_text(occurred_ms)}).encode()


def test_a_dead_letter_of_the_same_batch_is_bared() -> None:
    """What an erasure rejects and another covers is remembered before it is forgotten, in one step."""
    pipeline = Pipeline()
    for record_ms in (UNTIL_MS - wire.FUTURE_MS - 1, UNTIL_MS):
        erase(pipeline, WHO, UNTIL_MS, record_ms)
    pipeline.run(whole)
    [row] = pipeline.views()["rejects"]
    assert (row["reason"], row["key"], row["payload"], row["revision"]) == ("in_future", None, None, (1 << 40) + 1)
    assert [*pipeline.person_states[0].data] == [b"p" + bytes.fromhex(WHO)]


@pytest.mark.parametrize("erased_first", [True, False])
def test_a_dead_letter_is_bared_wherever_it_lies(*, erased_first: bool) -> None:
    """A scan under another key, or none, lies on any partition; it is judged by its own person and its own time."""
    pipeline = Pipeline(3)
    if erased_first:
        erase(pipeline, WHO, UNTIL_MS)
        pipeline.run(whole)
    for partition in range(3):
        for key in (None, OTHER.encode()):
            for at_ms in (UNTIL_MS, UNTIL_MS + 1):
                pipeline.produce("scans", key, _scan(at_ms), UNTIL_MS + wire.DAY_MS, partition)
    if not erased_first:
        pipeline.run(whole)
        erase(pipeline, WHO, UNTIL_MS)
    pipeline.run(whole)
    rows = pipeline.views()["rejects"]
    assert [row["reason"] for row in rows] == ["key_mismatch"] * 12
    bare = [row for row in rows if row["payload"] is None]
    assert len(bare) == 6
    assert not any(row["key"] for row in bare)


def test_no_header_erases_without_a_word() -> None:
    """A request is one, whatever headers it has: on an input they are nothing, and an echo of one's own is checked."""
    pipeline = Pipeline()
    pipeline.produce("venues", b"CAFE", dumps(VENUE).encode(), UNTIL_MS)
    pipeline.register()
    scan = _scan()
    pipeline.produce("scans", WHO.encode(), scan, UNTIL_MS)
    pipeline.run(whole)
    erase(pipeline, WHO, UNTIL_MS, UNTIL_MS - wire.DAY_MS, [("echo", b"1")])
    pipeline.run(whole)
    assert [row["reason"] for row in pipeline.views()["rejects"]] == ["in_future"]
    came = Provenance(Origin("erasures", 0, 0, 7), UNTIL_MS - wire.DAY_MS, echo=True)
    request = dumps({"person_id": WHO, "requested_at": wire.instant_text(UNTIL_MS)}).encode()
    pipeline.produce(RETURNS, WHO.encode(), request, UNTIL_MS, headers=headers_of(came))
    pipeline.run(whole)
    assert [row["reason"] for row in pipeline.views()["rejects"]] == ["in_future"] * 2
    erase(pipeline, WHO, UNTIL_MS, UNTIL_MS, [("echo", b"1")])
    pipeline.run(whole)
    assert [row["status"] for row in pipeline.views()["scans"]] == ["erased"]
    assert [row["status"] for row in pipeline.views()["visits"]] == ["retracted"]


def test_what_was_sent_again_stays_resolved() -> None:
    """An erasure after a dead letter was sent again, and accepted, does not open its row anew."""
    pipeline = Pipeline()
    pipeline.produce("venues", b"CAFE", dumps(VENUE).encode(), UNTIL_MS)
    pipeline.register()
    scan = _scan()
    pipeline.produce("scans", WHO.encode(), scan, UNTIL_MS + 30 * wire.DAY_MS)
    pipeline.run(whole)
    [row] = pipeline.views()["rejects"]
    origin = Origin("scans", row["epoch"], row["partition"], row["offset"])
    again = Provenance(origin, UNTIL_MS, attempt=1, reason="too_old")
    pipeline.produce(RETURNS, WHO.encode(), scan, UNTIL_MS, headers=headers_of(again))
    pipeline.run(whole)
    erase(pipeline, WHO, UNTIL_MS)
    pipeline.run(whole)
    assert [row["status"] for row in pipeline.views()["scans"]] == ["erased"]
    [row] = pipeline.views()["rejects"]
    assert (row["reason"], row["status"], row["key"], row["payload"]) == ("too_old", "resolved", None, None)


@pytest.mark.parametrize("chunk_bytes", [60, held_scans.CHUNK_BYTES_MAX])
@pytest.mark.parametrize(("days", "changed"), [(-40, []), (0, ["active"])])
def test_an_erasure_of_before_what_expired_changes_no_visit(
    monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, days: int, changed: list[str]
) -> None:
    """A check-out's estimated start stays after the visit that expired, unless that was asked to be forgotten, too."""
    monkeypatch.setattr(held_scans, "CHUNK_BYTES_MAX", chunk_bytes)
    pipeline = Pipeline()
    pipeline.produce("venues", b"CAFE", dumps(VENUE | {"category": "hotel"}).encode(), UNTIL_MS)
    pipeline.register()
    hour_ms = 3_600_000
    for hours, direction in ((0, "in"), (6, "out"), (16, "out")):
        at_ms = UNTIL_MS + hours * hour_ms
        pipeline.produce("scans", WHO.encode(), _scan(at_ms, direction), at_ms)
    pipeline.run(whole)
    [state], head = pipeline.person_states, b"p" + bytes.fromhex(WHO)
    timeline = Timeline(bytes.fromhex(WHO), state.get(head), state)
    assert len(timeline.expire(UNTIL_MS + 29 * hour_ms, CLOCK, 1 << 30)[0]) == 2
    step = Step(0, 1)
    step.changes |= timeline.changes()
    state.apply(step)
    visits = len(pipeline.outputs["visits"])
    erase(pipeline, WHO, UNTIL_MS + 6 * hour_ms + days * wire.DAY_MS)
    pipeline.run(whole)
    assert [row["status"] for row in pipeline.outputs["visits"][visits:]] == changed
