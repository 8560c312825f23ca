"""Records at which the pipeline itself fails, in a running worker on the real broker: each costs itself."""

import argparse
import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from streams.core.partition import partition_of
from tests.conftest import SettingsFactory
from tests.pipeline.failing_worker import poison
from tests.pipeline.one_worker import OneWorker, case, person, scan, venue
from truyvet import rejects

SCANS = (
    "streams.core.person:InOrder",
    "streams.core.person:decode_scans",
    "streams.core.intake:Desk.came",
    "streams.core.intake:partitions_of_persons",
    "streams.core.person:_take_scan",
    "streams.core.timeline:Timeline.find",
    "streams.core.timeline:Timeline.add",
    "streams.core.timeline:Timeline.settle",
    "streams.core.wire:enriched",
    "streams.core.person:VisitChanges",
)
"""At which scans fail; most of them on the way of those that are unusual."""
REJECTS = ("streams.core.intake:Desk.reject", "streams.core.wire:reject")
"""At which the writing of rejects fails, of failed records too."""
CASES = (
    "streams.core.cases:decode_case",
    "streams.core.cases:_judge",
    "streams.core.wire:case_state",
    "streams.core.timeline:Timeline.visits_between",
)
ERASURES = (
    "streams.core.erasure:decode_erasure",
    "streams.core.erasure:_note",
    "streams.core.timeline:Timeline.erase",
)
VENUES = (
    "streams.core.person:judge_versions",
    "streams.shell.register:judge_versions",
    "streams.core.directory:Directory.put",
)
OWN_PLACE = "streams.core.proximity:visit_records.kept"
"""At which the join fails."""
PLACES = (*SCANS, *REJECTS, *CASES, *ERASURES, *VENUES)


def _bad(number: int) -> str:
    """The person, or venue, at which the place of this number fails."""
    return poison(number) + person(number)[8:]


def _send(worker: OneWorker) -> set[str]:
    """Sends a record to every bug, among others that are good; returns the scan_ids that must be accepted."""
    good = set()
    for number, place in enumerate(PLACES):
        bad = _bad(number)
        if place in VENUES:
            worker.send("venues", bad, venue(bad))
        if place in SCANS:
            # Written unusually, it takes the way of what is unusual.
            value = json.dumps(scan(f"b{number}", bad)).replace("pc_covid", "\\u0070c_covid")
            worker.send("scans", bad, value.encode())
        if place in REJECTS:
            worker.send("scans", bad, b"{")
        if place in CASES:
            worker.send("cases", bad, case(f"b{number}", bad))
        if place in ERASURES:
            worker.send("erasures", bad, {"person_id": bad, "requested_at": "2021-10-12T00:00:00Z"})
        for i in range(20):
            name = person((number, i))
            worker.send("scans", name, scan(f"g{number}-{i}", name))
            good.add(f"g{number}-{i}")
        worker.send("cases", person((number, 0)), case(f"g{number}", person((number, 0))))
        worker.send(
            "erasures", person((number, 1)), {"person_id": person((number, 1)), "requested_at": "2021-01-12T00:00:00Z"}
        )
        worker.send("venues", f"V{number}", venue(f"V{number}"))
    worker.flush()
    return good


def test_a_bug_costs_the_record_at_which_it_shows(
    settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of some twenty places a record becomes a row ``failed``, all others go through, and it lives.

    One of the pipeline's own stops its partition alone, until an operator passes it over by name.
    """
    with OneWorker(settings(), tmp_path, "tests.pipeline.failing_worker", *PLACES, OWN_PLACE) as worker:
        _fails_from_outside(worker)
        _fails_at_its_own(worker, monkeypatch)


def _fails_from_outside(worker: OneWorker) -> None:
    worker.send("venues", "V1", venue("V1"))
    worker.flush()
    worker.until(lambda: worker.settled("venues"))
    good = _send(worker)
    worker.until(lambda: worker.settled("venues", "scans", "cases", "erasures"))
    assert {row["scan_id"] for row in worker.rows("enriched")} == good
    assert {row["case_id"] for row in worker.rows("case-states")} == {f"g{number}" for number in range(len(PLACES))}
    rows = [row for row in worker.rows("rejects") if row["reason"] == "failed"]
    places = {(row["topic"], row["partition"], row["offset"]) for row in rows}
    # Of venues one place is the stage's, two are the table's.
    wanted = {"scans": len(SCANS) + len(REJECTS), "cases": len(CASES), "erasures": len(ERASURES), "venues": 1}
    assert Counter(row["topic"] for row in rows) == {worker.settings.topic(name): n for name, n in wanted.items()}
    assert len(places) == len(rows), "a record has one row"
    assert all(row["detail"].startswith("KeyError at streams.core.") for row in rows)
    bare = [row for row in rows if row["payload"] is None]
    assert len(bare) == len(REJECTS) + 1, "only where rejects cannot be written: now_of is asked for them, too"
    assert worker.health()[0] == 200
    assert worker.metric("failed_records_total") == len(rows) + 2
    assert worker.log.count("the table of venues fails at a record") == 2
    assert "bad0" not in worker.log, "no value is told"
    assert worker.metric("register_venues") == len(PLACES) + 1, "V1 is one of them"
    _good_after(worker)


def _good_after(worker: OneWorker) -> None:
    worker.send("scans", person("last"), scan("last", person("last")))
    worker.flush()
    worker.until(lambda: worker.settled("scans"))
    assert "last" in {row["scan_id"] for row in worker.rows("enriched")}


def _pass(worker: OneWorker, monkeypatch: pytest.MonkeyPatch, *place: str) -> int:
    monkeypatch.setattr(rejects, "load_settings", lambda: worker.settings)
    parser = argparse.ArgumentParser()
    rejects.add_arguments(parser)
    return rejects.run(parser.parse_args(["--pass", *place]))


def _fails_at_its_own(worker: OneWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """``/healthz`` names topic, partition and offset; the other partition goes on."""
    bad, name = _bad(len(PLACES)), worker.settings.topic("visits")
    venues = {partition_of(f"W{number}".encode(), 2): f"W{number}" for number in range(9)}
    for venue_id in venues.values():
        worker.send("venues", venue_id, venue(venue_id))
    worker.flush()
    worker.until(lambda: worker.settled("venues"))
    for number in range(10):
        worker.send("scans", person(number), scan(f"s{number}", person(number), venues[number % 2]))
    worker.send("scans", bad, scan("bad", bad, venues[0]))
    for number in range(10, 20):
        worker.send("scans", person(number), scan(f"s{number}", person(number), venues[number % 2]))
    worker.flush()
    worker.until(lambda: worker.settled("scans") and worker.health()[0] == 503)
    found = re.search(rf"{re.escape(name)}-0, offset (\d+)", worker.health()[1])
    assert found, worker.health()
    [offset] = found.groups()
    ends = worker.drain.ends(("visits",))[name]
    worker.until(lambda: worker.drain.rooms()["venue-1"]["next"][name] == ends[1])
    assert worker.drain.rooms()["venue-0"]["next"][name] <= int(offset)
    assert _pass(worker, monkeypatch, "scans", "0", offset) == 2, "it is none of the pipeline's own"
    assert _pass(worker, monkeypatch, "visits", "2", offset) == 2, "there is no such partition"
    assert _pass(worker, monkeypatch, "visits", "0", str(int(offset) + 1)) == 0
    time.sleep(3)
    assert worker.health()[0] == 503, "another record than the one at which it stands"
    assert _pass(worker, monkeypatch, name, "0", offset) == 0
    worker.until(lambda: worker.settled("visits") and worker.health()[0] == 200)
    [row] = [row for row in worker.rows("rejects") if row["reason"] == "failed" and row["topic"] == name]
    assert (row["partition"], row["offset"]) == (0, int(offset))
    assert row["detail"].startswith("KeyError at streams.core.proximity:take_visits:")
    assert row["payload"] is None
