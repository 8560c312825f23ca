"""The bench's checker: says right of what is right, and counts each kind of fault."""

import json
from typing import Any

import pytest

from bench.checking import Record, check, counts_of
from bench.peers import job
from bench.workload import Expected, Shape, expected_of, scan_lines, venue_lines

SHAPE = Shape(scans=300, people=40, venues=20)
Output = tuple[list[dict[str, Any]], list[Record]]


@pytest.fixture(scope="module", name="expected")
def _expected() -> Expected:
    return expected_of(venue_lines(SHAPE), scan_lines(SHAPE))


@pytest.fixture(name="output")
def _output() -> Output:
    """What a contender that stands on the peers' shared code would send: counts in two parts, some sent early too."""
    venues = {venue.venue_id: venue for venue in (job.decode_venue(line.value or b"") for line in venue_lines(SHAPE))}
    seen: set[tuple[str, str]] = set()
    enriched, counted = [], []
    parts = {0: job.Counts(), 1: job.Counts()}
    for number, line in enumerate(scan_lines(SHAPE)):
        scan = job.decode_scan(line.value or b"")
        if (scan.person_id, scan.scan_id) in seen:
            continue
        seen.add((scan.person_id, scan.scan_id))
        event = job.enrich(scan, venues[scan.venue_id])
        enriched.append(json.loads(job.encode(event)))
        parts[int(scan.person_id[0], 16) % 2].add(job.count_key(event.occurred_at, event.ward_code), event.direction)
        if number % 50 == 0:
            counted += _sent(parts)
    return enriched, counted + _sent(parts)


def _sent(parts: dict[int, job.Counts]) -> list[Record]:
    return [(b"%d|%b" % (part, key), value) for part, counts in parts.items() for key, value in counts.take_changed()]


def _values(events: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(event).encode() for event in events]


def test_right_output_is_right(expected: Expected, output: Output) -> None:
    """What follows the rules passes, whatever its order, with counts in parts and sent again."""
    enriched, counted = output
    verdict = check(expected, _values(enriched[::-1]), counted)
    assert verdict.right
    assert verdict.text() == "right"
    assert verdict.outputs == len(expected.venue_of)


def test_doubled_outputs_are_told(expected: Expected, output: Output) -> None:
    """A scan sent twice is no error of the set, and is counted."""
    enriched, counted = output
    verdict = check(expected, _values([*enriched, *enriched[:3]]), counted)
    assert verdict.right
    assert verdict.text() == "right, 3 doubled"


def test_missing_and_unknown_outputs_are_wrong(expected: Expected, output: Output) -> None:
    """A scan that is not there, and one that nobody sent."""
    enriched, counted = output
    strange = {**enriched[0], "scan_id": "nobody-sent-this"}
    verdict = check(expected, _values([*enriched[2:], strange]), counted)
    assert (verdict.missing, verdict.unknown, verdict.right) == (2, 1, False)
    assert verdict.text().startswith("WRONG: 2 missing, 1 unknown")


@pytest.mark.parametrize("name", ["ward_code", "district_code", "province_code", "category", "venue_id"])
def test_wrong_attributes_are_wrong(expected: Expected, output: Output, name: str) -> None:
    """A scan enriched with another venue's attributes."""
    enriched, counted = output
    enriched[5][name] = "99"
    verdict = check(expected, _values(enriched), counted)
    assert (verdict.wrong, verdict.right) == (1, False)


def test_wrong_counts_are_wrong(expected: Expected, output: Output) -> None:
    """A cell with one scan too many, one that is missing, and one of a minute in which nothing happened."""
    enriched, counted = output
    last = dict(counted)
    keys = iter(last)
    more, gone = next(keys), next(keys)
    event = json.loads(last[more])
    last[more] = json.dumps(event | {"ins": event["ins"] + 1}).encode()
    del last[gone]
    last[b"elsewhere"] = json.dumps(event | {"minute": "2021-10-01T00:00:00.000Z"}).encode()
    verdict = check(expected, _values(enriched), list(last.items()))
    assert (verdict.cells_wrong, verdict.right) == (3, False)


def test_changes_are_added_up() -> None:
    """A value that is taken back and sent anew counts once, whichever of the two records comes first."""
    event = {"minute": "2021-10-14T01:15:00.000Z", "ward_code": "00262", "outs": 0, "passes": 1}
    said = [(1, 1), (3, 1), (1, -1)]
    records = [(None, json.dumps(event | {"ins": ins, "diff": diff}).encode()) for ins, diff in said]
    assert counts_of(records, "changes") == {("2021-10-14T01:15:00.000Z", "00262"): (3, 0, 1)}


def test_other_families_are_left_out() -> None:
    """Counts by venue and by day share a topic with those by minute and ward."""
    record = (b"venue_hour|x", json.dumps({"family": "venue_hour", "hour": "2021-10-14T01:00:00.000Z"}).encode())
    assert counts_of([record], "upserts") == {}
