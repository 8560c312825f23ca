"""Processes that this project starts: how they are started, recognised and ended.

A pid alone is no name, for the kernel gives it out again. So a process is known by its pid, the tick
at which it started and the boot it started in, and a signal goes through a pidfd opened before those
were compared: a recycled pid is never hit.
"""

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent
RUNTIME_DIR = PROJECT_DIR / "var"

PARENT_FIELD = 1
"""Of ``stat_fields``: who started the process."""
_STATE_FIELD = 0
_CPU_FIELDS = slice(11, 15)
_START_FIELD = 19
_DEAD_STATES = "ZXx"
_KILL_SECONDS_MAX = 5.0
_TAIL_CHARS_MAX = 1000

# A parent that dies before setpriv asked for the signal leaves an orphan that never gets it: so, once
# it is asked for, the child looks whether its parent is still the one that started it.
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] && exec "$@"'

# PR_SET_PDEATHSIG follows the thread that forked, not its process: one thread that lives as long as
# this process starts every child.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class ProcessError(Exception):
    """A program of the stack is missing, did not start, or did not become ready; one sentence."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told apart from any later one with the same pid."""

    pid: int
    started_ticks: int
    boot_id: str


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def cpu_seconds(fields: Sequence[str]) -> float:
    """CPU time that ``stat_fields`` tell of: the process's own and of children it has reaped."""
    return sum(int(field) for field in fields[_CPU_FIELDS]) / os.sysconf("SC_CLK_TCK")


def identify(pid: int) -> ProcessId | None:
    """The running process with this pid; None if there is none or it is only waiting to be reaped."""
    fields = stat_fields(pid)
    if fields is None or fields[_STATE_FIELD] in _DEAD_STATES:
        return None
    return ProcessId(pid=pid, started_ticks=int(fields[_START_FIELD]), boot_id=_boot_id())


def is_running(process: ProcessId) -> bool:
    """Whether exactly this process still runs."""
    return identify(process.pid) == process


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Signals exactly this process; False if it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_running(process):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def wait_gone(process: ProcessId, timeout_seconds: float) -> bool:
    """Waits until the process has ended; False if it runs on after ``timeout_seconds``."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not is_running(process):
            return True
        waiting = select.poll()  # select() takes no descriptor above 1,023
        waiting.register(handle, select.POLLIN)
        return bool(waiting.poll(timeout_seconds * 1000))
    finally:
        os.close(handle)


def terminate_all(processes: Sequence[ProcessId], grace_seconds: float) -> None:
    """SIGTERM to all at once, and SIGKILL to those that still run after ``grace_seconds``."""
    asked = [process for process in processes if send_signal(process, signal.SIGTERM)]
    deadline = time.monotonic() + grace_seconds
    for process in asked:
        if not wait_gone(process, max(0.0, deadline - time.monotonic())):
            send_signal(process, signal.SIGKILL)
            wait_gone(process, _KILL_SECONDS_MAX)


def spawn(
    argv: Sequence[str],
    *,
    log_path: Path,
    environ: Mapping[str, str] | None = None,
    working_dir: Path | None = None,
    die_with_parent: bool = True,
) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own, its output appended to ``log_path``.

    With ``die_with_parent`` the kernel kills it as soon as this process is gone, however that happens.

    Raises:
        ProcessError: the program is not installed.
    """
    program = shutil.which(argv[0])
    if program is None:
        raise ProcessError(f"{argv[0]}: not installed; `./do` installs what the stack needs")
    command = [program, *argv[1:]]
    if die_with_parent:
        command = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _UNLESS_ORPHANED, str(os.getpid()), *command]
    log_path.parent.mkdir(parents=True, exist_ok=True)

    def start() -> subprocess.Popen[bytes]:
        with log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=working_dir,
                env=None if environ is None else dict(environ),
                start_new_session=True,
            )

    return _SPAWNER.submit(start).result()


def log_tail(log_path: Path, lines_max: int = 5) -> str:
    """The last lines of a log in one line, for an error message."""
    try:
        lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "no log"
    text = " | ".join(line.strip() for line in lines[-lines_max:] if line.strip())
    return text[-_TAIL_CHARS_MAX:] or "empty log"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    cpu_seconds: float
    memory_bytes_peak: int


def usage(process: ProcessId) -> Usage | None:
    """CPU time (its own and of children it has reaped) and peak resident memory; None if it is gone."""
    fields = stat_fields(process.pid)
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    if fields is None or not peak or not is_running(process):
        return None
    return Usage(cpu_seconds=cpu_seconds(fields), memory_bytes_peak=int(peak[0]) * 1024)
