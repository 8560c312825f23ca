"""Events of the four input topics as records: good ones, and what becomes of one when it is bent."""

import re
from dataclasses import dataclass, field
from typing import Final

from schemas.areas import load_areas
from streams.core.categories import CATEGORIES
from streams.core.packed import DIRECTIONS, SOURCES
from streams.core.partition import partition_of
from streams.core.room import TIMESTAMP_MS_MAX
from streams.core.step import Record
from streams.core.times import DAY_MS
from tests.fuzz.chance import Chance
from tests.fuzz.values import EXTRA_NAMES, hostile_value, odd_value
from tests.oracle.making import MIDNIGHT_MS
from tests.oracle.render import time_text

AREAS: Final = load_areas()
PARTITIONS: Final = 3
HERE: Final = 0
"""The partition whose records these are."""
VALID: Final = "valid"
ONE: Final = "one mutation"
SEVERAL: Final = "several"
HOSTILE: Final = "hostile"
HOWS: Final = (VALID, ONE, SEVERAL, HOSTILE)
_RETENTION_DAYS: Final = 28

Header = tuple[str, bytes | None]

_setup = Chance("events")


def _persons(*, here: bool, count: int) -> tuple[bytes, ...]:
    found: list[bytes] = []
    while len(found) < count:
        person = b"%032x" % _setup.getrandbits(128)
        if (partition_of(person, PARTITIONS) == HERE) == here:
            found.append(person)
    return tuple(found)


PERSONS: Final = _persons(here=True, count=40)
STRANGERS: Final = _persons(here=False, count=8)
"""Persons of other partitions."""
VENUES: Final = tuple(b"VN-%d" % number for number in range(24))
CODES: Final = tuple(b"OLD%d" % number for number in range(12))
GHOSTS: Final = tuple(b"GHOST%d" % number for number in range(6))
"""Codes that nobody has registered."""
_WARDS: Final = tuple(_setup.sample(sorted(AREAS.parents.items()), 40))


def _times(first_ms: int, last_ms: int, count: int) -> tuple[tuple[bytes, int], ...]:
    chosen = [_setup.randrange(first_ms, last_ms) for _ in range(count)]
    return tuple((time_text(_setup, at_ms).encode(), at_ms) for at_ms in chosen)


NOW_MS: Final = MIDNIGHT_MS + 3 * DAY_MS
_RECENT: Final = _times(NOW_MS - 2 * DAY_MS, NOW_MS, 4_000)
_OLD: Final = _times(NOW_MS - 27 * DAY_MS, NOW_MS, 500)
_TOO_OLD: Final = _times(0, NOW_MS - 29 * DAY_MS, 200) + _times(NOW_MS - 100 * DAY_MS, NOW_MS - 92 * DAY_MS, 50)
_AHEAD: Final = _times(NOW_MS + DAY_MS, 4_100_000_000_000, 100) + _times(NOW_MS + 400_000, NOW_MS + DAY_MS, 50)


@dataclass(slots=True)
class Draft:
    """A record that is being made: an event's names and values as JSON writes them, and what is around it."""

    fields: list[tuple[bytes, bytes]]
    key: bytes | None
    timestamp: int = NOW_MS
    headers: list[Header] = field(default_factory=list)
    value: bytes | None = None
    """What stands instead of the fields, once those are written."""

    def written(self) -> bytes | None:
        """The record's value."""
        if self.value is None and self.fields:
            self.value = b"{" + b",".join([b'"%b":%b' % pair for pair in self.fields]) + b"}"
        return self.value

    def record(self, offset: int) -> Record:
        """The record; its time is within the years that there are, as the gate sees to."""
        timestamp = min(max(self.timestamp, 0), TIMESTAMP_MS_MAX)
        return Record(offset, timestamp, self.key, self.written(), self.headers)  # type: ignore[arg-type]


def _instant(chance: Chance) -> bytes:
    return b'"%b"' % chance.pick(_OLD if chance.once_in(20) else _RECENT)[0]


def _scan_id(chance: Chance) -> bytes:
    # Few enough that copies and conflicts come by themselves, many enough that most are new.
    return b"s%d" % chance.below(3_000) if chance.once_in(3) else b"s%d" % chance.getrandbits(48)


def scan(chance: Chance) -> Draft:
    """A good scan of a venue that is registered, or now and then of one that is not."""
    person = chance.pick(PERSONS)
    venue = chance.pick(VENUES) if not chance.once_in(8) else chance.pick(GHOSTS if chance.once_in(6) else CODES)
    return Draft(
        [
            (b"scan_id", b'"%b"' % _scan_id(chance)),
            (b"person_id", b'"%b"' % person),
            (b"venue_id", b'"%b"' % venue),
            (b"direction", b'"%b"' % chance.pick(DIRECTIONS).encode()),
            (b"occurred_at", _instant(chance)),
            (b"source", b'"%b"' % chance.pick(SOURCES).encode()),
        ],
        person,
    )


def venue(chance: Chance, venue_id: bytes | None = None) -> Draft:
    """A good version of a venue."""
    chosen = venue_id or chance.pick(VENUES + GHOSTS)
    ward, (district, province) = chance.pick(_WARDS)
    category = chance.pick(tuple(CATEGORIES))
    codes = b",".join([b'"%b"' % chance.pick(CODES) for _ in range(chance.below(4))])
    dwell = b"%d" % (1 + chance.below(CATEGORIES[category].dwell_minutes_max)) if chance.once_in(3) else b"null"
    return Draft(
        [
            (b"venue_id", b'"%b"' % chosen),
            (b"name", '"Chợ Hôm"'.encode()),
            (b"category", b'"%b"' % category.encode()),
            (b"province_code", b'"%b"' % province.encode()),
            (b"district_code", b'"%b"' % district.encode()),
            (b"ward_code", b'"%b"' % ward.encode()),
            (b"lat", b"%.4f" % (chance.random() * 180 - 90)),
            (b"lon", b"%.4f" % (chance.random() * 360 - 180)),
            (b"capacity", b"%d" % chance.below(1_000)),
            (b"registered_at", _instant(chance)),
            (b"status", chance.pick((b'"active"', b'"closed"'))),
            (b"dwell_minutes", dwell),
            (b"codes", b"[%b]" % codes if codes else b"null"),
        ],
        chosen,
    )


def case(chance: Chance) -> Draft:
    """A good report of a case."""
    person = chance.pick(PERSONS)
    sampled = _instant(chance)
    return Draft(
        [
            (b"case_id", b'"C-%d"' % chance.below(20)),
            (b"person_id", b'"%b"' % person),
            (b"status", b'"withdrawn"' if chance.once_in(5) else b'"confirmed"'),
            (b"onset_at", b"null" if chance.once_in(2) else _instant(chance)),
            (b"sampled_at", sampled),
            (b"infectious_from", b"null"),
            (b"infectious_to", b"null"),
            (b"isolated_at", b"null" if chance.once_in(2) else _instant(chance)),
            (b"reported_at", _instant(chance)),
            (b"ruleset", chance.pick((b'"vn-2021-07"', b'"vn-2021-12"'))),
        ],
        person,
    )


def erasure(chance: Chance) -> Draft:
    """A good request to forget a person."""
    person = chance.pick(PERSONS)
    return Draft([(b"person_id", b'"%b"' % person), (b"requested_at", _instant(chance))], person)


MAKERS: Final = {"scans": scan, "venues": venue, "cases": case, "erasures": erasure}
_TIME_NAMES: Final = (b"occurred_at", b"registered_at", b"reported_at", b"requested_at")
_ODD_TEXTS: Final = (
    *("origin", "first-ts", "hops", "echo", "was", "attempt", "topic", "x", "", "\x00", "ệ" * 40, "n" * 65, "origin "),
)
_ODD_CONTENTS: Final = (
    *(
        None,
        b"",
        b"1",
        b"-1",
        b"3",
        b"99999999999999999999",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b"\x00" * 16,
        b"\xff" * 16,
    ),
    *(b'{"topic":"checkin.scans","partition":0,"offset":5,"record_at":1634173200000,"reason":"unknown_venue"}',),
    *(b'{"topic":"\\ud800","partition":0,"offset":5,"record_at":0,"reason":"too_old"}', b"[" * 60, b"9" * 5_000),
    *(b'{"topic":"t","partition":0,"offset":5,"record_at":4611686018427387903,"reason":[]}', b"x" * 1_025),
)


def header(chance: Chance) -> Header:
    """A header that nobody outside may send, or an odd one."""
    content = chance.pick(_ODD_CONTENTS)
    if content is not None and chance.once_in(4):
        content = chance.bend(content)
    return chance.pick(_ODD_TEXTS), b"%d" % chance.number() if chance.once_in(5) else content


def bend(chance: Chance, draft: Draft) -> None:
    """Changes one thing of a record."""
    how = chance.below(24)
    if draft.fields and draft.value is None and how < 16:
        _bend_fields(chance, draft, how)
    elif how < 19:
        draft.value = chance.bend(draft.written() or b"")
    elif how == 19:
        draft.timestamp = chance.number() if chance.once_in(2) else NOW_MS + chance.below(80 * DAY_MS) - 40 * DAY_MS
    elif how < 22:
        draft.headers.append(header(chance))
    elif how == 22:
        keys = (None, b"", b"k", chance.pick(PERSONS), chance.pick(STRANGERS), b"x" * 1_024, b"x" * 1_025, b"\xff" * 32)
        draft.key = chance.pick(keys)
    else:
        draft.value, draft.fields = None, []


def _bend_fields(chance: Chance, draft: Draft, how: int) -> None:  # noqa: C901 - one way of many
    fields = draft.fields
    at = chance.below(len(fields))
    name, text = fields[at]
    if how < 4:
        fields[at] = name, odd_value(chance)
    elif how == 4:
        del fields[at]
    elif how == 5:
        fields.insert(chance.below(len(fields)), (name, text if chance.once_in(2) else odd_value(chance)))
    elif how == 6:
        fields[at] = b"".join([b"\\u%04x" % letter for letter in name[:1]]) + name[1:], text
    elif how == 7:
        fields.insert(at, (chance.pick(EXTRA_NAMES)[1:-1], odd_value(chance)))
    elif how == 8:
        fields[at] = name, chance.bend(text)
    elif how == 9:
        stranger = chance.pick(STRANGERS)
        _replace(draft, (b"person_id",), b'"%b"' % stranger)
        draft.key = stranger
        if chance.once_in(3):
            draft.headers.append(("hops", b"%d" % chance.below(4)))
    elif how < 13:
        _replace(draft, _TIME_NAMES, b'"%b"' % chance.pick(_TOO_OLD if how & 1 else _AHEAD)[0])
    elif how == 13:
        _replace(draft, (b"ruleset", b"venue_id"), chance.pick((b'"none"', b"null", b'"GHOST1"', b'"OLD1"')))
    elif how == 14:
        chance.shuffle(fields)
    else:
        fields[at] = name, b" " * chance.below(3) + text + chance.pick((b" ", b"\n", b"\t\r", b"\x0b"))


def _replace(draft: Draft, names: tuple[bytes, ...], text: bytes) -> None:
    draft.fields = [(name, text if name in names else old) for name, old in draft.fields]


def how_next(chance: Chance) -> str:
    """How the next record is to be made; half of them with one mutation."""
    turn = chance.random()
    return VALID if turn < 0.35 else ONE if turn < 0.83 else SEVERAL if turn < 0.975 else HOSTILE


def made(chance: Chance, topic: str, offset: int, how: str | None = None) -> tuple[Record, str]:
    """A record of an input topic, and how it was made: as is said, or as chance will have it."""
    how = how or how_next(chance)
    draft = MAKERS[topic](chance)
    if how == HOSTILE:
        draft.value = hostile_value(chance)
        if chance.once_in(4):
            draft.headers += [header(chance) for _ in range(chance.below(60))]
        if chance.once_in(20):
            draft.key = b"k" * chance.below(70_000)
    elif how != VALID:
        for _ in range(1 if how == ONE else 2 + chance.below(4)):
            bend(chance, draft)
    return draft.record(offset), how


def again(chance: Chance, record: Record) -> Record:
    """A copy of a record, or what has its identity and says otherwise."""
    if chance.once_in(2) or record.value is None:
        return record
    turn = chance.below(3)
    if turn == 0:
        return record._replace(value=record.value.replace(b'"in"', b'"out"').replace(b'"confirmed"', b'"withdrawn"'))
    other = chance.pick(SOURCES).encode()
    return record._replace(value=re.sub(rb'("source":)"[a-z_]+"', rb'\1"%b"' % other, record.value))
