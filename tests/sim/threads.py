"""What the code under simulation takes from ``threading``, ``queue``, ``time`` and ``concurrent.futures``."""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.sim.world import World


class SimTime:
    """The module ``time``."""

    def __init__(self, world: World) -> None:
        self._world = world

    def time(self) -> float:
        return self._world.now

    def time_ns(self) -> int:
        return int(self._world.now * 1e9)

    monotonic = time
    perf_counter = time

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)


class _Lock:
    """Only one thread runs at a time, and none stops inside: locking is nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing was locked."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing was locked."""


class SimThreading:
    """The module ``threading``."""

    Lock = _Lock

    def __init__(self, world: World) -> None:
        self._world = world

    def Thread(  # noqa: N802 - the name it stands for
        self, target: Callable[..., None], args: tuple[Any, ...] = (), name: str = "", *, daemon: bool = True
    ) -> "_Thread":
        assert daemon, "a thread that is no daemon would outlive its process"
        return _Thread(self._world, lambda: target(*args), name)

    def Event(self) -> "SimEvent":  # noqa: N802 - same
        return SimEvent(self._world)

    def Condition(self) -> "_Condition":  # noqa: N802 - same
        return _Condition(self._world)


class _Thread:
    def __init__(self, world: World, run: Callable[[], None], name: str) -> None:
        self._world = world
        self._run = run
        self._name = name
        self._done = False
        self._started = False

    def start(self) -> None:
        process = self._world.process()
        assert process is not None

        def run() -> None:
            try:
                self._run()
            finally:
                self._done = True

        self._world.spawn(process, run, self._name)
        self._started = True

    def join(self, timeout: float | None = None) -> None:
        self._world.wait(lambda: self._done, timeout)

    def is_alive(self) -> bool:
        return self._started and not self._done


class SimEvent:
    """``threading.Event``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True

    def wait(self, timeout: float | None = None) -> bool:
        return self._world.wait(lambda: self._set, timeout)


class _Condition(_Lock):
    def __init__(self, world: World) -> None:
        self._world = world

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        return self._world.wait(predicate, timeout)

    def notify_all(self) -> None:
        """Whoever waits is asked anew before each turn."""


class SimQueue:
    """The module ``queue``."""

    def __init__(self, world: World) -> None:
        self._world = world

    def SimpleQueue(self) -> "_Queue":  # noqa: N802 - the name it stands for
        return _Queue(self._world)


class _Queue:
    def __init__(self, world: World) -> None:
        self._world = world
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)

    def get(self) -> Any:
        self._world.wait(lambda: bool(self._items))
        return self._items.popleft()


class NoExecutor:
    """``ThreadPoolExecutor`` for a loop that makes a thread for each call."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        """Nothing is started ahead."""

    def shutdown(self) -> None:
        """Nothing runs that is not waited for."""
