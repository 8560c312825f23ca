"""The fuzzer's processes: each takes every so-many-th case; one that dies says by its place file at which call."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.fuzz import building
from tests.fuzz.building import Kind
from tests.fuzz.calls import short
from tests.fuzz.chance import Chance
from tests.fuzz.running import Fault, Runner, Tally
from tests.fuzz.table import BY_NAME

_PLAN: Final = "FUZZ_PLAN"
_DEATHS_MAX: Final = 6
_HANGS_SECONDS: Final = 180.0
_POLL_SECONDS: Final = 0.2
_SLOWER: Final = 12.0
"""How much more CPU the sanitisers take."""
_SAID_CHARACTERS: Final = 3_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process, or all together, are to do."""

    seed: str
    readers: list[str]
    seconds: float
    records_max: int
    batches_max: int
    jobs: int
    first: int = 0
    times: float = 1.0
    memory: bool = True
    place: str = ""
    result: str = ""


def is_worker() -> bool:
    """Whether this process is one of those that ``run`` has started."""
    return _PLAN in os.environ


def serve() -> int:
    """Does what the plan in the environment says, and writes how it ended."""
    logging.getLogger("truyvet").setLevel(logging.CRITICAL + 1)
    plan = Plan(**json.loads(os.environ[_PLAN]))
    readers = [BY_NAME[name] for name in plan.readers]
    runner = Runner(plan.seed, readers, times=plan.times, memory=plan.memory, place=Path(plan.place))
    until = time.monotonic() + plan.seconds
    runner.run(plan.first, plan.jobs, until, plan.records_max, plan.batches_max)
    Path(plan.result).write_text(json.dumps(_written(runner.tally)))
    return 0


def _written(tally: Tally) -> dict[str, Any]:
    """What ``_read`` reads."""
    found = {name: getattr(tally, name) for name in tally.__slots__}
    return found | {"faults": [asdict(fault) for fault in tally.faults]}


@dataclass(slots=True)
class _Worker:
    plan: Plan
    process: subprocess.Popen[bytes]
    said: Path
    moved: float
    where: str = ""


def run(plan: Plan, kind: Kind | None, folder: Path, home: Path | None = None) -> Tally:
    """Runs the plan in as many processes as it says, in another build where ``kind`` is one; what they did.

    ``home`` is where that build lies, if it is made already.
    """
    if home is None:
        home = building.ROOT if kind is None else building.build(kind, folder / kind.name)
    environment = building.environment(kind, home)
    tally, deaths = Tally(), 0
    until = time.monotonic() + plan.seconds
    with tempfile.TemporaryDirectory() as scratch:
        share = replace(
            plan,
            records_max=-(-plan.records_max // plan.jobs),
            batches_max=-(-plan.batches_max // plan.jobs),
            times=_SLOWER if kind is building.SANITIZED else 4.0 if kind is building.COVERED else 1.0,
            memory=kind is None,
        )
        workers = [
            _start(replace(share, first=number), Path(scratch), environment, home) for number in range(plan.jobs)
        ]
        while workers:
            time.sleep(_POLL_SECONDS)
            for worker in list(workers):
                if not _ended(worker):
                    continue
                workers.remove(worker)
                result = Path(worker.plan.result)
                if result.exists():
                    tally.add(_read(result))
                    continue
                deaths += 1
                case = _died(worker, tally)
                if deaths < _DEATHS_MAX and case is not None and time.monotonic() < until:
                    left = max(1.0, until - time.monotonic())
                    onward = replace(worker.plan, first=case + plan.jobs, seconds=left)
                    workers.append(_start(onward, Path(scratch), environment, home))
    return tally


def _start(plan: Plan, scratch: Path, environment: dict[str, str], home: Path) -> _Worker:
    stem = f"{plan.first}-{time.monotonic_ns()}"
    plan = replace(plan, place=str(scratch / f"{stem}.place"), result=str(scratch / f"{stem}.json"))
    said = scratch / f"{stem}.said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz"],
            env=environment | {_PLAN: json.dumps(asdict(plan))},
            cwd=home,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return _Worker(plan, process, said, time.monotonic())


def _ended(worker: _Worker) -> bool:
    """Whether it has; one that stays at one call is ended."""
    if worker.process.poll() is not None:
        return True
    place = Path(worker.plan.place)
    where = place.read_text() if place.exists() else ""
    if where != worker.where:
        worker.where, worker.moved = where, time.monotonic()
    elif time.monotonic() - worker.moved > _HANGS_SECONDS:
        worker.process.kill()
        worker.process.wait()
        return True
    return False


def _read(path: Path) -> Tally:
    found: dict[str, Any] = json.loads(path.read_text())
    found["verdicts"] = {reader: Counter(verdicts) for reader, verdicts in found["verdicts"].items()}
    found["hows"] = Counter(found["hows"])
    found["faults"] = [Fault(**fault) for fault in found["faults"]]
    return Tally(**found)


def _died(worker: _Worker, tally: Tally) -> int | None:
    """Notes the call at which a process died; its case, where that is known."""
    said = worker.said.read_text(errors="replace")
    at = max(said.find("ERROR: AddressSanitizer"), said.find("runtime error"), said.find("Fatal Python error"))
    what = f"the process ended with {worker.process.returncode}: {said[max(at - 120, 0) :][:_SAID_CHARACTERS]}"
    place = Path(worker.plan.place)
    where = place.read_text().strip() if place.exists() else ""
    reader, case, index = where.split("\t") if where else ("", "0", "0")
    tally.faults_in_all += 1
    if reader not in BY_NAME:
        tally.faults.append(Fault(worker.plan.seed, reader, int(case), what, ""))
        return None
    tally.faults.append(
        Fault(worker.plan.seed, reader, int(case), what, _input(worker.plan.seed, reader, int(case), int(index)))
    )
    return int(case)


def _input(seed: str, reader: str, case: int, index: int) -> str:
    """The input of a call that ended its process; without reading it, where the calls before it were harmless."""
    try:
        for number, call in enumerate(BY_NAME[reader].case(Chance(f"{seed}/{reader}/{case}"))):
            if number == index:
                return short(call.shown())
            call.answer = call.read()
    except Exception as error:  # noqa: BLE001 - it has failed before
        return f"(cannot be shown: {type(error).__name__})"
    return ""
