"""A process that answers HTTP as a worker or sink does and does nothing else, for tests of the stack."""

import signal
import sys
import threading

from truyvet.config import load_settings
from truyvet.http import HttpService


def main() -> None:
    """Serves until SIGTERM; with the argument ``deaf`` it does not listen to that either."""
    settings = load_settings()
    if "broken" in sys.argv:
        sys.exit("the stub is broken")
    done = threading.Event()
    service = HttpService(
        settings.http_host,
        settings.http_port,
        lambda: {"worker_id": settings.worker_id, "state_dir": str(settings.state_dir)},
        lambda: (True, "ok"),
    )
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else lambda *_: done.set())
    service.start()
    done.wait()
    service.stop()


if __name__ == "__main__":
    main()
