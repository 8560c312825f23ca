"""A contender that is one program of its own: started with the round's task in its environment, stopped by its pid."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka.admin import NewTopic

from bench.rounds import Round
from infra.processes import PROJECT_DIR, ProcessError, ProcessId, identify, log_tail, spawn, terminate_all
from infra.topics import LONG_MAX, admin_client, answer_of, existing_topics, remove_topics
from truyvet.config import ENV_PREFIX

STOP_SECONDS_MAX: Final = 30.0
_TOPIC_CONFIG: Final = {"retention.ms": "-1", "message.timestamp.before.max.ms": LONG_MAX}
"""Records carry the time of their scan: without this a day of 2021 would be refused, or gone at once."""
Commands = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Program:
    """The running program of one round."""

    task: Round
    process: ProcessId

    @property
    def enriched(self) -> str:
        """The topic of its accepted scans."""
        return _topic(self.task, "enriched")

    @property
    def counts(self) -> str:
        """The topic of its counts by minute and ward."""
        return _topic(self.task, "counts")

    @property
    def processes(self) -> list[ProcessId]:
        """The program's process."""
        return [self.process]

    @property
    def names(self) -> list[str]:
        """The contender's own."""
        return [self.task.contender]

    def check(self) -> None:
        """Raises if it has ended by itself.

        Raises:
            ProcessError: it has; with the end of its log.
        """
        if identify(self.process.pid) != self.process:
            log = self.task.directory / "program.log"
            raise ProcessError(f"{self.task.contender} ended: {log_tail(log)}")

    def finished(self) -> bool:
        """There is nothing behind the output topic."""
        return True

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it does not end."""
        terminate_all([self.process], STOP_SECONDS_MAX)

    def clean(self) -> None:
        """Removes the topics that it or its library made."""
        mine = [name for name in existing_topics(self.task.settings) if self.task.group in name]
        remove_topics(self.task.settings, mine)


def start(task: Round, commands: Commands) -> Program:
    """Makes the output topics and starts the last command; those before it prepare, and end by themselves.

    Raises:
        ProcessError: a command that prepares has failed, or the program ended at once.
    """
    settings = task.settings
    admin = admin_client(settings)
    topics = [NewTopic(_topic(task, name), settings.partitions, 1, config=_TOPIC_CONFIG) for name in _OUTPUTS]
    for future in admin.create_topics(topics).values():
        answer_of(future)
    environ = _environment(task)
    log_path = task.directory / "program.log"
    for number, command in enumerate(commands, 1):
        filled = [part.format(directory=task.directory) for part in command]
        popen = spawn(filled, log_path=log_path, environ=environ, working_dir=PROJECT_DIR)
        if number < len(commands) and popen.wait() != 0:
            raise ProcessError(f"{task.contender} cannot be prepared: {log_tail(log_path)}")
    process = identify(popen.pid)
    if process is None:
        raise ProcessError(f"{task.contender} ended at once: {log_tail(log_path)}")
    return Program(task, process)


_OUTPUTS: Final = ("enriched", "counts")


def _topic(task: Round, name: str) -> str:
    return f"{task.group}.{name}"


def _environment(task: Round) -> dict[str, str]:
    """The task as the peers read it (``bench/peers/job.py``); nothing of this project's own settings."""
    outside = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
    return outside | {
        "PYTHONUNBUFFERED": "1",
        "BENCH_BROKERS": task.settings.brokers,
        "BENCH_SCANS": task.settings.topic("scans"),
        "BENCH_VENUES": task.settings.topic("venues"),
        "BENCH_ENRICHED": _topic(task, "enriched"),
        "BENCH_COUNTS": _topic(task, "counts"),
        "BENCH_GROUP": task.group,
        "BENCH_DIRECTORY": str(task.directory),
        "BENCH_PARTITIONS": str(task.settings.partitions),
    }
