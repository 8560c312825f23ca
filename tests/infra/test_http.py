"""The HTTP endpoints of every process."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from truyvet import http, metrics
from truyvet.config import ConfigError
from truyvet.http import HttpService

Answer = tuple[int, str, bytes]
Ask = Callable[..., Answer]


class Process:
    """What a process would tell about itself."""

    def __init__(self) -> None:
        self.healthy = (True, "ok")
        self.position = 0

    def progress(self) -> dict[str, object]:
        """Its position."""
        return {"position": self.position}

    def health(self) -> tuple[bool, str]:
        """What the test set."""
        return self.healthy


@pytest.fixture
def process() -> Process:
    """A process that moves as a test says."""
    return Process()


@pytest.fixture
def port(process: Process) -> Iterator[int]:
    """The port of a running service, which is free again afterwards."""
    service = HttpService(
        "127.0.0.1", 0, process.progress, process.health, {"/query": lambda body: (201, "text/x", body.upper())}
    )
    port = service.start()
    yield port
    service.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()


@pytest.fixture
def ask(port: int) -> Ask:
    """Asks the running service: path, and a body to post."""

    def call(path: str, body: bytes | None = None) -> Answer:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read()

    return call


def test_health_is_progress_not_existence(ask: Ask, process: Process) -> None:
    """200 while the process says it moves on, 503 with its reason when it says it does not."""
    assert ask("/healthz")[::2] == (200, b"ok\n")
    process.healthy = (False, "no commit for 31 s")
    assert ask("/healthz")[::2] == (503, b"no commit for 31 s\n")


def test_progress_is_json_of_this_moment(ask: Ask, process: Process) -> None:
    """Each request asks the process anew."""
    process.position = 41
    status, content_type, body = ask("/progress?now")
    assert (status, content_type, json.loads(body)) == (200, "application/json", {"position": 41})


def test_metrics_are_prometheus_text(ask: Ask) -> None:
    """Counters show under their full names."""
    metrics.REJECTS.labels("a_test").inc(3)
    status, content_type, body = ask("/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert b'truyvet_rejects_total{reason="a_test"} 3.0' in body
    assert b"process_cpu_seconds_total" in body


def test_a_route_of_the_process_takes_a_body(ask: Ask) -> None:
    """Only POST, and the process's own status, type and body come back."""
    assert ask("/query", b"select 1") == (201, "text/x", b"SELECT 1")
    assert ask("/query")[0] == 405
    assert ask("/other", b"x")[0] == 404
    assert ask("/nowhere")[0] == 404


def test_a_body_without_bounds_is_refused(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body over the limit is answered 413 before it is read."""
    monkeypatch.setattr(http, "BODY_BYTES_MAX", 10)
    assert ask("/query", b"0123456789")[0] == 201
    assert ask("/query", b"0123456789a")[0] == 413


def test_a_client_that_goes_away_does_not_disturb(ask: Ask, port: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A connection that is cut in the middle leaves no traceback, and the next is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as half:
        half.sendall(b"POST /query HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")
    assert ask("/healthz")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_taken_port_is_a_wrong_setting(process: Process) -> None:
    """The sentence names the settings that choose the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"TRUYVET_HTTP_HOST/HTTP_PORT .*cannot listen on 127.0.0.1:{port}"):
            HttpService("127.0.0.1", port, process.progress, process.health).start()
