"""What hostile values are, one by one: the table of verdicts, and the known ways to break a joined list."""

from typing import Final

import pytest

from schemas.areas import load_areas
from schemas.contract import Refusal, check_case, check_scan, check_venue
from streams.core.decode import (
    BadEvent,
    ScanIn,
    VenueIn,
    decode_case,
    decode_erasure,
    decode_scan,
    decode_scans,
    decode_venue,
)
from streams.core.judge import judge_scan

PERSON: Final = "9f86d081884c7d659a2feaa0c55ad015"


def scan(extra: bytes = b"", number: int = 1) -> bytes:
    """A good scan, with whatever is to stand at its end."""
    return (
        b'{"scan_id":"s%d","person_id":"9f86d081884c7d659a2feaa0c55ad015","venue_id":"V","direction":"in",'
        b'"occurred_at":"2021-10-14T08:15:30.1239+07:00","source":"paper"%b}' % (number, extra)
    )


def nested(depth: int) -> bytes:
    """A good scan with an ignored field in which so many arrays and objects are open, its own object included."""
    inner = depth - 1
    return scan(b',"x":' + b"[" * inner + b"]" * inner)


VERDICTS: Final = [
    ("no value", None, "malformed_json"),
    ("empty", b"", "malformed_json"),
    ("white space", b" \n", "malformed_json"),
    ("cut short", scan()[:-1], "malformed_json"),
    ("two values", scan() + scan(), "malformed_json"),
    ("two values with a comma", scan() + b"," + scan(), "malformed_json"),
    ("trailing comma", scan(b","), "malformed_json"),
    ("byte order mark", b"\xef\xbb\xbf" + scan(), "malformed_json"),
    ("UTF-16", scan().decode().encode("utf-16"), "malformed_json"),
    ("NaN in an ignored field", scan(b',"x":NaN'), "malformed_json"),
    ("-Infinity in an ignored field", scan(b',"x":-Infinity'), "malformed_json"),
    ("invalid UTF-8 in an ignored field", scan(b',"x":"\xff"'), "malformed_json"),
    ("invalid UTF-8 in an ignored key", scan(b',"\xc3":1'), "malformed_json"),
    ("an encoded surrogate in an ignored field", scan(b',"x":"\xed\xa0\x80"'), "malformed_json"),
    ("a lone surrogate in an ignored field", scan(b',"x":"\\ud800"'), "malformed_json"),
    ("a lone surrogate that a repeated key hides", scan(b',"x":"\\ud800","x":1'), "malformed_json"),
    ("a lone surrogate in a field", scan(b',"source":"\\udfff"'), "malformed_json"),
    ("broken after a wrong type", b'{"scan_id":7,"x":}', "malformed_json"),
    ("nested 65 deep", nested(65), "malformed_json"),
    ("nested 65 deep in objects", scan(b',"x":' + b'{"a":' * 64 + b"1" + b"}" * 64), "malformed_json"),
    ("nested 30,000 deep", b"[" * 30_000 + b"]" * 30_000, "malformed_json"),
    ("64 KiB and a byte", scan() + b" " * (65_537 - len(scan())), "oversized"),
    ("64 KiB and a byte of rubbish", b"\xff" * 65_537, "oversized"),
    ("null", b"null", "schema_violation"),
    ("an array", b"[]", "schema_violation"),
    ("an array of a scan", b"[" + scan() + b"]", "schema_violation"),
    ("a string", b'"text"', "schema_violation"),
    ("a number beyond all numbers", b"1e999", "schema_violation"),
    ("an empty object", b"{}", "schema_violation"),
    ("a number for a string", scan(b',"venue_id":7'), "schema_violation"),
    ("null for a string", scan(b',"source":null'), "schema_violation"),
    ("an empty id", scan(b',"venue_id":""'), "schema_violation"),
    ("a line end in an id", scan(b',"venue_id":"V\\n"'), "schema_violation"),
    ("letters of other scripts in an id", scan(',"venue_id":"Vệ"'.encode()), "schema_violation"),
    ("upper-case hex", scan(b',"person_id":"' + b"A" * 32 + b'"'), "schema_violation"),
    ("no offset", scan(b',"occurred_at":"2021-10-14T08:15:30"'), "schema_violation"),
    ("a leap second", scan(b',"occurred_at":"2021-10-14T08:15:60Z"'), "schema_violation"),
    ("24:00", scan(b',"occurred_at":"2021-10-14T24:00:00Z"'), "schema_violation"),
    ("the last of a repeated key is bad", scan(b',"source":"fax"'), "schema_violation"),
    ("good", scan(), None),
    ("white space around", b"\r\n\t " + scan() + b" \n", None),
    ("nested 64 deep", nested(64), None),
    ("64 KiB", scan() + b" " * (65_536 - len(scan())), None),
    ("a number beyond all numbers in an ignored field", scan(b',"x":1e999'), None),
    ("5,000 digits in an ignored field", scan(b',"x":' + b"9" * 5_000), None),
    ("a pair of surrogates", scan(b',"x":"\\ud83d\\ude00"'), None),
    ("brackets in a string", scan(b',"x":"' + b"[{" * 100 + b'"'), None),
    ("a bad value that a repeated key hides", b'{"source":7,' + scan()[1:], None),
    ("a key spelt with escapes", scan().replace(b'"source"', b'"\\u0073ource"'), None),
    ("other scripts in an ignored field", scan(',"ghi chú":"Chợ Hôm"'.encode()), None),
]


@pytest.mark.parametrize(("value", "reason"), [row[1:] for row in VERDICTS], ids=[row[0] for row in VERDICTS])
def test_verdict_on_a_scan(value: bytes | None, reason: str | None) -> None:
    """Each value has its verdict from the contract, alone, and between good neighbours."""
    refused = check_scan(value)
    assert (refused.reason if isinstance(refused, Refusal) else None) == reason
    alone = decode_scan(value)
    assert (alone.reason if isinstance(alone, BadEvent) else None) == reason
    assert decode_scans([scan(number=1), value, scan(number=2)]) == [
        decode_scan(scan(number=1)),
        alone,
        decode_scan(scan(number=2)),
    ]


def test_a_good_scan_has_its_fields() -> None:
    """The instant is cut to the millisecond, the ids stay as sent."""
    assert decode_scan(scan()) == ScanIn(
        scan_id="s1", person_id=PERSON, venue_id="V", direction="in", occurred_ms=1634174130123, source="paper"
    )


LIST_BREAKERS: Final = [
    ("two in one, and two that make one", [scan() + b"," + scan(number=2), scan()[:-1] + b',"x":"', b'{"}']),
    ("two in one, and a rest", [scan() + b"," + scan(number=2)[:-1], b'"x":1}']),
    ("two that make one", [scan()[:-1] + b',"x":"', b'{"}']),
    ("a list ends and another begins", [scan() + b"],[" + scan(number=2), scan(number=3)]),
    ("a comma at the end", [scan() + b",", scan(number=2)]),
    ("a comma at the start", [scan(), b"," + scan(number=2)]),
    ("nothing between", [scan(), b"", scan(number=2)]),
    ("an object within an object", [scan()[:-1] + b',"x":[{}', b"{}]}", scan() + b"," + scan(number=2)]),
    ("half a character each", [scan(b',"x":"\xe1"'), scan(b',"x":"\xbb\x87"')]),
    ("many shallow lists", [scan(b',"x":[]')] * 100),
    ("one too long among short ones", [scan(), scan() + b" " * 70_000, scan(number=2)]),
    ("all empty", [b"", None, b""]),
]


@pytest.mark.parametrize("batch", [row[1] for row in LIST_BREAKERS], ids=[row[0] for row in LIST_BREAKERS])
def test_values_that_break_a_joined_list(batch: list[bytes | None]) -> None:
    """What is read as one list in the fast path comes out as if read one by one."""
    assert decode_scans(batch) == [judge_scan(value) for value in batch]


def test_an_empty_batch_has_no_verdicts() -> None:
    """Nothing in, nothing out."""
    assert decode_scans([]) == []


def test_details_never_repeat_what_the_value_holds() -> None:
    """A reject's detail goes where operators look; the payload alone may hold what a faulty producer sent."""
    secret = b"Nguyen Van A 0912345678"
    fields = [b"scan_id", b"person_id", b"venue_id", b"direction", b"occurred_at", b"source"]
    for field in fields:
        verdict = decode_scan(scan(b',"' + field + b'":"' + secret + b'"'))
        assert isinstance(verdict, BadEvent)
        assert verdict.detail.startswith(field.decode())
        assert "Nguyen" not in verdict.detail
        assert "0912" not in verdict.detail


VENUE: Final = (
    b'{"venue_id":"01-7Q4ZK2","name":"Ch\xe1\xbb\xa3 H\xc3\xb4m","category":"market","province_code":"01",'
    b'"district_code":"007","ward_code":"00262","lat":21,"lon":105.851,'
    b'"registered_at":"2021-09-23T09:00:00+07:00","status":"active"%b}'
)


@pytest.mark.parametrize(
    ("extra", "right"),
    [
        (b"", True),
        (b',"dwell_minutes":null,"capacity":null,"codes":null', True),
        (b',"dwell_minutes":240,"capacity":0,"codes":["OLD1"]', True),
        (b',"dwell_minutes":241', False),
        (b',"dwell_minutes":0', False),
        (b',"dwell_minutes":5.0', False),
        (b',"dwell_minutes":true', False),
        (b',"capacity":-1', False),
        (b',"capacity":2147483648', False),
        (b',"capacity":"900"', False),
        (b',"codes":["a b"]', False),
        (b',"codes":[7]', False),
        (b',"lat":null', False),
        (b',"lat":90.5', False),
        (b',"lat":1e999', False),
        (b',"lon":-180', True),
        (b',"lon":true', False),
        (b',"name":""', True),
        (b',"name":null', False),
        (b',"category":"casino"', False),
        (b',"status":"open"', False),
        (b',"ward_code":"00001"', False),
        (b',"ward_code":"99999"', False),
        (b',"ward_code":262', False),
        (b',"ward_code":"262"', False),
        (b',"district_code":"001"', False),
        (b',"province_code":"79"', False),
        (b',"province_code":"01","district_code":"001","ward_code":"00001"', True),
    ],
)
def test_verdict_on_a_venue(extra: bytes, *, right: bool) -> None:
    """A venue's fields must be right, and its areas contain each other."""
    value = VENUE % extra
    verdict = decode_venue(value, load_areas())
    assert isinstance(verdict, VenueIn) == right, verdict
    assert isinstance(check_venue(value), Refusal) != right


def test_a_good_venue_has_its_fields() -> None:
    """Absent nullable fields are None, absent codes are none, an integer serves for a degree."""
    venue = decode_venue(VENUE % b"", load_areas())
    assert isinstance(venue, VenueIn)
    assert (venue.name, venue.lat, venue.capacity, venue.dwell_minutes, venue.codes) == (
        "Chợ Hôm",
        21.0,
        None,
        None,
        (),
    )
    assert type(venue.lat) is float
    assert venue.registered_ms == 1632362400000


CASE: Final = (
    '{"ruleset":"vn-2021-07","case_id":"HN-0001","person_id":"9f86d081884c7d659a2feaa0c55ad015",'
    '"status":"confirmed" , "reported_at":"2021-10-14T18:00:00+07:00","_ts":5,"ghi chú":{"b":1,"a":[1.50,2]}}'
).encode()


def test_a_case_keeps_its_canonical_json() -> None:
    """Keys sorted, no spaces, UTF-8, unknown fields too, without ``_ts``."""
    verdict = decode_case(CASE)
    assert not isinstance(verdict, BadEvent)
    assert verdict.canonical.decode() == (
        '{"case_id":"HN-0001","ghi chú":{"a":[1.5,2],"b":1},"person_id":"9f86d081884c7d659a2feaa0c55ad015",'
        '"reported_at":"2021-10-14T18:00:00+07:00","ruleset":"vn-2021-07","status":"confirmed"}'
    )
    assert (verdict.onset_ms, verdict.reported_ms) == (None, 1634209200000)


@pytest.mark.parametrize(
    ("old", "new", "right"),
    [
        (b'"ruleset":"vn-2021-07"', b'"ruleset":null', True),
        (b'"ruleset":"vn-2021-07"', b'"x":1', True),
        (b'"ruleset":"vn-2021-07"', b'"ruleset":"vn-1900-01"', True),
        (b'"ruleset":"vn-2021-07"', b'"ruleset":7', False),
        (b"confirmed", b"withdrawn", True),
        (b"confirmed", b"erased", False),
        (b"HN-0001", b"HN 0001", False),
        (b'"_ts"', b'"onset_at"', False),
        (b'"reported_at"', b'"onset_at"', False),
    ],
)
def test_verdict_on_a_case(old: bytes, new: bytes, *, right: bool) -> None:
    """Structure only: rulesets and periods are judged later."""
    value = CASE.replace(old, new)
    assert isinstance(decode_case(value), BadEvent) != right
    assert isinstance(check_case(value), Refusal) != right


def test_verdict_on_an_erasure() -> None:
    """Both fields are needed."""
    good = b'{"person_id":"9f86d081884c7d659a2feaa0c55ad015","requested_at":"2021-10-14T12:00:00+07:00"}'
    verdict = decode_erasure(good)
    assert not isinstance(verdict, BadEvent)
    assert (verdict.person_id, verdict.requested_ms) == (PERSON, 1634187600000)
    assert decode_erasure(good.replace(b"requested_at", b"at")) == BadEvent(
        "schema_violation", "requested_at: is missing"
    )
