"""How other commands reach the database: over HTTP the sink that owns the embedded one, or the server itself."""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final, TypeVar

import msgspec

from sinks.backends import Closing, QueryFailedError, Reader, Rows, StorageError
from sinks.maintenance import OUTCOMES, PATH, Action, Outcome, RefusedError, perform
from sinks.readonly import check_read_only
from truyvet.config import Settings

ANSWER_SECONDS_MAX: Final = 180.0
MAINTENANCE_SECONDS_MAX: Final = 3600.0
_JSON: Final = {"Content-Type": "application/json"}


_T = TypeVar("_T")


class _Column(msgspec.Struct):
    name: str


class _Answer(msgspec.Struct):
    """ClickHouse's format JSONCompact, as far as it matters."""

    meta: list[_Column]
    data: list[tuple[Any, ...]]


class HttpReader(Closing):
    """Asks a sink's ``POST /query``."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._decoder = msgspec.json.Decoder(_Answer)
        # A proxy of the environment has no business between two processes of one machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def query(self, sql: str) -> tuple[list[str], Rows]:
        """Column names and rows of a read-only query; refused here already where it can be."""
        check_read_only(sql)
        body = json.dumps({"sql": sql, "format": "JSONCompact"}).encode()
        answer = self._ask("/query", body, ANSWER_SECONDS_MAX, self._decoder, QueryFailedError)
        return [column.name for column in answer.meta], answer.data

    def maintain(self, action: Action) -> Outcome:
        """Has the sink perform an action, and waits until it is done.

        Raises:
            RefusedError: nothing was done.
            StorageError: the sink does not answer, or ClickHouse refused; run again, it goes on.
        """
        decoder: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(OUTCOMES[type(action)])
        return self._ask(PATH, msgspec.json.encode(action), MAINTENANCE_SECONDS_MAX, decoder, RefusedError)

    def _ask(
        self,
        path: str,
        body: bytes,
        seconds_max: float,
        decoder: msgspec.json.Decoder[_T],
        refused: type[Exception],
    ) -> _T:
        request = urllib.request.Request(f"{self._url}{path}", body, _JSON)  # noqa: S310
        try:
            with self._opener.open(request, timeout=seconds_max) as response:
                return decoder.decode(response.read())
        except urllib.error.HTTPError as error:
            sentence = error.read().decode("utf-8", "replace").strip()
            if error.code in (400, 413):
                raise refused(sentence) from None
            raise StorageError(f"the sink at {self._url} cannot answer: {sentence}") from None
        except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
            raise StorageError(
                f"the sink at {self._url} does not answer ({error}); is the stack up? (truyvet status)"
            ) from error

    def close(self) -> None:
        """Nothing to let go of: each query is a connection of its own."""


def open_reader(settings: Settings) -> Reader:
    """A reader for whatever the settings name; nothing is asked yet."""
    if settings.clickhouse == "embedded":
        return _sink_of(settings)
    from sinks.server import ClickHouseBackend  # noqa: PLC0415 - a driver that the embedded way does not need

    return ClickHouseBackend(settings)


def maintain(settings: Settings, action: Action) -> Outcome:
    """Performs an action on whatever database the settings name, and returns once it is done.

    Raises:
        RefusedError: nothing was done.
        StorageError: the database does not answer, or refused; run again, it goes on.
    """
    if settings.clickhouse == "embedded":
        return _sink_of(settings).maintain(action)
    from sinks.server import MAINTENANCE_SECONDS_MAX as SECONDS_MAX  # noqa: PLC0415 - as above
    from sinks.server import ClickHouseBackend  # noqa: PLC0415 - as above

    with ClickHouseBackend(settings, SECONDS_MAX) as backend:
        return perform(backend, settings, action)


def _sink_of(settings: Settings) -> HttpReader:
    host = "127.0.0.1" if settings.query_host in ("0.0.0.0", "") else settings.query_host  # noqa: S104
    return HttpReader(f"http://{host}:{settings.query_port}")


__all__ = ["HttpReader", "maintain", "open_reader"]
