"""Free TCP ports on the loopback interface.

Taken from below the kernel's ephemeral range (32768 and up), so that no outgoing connection can grab a
port between its choice here and the bind of the process it was chosen for.
"""

import secrets
import socket
import threading

_LOWEST = 20_000
_COUNT = 12_000

_given: set[int] = set()
_lock = threading.Lock()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether ``port`` can be bound now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free now and was not given out by this process before.

    Raises:
        OSError: none of the range is free.
    """
    with _lock:
        for _ in range(_COUNT):
            port = _LOWEST + secrets.randbelow(_COUNT)
            if port not in _given and is_free(port):
                _given.add(port)
                return port
    raise OSError(f"no free TCP port between {_LOWEST} and {_LOWEST + _COUNT}")


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens on ``port``."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
