"""What a tree of processes uses, read from /proc; and the figures that a round's samples come to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from bench.peers.job import COUNTS_SECONDS
from infra import processes

MILLION: Final = 1_000_000
GRACE_SECONDS: Final = 1.0
"""What is done so soon after the last output belongs to it: offsets that are committed, state that is written."""


_KINDS: Final = slice(1, 9)
"""From user to steal in the first line of /proc/stat; guests are counted among users."""


class Ticks(NamedTuple):
    """CPU time of the whole machine so far, in the kernel's ticks."""

    stolen: int
    """What a hypervisor gave to somebody else while something here wanted to run."""
    whole: int

    @classmethod
    def now(cls) -> Self:
        """As /proc/stat tells."""
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
        ticks = [int(text) for text in line.split()[_KINDS]]
        return cls(ticks[-1], sum(ticks))

    def stolen_since(self, before: Self) -> float:
        """Share of the machine's time since then that was stolen."""
        return (self.stolen - before.stolen) / max(1, self.whole - before.whole)


class Sample(NamedTuple):
    """How far a contender was at one moment of its round."""

    seconds: float
    """Since it was started."""
    outputs: int
    """Records of the topic of accepted scans."""
    counts: int
    """Records of the topic of counts."""
    cpu_seconds: float
    """Of all its processes, so far."""
    finished: bool
    """Whether what comes behind the output topic is done, too; always, where nothing does."""
    cpu_by_process: tuple[float, ...] = ()
    """CPU seconds so far of each process that it was started as, with its descendants."""


@dataclass(frozen=True)
class Figures:
    """One round of one contender."""

    events_per_second: float
    cpu_seconds_per_million: float
    """Over the process tree, per million scans sent, copies included; what came before the first output left out."""
    startup_seconds: float
    """Until the first output."""
    startup_cpu_seconds: float
    """Until then, what went into the first outputs included: a library that reads far ahead has more of it."""
    cpu_seconds_total: float
    """From its start to its last output."""
    memory_mib_peak: float
    """Of all processes together; what they share counts once."""
    cpu_by_process: dict[str, float] = field(default_factory=dict)
    """CPU seconds per million scans, process by process."""


def tree(roots: Iterable[int]) -> set[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            fields = processes.stat_fields(int(entry.name))
            if fields is not None:
                children.setdefault(int(fields[processes.PARENT_FIELD]), []).append(int(entry.name))
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += children.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of the processes and of the children that they have reaped."""
    found = [processes.stat_fields(pid) for pid in pids]
    return sum(processes.cpu_seconds(fields) for fields in found if fields is not None)


def memory_bytes(pids: Iterable[int]) -> int:
    """Resident memory of the processes together, what they share counted once (proportional set size)."""
    kibibytes = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        kibibytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kibibytes * 1024


def figures(samples: Sequence[Sample], scans: int, memory_bytes_peak: int, names: Sequence[str] = ()) -> Figures:
    """What a round's samples come to; ``scans`` is how many records were sent, copies included.

    Between the first output that was seen and the last one, a share of all outputs came; the same share of all scans
    was worked off. So neither start-up nor a first large batch counts, and what it left to do does.

    Raises:
        ValueError: there was no output.
    """
    final = samples[-1].outputs
    if not final:
        raise ValueError("there was no output")
    first = next(number for number, sample in enumerate(samples) if sample.outputs)
    # Where most of it came at once, that is what is measured, from the last look before it.
    begin = samples[first] if 2 * samples[first].outputs <= final else samples[max(0, first - 1)]
    last = next(sample for sample in samples if sample.outputs == final and sample.finished)
    counted = next(sample for sample in samples if sample.counts == samples[-1].counts)
    end_seconds = max(last.seconds, counted.seconds - COUNTS_SECONDS)
    done = next((s for s in samples if s.seconds >= max(end_seconds + GRACE_SECONDS, counted.seconds)), samples[-1])
    events = scans * (final - begin.outputs) / final
    before = begin.cpu_by_process or (0.0,) * len(names)
    used = zip(names, before, done.cpu_by_process, strict=False)
    return Figures(
        events_per_second=events / max(end_seconds - begin.seconds, 1e-3),
        cpu_seconds_per_million=(done.cpu_seconds - begin.cpu_seconds) / events * MILLION,
        startup_seconds=samples[first].seconds,
        startup_cpu_seconds=begin.cpu_seconds,
        cpu_seconds_total=done.cpu_seconds,
        memory_mib_peak=memory_bytes_peak / 1024**2,
        cpu_by_process={name: (after - until) / events * MILLION for name, until, after in used},
    )
