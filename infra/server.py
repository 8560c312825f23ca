"""What the stack's servers share: a folder, a port, a start that waits until clients can connect, a stop."""

import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from infra.ports import accepts, free_port, is_free
from infra.processes import ProcessError, ProcessId, identify, log_tail, spawn, terminate_all

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 15.0
_POLL_SECONDS = 0.05


class Server(ABC):
    """One server in ``directory``; a context manager, or ``start`` and ``stop``.

    Args:
        directory: Holds configuration, data and log; kept when the server stops.
        port: Where clients connect; None takes a free one.
        die_with_parent: The server is killed when this process is gone; False leaves it running.
    """

    name: ClassVar[str]

    def __init__(self, directory: Path, *, port: int | None = None, die_with_parent: bool = True) -> None:
        self.directory = directory.resolve()
        self.port = free_port() if port is None else port
        self.log_path = self.directory / f"{self.name}.log"
        self._die_with_parent = die_with_parent
        self._popen: subprocess.Popen[bytes] | None = None
        self._process: ProcessId | None = None

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Writes the configuration and returns the command that serves in the foreground."""

    @property
    def process(self) -> ProcessId:
        """The running server's process.

        Raises:
            ProcessError: the server was not started.
        """
        if self._process is None:
            raise ProcessError(f"{self.name} is not running")
        return self._process

    @property
    def pid(self) -> int:
        """The running server's pid."""
        return self.process.pid

    def check(self) -> None:
        """Raises if the server has ended by itself.

        Raises:
            ProcessError: it has; with the end of its log.
        """
        if self._popen is not None and self._popen.poll() is not None:
            raise ProcessError(f"{self.name} ended with status {self._popen.returncode}: {log_tail(self.log_path)}")

    def start(self) -> None:
        """Starts the server and waits until it accepts connections.

        Raises:
            ProcessError: the program is missing, or ended, or was not ready in time.
        """
        if not is_free(self.port):
            raise ProcessError(f"{self.name} cannot listen on 127.0.0.1:{self.port}: the port is taken")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._popen = spawn(
            self._prepare(),
            log_path=self.log_path,
            working_dir=self.directory,
            die_with_parent=self._die_with_parent,
        )
        self._process = identify(self._popen.pid)
        self._wait_ready()

    def stop(self) -> None:
        """Stops the server cleanly, or kills it after some seconds; its data stay."""
        if self._process is not None:
            terminate_all([self._process], STOP_SECONDS_MAX)
        self._reap()

    def kill(self) -> None:
        """SIGKILL, as a crash would end it; ``start`` brings it back with its data."""
        if self._popen is not None:
            self._popen.kill()
        self._reap()

    def _reap(self) -> None:
        if self._popen is not None:
            self._popen.wait()
        self._popen = None
        self._process = None

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not accepts(self.port):
            if self._popen is None or self._popen.poll() is not None:
                self._reap()
                raise ProcessError(f"{self.name} ended while starting: {log_tail(self.log_path)}")
            if time.monotonic() > deadline:
                self.kill()
                raise ProcessError(f"{self.name} was not ready in {READY_SECONDS_MAX:.0f} s; see {self.log_path}")
            time.sleep(_POLL_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
