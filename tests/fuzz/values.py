"""JSON values in place of a field's: right elsewhere, wrong, or made to do harm."""

from typing import Final

from streams.core.inbound import VALUE_BYTES_MAX
from tests.fuzz.chance import Chance

ODD: Final = (
    *(b"null", b"true", b"false", b"[]", b"{}", b"[1]", b'["A"]', b'["a b"]', b'["A",null]', b'{"{":"}"}', b'[["x"]]'),
    *(b"0", b"-0", b"-0.0", b"5", b"5.0", b"5e0", b"1e2", b"0.5", b"240", b"90", b"91", b"-180.0", b"-90.1", b"1E+2"),
    *(b"2147483647", b"2147483648", b"18446744073709551616", b"1e999", b"-1e999", b"1e-999", b"9" * 400, b"1e400"),
    *(b"9" * 4300, b"9" * 4301, b"-" + b"9" * 5000, b"0." + b"1" * 5000, b"90.000000000000000001", b"-9" * 9),
    *(b'""', b'" "', b'"a b"', b'"a\\n"', b'"\\u0000"', b'"\x7f"', b'"' + b"a" * 64 + b'"', b'"' + b"a" * 65 + b'"'),
    *(b'"\\u0041"', b'"\\/"', b'"\\ud83d\\ude00"', '"\u2028é"'.encode(), b'"IN"', b'"in "', b'"closed"', b'"pass"'),
    *(b'"' + b"F" * 32 + b'"', b'"' + b"f" * 32 + b'"', '"٠٠٢٦٢"'.encode(), b'"00262"', b'"007"', b'"01"', b'"02"'),
    *(b'"\xef\xbb\xbfa"', b'"},{"', b'"]"', b'"{"', b'"' + b"n" * 1000 + b'"', b'"' + b"n" * 1001 + b'"'),
    *('"{}"'.format("ệ" * 1000).encode(), '"{}"'.format("ệ" * 1001).encode(), b'"' + b"[" * 100 + b'"'),
    *(b'"\\"' + b"[{" * 50 + b'\\\\"', b'"\\\\"', b'"\\\\\\""', b"[" + b'"A",' * 99 + b'"A"]'),
    *(b"[" + b'"A",' * 100 + b'"A"]', b"[" * 63 + b"]" * 63, b"[" * 64 + b"]" * 64, b'{"a":' * 62 + b"1" + b"}" * 62),
    *(b'"2021-10-14T08:15:30"', b'"2021-10-14t08:15:30Z"', b'"2021-10-14T08:15:60Z"', b'"2021-02-29T08:15:30Z"'),
    *(b'"2100-01-01T00:00:00Z"', b'"1969-12-31T23:59:59Z"', b'"1970-01-01T00:00:00+07:00"', b'"0000-01-01T00:00:00Z"'),
    *(b'"2099-12-31T23:59:59.999999-23:59"', b'"2021-10-14T08:15:30.Z"', b'"2021-10-14T08:15:30+24:00"'),
    *(b'"9999-12-31T23:59:59.999Z"', b'"2021-10-14T08:15:30.123456789012345678901234567890Z"', b"1634173200000"),
)
"""Values that are JSON."""
BROKEN: Final = (
    *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"01", b"+1", b".5", b"1.", b"1e", b"0x10", b"-", b"--1", b"1_0", b""),
    *(b'"a\n"', b'"\x00"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d"', b'"\\u00"', b'"\\x41"', b"tru", b"nulll"),
    *(b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b"'a'", b"undefined", b"[,]"),
    *(
        b"[1,]",
        b'{"a":1,}',
        b'{"a"}',
        b'{"a":\xff}',
        b'{"\xff":1}',
        b"[" * 65 + b"]" * 65,
        b"[" * 70 + b'"' + b"]" * 70,
    ),
    *(b'{"a":' * 64 + b"1" + b"}" * 64, b"[" * 300, b"{" * 300, b'"', b"/**/1", b"1//"),
)
"""Values that are none."""
EXTRA_NAMES: Final = (
    *(b'"_ts"', b'"extra"', '"ghi chú"'.encode(), b'""', b'"a\\"{"', b'"occurred_ms"', b'"canonical"', b'"_null"'),
    *(b'"\\ud800"', b'"\xff"', b"extra", b"null"),
)
_WHOLE: Final = (
    *(b"", b" ", b"null", b"[]", b"{}", b'"text"', b"7", b"{},{}", b"]", b"}{", b",", b"[{}]", b"{", b"}", b"\x00"),
    *(b"\xef\xbb\xbf{}", b"\xff\xfe", b'{"scan_id":', b"tru", b"1e5", b"'"),
)
# Cut to length. Each has once been, or is like what has once been, more work than its bytes.
_REPEATED: Final = (
    *(
        b"[",
        b"{",
        b'{"a":',
        b'[{"',
        b'["\\"]',
        b'[\\"',
        b'"\\',
        b"\\",
        b'"',
        b'[""',
        b"[\\",
        b'\\"[',
        b"]",
        b"[]",
        b"[[]",
    ),
    *(
        b'{"a":[',
        b"9",
        b"-9",
        b"0.1",
        b"1e",
        b"\\u",
        b'"\\ud800',
        b",",
        b" ",
        b"\xff",
        b"\xc3\xa9",
        b"\xf0\x9f\x98\x80",
    ),
    *(b'{"":', b'"a":1,', b'["a",', b"{},", b"\x00", b"}{", b"a", b"\\\\", b'\\\\"', b'"[\\"'),
)
_AROUND: Final = (
    (b"", b""),
    (b'{"a":"', b'"}'),
    (b"[", b"]"),
    (b'{"a":[', b"]}"),
    (b'"', b'"'),
    (b'{"scan_id":"', b""),
)


def odd_value(chance: Chance) -> bytes:
    """One value: nine times in ten it is JSON."""
    return chance.pick(BROKEN) if chance.once_in(10) else chance.pick(ODD)


def hostile_value(chance: Chance) -> bytes:
    """A whole value that costs as much as it can, seldom larger than is taken."""
    how = chance.below(12)
    if how < 3:
        return chance.pick(_WHOLE)
    size = 1 << (4 + chance.below(13)) if chance.once_in(2) else chance.below(VALUE_BYTES_MAX)
    if chance.once_in(4):
        size = VALUE_BYTES_MAX + chance.below(4) - 1
    before, behind = chance.pick(_AROUND)
    one = chance.pick(_REPEATED)
    if how == 3:
        one += chance.pick(_REPEATED)
    elif how == 4:
        one = b'"k%d":1,' % chance.below(9)
    elif how == 5:
        one, behind = one + b" " * chance.below(9), behind + b" "
    elif how == 6:
        return (b"[" * 64 + one * (size // len(one)) + b"]" * 64)[:VALUE_BYTES_MAX]
    room = max(0, size - len(before) - len(behind))
    return before + (one * (room // len(one) + 1))[:room] + behind
