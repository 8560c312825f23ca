"""What a process shows over HTTP: ``/metrics``, ``/healthz``, ``/progress``, and routes of its own.

The standard library's threading server: a busy main loop or a long query does not keep a probe waiting.
Health means progress, not existence: the process says itself whether it moves on.
"""

import json
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from truyvet import metrics
from truyvet.config import ConfigError

Progress = Callable[[], Mapping[str, object]]
Healthy = Callable[[], tuple[bool, str]]
Route = Callable[[bytes], tuple[int, str, bytes]]

BODY_BYTES_MAX = 1024 * 1024
SOCKET_SECONDS_MAX = 30.0
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


class HttpService:
    """One process's HTTP endpoints, answered by threads of their own.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        progress: What ``GET /progress`` answers, as a JSON object.
        healthy: What ``GET /healthz`` answers: 200 or 503, and a reason.
        routes: ``POST`` paths; each takes the request's body and gives status, content type and body.
        json_only: Those of them that take ``application/json`` alone. A page in somebody's browser cannot send that
            to another address unasked, so none can have this process change anything.
    """

    def __init__(
        self,
        host: str,
        port: int,
        progress: Progress,
        healthy: Healthy,
        routes: Mapping[str, Route] | None = None,
        json_only: Collection[str] = (),
    ) -> None:
        self._host = host
        self._port = port
        self._progress = progress
        self._healthy = healthy
        self._routes = dict(routes or {})
        self._json_only = frozenset(json_only)
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Listens and serves in the background; returns the port.

        Raises:
            ConfigError: the port is taken, or the host is no address of this machine.
        """
        try:
            server = _Server((self._host, self._port), _handler(self))
        except OSError as error:
            message = f"cannot listen on {self._host}:{self._port}: {error.strerror}"
            raise ConfigError(f"TRUYVET_HTTP_HOST/HTTP_PORT (the sink: QUERY_HOST/QUERY_PORT): {message}") from error
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()
        return int(server.server_address[1])

    def stop(self) -> None:
        """Stops listening; a request under way is not waited for."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = None
        self._thread = None

    def answer_get(self, path: str) -> tuple[int, str, bytes]:
        """The answer to ``GET path``: status, content type, body."""
        if path == "/metrics":
            return HTTPStatus.OK, metrics.CONTENT_TYPE, metrics.render()
        if path == "/healthz":
            healthy, reason = self._healthy()
            status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
            return status, _TEXT, (reason + "\n").encode()
        if path == "/progress":
            return HTTPStatus.OK, _JSON, json.dumps(self._progress()).encode()
        if path in self._routes:
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"POST only\n"
        return HTTPStatus.NOT_FOUND, _TEXT, b"/metrics /healthz /progress\n"

    def answer_post(self, path: str, body: bytes, content_type: str) -> tuple[int, str, bytes]:
        """The answer to ``POST path``: status, content type, body."""
        route = self._routes.get(path)
        if route is None:
            return HTTPStatus.NOT_FOUND, _TEXT, b"no such route\n"
        if path in self._json_only and content_type != _JSON:
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, _TEXT, f"Content-Type must be {_JSON}\n".encode()
        return route(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A query under way must not hold up the stop of the process.
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no event; anything else is our own bug and keeps its traceback."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _handler(service: HttpService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = SOCKET_SECONDS_MAX

        def do_GET(self) -> None:
            self._send(*service.answer_get(urlsplit(self.path).path))

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal():
                self.close_connection = True
                self._send(HTTPStatus.LENGTH_REQUIRED, _TEXT, b"Content-Length is missing\n")
                return
            if int(length) > BODY_BYTES_MAX:
                self.close_connection = True
                self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TEXT, f"at most {BODY_BYTES_MAX} bytes\n".encode())
                return
            body = self.rfile.read(int(length))
            content_type = self.headers.get("Content-Type", "")
            self._send(*service.answer_post(urlsplit(self.path).path, body, content_type))

        def _send(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
            """Requests are not logged: probes come every few seconds, and queries may name people."""

    return Handler
