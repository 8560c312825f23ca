"""Processes are known by more than their pid, and die when they should."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from infra.ports import free_port, is_free
from infra.processes import (
    PROJECT_DIR,
    ProcessError,
    ProcessId,
    identify,
    is_running,
    log_tail,
    send_signal,
    spawn,
    terminate_all,
    usage,
    wait_gone,
)
from tests.conftest import wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(60)",
]


def _started(argv: list[str], log_path: Path) -> tuple[subprocess.Popen[bytes], ProcessId]:
    child = spawn(argv, log_path=log_path)
    process = identify(child.pid)
    assert process is not None
    return child, process


def test_a_recycled_pid_is_never_signalled(tmp_path: Path) -> None:
    """A record whose start differs from the running process's is another process: it is left alone."""
    child, process = _started(SLEEP, tmp_path / "log")
    stale = replace(process, started_ticks=process.started_ticks - 1)
    other_boot = replace(process, boot_id="another boot")
    for wrong in (stale, other_boot):
        assert not is_running(wrong)
        assert not send_signal(wrong, signal.SIGKILL)
        terminate_all([wrong], 0.1)
    assert child.poll() is None
    terminate_all([process], 5)
    assert child.wait() == -signal.SIGTERM


def test_a_process_that_ended_is_gone_even_before_it_is_reaped(tmp_path: Path) -> None:
    """A zombie does not count as running, and neither waiting nor signalling trips over it."""
    child, process = _started([sys.executable, "-c", ""], tmp_path / "log")
    assert wait_gone(process, 10)
    assert not is_running(process)
    assert identify(process.pid) is None
    assert not send_signal(process, signal.SIGTERM)
    assert usage(process) is None
    assert child.wait() == 0
    assert wait_gone(process, 0)


def test_one_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    """SIGTERM goes to all at once; only what stays on after the grace is killed."""
    deaf, deaf_process = _started(DEAF, tmp_path / "deaf")
    meek, meek_process = _started(SLEEP, tmp_path / "meek")
    assert wait_until(lambda: (tmp_path / "deaf").read_text() == "on\n")
    began = time.monotonic()
    terminate_all([deaf_process, meek_process], 0.5)
    assert time.monotonic() - began < 5
    assert deaf.wait() == -signal.SIGKILL
    assert meek.wait() == -signal.SIGTERM


@pytest.mark.parametrize("how", ["SIGKILL", "exit"])
def test_children_die_with_their_parent(tmp_path: Path, how: str) -> None:
    """However the parent ends, the kernel takes the child along; also one started from a thread."""
    script = f"""
import os, pathlib, sys, threading, time
from infra.processes import spawn
log = pathlib.Path({str(tmp_path / "child")!r})
found = []
thread = threading.Thread(target=lambda: found.append(spawn({SLEEP!r}, log_path=log)))
thread.start(); thread.join()
print(found[0].pid, flush=True)
time.sleep(60 if {how!r} == "SIGKILL" else 0.5)
os._exit(0)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=PROJECT_DIR)
    assert parent.stdout is not None
    child = identify(int(parent.stdout.readline()))
    assert child is not None
    assert is_running(child)
    if how == "SIGKILL":
        parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: not is_running(child))


def test_a_child_whose_parent_died_before_it_began_does_not_begin(tmp_path: Path) -> None:
    """The parent may be killed before the child has asked to die with it: then it looks, and ends by itself."""
    script = f"""
import os, pathlib, signal
from infra.processes import spawn
os.write(1, b"%d\\n" % spawn({SLEEP!r}, log_path=pathlib.Path({str(tmp_path / "child")!r})).pid)
os.kill(os.getpid(), signal.SIGKILL)
"""
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT_DIR, check=False
        )
        child = identify(int(done.stdout))
        assert child is None or wait_gone(child, 10)


def test_a_detached_child_outlives_its_parent(tmp_path: Path) -> None:
    """What `up` starts stays."""
    script = f"""
import pathlib
from infra.processes import spawn
print(spawn({SLEEP!r}, log_path=pathlib.Path({str(tmp_path / "child")!r}), die_with_parent=False).pid)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, cwd=PROJECT_DIR, check=True
    )
    child = identify(int(done.stdout))
    assert child is not None
    assert os.getsid(child.pid) == child.pid
    terminate_all([child], 5)
    assert wait_until(lambda: not is_running(child))


def test_a_missing_program_is_one_sentence(tmp_path: Path) -> None:
    """The error names the program and what installs it."""
    with pytest.raises(ProcessError, match=r"no-such-program: not installed"):
        spawn(["no-such-program"], log_path=tmp_path / "log")


def test_usage_tells_cpu_and_peak_memory(tmp_path: Path) -> None:
    """CPU seconds grow with work; the peak holds what was touched."""
    work = [sys.executable, "-c", "b = bytearray(50_000_000)\nwhile True: pass"]
    child, process = _started(work, tmp_path / "log")
    found = []

    def busy() -> bool:
        used = usage(process)
        found.append(used)
        return used is not None and used.cpu_seconds >= 0.3 and used.memory_bytes_peak > 50_000_000

    assert wait_until(busy), found[-1]
    child.kill()
    child.wait()


def test_the_end_of_a_log_fits_in_a_sentence(tmp_path: Path) -> None:
    """Only the last lines, joined to one; a missing or empty log says so."""
    log = tmp_path / "log"
    assert log_tail(log) == "no log"
    log.write_text("\n")
    assert log_tail(log) == "empty log"
    log.write_text("a\nb\n\nc\n")
    assert log_tail(log, 3) == "b | c"


def test_free_ports_are_below_the_ephemeral_range_and_never_twice_the_same() -> None:
    """No outgoing connection can take a port between its choice and its use."""
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(20_000 <= port < 32_768 and is_free(port) for port in ports)
