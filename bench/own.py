"""This project's own contenders: the person room alone, and the whole pipeline with its sink."""

import sys
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from bench.rounds import Round
from infra.clickhouse import ClickHouseServer
from infra.processes import ProcessId
from infra.topics import TOPICS, admin_client, ensure_topics, existing_topics, remove_topics
from truyvet.drain import Drain
from truyvet.members import Kind
from truyvet.stack import Stack

INPUTS: Final = ("scans", "venues")
"""What all contenders read, and nobody removes."""
_SESSION_SECONDS_MAX: Final = 60.0
_LOOK_SECONDS: Final = 0.5
"""Each look at a whole pipeline asks the broker for the ends of dozens of partitions."""


class _Own:
    """What both have in common: a stack on the harness's broker, and the topics of the shared prefix."""

    def __init__(self, task: Round, stack: Stack) -> None:
        self._task = task
        self.stack = stack
        self._remove_topics()
        ensure_topics(task.settings)

    def _start(self, start: Callable[[], None]) -> None:
        """A start that fails leaves nothing running."""
        try:
            start()
        except BaseException:
            self.stack.stop()
            raise

    @property
    def enriched(self) -> str:
        """The topic of its accepted scans."""
        return self._task.settings.topic("enriched")

    @property
    def counts(self) -> str:
        """The topic of its counts; those by venue and area are among them."""
        return self._task.settings.topic("aggregates")

    @property
    def processes(self) -> list[ProcessId]:
        """Workers, and the sink where there is one."""
        return [member.process for member in self.stack.members()]

    @property
    def names(self) -> list[str]:
        """Of the processes."""
        return [member.name for member in self.stack.members()]

    def check(self) -> None:
        """Raises if a process of the stack has ended by itself.

        Raises:
            ProcessError: it has; with the end of its log.
        """
        self.stack.check()

    def finished(self) -> bool:
        """There is nothing behind the output topic: a step's outputs and state are one transaction."""
        return True

    def stop(self) -> None:
        """Stops the stack's processes."""
        self.stack.stop()

    def clean(self) -> None:
        """Removes all topics but the inputs, and the workers' group.

        Workers that come back under their names before their session ends get the partitions that they had, whatever
        topics they ask for now; the next round may be another room's.
        """
        self._remove_topics()
        self._remove_group()

    def _remove_group(self) -> None:
        admin = admin_client(self._task.settings)
        group = f"{self._task.settings.topic_prefix}workers"
        deadline = time.monotonic() + _SESSION_SECONDS_MAX
        while True:
            try:
                admin.delete_consumer_groups([group])[group].result()
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                if error.code() == KafkaError.GROUP_ID_NOT_FOUND:
                    return
                if error.code() != KafkaError.NON_EMPTY_GROUP or time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def _remove_topics(self) -> None:
        settings = self._task.settings
        own = {settings.topic(spec.name) for spec in TOPICS if spec.name not in INPUTS}
        remove_topics(settings, own & existing_topics(settings).keys())


class PersonStack(Stack):
    """A stack whose workers hold the person room alone."""

    arguments: tuple[str, ...] = ()

    def _command(self, kind: Kind) -> list[str]:
        if kind != "worker":
            return super()._command(kind)
        return [sys.executable, "-m", "bench.person_worker", *self.arguments]

    def start_workers(self) -> None:
        """Starts all workers at once, and waits until they answer."""
        for number in range(self.workers):
            self._start_worker_process(number)
        self.wait_answering()


class PersonRoom(_Own):
    """Workers with the person room and all its guarantees; neither venue room nor sink.

    ``prepare`` is called with the stack once its topics are there, before any worker is; ``arguments`` are those of
    ``bench.person_worker``.
    """

    def __init__(
        self, task: Round, *arguments: str, workers: int = 1, prepare: Callable[[Stack], None] = lambda _: None
    ) -> None:
        stack = PersonStack(task.settings, task.directory, workers=workers, own_broker=False)
        stack.arguments = arguments
        super().__init__(task, stack)
        prepare(stack)
        self._start(stack.start_workers)


class Pipeline(_Own):
    """The whole pipeline: workers with both rooms, the sink, and a ClickHouse server, which is not counted."""

    def __init__(self, task: Round, workers: int = 1) -> None:
        self._clickhouse = ClickHouseServer(task.directory / "clickhouse")
        settings = task.settings.model_copy(update={"clickhouse": self._clickhouse.url})
        super().__init__(task, Stack(settings, task.directory, workers=workers, own_broker=False))
        self._start(self._start_both)
        self._drain = Drain(self.stack)
        self._looked_at = 0.0

    def _start_both(self) -> None:
        self._clickhouse.start()
        try:
            self.stack.start()
        except BaseException:
            self._clickhouse.kill()
            raise

    def check(self) -> None:
        """Raises if a process of the stack, or the server, has ended by itself.

        Raises:
            ProcessError: it has; with the end of its log.
        """
        self._clickhouse.check()
        super().check()

    def finished(self) -> bool:
        """Whether all that follows from the scans is stored in ClickHouse, too."""
        if time.monotonic() < self._looked_at + _LOOK_SECONDS:
            return False
        settled = self._drain.settled()
        self._looked_at = time.monotonic()
        return settled

    def stop(self) -> None:
        """Stops the stack's processes; nobody reads the server's data again."""
        self._drain.close()
        super().stop()
        self._clickhouse.kill()
