"""``truyvet sink``: from the pipeline's topics to ClickHouse, and read-only answers from the embedded database.

Two HTTP servers: ``http_*`` shows ``/metrics``, ``/healthz`` and ``/progress``; ``query_*`` also answers
``POST /query``, takes ``POST /maintenance`` (``sinks.maintenance``), and exists only where this process owns an
embedded database. Where both are the same address, there is one.
"""

import argparse
import gc
import json
import signal
import threading
import time
from types import FrameType
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from infra.topics import BrokerAwayError
from schemas.areas import load_areas
from sinks import maintenance
from sinks.backends import Backend, QueryFailedError, StorageError, open_backend
from sinks.columns import TopicDecoder, decoder_of
from sinks.consuming import Consuming, SinkFailedError
from sinks.readonly import QueryRefusedError, personal_reads, shape_of
from sinks.register_topic import RegisterTopic
from sinks.status import Status
from sinks.tables import SINK_TOPICS
from sinks.venue_rows import generation_of
from truyvet import logs
from truyvet.config import Settings, load_settings
from truyvet.disk import DiskWatch
from truyvet.heap import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, set_heap
from truyvet.http import HttpService

OWNED_SECONDS_MAX = 10.0
"""How long to wait for a database that another process, perhaps a dying one, still has open."""
RETRY_SECONDS = 0.5
_SHAPE_CHARACTERS_MAX = 500
"""How much of a query is logged; the tables it reads stand beside it."""

_GC_THRESHOLDS: Final = (200_000, 20, 50)
_KEPT_BYTES: Final = 64 * 1024 * 1024
"""How much freed memory glibc keeps; blocks of up to half of it are taken from there."""

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_GOOD: Final = 200
_BAD_REQUEST: Final = 400
_UNAVAILABLE: Final = 503

_log = logs.get("sink")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments: everything comes from settings."""
    parser.epilog = (
        "Settings: TRUYVET_BROKERS, TRUYVET_CLICKHOUSE, TRUYVET_EMBEDDED_DIR, TRUYVET_QUERY_PORT and others."
    )


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - every verb takes them
    """Runs the sink until SIGTERM or Ctrl-C."""
    settings = load_settings()
    logs.configure(settings)
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _Sink(settings).run(stop)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def keep_memory() -> None:
    """Once everything is loaded: the collector walks none of it and seldom looks, and freed memory stays.

    Records and columns hold no cycles, and looking for some took a quarter of all CPU time. Each batch wants as much
    memory as the last one; given back to the kernel and asked for again, its pages cost more than what is done in them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    set_heap({M_TRIM_THRESHOLD: _KEPT_BYTES, M_MMAP_THRESHOLD: _KEPT_BYTES // 2})


class _Sink:
    """The process's parts, opened and closed in order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._status = Status(DiskWatch(settings.embedded_dir) if settings.clickhouse == "embedded" else None)
        self._backend: Backend | None = None
        self._maintaining = threading.Lock()

    def run(self, stop: threading.Event) -> int:
        """Serves, waits for ClickHouse, consumes; 0 once stopped, 1 if it could not go on."""
        services = self._serve()
        try:
            self._backend = self._open(stop)
            if self._ready(self._backend, stop):
                register = self._register(stop)
                if register is None:
                    return 0
                decoders = self._decoders(self._backend, register)
                consuming = Consuming(self._settings, self._backend, decoders, self._status, register)
                keep_memory()
                _log.info("the sink reads", topics=len(decoders), prefix=self._settings.topic_prefix)
                consuming.run(stop)
        except (StorageError, SinkFailedError) as error:
            _log.error("the sink ends", reason=error)
            return 1
        finally:
            for service in services:
                service.stop()
            if self._backend is not None:
                self._backend.close()
        _log.info("the sink has ended")
        return 0

    def _register(self, stop: threading.Event) -> RegisterTopic | None:
        """The register's topic; waits for the broker. None if told to stop first."""
        while not stop.is_set():
            try:
                register = RegisterTopic(self._settings)
            except BrokerAwayError as error:
                self._status.broker_away(str(error))
                stop.wait(RETRY_SECONDS)
            else:
                self._status.broker_back()
                return register
        return None

    def _decoders(self, backend: Backend, register: RegisterTopic) -> dict[str, TopicDecoder]:
        settings, areas = self._settings, load_areas()
        zone = ZoneInfo(settings.report_timezone)
        generation = generation_of(backend, settings.database, register.id)
        return {
            settings.topic(topic): decoder_of(topic, areas, zone, settings.partitions, generation)
            for topic in SINK_TOPICS
        }

    def _serve(self) -> list[HttpService]:
        settings = self._settings
        shown = (self._status.progress, self._status.healthy)
        plain = HttpService(settings.http_host, settings.http_port, *shown)
        if settings.clickhouse != "embedded":
            services = [plain]
        else:
            routes = {"/query": self._answer_query, maintenance.PATH: self._maintain}
            answering = HttpService(
                settings.query_host, settings.query_port, *shown, routes=routes, json_only=[maintenance.PATH]
            )
            same = (settings.http_host, settings.http_port) == (settings.query_host, settings.query_port)
            services = [answering] if same and settings.http_port else [answering, plain]
        for service in services:
            _log.info("listening", port=service.start(), queries=service is not plain)
        return services

    def _open(self, stop: threading.Event) -> Backend:
        deadline = time.monotonic() + OWNED_SECONDS_MAX
        while True:
            try:
                return open_backend(self._settings)
            except StorageError:
                if time.monotonic() > deadline or stop.wait(RETRY_SECONDS):
                    raise

    def _ready(self, backend: Backend, stop: threading.Event) -> bool:
        """Waits for ClickHouse and makes the schema; False if told to stop first."""
        while not stop.is_set():
            try:
                backend.ensure_schema()
            except StorageError as error:
                self._status.insert_failed(str(error))
                stop.wait(RETRY_SECONDS)
            else:
                self._status.accepted()
                return True
        return False

    def _answer_query(self, body: bytes) -> tuple[int, str, bytes]:
        """``{"sql": …, "format": "JSONCompact"}`` to the answer in that format."""
        from sinks.embedded import ChdbBackend  # noqa: PLC0415 - loaded already where this route exists

        if not isinstance(self._backend, ChdbBackend):
            return _UNAVAILABLE, _TEXT, b"the database is not open yet"
        try:
            request = json.loads(body)
            sql, output_format = str(request["sql"]), str(request.get("format", "JSONCompact"))
        except (ValueError, KeyError, TypeError, AttributeError):
            return _BAD_REQUEST, _TEXT, b'the body must be {"sql": "SELECT ..."}'
        try:
            answer = self._backend.query_bytes(sql, output_format)
        except (QueryRefusedError, QueryFailedError) as error:
            return _BAD_REQUEST, _TEXT, str(error).encode()
        except StorageError as error:
            return _UNAVAILABLE, _TEXT, str(error).encode()
        tables = personal_reads(sql)
        if tables:
            shape = shape_of(sql)[:_SHAPE_CHARACTERS_MAX]
            _log.info("rows about persons were read", tables=" ".join(tables), query=shape, answer_bytes=len(answer))
        return _GOOD, _JSON if "JSON" in output_format else _TEXT, answer

    def _maintain(self, body: bytes) -> tuple[int, str, bytes]:
        """One of the actions of ``sinks.maintenance`` to what came of it; they are performed one after another."""
        if self._backend is None:
            return _UNAVAILABLE, _TEXT, b"the database is not open yet"
        try:
            action = maintenance.read_action(body)
        except msgspec.MsgspecError as error:
            return _BAD_REQUEST, _TEXT, f"no action: {error}".encode()
        name = type(action).__struct_config__.tag
        began = time.monotonic()
        try:
            with self._maintaining:
                outcome = maintenance.perform(self._backend, self._settings, action)
        except maintenance.RefusedError as error:
            return _BAD_REQUEST, _TEXT, str(error).encode()
        except (StorageError, QueryFailedError) as error:
            # ClickHouse's sentence may hold the query, and the query a person: it goes to who asked, not into the log.
            _log.warning("maintenance has not finished", action=name)
            return _UNAVAILABLE, _TEXT, str(error).encode()
        _log.info("maintenance is done", action=name, seconds=round(time.monotonic() - began, 1))
        return _GOOD, _JSON, msgspec.json.encode(outcome)
