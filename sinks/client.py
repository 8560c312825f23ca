"""How other commands read: over HTTP from the sink that owns the embedded database, or from the server itself."""

import json
import urllib.error
import urllib.request
from typing import Any, Final

import msgspec

from sinks.backends import Closing, QueryFailedError, Reader, Rows, StorageError
from sinks.readonly import check_read_only
from truyvet.config import Settings

ANSWER_SECONDS_MAX: Final = 180.0


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
        request = urllib.request.Request(f"{self._url}/query", body, {"Content-Type": "application/json"})  # noqa: S310
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS_MAX) as response:
                answer = self._decoder.decode(response.read())
        except urllib.error.HTTPError as error:
            sentence = error.read().decode("utf-8", "replace").strip()
            if error.code in (400, 413):
                raise QueryFailedError(sentence) from None
            raise StorageError(f"the sink at {self._url} cannot answer: {sentence}") from None
        except (OSError, msgspec.MsgspecError) as error:
            raise StorageError(
                f"the sink at {self._url} does not answer ({error}); is the stack up? (truyvet status)"
            ) from error
        return [column.name for column in answer.meta], answer.data

    def close(self) -> None:
        """Nothing to let go of: each query is a connection of its own."""


def open_reader(settings: Settings) -> Reader:
    """A reader for whatever the settings name; nothing is asked yet."""
    if settings.clickhouse == "embedded":
        host = "127.0.0.1" if settings.query_host in ("0.0.0.0", "") else settings.query_host  # noqa: S104
        return HttpReader(f"http://{host}:{settings.query_port}")
    from sinks.server import ClickHouseBackend  # noqa: PLC0415 - a driver that the embedded way does not need

    return ClickHouseBackend(settings)


__all__ = ["HttpReader", "open_reader"]
