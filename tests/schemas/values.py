"""Hypothesis strategies for values of the input topics: good, bent and hostile ones, as bytes.

An event is built as a list of (key, value) texts rather than as a dictionary, so that repeated keys, odd
numbers, broken escapes and bytes that are no UTF-8 can stand in it.
"""

import json
from datetime import datetime
from typing import Final, get_args

from hypothesis import strategies as st

from schemas.areas import load_areas
from streams.core.categories import CATEGORIES
from streams.core.inbound import VALUE_BYTES_MAX, Source

Pair = tuple[bytes, bytes]

KINDS: Final = ("scan", "venue", "case", "erasure")
_LETTERS: Final = "ABCXYZabcxyz0189_-"

_ids = st.one_of(st.text(_LETTERS, min_size=1, max_size=10), st.text(_LETTERS, min_size=64, max_size=64))
_persons = st.text("0123456789abcdef", min_size=32, max_size=32)
_offsets = st.sampled_from(["Z", "+07:00", "-00:00", "+00:00", "-11:30", "+14:00", "+23:59", "-23:59"])
_fractions = st.one_of(st.just(""), st.text("0123456789", min_size=1, max_size=12).map(lambda digits: "." + digits))
instants = st.builds(
    "{:%Y-%m-%dT%H:%M:%S}{}{}".format,
    st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31, 23, 59, 59)),  # noqa: DTZ001  # the offset comes after
    _fractions,
    _offsets,
)
bent_instants = st.one_of(
    st.sampled_from(
        [
            "2021-10-14T08:15:30",
            "2021-10-14t08:15:30Z",
            "2021-10-14T08:15:30z",
            "2021-10-14 08:15:30Z",
            "2021-10-14T08:15:60Z",
            "2021-10-14T24:00:00Z",
            "2021-10-14T08:60:30Z",
            "2021-02-29T08:15:30Z",
            "2020-02-29T08:15:30Z",
            "2100-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+07:00",
            "2099-12-31T23:59:59.999999-23:59",
            "2021-10-14T08:15:30.Z",
            "2021-10-14T08:15:30,5Z",
            "2021-10-14T08:15:30+24:00",
            "2021-10-14T08:15:30+07:60",
            "2021-10-14T08:15:30+0700",
            "2021-10-14T08:15:30+07",
            "2021-10-14T08:15Z",
            "2021-10-14T08:15:30Z\n",
            "2021-10-14T08:15:30Z ",
            " 2021-10-14T08:15:30Z",
            "+2021-10-14T08:15:30Z",
            "2021-10-14T08:15:3٠Z",
            "2021-13-14T08:15:30Z",
            "2021-00-14T08:15:30Z",
            "2021-10-00T08:15:30Z",
            "",
        ]
    ),
    st.builds(
        lambda text, at, letter: text[:at] + letter + text[at + 1 :], instants, st.integers(0, 30), st.characters()
    ),
)

_wards = st.sampled_from(sorted(load_areas().parents.items())[:40])
_numbers = st.one_of(st.floats(-90, 90), st.integers(-90, 90))


@st.composite
def _scans(draw: st.DrawFn) -> dict[str, object]:
    return {
        "scan_id": draw(_ids),
        "person_id": draw(_persons),
        "venue_id": draw(_ids),
        "direction": draw(st.sampled_from(["in", "out", "pass"])),
        "occurred_at": draw(instants),
        "source": draw(st.sampled_from(get_args(Source))),
    }


@st.composite
def _venues(draw: st.DrawFn) -> dict[str, object]:
    ward, (district, province) = draw(_wards)
    category = draw(st.sampled_from(sorted(CATEGORIES)))
    return {
        "venue_id": draw(_ids),
        "name": draw(st.text(max_size=8)),
        "category": category,
        "province_code": province,
        "district_code": district,
        "ward_code": ward,
        "lat": draw(_numbers),
        "lon": draw(_numbers),
        "capacity": draw(st.none() | st.integers(0, 2**31 - 1)),
        "registered_at": draw(instants),
        "status": draw(st.sampled_from(["active", "closed"])),
        "dwell_minutes": draw(st.none() | st.integers(1, CATEGORIES[category].dwell_minutes_max + 1)),
        "codes": draw(st.none() | st.lists(_ids, max_size=3)),
    }


@st.composite
def _cases(draw: st.DrawFn) -> dict[str, object]:
    times = {
        name: draw(st.none() | instants)
        for name in ("onset_at", "sampled_at", "infectious_from", "infectious_to", "isolated_at")
    }
    return {
        "case_id": draw(_ids),
        "person_id": draw(_persons),
        "status": draw(st.sampled_from(["confirmed", "withdrawn"])),
        **times,
        "reported_at": draw(instants),
        "ruleset": draw(st.none() | st.sampled_from(["vn-2021-07", "vn-2021-12", "", "gì đó"])),
    }


@st.composite
def _erasures(draw: st.DrawFn) -> dict[str, object]:
    return {"person_id": draw(_persons), "requested_at": draw(instants)}


def events(kind: str) -> st.SearchStrategy[dict[str, object]]:
    """Good events of one kind."""
    return {"scan": _scans, "venue": _venues, "case": _cases, "erasure": _erasures}[kind]()


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _words(*texts: bytes | str) -> st.SearchStrategy[bytes]:
    return st.sampled_from([text.encode() if isinstance(text, str) else text for text in texts])


_literals = _words(b"null", b"true", b"false", b"[]", b"{}", b"[1]", b'["A"]', b'["a b"]', b'["A",null]', b'{"{":"}"}')
_odd_numbers = _words(
    *(b"0", b"-0", b"-0.0", b"5", b"5.0", b"5e0", b"1e2", b"0.5", b"240", b"90", b"91", b"262", b"-180.0", b"-90.1"),
    *(b"2147483647", b"2147483648", b"18446744073709551616", b"1e999", b"-1e999", b"1e-999", b"9" * 400),
    *(b"9" * 4300, b"9" * 4301, b"-" + b"9" * 5000, b"0." + b"1" * 5000, b"90.000000000000000001", b"1E+2"),
)
_odd_strings = _words(
    *(b'""', b'" "', b'"a b"', b'"a\\n"', b'"\\u0000"', b'"\x7f"', b'"' + b"a" * 65 + b'"', b'"\\u0041"', b'"\\/"'),
    *(b'"\\ud83d\\ude00"', '"\u2028é"', b'"IN"', b'"in "', b'"closed"', b'"pass"', b'"' + b"F" * 32 + b'"'),
    *(b'"' + b"f" * 32 + b'"', '"٠٠٢٦٢"', b'"00262"', b'"007"', b'"01"', b'"\xef\xbb\xbfa"', b'"},{"', b'"]"', b'"{"'),
    *(b'"' + b"n" * 1000 + b'"', b'"' + b"n" * 1001 + b'"', '"' + "ệ" * 1000 + '"', '"' + "ệ" * 1001 + '"'),
    *(b'"' + b"[" * 100 + b'"', b'"\\"' + b"[{" * 50 + b'\\\\"', b'"\\\\"', b'"\\\\\\""'),
)
_long_lists = _words(b"[" + b'"A",' * 99 + b'"A"]', b"[" + b'"A",' * 100 + b'"A"]')
_nests = st.builds(
    lambda ends, depth: ends[0] * depth + b"0" + ends[1] * depth,
    st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b'["]",', b"]")]),
    st.integers(61, 66),
) | st.builds(lambda depth: b'[{"[":' * depth + b"0" + b"}]" * depth, st.integers(30, 33))
_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
).map(_json_bytes)
legal_values = st.one_of(
    _literals,
    _odd_numbers,
    _odd_strings,
    _long_lists,
    _nests,
    _trees,
    st.one_of(instants, bent_instants).map(_json_bytes),
)
"""JSON values; some break another rule than JSON's own."""
broken_values = _words(
    *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"01", b"+1", b".5", b"1.", b"1e", b"0x10", b"-", b"--1", b"1_0", b""),
    *(b'"a\n"', b'"\x00"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d"', b'"\\u00"', b'"\\x41"', b"tru", b"nulll"),
    *(b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b"'a'", b"undefined"),
    *(
        b"[,]",
        b"[1,]",
        b'{"a":1,}',
        b'{"a"}',
        b"[" * 30_000,
        b"[" * 70 + b'"' + b"]" * 70,
        b'{"a":\xff}',
        b'{"\xff":1}',
    ),
)
"""No JSON."""


def _seldom(often: st.SearchStrategy[bytes], seldom: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Once in ten the second: with more of it, nearly every value would be malformed somewhere."""
    return st.integers(0, 9).flatmap(lambda turn: seldom if turn == 9 else often)


odd_values = _seldom(legal_values, broken_values)

_spaces = _seldom(_words(b"", b"", b"", b" ", b"\n", b"\t\r\n "), _words(b"", b"", b"\x0b", b"\xc2\xa0", b"/**/"))
_ends = _seldom(
    _words(b"", b"", b"", b" ", b"\n"), _words(b"\x00", b",", b"]", b"}", b"{}", b"[", b"\xef\xbb\xbf", b",{}")
)
_extra_keys = _seldom(
    _words(b'"_ts"', b'"extra"', '"ghi chú"', b'""', b'"a\\"{"', b'"occurred_ms"', b'"canonical"'),
    _words(b'"\\ud800"', b'"\xff"', b"extra", b"null"),
)


@st.composite
def bent_pairs(draw: st.DrawFn, kind: str) -> list[Pair]:
    """An event's fields with none to three of them changed, left out, repeated, misspelt or added."""
    pairs = [(_json_bytes(key), _json_bytes(value)) for key, value in draw(events(kind)).items()]
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 1, 1, 2, 3]))):
        at = draw(st.integers(0, len(pairs) - 1)) if pairs else 0
        change = draw(st.sampled_from(["value", "value", "drop", "repeat", "spell", "add"]))
        if change == "add" or not pairs:
            pairs.insert(at, (draw(_extra_keys), draw(odd_values)))
        elif change == "value":
            pairs[at] = (pairs[at][0], draw(odd_values))
        elif change == "drop":
            del pairs[at]
        elif change == "repeat":
            pairs.insert(draw(st.integers(0, len(pairs))), (pairs[at][0], draw(st.just(pairs[at][1]) | odd_values)))
        else:
            key = pairs[at][0]
            pairs[at] = (b'"\\u%04x' % key[1] + key[2:], pairs[at][1])
    return pairs


@st.composite
def values(draw: st.DrawFn, kind: str) -> bytes:
    """One value, from good to hopeless."""
    pairs = draw(bent_pairs(kind))
    space = draw(_spaces)
    value = b"{" + b",".join(space + key + b":" + text + space for key, text in pairs) + b"}"
    value = draw(_ends) + value + draw(_ends)
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(value)))
        gone = draw(st.sampled_from([0, 1, 1, 3, len(value)]))
        come = draw(
            st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b"\xff", b"\xc3", b"e", b"\n"])
        )
        value = value[:at] + come + value[at + gone :]
    if draw(st.integers(0, 40)) == 0:
        value += b" " * (VALUE_BYTES_MAX + draw(st.integers(-1, 1)) - len(value))
    return value


any_values = st.one_of(
    st.sampled_from([None, b"", b" ", b"null", b"[]", b"{}", b'"text"', b"7", b"{},{}", b"]", b"}{", b",", b"[{}]"]),
    st.binary(max_size=20),
)
"""Values that are no event of any kind."""


good_scans = _scans().map(_json_bytes)
"""Scans that anybody would send."""
good_venues = _venues().map(_json_bytes)
"""Versions of venues that anybody would send, and some whose stay is a minute too long."""


@st.composite
def shards(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> list[bytes]:
    """Good values as one JSON list, cut in other places than between them, as only an enemy would."""
    fillers = _words(b"", b"", b"{}", b'{"x":"', b'{"}', b'"}', b'","', b'{"a":', b"},{", b"[", b"]")
    parts = [draw(good | fillers) for _ in range(draw(st.integers(1, 8)))]
    whole = b",".join(part for part in parts if part)
    cut = st.one_of(
        [st.integers(0, len(whole)), *(st.just(at) for at in range(len(whole)) if whole[at : at + 1] == b"{")]
    )
    cuts = sorted(draw(st.lists(cut, max_size=6)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    return [piece.strip(b",") for piece in pieces]
