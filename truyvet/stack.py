"""A whole stack on this machine: a broker, workers, a sink; for ``up``, ``replay``, the demo and tests.

Start: broker, topics, then workers and sink at once. Stop: workers, sink, broker. Every process has a
session of its own, so Ctrl-C reaches only the command that started them, which stops them in order.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.kafka import KafkaBroker
from infra.ports import free_port, is_free
from infra.processes import (
    PROJECT_DIR,
    RUNTIME_DIR,
    ProcessError,
    Usage,
    identify,
    log_tail,
    spawn,
    usage,
)
from infra.topics import ensure_topics
from truyvet.config import ENV_PREFIX, Settings
from truyvet.members import Kind, Member, fetch, health, read_members, stop_members, write_members

STACKS_DIR = RUNTIME_DIR / "stacks"
START_SECONDS_MAX = 60.0
_POLL_SECONDS = 0.05
_SINK = "sink"
_KAFKA = "kafka"


class Stack:
    """The processes of one pipeline; a context manager, or ``start`` and ``stop``.

    Args:
        settings: What the processes share; brokers, folders and ports are the stack's own choice.
        directory: Where data, logs and the record of processes are kept; None makes a folder that is
            removed by ``stop``, its logs excepted if the ``with`` body failed.
        workers: How many workers ``start`` starts.
        own_broker: False uses ``settings.brokers`` instead of starting one.
        broker_port: Where the own broker listens; None takes a free port.
        detached: The processes outlive this one (``truyvet up``); else they die with it.
        long_lived: The own broker is to be quick after some minutes rather than in its first.
    """

    def __init__(
        self,
        settings: Settings,
        directory: Path | None = None,
        *,
        workers: int = 1,
        own_broker: bool = True,
        broker_port: int | None = None,
        detached: bool = False,
        long_lived: bool = False,
    ) -> None:
        self._temporary = directory is None
        self.directory = _temporary_directory() if directory is None else directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.workers = workers
        self._detached = detached
        self._members: dict[str, Member] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.broker: KafkaBroker | None = None
        if own_broker:
            self.broker = KafkaBroker(
                self.directory / "kafka", port=broker_port, die_with_parent=not detached, long_lived=long_lived
            )
        self.settings = self._own(settings)

    def _own(self, settings: Settings) -> Settings:
        """The settings as this stack's processes see them; folders that were named explicitly stay."""
        changes: dict[str, object] = {"query_port": self._query_port(settings)}
        if self.broker is not None:
            changes |= {"brokers": self.broker.brokers, "security_protocol": "PLAINTEXT"}
        for name, folder in (("state_dir", "state"), ("embedded_dir", "clickhouse")):
            explicit = name in settings.model_fields_set
            path: Path = getattr(settings, name) if explicit else self.directory / folder
            changes[name] = path.resolve()
        return settings.model_copy(update=changes)

    def _query_port(self, settings: Settings) -> int:
        """A port that was named stays; ``up`` takes the default if it can, so that queries find it."""
        named = "query_port" in settings.model_fields_set
        if settings.query_port and (named or (self._detached and is_free(settings.query_port, settings.query_host))):
            return settings.query_port
        return free_port()

    def start(self, prepare: Callable[[Settings], None] = ensure_topics) -> None:
        """Starts everything and waits until each process answers; ``prepare`` makes the topics.

        Raises:
            ProcessError: a process ended or did not answer in time.
            ConfigError: a topic exists with other settings.
            BrokerAwayError: a broker that is not the stack's own does not answer.
        """
        if self.broker is not None:
            self.start_broker()
        prepare(self.settings)
        self._start_sink_process()
        for number in range(self.workers):
            self._start_worker_process(number)
        self.wait_answering()

    def start_broker(self) -> None:
        """Starts the stack's own broker; again after ``kill_broker``, with its data."""
        if self.broker is None:
            raise ProcessError("this stack has no broker of its own")
        self.broker.start()
        member = Member(_KAFKA, "kafka", self.broker.process, self.broker.brokers, str(self.broker.log_path))
        self._remember(member)

    def kill_broker(self) -> None:
        """SIGKILLs the stack's own broker."""
        if self.broker is not None:
            self.broker.kill()
            self._forget(_KAFKA)

    def start_worker(self, number: int) -> None:
        """Starts worker ``number`` and waits until it answers; a killed one comes back with its store."""
        self._start_worker_process(number)
        self.wait_answering([f"worker-{number}"])

    def kill_worker(self, number: int) -> None:
        """SIGKILLs worker ``number``."""
        self._kill(f"worker-{number}")

    def stop_worker(self, number: int) -> None:
        """Asks worker ``number`` to leave, and waits until it has."""
        self._stop(f"worker-{number}")

    def start_sink(self) -> None:
        """Starts the sink and waits until it answers."""
        self._start_sink_process()
        self.wait_answering([_SINK])

    def kill_sink(self) -> None:
        """SIGKILLs the sink."""
        self._kill(_SINK)

    def stop_sink(self) -> None:
        """Asks the sink to end, and waits until it has."""
        self._stop(_SINK)

    def worker_urls(self) -> list[str]:
        """Where the workers answer HTTP, by number."""
        return [member.url for member in self._by_kind("worker")]

    def sink_url(self) -> str:
        """Where the sink answers HTTP, queries included.

        Raises:
            ProcessError: the sink was not started.
        """
        return self._member(_SINK).url

    def members(self) -> list[Member]:
        """All processes of the stack that were started and not stopped."""
        return [*self._by_kind("kafka"), *self._by_kind("sink"), *self._by_kind("worker")]

    def usage(self) -> dict[str, Usage]:
        """CPU time and peak memory so far of each running process, by name."""
        found = {member.name: usage(member.process) for member in self.members()}
        return {name: used for name, used in found.items() if used is not None}

    def check(self) -> None:
        """Raises if a process of the stack has ended by itself.

        Raises:
            ProcessError: names the process, with the end of its log.
        """
        for member in self.members():
            if not member.running:
                raise ProcessError(f"{member.name} ended: {log_tail(Path(member.log_path))}")

    def wait_answering(self, names: Iterable[str] | None = None) -> None:
        """Waits until the named processes (all, if None) answer HTTP, whatever they say of their health.

        Raises:
            ProcessError: one ended, or did not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        members = self.members() if names is None else [self._member(name) for name in names]
        for member in members:
            while health(member) == "silent":
                if time.monotonic() > deadline:
                    raise ProcessError(f"{member.name} does not answer; see {member.log_path}")
                time.sleep(_POLL_SECONDS)
            if not member.running:
                raise ProcessError(f"{member.name} ended while starting: {log_tail(Path(member.log_path))}")

    def wait_healthy(self, seconds_max: float) -> bool:
        """Waits until every process says that it is well; False if one still does not after that time."""
        deadline = time.monotonic() + seconds_max
        while any(health(member) != "ok" for member in self.members()):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def progress(self, member: Member) -> str:
        """What a worker or the sink answers to ``/progress``, as JSON text.

        Raises:
            OSError: it does not answer.
        """
        return fetch(f"{member.url}/progress")[1]

    def stop(self) -> None:
        """Stops workers, then the sink, then the broker; removes the folder if it was made for this stack."""
        self._end()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._end()
            self._drop_data()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt | SystemExit):
            self.stop()
            return
        self._end()
        self._drop_data()

    def _drop_data(self) -> None:
        """After a failure a temporary stack's logs stay, to say why, until the next one is made."""
        if self._temporary:
            for folder in ("kafka/data", "state", "clickhouse"):
                shutil.rmtree(self.directory / folder, ignore_errors=True)

    def _end(self) -> None:
        """Stops all processes. A temporary stack's broker is killed: nobody will read its data again."""
        members = self.members()
        if self._temporary and self.broker is not None:
            members = [member for member in members if member.kind != "kafka"]
        stop_members(members)
        if self._temporary and self.broker is not None:
            self.broker.kill()
        elif self.broker is not None:
            self.broker.stop()
        for child in self._children.values():
            child.wait()
        self._children.clear()
        self._members.clear()
        write_members(self.directory, [])

    def _start_worker_process(self, number: int) -> None:
        name = f"worker-{number}"
        port = free_port()
        own = {"worker_id": name, "state_dir": self.settings.state_dir / name, "http_port": port}
        self._spawn(name, "worker", self.settings.model_copy(update=own), _url(self.settings.http_host, port))

    def _start_sink_process(self) -> None:
        # The sink has one server for everything: queries, progress, health, metrics.
        settings = self.settings
        own = {"http_host": settings.query_host, "http_port": settings.query_port}
        self._spawn(_SINK, "sink", settings.model_copy(update=own), _url(settings.query_host, settings.query_port))

    def _spawn(self, name: str, kind: Kind, settings: Settings, url: str) -> None:
        if name in self._members:
            raise ProcessError(f"{name} is running already")
        log_path = self.directory / f"{name}.log"
        outside = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
        child = spawn(
            self._command(kind),
            log_path=log_path,
            environ=outside | settings.environment() | {"PYTHONUNBUFFERED": "1"},
            working_dir=PROJECT_DIR,
            die_with_parent=not self._detached,
        )
        process = identify(child.pid)
        if process is None:
            raise ProcessError(f"{name} ended at once: {log_tail(log_path)}")
        self._children[name] = child
        self._remember(Member(name, kind, process, url, str(log_path)))

    def _command(self, kind: Kind) -> list[str]:
        return [sys.executable, "-m", "truyvet", kind]

    def _kill(self, name: str) -> None:
        self._member(name)
        self._children[name].kill()
        self._forget(name)

    def _stop(self, name: str) -> None:
        stop_members([self._member(name)])
        self._forget(name)

    def _member(self, name: str) -> Member:
        if name not in self._members:
            raise ProcessError(f"{name} is not running")
        return self._members[name]

    def _by_kind(self, kind: Kind) -> list[Member]:
        # Copied first: who watches in another thread must not stumble over one that starts or ends.
        chosen = [member for member in list(self._members.values()) if member.kind == kind]
        return sorted(chosen, key=lambda member: (len(member.name), member.name))

    def _remember(self, member: Member) -> None:
        self._members[member.name] = member
        write_members(self.directory, self.members())

    def _forget(self, name: str) -> None:
        child = self._children.pop(name, None)
        if child is not None:
            child.wait()
        del self._members[name]
        write_members(self.directory, self.members())


def _url(host: str, port: int) -> str:
    """Where this machine reaches a server that listens on ``host``."""
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 -- compared, not bound


def _temporary_directory() -> Path:
    """A new folder under ``var/stacks``; those that a killed command left behind are removed first."""
    STACKS_DIR.mkdir(parents=True, exist_ok=True)
    for left in STACKS_DIR.iterdir():
        owner = left.name.partition("-")[0]
        if owner.isdecimal() and identify(int(owner)) is None and not any(m.running for m in read_members(left)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=STACKS_DIR))
