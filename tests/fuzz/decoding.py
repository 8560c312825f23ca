"""The events' decoders: a run at once, one by one, and the slow and complete reading."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from streams.core import decode, judge
from streams.core.inbound import BadEvent
from streams.core.reasons import MALFORMED_JSON, OVERSIZED, SCHEMA_VIOLATION
from tests.fuzz import events
from tests.fuzz.calls import Answer, Call, Reader
from tests.fuzz.chance import Chance
from tests.fuzz.events import AREAS, HOSTILE
from tests.fuzz.rooms import shown, size_of

_GOOD: Final = "event"
_RUN_MAX: Final = 300
Values = Sequence[bytes | None]
_FORMS: Final[dict[str, tuple[Callable[[Values], list[Any]], Callable[[bytes | None], Any]]]] = {
    "scans": (decode.decode_scans, judge.judge_scan),
    "venues": (lambda values: decode.decode_venues(values, AREAS), lambda value: judge.judge_venue(value, AREAS)),
    "cases": (lambda values: [decode.decode_case(value) for value in values], decode.decode_case),
    "erasures": (lambda values: [decode.decode_erasure(value) for value in values], decode.decode_erasure),
}


def _answer(read: list[Any]) -> Answer:
    verdicts = Counter(one.reason if isinstance(one, BadEvent) else _GOOD for one in read)
    return Answer(verdicts, read)


def reader(topic: str) -> Reader:
    """The decoder of one topic."""
    together, alone = _FORMS[topic]

    def case(chance: Chance) -> Iterator[Call]:
        records, hows, odd = [], Counter[str](), []
        for offset in range(1 + chance.below(_RUN_MAX)):
            record, how = events.made(chance, topic, offset)
            records.append(record)
            hows[how] += 1
            if how == HOSTILE:
                odd.append(record)
        values = [record.value for record in records]
        yield Call(
            lambda: _answer(together(values)),
            len(records),
            size_of(records),
            shown(records),
            hows,
            twin=lambda: [alone(value) for value in values],
        )
        for record in odd:
            yield Call(
                lambda value=record.value: _answer([alone(value)]),  # type: ignore[misc]
                1,
                size_of([record]),
                shown([record]),
                Counter({HOSTILE: 1}),
                twin=lambda value=record.value: together([value]),  # type: ignore[misc]
            )

    return Reader(f"decode {topic}", case, frozenset({_GOOD, MALFORMED_JSON, SCHEMA_VIOLATION, OVERSIZED}), weight=2)
