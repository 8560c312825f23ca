"""What happens where disks are full and ClickHouse is slow: as ``bounds_cases``, with something broken meanwhile."""

import contextlib
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

from infra.clickhouse import ClickHouseServer
from infra.processes import send_signal
from producers.lines import Line
from tests.pipeline.bounds_cases import Bench, MakeStack, Row
from tests.pipeline.months import scans
from truyvet.disk import complaint
from truyvet.stack import Stack

DISK_MIB = 512
BLOCK_BYTES = 1 << 16
FULL_SECONDS = 5.0
SENDINGS_MAX = 25
SENDING_LOOKS = 6
SECONDS_MAX = 120.0


class NoSmallDiskError(Exception):
    """No small file system can be mounted here; says why."""


class SmallDisk:
    """A file system of its own that can be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leaves nothing."""
        block = b"\0" * BLOCK_BYTES
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(block)

    def make_room(self) -> None:
        """Takes the ballast away."""
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, mib: int = DISK_MIB) -> Iterator[SmallDisk]:
    """A file system of so many MiB at ``folder``.

    Raises:
        NoSmallDiskError: this user may mount none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoSmallDiskError(done.stderr.strip())
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_state(make: MakeStack, size: int) -> Row:
    """The disk of the worker's stores is full: it waits, says so, and goes on."""
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk") as disk:
        return _full(
            "full disk, state",
            make(state_dir=disk.folder / "state"),
            disk,
            ("worker-0", "a store cannot be written"),
            size,
        )


def full_database(make: MakeStack, size: int) -> Row:
    """The disk of the embedded ClickHouse is full: the sink waits, says so, and goes on."""
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk") as disk:
        return _full(
            "full disk, ClickHouse", make(embedded_dir=disk.folder / "db"), disk, ("sink", "does not take rows"), size
        )


def _full(case: str, made: Stack, disk: SmallDisk, says: tuple[str, str], size: int) -> Row:
    whose, trouble = says
    with made as stack:
        bench = Bench(stack)
        bench.register()
        began = time.monotonic()
        bench.send(scans(0, size))
        bench.settle()
        disk.fill()
        _until(lambda: "is full" in bench.health()[whose], "health says that the disk is full")
        sent = size + _until_said(bench, trouble, size)
        time.sleep(FULL_SECONDS)
        assert not bench.drain.settled(), "somebody could store what there was no room for"
        told = [f"/healthz of {whose}: {bench.health()[whose]}"]
        disk.make_room()
        room_at = time.monotonic()
        bench.settle()
        _until(lambda: bench.health()[whose] == "ok", "health is well again")
        told += [f"went on {time.monotonic() - room_at:.1f} s after there was room", *bench.troubles()]
        assert any(str(disk.folder) in line for line in told), f"nobody named the folder: {told}"
        row = bench.row(case, sent, began, bench.account(sent, 0), told)
        bench.close()
    return row


def _until_said(bench: Bench, trouble: str, size: int) -> int:
    """Sends scans until the log says that some of them cannot be stored; how many."""
    for day in range(1, SENDINGS_MAX):
        bench.send(scans(day, size))
        for _ in range(SENDING_LOOKS):
            time.sleep(0.5)
            if any(trouble in line for line in bench.log()):
                return day * size
    raise AssertionError(f"nobody said {trouble!r}")


def full_broker(make: MakeStack, size: int) -> Row:
    """The broker's disk is full: it ends; workers and sink wait; started again with room, everything goes on."""
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "kafka" / "data") as disk:
        stack = make(directory=Path(folder))
        with stack:
            bench = Bench(stack)
            bench.register()
            began = time.monotonic()
            bench.send(scans(0, size))
            bench.settle()
            disk.fill()
            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(bench.send, scans(1, size))
                _until(lambda: bench.health()["kafka"] != "ok", "the broker has ended")
                full = complaint(disk.folder)
                assert full is not None
                told = [full, _broker_said(stack)]
                time.sleep(FULL_SECONDS)
                disk.make_room()
                stack.kill_broker()
                stack.start_broker()
                sending.result()
            bench.settle()
            told += bench.troubles()
            row = bench.row("full disk, broker", 2 * size, began, bench.account(2 * size, 0), told)
            bench.close()
    return row


def _broker_said(stack: Stack) -> str:
    assert stack.broker is not None
    lines = stack.broker.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if "No space left" in line or "log dirs" in line]
    return said[0] if said else "the broker's log does not say why"


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS_MAX:.0f} s: {what}"
        time.sleep(0.2)


def slow(make: MakeStack, minutes: float, per_second: int, stopped: float = 0.9) -> Row:
    """ClickHouse stands still nine seconds of ten while scans come in steadily: memory over time, then catching up."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ClickHouseServer(Path(folder)) as server,
        make(clickhouse=server.url) as stack,
    ):
        bench = Bench(stack)
        bench.register()
        began = time.monotonic()
        over = threading.Event()
        slowing = threading.Thread(target=_duty, args=(server, stopped, over))
        slowing.start()
        try:
            sent, series, said = _flow(bench, minutes * 60, per_second)
        finally:
            over.set()
            slowing.join()
        lag = bench.progress("sink")["lag"]
        freed = time.monotonic()
        bench.settle()
        told = [f"{lag:,} records waited at the end, caught up {time.monotonic() - freed:.0f} s later"]
        told += [f"MiB of worker, sink: {', '.join(f'{w:.0f} {s:.0f}' for w, s in series)}", *said]
        row = bench.row(f"slow ClickHouse, {minutes:g} min", sent, began, bench.account(sent, 0), told)
        bench.close()
    quarter = len(series) // 4
    for name, values in zip(("worker", "sink"), zip(*series, strict=True), strict=True):
        # Queues and batches fill up first; from then on nothing more is held.
        earlier, later = max(values[2 * quarter : 3 * quarter]), max(values[3 * quarter :])
        row.told.append(f"{name}: at most {earlier:.0f} MiB in the third quarter, {later:.0f} in the last")
        assert later < 1.1 * earlier + 20, f"{name}'s memory grows: {values}"
    return row


def _duty(server: ClickHouseServer, stopped: float, over: threading.Event) -> None:
    period_seconds = 10.0
    while not over.is_set():
        send_signal(server.process, signal.SIGSTOP)
        over.wait(period_seconds * stopped)
        send_signal(server.process, signal.SIGCONT)
        over.wait(period_seconds * (1 - stopped))


def _flow(bench: Bench, seconds: float, per_second: int) -> tuple[int, list[tuple[float, float]], list[str]]:
    """(scans sent, resident MiB of worker and sink every few seconds, what the sink's health was), at a steady rate."""
    lines: Iterator[Line] = (line for day in count() for line in scans(day, 100_000))
    began, sent, look_seconds = time.monotonic(), 0, max(1.0, seconds / 60)
    series: list[tuple[float, float]] = []
    said: dict[str, None] = {}
    while time.monotonic() - began < seconds:
        due = int((time.monotonic() - began) * per_second)
        if due > sent:
            sent += bench.send(islice(lines, due - sent))
        if time.monotonic() - began > (len(series) + 1) * look_seconds:
            resident = {member.name: _resident_mib(member.process.pid) for member in bench.stack.members()}
            series.append((resident["worker-0"], resident["sink"]))
            if len(series) % 15 == 0:
                backlog = bench.progress("sink")["backlog"]["text"]
                said[f"sink: {backlog}; /healthz: {bench.health()['sink']}"] = None
        time.sleep(0.05)
    return sent, series, list(said)


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the process has ended")
