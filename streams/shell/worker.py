"""``truyvet worker``: one Faust worker. Several may run; they share the partitions among them.

Environment and config file say everything (``docs/configuration.md``). SIGTERM or SIGINT finish the steps
under way and leave.
"""

import argparse
import asyncio
import fcntl
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import faust
from faust.tables.manager import TableManager
from yarl import URL

from infra.topics import BrokerAwayError, check_topics, delete_retention_ms, topic_ids
from schemas.areas import load_areas
from streams.core.person import VENUES
from streams.core.room import PERSON_ROOM
from streams.shell.assigning import Assignor
from streams.shell.changelogs import CHANGELOGS, keep_only_stores_of
from streams.shell.inputs import TOPICS
from streams.shell.register import Register
from streams.shell.register_copy import RegisterCopy
from streams.shell.rooms import Rooms, die
from streams.shell.seeking import LOOK_SECONDS
from streams.shell.transport import OutsideFirst, Run
from truyvet import logs
from truyvet.config import ConfigError, Settings, load_settings
from truyvet.disk import DiskWatch
from truyvet.heap import M_ARENA_MAX, set_heap
from truyvet.http import HttpService

_SLOTS_MAX = 256
_STUCK_SECONDS = 60.0
_SWITCH_SECONDS = 0.02
"""How long a thread computes before another may: commit threads do not mind, and switching costs."""
_GC_THRESHOLD = 2_000_000
"""More than the steps on their way can hold: what a look finds in their midst is alive, and looking costs."""
_GC_SECONDS = 60.0
"""So often what is left over in cycles, which steps make none of, is collected all the same."""
_STOP_SECONDS_MAX = 10.0
_HEARTBEAT_SECONDS = 0.3
"""So soon a worker hears that another one is gone: with its session's end that is what taking over waits for."""
FETCH_BYTES_MAX = 4 * 1024 * 1024
"""Of one partition, as it comes over the wire."""

Answer = TypeVar("Answer")

log = logs.get("worker")


class _NoTables(TableManager):
    """Faust waits a second for tables before it joins the group. There are none."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class _RawSchema(faust.Schema[Any, Any]):
    """Keeps Faust from decoding: the message's value is already what the agent takes."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002 - Faust passes it by name
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002 - same
        return message.value


def make_app(settings: Settings, directory: Path) -> faust.App:
    """The Faust app, without agents; ``directory`` is this worker's own folder."""
    credentials: faust.SASLCredentials | faust.SSLCredentials | None = None
    if settings.security_protocol.startswith("SASL"):
        credentials = faust.SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password,
            mechanism=settings.sasl_mechanism,
            ssl_context=settings.ssl_context(),
        )
    elif settings.security_protocol == "SSL":
        credentials = faust.SSLCredentials(context=settings.ssl_context())
    session_seconds = settings.session_timeout_ms / 1000
    return faust.App(
        f"{settings.topic_prefix}workers",
        broker=[URL(f"batch://{broker.strip()}") for broker in settings.brokers.split(",")],
        broker_credentials=credentials,
        broker_client_id=f"truyvet-{settings.worker_id or os.getpid()}",
        broker_max_poll_records=settings.batch_records_max,
        broker_max_poll_interval=3600.0,
        broker_session_timeout=session_seconds,
        broker_heartbeat_interval=min(_HEARTBEAT_SECONDS, session_seconds / 6),
        broker_rebalance_timeout=60.0,
        broker_commit_interval=1.0,
        broker_commit_livelock_soft_timeout=3600.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES_MAX,
        consumer_group_instance_id=settings.worker_id or None,
        stream_buffer_maxsize=2,
        stream_wait_empty=True,
        TableManager=_NoTables,
        PartitionAssignor=Assignor,
        ConsumerScheduler=partial(OutsideFirst, [settings.topic(topic) for topic in TOPICS[PERSON_ROOM]]),
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        store="memory://",
        cache="memory://",
        datadir=str(directory / "faust"),
        web_enabled=False,
        autodiscover=False,
        loghandlers=[],
    )


def add_agents(app: faust.App, settings: Settings, rooms: Rooms) -> None:
    """One agent per input topic: each hands runs to the rooms and acknowledges them once committed."""
    for topics in TOPICS.values():
        for name in topics:
            _add_agent(
                app, app.topic(settings.topic(name), schema=_RawSchema(), partitions=settings.partitions), name, rooms
            )


def _add_agent(app: faust.App, topic: Any, name: str, rooms: Rooms) -> None:
    async def take_runs(stream: Any) -> None:
        async for event in stream.noack().events():
            run: Run = event.message.value
            try:
                await rooms.take(run, event.ack)
            except asyncio.CancelledError:
                raise
            except BaseException:  # noqa: BLE001 - Faust would acknowledge the run and go on
                die(f"a step of {name} failed at partition {run.partition}, offsets {run.start} to {run.next}")

    app.agent(topic, name=f"take-{name}", concurrency=1)(take_runs)


class Worker:
    """The worker's process: Faust app, rooms, register, HTTP."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings = settings
        self._directory = directory
        self._lag = 0
        self._moved_at = time.monotonic()
        self._disk = DiskWatch(directory)
        self._rooms: Rooms | None = None
        self._register: Register
        self._ids: dict[str, str] = {}
        """Of the changelogs and the register."""
        self._comparing = asyncio.Lock()

    async def run(self) -> int:
        """Runs until it is told to stop; returns the exit status."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        areas = load_areas()
        register = self._register = Register(self._settings, areas)
        app = make_app(self._settings, self._directory)
        rooms = self._rooms = Rooms(self._settings, app, register, areas, self._directory)
        add_agents(app, self._settings, rooms)

        async def on_rebalance_complete(*_: Any, **__: Any) -> None:
            await self._compare(await asyncio.to_thread(_topic_ids, self._settings))
            await rooms.rebalanced()

        app.on_rebalance_complete.connect(on_rebalance_complete)
        http = HttpService(self._settings.http_host, self._settings.http_port, rooms.progress, self.healthy)
        port = http.start()
        log.info("worker starts", http=f"{self._settings.http_host}:{port}", brokers=self._settings.brokers)
        await asyncio.to_thread(_require_topics, self._settings)
        ids = self._ids = await asyncio.to_thread(_topic_ids, self._settings)
        if keep_only_stores_of(self._directory, {name: ids[name] for name in CHANGELOGS}):
            log.warning("the stores are not of these changelogs and start from nothing")
        register.start(rooms.register_changed, await self._copy_of(ids[VENUES]))
        # Meanwhile the worker joins its group and opens its partitions; what they do waits for the register.
        tasks = [
            asyncio.create_task(_loaded(register)),
            asyncio.create_task(self._watch(app, register, stopping)),
            asyncio.create_task(self._look_at_inputs(rooms)),
        ]
        if not stopping.is_set():
            await app.start()
            await stopping.wait()
        log.info("worker stops")
        for task in tasks:
            task.cancel()
        await rooms.close()
        try:
            await asyncio.wait_for(app.stop(), _STOP_SECONDS_MAX)
        except TimeoutError:
            log.warning("the group was left without a good-bye: the broker did not answer")
        register.stop()
        http.stop()
        log.info("worker has stopped")
        return 1 if app.crashed else 0

    async def _copy_of(self, topic_id: str) -> RegisterCopy:
        """The copy on disk of the register with this id of the broker's; waits for the broker."""
        kept_ms = await asyncio.to_thread(_patiently, lambda: delete_retention_ms(self._settings, VENUES))
        return RegisterCopy(self._directory / "register", topic_id, kept_ms)

    async def _look_at_inputs(self, rooms: Rooms) -> None:
        while True:
            described = await rooms.look_at_inputs()
            await self._compare({name: known.topic_id for name, known in described.items()})
            await asyncio.sleep(LOOK_SECONDS)

    async def _compare(self, ids: Mapping[str, str]) -> None:
        """Begins the register anew if its topic was made anew; of other changelogs this worker remembers nothing."""
        async with self._comparing:
            if any(ids.get(name, self._ids[name]) != self._ids[name] for name in CHANGELOGS):
                die("changelogs were made anew while this worker ran: what it remembers is not of them")
            topic_id = ids.get(VENUES, self._ids[VENUES])
            if topic_id != self._ids[VENUES]:
                log.error("the register's topic was made anew: it counts as it is now", topic=VENUES)
                self._ids[VENUES] = topic_id
                await asyncio.to_thread(self._register.begin_anew, await self._copy_of(topic_id))

    async def _watch(self, app: faust.App, register: Register, stopping: asyncio.Event) -> None:
        """Measures once a second; ends the process where Faust itself or the register's reader has failed."""
        assert self._rooms is not None
        committed_before: object = None
        collected_at = time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            if time.monotonic() > collected_at + _GC_SECONDS:
                collected_at = time.monotonic()
                gc.collect()
            if register.failed is not None:
                # Its position is not there any more, if the topic is another.
                await self._compare(await asyncio.to_thread(_topic_ids, self._settings))
                if register.failed is not None:
                    die("the register's reader has failed")
            self._disk.look()
            self._lag = self._rooms.measure()
            committed = self._rooms.progress()["rooms"], self._rooms.migrated_keys
            if committed != committed_before or self._lag == 0:
                self._moved_at = time.monotonic()
                committed_before = committed
            if app.crashed and not stopping.is_set():
                log.error("faust has crashed", error=repr(getattr(app, "_crash_reason", None)))
                stopping.set()

    def healthy(self) -> tuple[bool, str]:
        """Whether the worker moves on: it holds a place in the group, and commits where there is work."""
        migrated_keys = 0 if self._rooms is None else self._rooms.migrated_keys
        if self._rooms is None or (self._rooms.generation < 0 and not migrated_keys):
            return False, "no partitions assigned yet"
        if self._disk.complaint is not None:
            return False, self._disk.complaint
        if self._rooms.trouble is not None:
            return False, self._rooms.trouble
        stuck_seconds = time.monotonic() - self._moved_at
        if stuck_seconds > _STUCK_SECONDS:
            return False, f"{self._lag} records wait, and nothing was committed for {stuck_seconds:.0f} s"
        return True, f"migrating the state, {migrated_keys:,} keys so far" if migrated_keys else self._rooms.behind


def _require_topics(settings: Settings) -> None:
    """Returns once the broker answers and has every topic as it must be.

    Raises:
        ConfigError: a topic is missing, or has other settings.
    """
    missing = _patiently(lambda: check_topics(settings))
    if missing:
        raise ConfigError(f"TRUYVET_TOPIC_PREFIX: there is no topic {missing[0]}; `truyvet topics create` makes it")


def _topic_ids(settings: Settings) -> dict[str, str]:
    """The broker's ids of the changelogs and the register; waits for the broker."""
    return _patiently(lambda: topic_ids(settings, (*CHANGELOGS, VENUES)))


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """Asks again until the broker answers."""
    said = False
    while True:
        try:
            return ask()
        except BrokerAwayError as error:
            if not said:
                log.warning("waits for the broker", error=str(error))
                said = True
            time.sleep(1.0)


async def _loaded(register: Register) -> None:
    """Says when the register is loaded, and keeps the collector from walking it."""
    await asyncio.to_thread(register.catch_up)
    log.info("register is loaded", venues=len(register.directory), read=register.records_read)
    gc.collect()
    gc.freeze()


def _tune() -> None:
    """Few switches between threads, and a collector that seldom looks: what steps make holds no cycles."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(_GC_THRESHOLD)


def claim_directory(settings: Settings) -> Path:
    """A folder for this worker alone, held by a lock that dies with the process.

    Raises:
        ConfigError: the folder cannot be made, or the worker_id is in use.
    """
    names = [settings.worker_id] if settings.worker_id else [f"worker-{slot}" for slot in range(_SLOTS_MAX)]
    for name in names:
        directory = settings.state_dir / name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError(f"TRUYVET_STATE_DIR: cannot use {directory}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        return directory
    raise ConfigError(f"TRUYVET_WORKER_ID: another process on this machine runs as {names[0]!r}")


def add_arguments(_: argparse.ArgumentParser) -> None:
    """``truyvet worker`` takes none: settings come from the environment and the config file."""


def run(_: argparse.Namespace) -> int:
    """Runs one worker until SIGTERM or SIGINT."""
    settings = load_settings()
    logs.configure(settings)
    logging.getLogger("faust").setLevel(logging.WARNING)
    directory = claim_directory(settings)
    # With a heap each, a hundred threads keep what they once used.
    set_heap({M_ARENA_MAX: 2})
    _tune()
    status = asyncio.run(Worker(settings, directory).run())
    # Threads of libraries that never end must not hold the process.
    logging.shutdown()
    os._exit(status)
