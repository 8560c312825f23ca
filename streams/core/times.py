"""Times: RFC 3339 texts to epoch milliseconds and back, and the local days, hours and minutes of reports.

A text is ``YYYY-MM-DDTHH:MM:SS[.digits](Z|±HH:MM)`` with capital T and Z, a real date, a written year of
1970 to 2099 and seconds below 60; digits beyond the millisecond are cut. An instant may lie before 1970 in
UTC (``1970-01-01T00:00:00+07:00``): its milliseconds are negative, and all arithmetic here floors.

Texts repeat: a batch of scans holds few distinct minutes and few distinct rests. So a text is cut in two
after the minute, each half is looked up, and only one never seen is parsed. The memos are bounded, and
change no result.
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_YEAR_FIRST: Final = 1970
_YEAR_LAST: Final = 2099
_FIRST_MS: Final = -62_135_596_800_000 + DAY_MS
"""0001-01-02: a day of room, so that a zone's offset never leaves the calendar."""
_LAST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""
BUCKET_MS: Final = 15 * MINUTE_MS
"""For as long a zone's offset is looked up at once."""
_MEMO_ENTRIES_MAX: Final = 65_536
"""A hostile stream of ever new texts must not grow the memos without bound."""

_DAY_TEXT: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_CLOCK_MS: Final = {
    f"T{hour:02}:{minute:02}": hour * HOUR_MS + minute * MINUTE_MS for hour in range(24) for minute in range(60)
}
_SHAPE: Final = "must be an RFC 3339 time, capital T between date and time"
_REST_TEXT: Final = re.compile(r":([0-5][0-9])(?:\.([0-9]++))?(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))")


class _Days(dict[str, int]):
    """``2021-10-14`` to the epoch milliseconds at which it would begin in UTC: at most the days of 130 years."""

    def __missing__(self, text: str) -> int:
        match = _DAY_TEXT.fullmatch(text)
        if match is None:
            raise ValueError(_SHAPE)
        year, month, day = map(int, match.groups())
        if not _YEAR_FIRST <= year <= _YEAR_LAST:
            raise ValueError("must be of the years 1970 to 2099")
        try:
            days = date(year, month, day).toordinal() - _EPOCH_ORDINAL
        except ValueError:
            raise ValueError("must be a day that the calendar has") from None
        self[text] = result = days * DAY_MS
        return result


_DAYS: Final = _Days()


class _Minutes(dict[str, int]):
    """``2021-10-14T08:15`` to the epoch milliseconds it would be in UTC."""

    def __missing__(self, text: str) -> int:
        clock_ms = _CLOCK_MS.get(text[10:])
        if clock_ms is None:
            raise ValueError(_SHAPE)
        # When venues were registered lies years apart: few share a minute, but many a day.
        result = _DAYS[text[:10]] + clock_ms
        if len(self) >= _MEMO_ENTRIES_MAX:
            self.clear()
        self[text] = result
        return result


class _Rests(dict[str, int]):
    """``:30.123+07:00`` to the milliseconds to add: seconds and fraction, less the offset.

    Only texts without a fraction are remembered: with one there are too many, and of a hostile kind.
    """

    def __missing__(self, text: str) -> int:
        match = _REST_TEXT.fullmatch(text)
        if match is None:
            raise ValueError("must have seconds of 00 to 59, and Z or an offset such as +07:00")
        seconds, fraction, sign, hours, minutes = match.groups()
        result = int(seconds) * 1000
        if fraction:
            result += int(fraction[:3].ljust(3, "0"))
        if sign:
            offset_ms = int(hours) * HOUR_MS + int(minutes) * MINUTE_MS
            result += offset_ms if sign == "-" else -offset_ms
        if fraction is None:
            if len(self) >= _MEMO_ENTRIES_MAX:
                self.clear()
            self[text] = result
        return result


MINUTES: Final = _Minutes()
"""For callers with many texts: ``MINUTES[text[:16]] + RESTS[text[16:]]`` is ``parse_ms(text)``."""
RESTS: Final = _Rests()


def parse_ms(text: str) -> int:
    """Epoch milliseconds of an RFC 3339 text.

    Raises:
        ValueError: the text is no time as this module's head describes; the message never repeats it.
    """
    return MINUTES[text[:16]] + RESTS[text[16:]]


class _OwnMinutes(dict[str, int]):
    """``2021-10-14T08:15`` as ``format_ms`` writes it to epoch milliseconds, of any year."""

    def __missing__(self, text: str) -> int:
        result = (datetime.fromisoformat(text + ":00+00:00") - _EPOCH) // timedelta(milliseconds=1)
        if len(self) >= _MEMO_ENTRIES_MAX:
            self.clear()
        self[text] = result
        return result


class _OwnRests(dict[str, int]):
    """``:30.000Z`` to milliseconds. Our own times always have three digits and Z: at most 60,000 texts."""

    def __missing__(self, text: str) -> int:
        self[text] = result = parse_ms("1970-01-01T00:00" + text)
        return result


_OWN_MINUTES: Final = _OwnMinutes()
_OWN_RESTS: Final = _OwnRests()


def is_day(text: str) -> bool:
    """Whether this is a local day of an event: ``2021-10-14``, of any zone's 1970 to 2099."""
    try:
        _DAYS[text]
    except ValueError:
        return text in _DAYS_BESIDE
    return True


_DAYS_BESIDE: Final = ("1969-12-31", "2100-01-01")


def own_ms(text: str) -> int:
    """The inverse of ``format_ms``, which may have written a year that no event may: 1969, 2100, or what a stay adds.

    Raises:
        ValueError: the text is none that ``format_ms`` writes.
    """
    return _OWN_MINUTES[text[:16]] + _OWN_RESTS[text[16:]]


class _MinuteTexts(dict[int, bytes]):
    """Minutes since the epoch to ``2021-10-14T01:15:``."""

    def __missing__(self, minute: int) -> bytes:
        result = (_EPOCH + timedelta(minutes=minute)).isoformat()[:17].encode()
        if len(self) >= _MEMO_ENTRIES_MAX:
            self.clear()
        self[minute] = result
        return result


_MINUTE_TEXTS: Final = _MinuteTexts()


class _RestTexts(dict[int, bytes]):
    """Milliseconds of a minute to ``30.000Z``; at most 60,000 of them."""

    def __missing__(self, rest_ms: int) -> bytes:
        self[rest_ms] = result = b"%02d.%03dZ" % divmod(rest_ms, 1000)
        return result


_REST_TEXTS: Final = _RestTexts()


def format_bytes(ms: int) -> bytes:
    """``2021-10-14T01:15:30.000Z`` of epoch milliseconds; beyond the calendar, its nearest day's."""
    if not _FIRST_MS <= ms <= _LAST_MS:
        ms = min(max(ms, _FIRST_MS), _LAST_MS)
    return _MINUTE_TEXTS[ms // MINUTE_MS] + _REST_TEXTS[ms % MINUTE_MS]


def format_ms(ms: int) -> str:
    """``format_bytes`` as text."""
    return format_bytes(ms).decode()


def days_between(first: bytes, second: bytes) -> int:
    """Calendar days from one ``YYYY-MM-DD`` to another; negative if the second is earlier."""
    return date.fromisoformat(second.decode()).toordinal() - date.fromisoformat(first.decode()).toordinal()


class LocalClock:
    """The days, hours and minutes of one time zone. It tells no "now": every time is an argument.

    A zone's offset is looked up once per quarter of an hour; a quarter within which it changes (a few in
    the history of the zones) is never remembered.
    """

    __slots__ = ("_days", "_places", "_zone", "steady_ms")

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self.steady_ms: dict[int, int] = {}
        """Offsets that stay for a whole quarter of an hour, by its number, as far as they were asked for."""
        self._days: dict[int, str] = {}
        self._places: dict[int, tuple[int, int, bytes]] = {}

    def offset_ms(self, ms: int) -> int:
        """Milliseconds that local time is ahead of UTC at this instant."""
        steady = self.steady_offset_ms(ms)
        return self._exact_offset_ms(ms) if steady is None else steady

    def steady_offset_ms(self, ms: int) -> int | None:
        """The same, where it stays so for the whole quarter of an hour of this instant; else None."""
        bucket = ms // BUCKET_MS
        known = self.steady_ms.get(bucket)
        if known is not None:
            return known
        first = self._exact_offset_ms(bucket * BUCKET_MS)
        if first != self._exact_offset_ms((bucket + 1) * BUCKET_MS - 1):
            return None
        if len(self.steady_ms) >= _MEMO_ENTRIES_MAX:
            self.steady_ms.clear()
        self.steady_ms[bucket] = first
        return first

    def day_text(self, ms: int) -> str:
        """The local day, ``YYYY-MM-DD``."""
        clamped_ms = min(max(ms, _FIRST_MS), _LAST_MS - DAY_MS)
        day = (clamped_ms + self.offset_ms(clamped_ms)) // DAY_MS
        known = self._days.get(day)
        if known is not None:
            return known
        text = date.fromordinal(day + _EPOCH_ORDINAL).isoformat()
        if len(self._days) >= _MEMO_ENTRIES_MAX:
            self._days.clear()
        self._days[day] = text
        return text

    def place(self, ms: int) -> tuple[int, int, bytes]:
        """(start of the local minute, start of the local hour, local day) of this instant, in one look-up."""
        known = self._places.get(ms // MINUTE_MS)
        if known is not None:
            return known
        place = (self.minute_start(ms), self.hour_start(ms), self.day_text(ms).encode())
        steady = self.steady_offset_ms(ms)
        if steady is not None and steady % MINUTE_MS == 0:  # else UTC's minutes and the zone's are not the same
            if len(self._places) >= _MEMO_ENTRIES_MAX:
                self._places.clear()
            self._places[ms // MINUTE_MS] = place
        return place

    def minute_start(self, ms: int) -> int:
        """UTC milliseconds at which the local minute of this instant began."""
        return ms - (ms + self.offset_ms(ms)) % MINUTE_MS

    def hour_start(self, ms: int) -> int:
        """UTC milliseconds at which the local hour of this instant began."""
        return ms - (ms + self.offset_ms(ms)) % HOUR_MS

    def day_start(self, ms: int) -> int:
        """UTC milliseconds at which the local day of this instant began."""
        offset = self.offset_ms(ms)
        start = ms - (ms + offset) % DAY_MS
        return start + offset - self.offset_ms(start)

    def _exact_offset_ms(self, ms: int) -> int:
        clamped_ms = min(max(ms, _FIRST_MS), _LAST_MS - DAY_MS)
        offset = (_EPOCH + timedelta(milliseconds=clamped_ms)).astimezone(self._zone).utcoffset()
        assert offset is not None, "a time zone always has an offset"
        return offset // timedelta(milliseconds=1)
