"""The faults, each with what brings the process back, and how long that takes."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.processes import ProcessError, send_signal
from tests.chaos.stage import Stage
from tests.chaos.watching import Watch

KILLS: Final = ("kill worker", "take over", "lose store", "old store", "kill sink", "kill broker", "kill clickhouse")
"""SIGKILL. A killed worker comes back at once, or only when another has taken over, or without or with an old store."""
STOPS: Final = ("stop worker", "restart worker", "stop sink")
"""SIGSTOP for longer than the session, then SIGCONT: a zombie that wakes up. SIGTERM and start."""
EACH_MIN: Final = 10
AWAY_SECONDS_MAX: Final = 6.0
KEEP_COPY_SHARE: Final = 0.3


@dataclass(frozen=True)
class Fault:
    """One that happened; ``seconds`` from it to the first new commit of all that it hit, None if none was due."""

    kind: str
    who: str
    seconds: float | None


def drawn_kinds(rng: random.Random, kills: int) -> list[str]:
    """``kills`` kills in random order, each kind as often as ten times if there are enough, and stops between them."""
    each = min(kills // len(KILLS), EACH_MIN)
    kinds = [*KILLS * each, *rng.choices(KILLS, k=kills - each * len(KILLS))]
    kinds += STOPS * max(1, min(kills // EACH_MIN, EACH_MIN))
    rng.shuffle(kinds)
    return kinds


class Faults:
    """Does one after another to a stage."""

    def __init__(self, stage: Stage, watch: Watch, rng: random.Random) -> None:
        self._stage = stage
        self._stack = stage.stack
        self._watch = watch
        self._rng = rng
        self._copies = stage.stack.directory / "old-stores"
        self._does: dict[str, Callable[[], Fault]] = {
            "kill worker": self._kill_worker,
            "take over": self._take_over,
            "lose store": self._lose_store,
            "old store": self._old_store,
            "kill sink": self._kill_sink,
            "kill broker": self._kill_broker,
            "kill clickhouse": self._kill_clickhouse,
            "stop worker": self._stop_worker,
            "restart worker": self._restart_worker,
            "stop sink": self._stop_sink,
        }

    def do(self, kind: str) -> Fault:
        """Does it, and returns when what it hit is back.

        Raises:
            ProcessError: it does not come back, or another process ended by itself.
        """
        return self._does[kind]()

    # Workers.

    def _victim(self, among: Collection[int] | None = None) -> tuple[int, str, set[str]]:
        """A worker, one that holds something if there is one: its number, its address, what it holds."""
        urls = dict(enumerate(self._stack.worker_urls()))
        numbers = sorted(urls if among is None else among)
        self._rng.shuffle(numbers)
        held = [(number, urls[number], self._watch.held_by(urls[number])) for number in numbers]
        return max(held, key=lambda one: bool(one[2]))

    def _folder(self, number: int) -> Path:
        return self._stage.settings.state_dir / f"worker-{number}"

    def _copy(self, number: int) -> Path:
        return self._copies / f"worker-{number}"

    def _kill(self, number: int) -> float:
        """Kills a worker; its store, as a crash leaves it, is sometimes kept for later."""
        at = time.monotonic()
        self._stack.kill_worker(number)
        if not self._copy(number).exists() or self._rng.random() < KEEP_COPY_SHARE:
            shutil.rmtree(self._copy(number), ignore_errors=True)
            shutil.copytree(self._folder(number), self._copy(number), copy_function=_link)
        return at

    def _kill_worker(self) -> Fault:
        number, url, parts = self._victim()
        at = self._kill(number)
        self._stack.start_worker(number)
        return Fault("kill worker", _who(number, parts), self._watch.wait_commits(parts, at, without=[url]))

    def _lose_store(self) -> Fault:
        number, url, parts = self._victim()
        at = self._kill(number)
        shutil.rmtree(self._folder(number))
        self._stack.start_worker(number)
        return Fault("lose store", _who(number, parts), self._watch.wait_commits(parts, at, without=[url]))

    def _take_over(self) -> Fault:
        number, url, parts = self._victim()
        at = self._kill(number)
        seconds = self._watch.wait_commits(parts, at, without=[url])
        time.sleep(self._rng.uniform(0, AWAY_SECONDS_MAX))
        self._stack.start_worker(number)
        return Fault("take over", _who(number, parts), seconds)

    def _old_store(self) -> Fault:
        while not (copied := [n for n in range(self._stack.workers) if self._copy(n).exists()]):
            self._kill_worker()
            time.sleep(self._rng.uniform(0, AWAY_SECONDS_MAX))
        number, url, parts = self._victim(copied)
        at = time.monotonic()
        self._stack.kill_worker(number)
        shutil.rmtree(self._folder(number))
        shutil.copytree(self._copy(number), self._folder(number), copy_function=_link)
        self._stack.start_worker(number)
        return Fault("old store", _who(number, parts), self._watch.wait_commits(parts, at, without=[url]))

    def _restart_worker(self) -> Fault:
        number, url, parts = self._victim()
        child = self._stack._children[f"worker-{number}"]
        at = time.monotonic()
        self._stack.stop_worker(number)
        left = time.monotonic() - at
        if child.returncode != 0:
            raise ProcessError(f"worker-{number}, asked to leave, ended with status {child.returncode} in {left:.1f} s")
        self._stack.start_worker(number)
        seconds = self._watch.wait_commits(parts, at, without=[url])
        return Fault("restart worker", f"{_who(number, parts)}, left in {left:.1f} s", seconds)

    def _stop_worker(self) -> Fault:
        number, url, parts = self._victim()
        [member] = [member for member in self._stack.members() if member.name == f"worker-{number}"]
        at = time.monotonic()
        send_signal(member.process, signal.SIGSTOP)
        try:
            seconds = self._watch.wait_commits(parts, at, without=[url])
            time.sleep(self._rng.uniform(0, AWAY_SECONDS_MAX))
        finally:
            send_signal(member.process, signal.SIGCONT)
        return Fault("stop worker", _who(number, parts), seconds)

    # The sink and its database.

    def _kill_sink(self) -> Fault:
        at = time.monotonic()
        self._stack.kill_sink()
        self._stack.start_sink()
        return Fault("kill sink", "sink", self._watch.wait_stored(at, {}))

    def _stop_sink(self) -> Fault:
        [member] = [member for member in self._stack.members() if member.kind == "sink"]
        before = self._watch.stored()
        at = time.monotonic()
        send_signal(member.process, signal.SIGSTOP)
        time.sleep(self._stage.settings.session_timeout_ms / 1000 + self._rng.uniform(0, AWAY_SECONDS_MAX))
        send_signal(member.process, signal.SIGCONT)
        return Fault("stop sink", "sink", self._watch.wait_stored(at, before))

    def _kill_clickhouse(self) -> Fault:
        at = time.monotonic()
        self._stage.clickhouse.kill()
        time.sleep(self._rng.uniform(0.5, AWAY_SECONDS_MAX))
        before = self._watch.stored()
        self._stage.clickhouse.start()
        return Fault("kill clickhouse", "clickhouse", self._watch.wait_stored(at, before))

    # The broker.

    def _kill_broker(self) -> Fault:
        cluster = self._stage.cluster
        cluster.wait_in_sync()
        node = self._rng.choice(list(cluster.nodes))
        at = time.monotonic()
        cluster.nodes[node].kill()
        known = self._watch.steps()
        time.sleep(self._rng.uniform(0.5, AWAY_SECONDS_MAX))
        cluster.nodes[node].start()
        return Fault("kill broker", f"node {node}", self._watch.wait_commits(self._watch.parts(), at, known=known))


def _who(number: int, parts: set[str]) -> str:
    return f"worker-{number}, {len(parts)} partitions"


def _link(source: str, target: str) -> None:
    """Copies a store's file; what RocksDB never changes again costs nothing."""
    if source.endswith(".sst"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)
