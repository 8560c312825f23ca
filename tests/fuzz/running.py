"""One process of the fuzzer: case after case, each call measured, held to its bounds and to its plain form."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from streams.core.step import Step
from tests.fuzz.calls import Answer, Call, FaultError, Reader, short
from tests.fuzz.chance import Chance
from tests.fuzz.measuring import Cost, Meter
from tests.fuzz.rooms import decided

_TRIES: Final = 3
_FAULTS_KEPT: Final = 40


@dataclass(slots=True)
class Fault:
    """What a reader did that none may."""

    seed: str
    reader: str
    case: int
    what: str
    shown: str

    def __str__(self) -> str:
        """How it was, and how to see it again."""
        again = f"./do fuzz --seed {self.seed} --reader '{self.reader}' --case {self.case}"
        return f"{self.reader}, case {self.case}: {self.what}\n  input: {self.shown}\n  again: {again}"


@dataclass(slots=True)
class Tally:
    """What was done, and how it ended."""

    verdicts: dict[str, Counter[str]] = field(default_factory=dict)
    """By reader."""
    hows: Counter[str] = field(default_factory=Counter)
    records: int = 0
    batches: int = 0
    calls: int = 0
    twins: int = 0
    seconds_single: float = 0.0
    """The most that a call of one record took, and below a batch's share of what it may."""
    share_batch: float = 0.0
    bytes_most: int = 0
    faults: list[Fault] = field(default_factory=list)
    faults_in_all: int = 0

    def add(self, other: "Tally") -> None:
        """Takes in what another process did."""
        for reader, found in other.verdicts.items():
            self.verdicts.setdefault(reader, Counter()).update(found)
        self.hows.update(other.hows)
        self.records += other.records
        self.batches += other.batches
        self.calls += other.calls
        self.twins += other.twins
        self.seconds_single = max(self.seconds_single, other.seconds_single)
        self.share_batch = max(self.share_batch, other.share_batch)
        self.bytes_most = max(self.bytes_most, other.bytes_most)
        self.faults_in_all += other.faults_in_all
        self.faults = (self.faults + other.faults)[:_FAULTS_KEPT]


class Runner:
    """Runs cases of some readers and keeps count.

    Args:
        seed: Of everything.
        readers: Those that have their turn.
        times: How many times as much CPU a call may take, as a build with sanitisers does.
        memory: Whether memory is measured; sanitisers keep what is freed.
        place: A file that says at any moment which call is under way.
    """

    def __init__(
        self,
        seed: str,
        readers: Sequence[Reader],
        *,
        times: float = 1.0,
        memory: bool = True,
        place: Path | None = None,
    ) -> None:
        self.tally = Tally()
        self._seed = seed
        self._turns = [reader for reader in readers for _ in range(reader.weight)]
        self._times = times
        self._memory = memory
        self._meter = Meter(memory=memory)
        self._place = None if place is None else os.open(place, os.O_WRONLY | os.O_CREAT, 0o600)

    def run(
        self, first: int, by: int, until: float, records_max: int, batches_max: int = 0, *, cases_max: int = 1 << 62
    ) -> int:
        """Takes every ``by``-th case from ``first`` on, up to a time of the monotonic clock; returns the next case."""
        case = first
        stop = first + by * cases_max
        while (
            case < stop
            and time.monotonic() < until
            and (self.tally.records < records_max or self.tally.batches < batches_max)
        ):
            self.case(self._turns[case // by % len(self._turns)], case)
            case += by
        return case

    def case(self, reader: Reader, case: int) -> None:
        """Takes all calls of one case, or those up to one that fails in a way that those behind it depend on."""
        calls = reader.case(Chance(f"{self._seed}/{reader.name}/{case}"))
        for index, call in enumerate(calls):
            self._note(f"{reader.name}\t{case}\t{index}")
            try:
                self._take(reader, call)
            except Exception as error:  # noqa: BLE001 - whatever it is, no reader may raise it
                what = str(error) if isinstance(error, FaultError) else _said(error)
                self._fault(reader, case, what, call)
                if call.answer is None:
                    return

    def _note(self, where: str) -> None:
        if self._place is not None:
            os.pwrite(self._place, f"{where:<120}\n".encode(), 0)

    def _take(self, reader: Reader, call: Call) -> None:
        answer, cost = self._meter.measure(call.read)
        call.answer = answer
        tally = self.tally
        tally.verdicts.setdefault(reader.name, Counter()).update(answer.verdicts)
        tally.hows.update(call.hows)
        # What a step wrote, or is read a second time, was not made anew.
        tally.records += 0 if call.batch else sum(call.hows.values())
        tally.batches += call.batch
        tally.calls += 1
        if sum(answer.verdicts.values()) != call.records:
            raise FaultError(f"{call.records} records, but verdicts {dict(answer.verdicts)}")
        strange = [verdict for verdict in answer.verdicts if verdict not in reader.verdicts | reader.seldom]
        if strange:
            raise FaultError(f"no verdict that there is: {', '.join(strange)}")
        self._check_cost(call, cost)
        if call.twin is not None:
            tally.twins += 1
            _compare(answer, call.twin)

    def _check_cost(self, call: Call, cost: Cost) -> None:
        seconds, size = cost
        allowed = call.seconds_max * self._times
        for _ in range(_TRIES):
            if seconds <= allowed and (not self._memory or size <= call.bytes_max):
                break
            # An outlier counts only if it comes again each time.
            _, (again, size_again) = self._meter.measure(call.read)
            seconds, size = min(seconds, again), min(size, size_again)
        if call.records == 1 and not call.batch:
            self.tally.seconds_single = max(self.tally.seconds_single, seconds)
        else:
            self.tally.share_batch = max(self.tally.share_batch, seconds / allowed)
        self.tally.bytes_most = max(self.tally.bytes_most, size - 2 * call.size_bytes)
        if seconds > allowed:
            raise FaultError(f"{call.records} records, {call.size_bytes} bytes: {seconds * 1000:.1f} ms of CPU")
        if self._memory and size > call.bytes_max:
            raise FaultError(f"{call.records} records, {call.size_bytes} bytes: {size >> 20} MiB of memory")

    def _fault(self, reader: Reader, case: int, what: str, call: Call) -> None:
        self.tally.faults_in_all += 1
        if len(self.tally.faults) < _FAULTS_KEPT:
            self.tally.faults.append(Fault(self._seed, reader.name, case, what, short(call.shown())))


def _compare(answer: Answer, twin: Callable[[], Any]) -> None:
    other = twin()
    one, other = (decided(each) if isinstance(each, Step) else each for each in (answer.decided, other))
    if one != other:
        raise FaultError(f"the forms differ: {_difference(one, other)}")


def _difference(one: object, other: object) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        parts = [str(name) for name in one if one[name] != other.get(name)]
        return "in " + ", ".join(parts) + ": " + repr({name: (one.get(name), other.get(name)) for name in parts})[:600]
    return f"{one!r:.300} and {other!r:.300}"


def _said(error: BaseException) -> str:
    """An error's kind, its first words, and where it was raised."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        where = f" in {Path(code.co_filename).name}, line {trace.tb_lineno} ({code.co_name})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {str(error)[:120]}{where}"


def unreached(readers: Sequence[Reader], verdicts: Mapping[str, Counter[str]], least: int) -> Iterator[str]:
    """What came less often than it should: a line each."""
    for reader in readers:
        found = verdicts.get(reader.name, Counter())
        for verdict in sorted(reader.verdicts):
            if found[verdict] < least:
                yield f"{reader.name}: {verdict} came {found[verdict]} times"
