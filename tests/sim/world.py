"""The simulated world: one clock, processes that may die, threads that run one at a time in an order drawn by chance.

Every thread of every process is a greenlet of one OS thread. It runs until it waits, or until a step where the
world lets somebody else go on; so the same seed gives the same run, to the last record. Time passes only here.
"""

import asyncio
import contextlib
import random
import traceback
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from greenlet import getcurrent, greenlet

from tests.sim.outside import Crashed

EPOCH_SECONDS = 1_790_000_000.0
_TRACED_MAX = 20_000
_TICK_SECONDS = 0.000_5


class StuckError(AssertionError):
    """The simulated world did not come to what was waited for in time."""


class Process:
    """One simulated operating-system process: its threads die together."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.threads: list[Thread] = []
        self.dead = False
        self.stopped = False
        """Whether it was sent SIGSTOP: it lives, and does nothing."""
        self.loop: asyncio.BaseEventLoop | None = None

    def __repr__(self) -> str:
        return self.name


class Thread:
    """A simulated thread, and what it waits for."""

    __slots__ = ("deadline", "greenlet", "name", "process", "until", "what")

    def __init__(self, process: Process, name: str, run: Callable[[], None], hub: greenlet) -> None:
        self.process = process
        self.name = name
        self.greenlet = greenlet(run, hub)
        self.until: Callable[[], bool] | None = None
        self.deadline: float | None = None
        self.what = ""
        """What kind of work it does, to count crashes by."""

    def ready(self, now: float) -> bool:
        """Whether it may go on."""
        deadline, until = self.deadline, self.until
        if deadline is not None and deadline <= now:
            return True
        return until() if until is not None else deadline is None


class World:
    """See ``tests.sim.outside.World``; and what the simulation does to it."""

    def __init__(self, rng: random.Random, *, switch_share: float = 0.5) -> None:
        self.rng = rng
        self.now = EPOCH_SECONDS
        self.leapt = 0.0
        self.steps: Counter[tuple[str, str]] = Counter()
        """How often each step was passed, by (process kind, step)."""
        self.crashes: Counter[tuple[str, str, str]] = Counter()
        """Crashes by (process kind, step, what was being done)."""
        self.on_step: Callable[[Process, str], bool] = lambda _process, _label: False
        """Asked at each step whether the process crashes here."""
        self.on_crash: Callable[[Process], None] = lambda _process: None
        self.on_exit: Callable[[Process, str], None] = lambda _process, _why: None
        self.trace: deque[tuple[float, str, str]] = deque(maxlen=_TRACED_MAX)
        self.fault_traces: list[str] = []
        """Where exceptions that ended processes came from."""
        self.ticks = 0
        self._deadline = 0.0
        self._switch_share = switch_share
        self._threads: list[Thread] = []
        self._current: Thread | None = None
        self._hub = getcurrent()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0

    # What processes and fakes ask.

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.now

    def process(self) -> Process | None:
        """The process that is running; None where the simulation itself is."""
        return self._current.process if self._current is not None else None

    def thread(self) -> Thread | None:
        """The thread that is running."""
        return self._current

    def work(self) -> str:
        """What the running thread is at work on."""
        return self._current.what if self._current is not None else ""

    def note(self, text: str) -> None:
        """Adds a line to the trace."""
        thread = self._current
        name = f"{thread.process.name} {thread.name}" if thread is not None else "world"
        self.trace.append((self.now - EPOCH_SECONDS, name, text))

    def step(self, label: str) -> None:
        """A point between two steps; see ``outside.World``."""
        thread = self._current
        if thread is None:
            return
        process = thread.process
        if process.dead:
            raise Crashed
        self.steps[process.kind, label] += 1
        self.note(label)
        if self.on_step(process, label):
            self.crashes[process.kind, label, thread.what] += 1
            self.note(f"CRASH at {label} {thread.what}")
            self.kill(process)
            raise Crashed
        if process.stopped or self.rng.random() < self._switch_share:
            self._park(thread, None, None)

    def wait(self, until: Callable[[], bool], seconds: float | None = None) -> bool:
        """Lets others run; see ``outside.World``."""
        thread = self._current
        assert thread is not None, "the simulation itself does not wait"
        if thread.process.dead:
            raise Crashed
        if not until():
            self._park(thread, until, None if seconds is None else self.now + seconds)
        return until()

    def sleep(self, seconds: float) -> None:
        """Waits for so long."""
        self.wait(lambda: False, seconds)

    def _park(self, thread: Thread, until: Callable[[], bool] | None, deadline: float | None) -> None:
        thread.until, thread.deadline = until, deadline
        loop = asyncio._get_running_loop()
        if loop is None:
            self._hub.switch()
        else:
            asyncio._set_running_loop(None)
            self._hub.switch()
            asyncio._set_running_loop(loop)
        if thread.process.dead:
            raise Crashed

    # What the simulation does.

    def spawn(self, process: Process, function: Callable[[], Any], name: str) -> Thread:
        """Starts a thread of ``process``; an exception that leaves it ends the process, and is a failure."""

        def run() -> None:
            try:
                function()
            except Crashed:
                pass
            except Exception as error:  # noqa: BLE001 - whatever it is, it ended the process, and that is a finding
                if not process.dead:
                    self.exit(process, f"{name}: {traceback.format_exception_only(error)[-1].strip()}")
                    self.fault_traces.append(traceback.format_exc())

        thread = Thread(process, name, run, self._hub)
        process.threads.append(thread)
        self._threads.append(thread)
        return thread

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Calls ``do`` in the world itself once it is ``when`` (epoch seconds)."""
        self._sequence += 1
        heappush(self._events, (when, self._sequence, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Calls ``do`` in the world itself after so many seconds."""
        self.at(self.now + seconds, do)

    def leap(self, seconds: float) -> None:
        """So much time passes at once, in which nobody does anything and nothing happens; bounds do not count it."""
        self.now += seconds
        self.leapt += seconds
        self._deadline += seconds
        self._events = [(when + seconds, number, do) for when, number, do in self._events]

    def kill(self, process: Process) -> None:
        """SIGKILL: none of its threads does anything more."""
        if process.dead:
            return
        process.dead = True
        current = self._current
        for thread in process.threads:
            if thread is not current and thread.greenlet:
                self._unwind(thread)
        self._drop_tasks(process)
        process.threads.clear()
        self._threads = [thread for thread in self._threads if not thread.process.dead]
        self.on_crash(process)

    def _unwind(self, thread: Thread) -> None:
        """Ends a greenlet now rather than whenever it is collected; what it does meanwhile has no effect."""
        before, self._current = self._current, thread
        thread.greenlet.parent = getcurrent()
        try:
            thread.greenlet.throw(Crashed)
        except Crashed:
            pass
        finally:
            self._current = before

    def _drop_tasks(self, process: Process) -> None:
        loop, process.loop = process.loop, None
        if loop is None:
            return
        before = self._current
        self._current = Thread(process, "unwinding", lambda: None, self._hub)
        for task in sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            if coroutine is not None:
                with contextlib.suppress(Crashed, RuntimeError, ValueError):
                    coroutine.close()
        loop.close()
        self._current = before

    def exit(self, process: Process, why: str) -> None:
        """The process ended by itself; one that was killed already did not."""
        if process.dead:
            return
        self.note(f"EXIT: {why}")
        self.on_exit(process, why)
        self.kill(process)

    def run(self, until: Callable[[], bool], seconds_max: float) -> None:
        """Runs the world until ``until()``.

        Raises:
            StuckError: so many simulated seconds were not enough.
        """
        self._deadline = self.now + seconds_max
        check_at = 0
        while True:
            self.ticks += 1
            while self._events and self._events[0][0] <= self.now:
                heappop(self._events)[2]()
            if self.ticks >= check_at:
                check_at = self.ticks + 100
                if until():
                    return
                if self.now > self._deadline:
                    raise StuckError(f"not done after {seconds_max:.0f} simulated seconds")
            now = self.now
            ready = [thread for thread in self._threads if not thread.process.stopped and thread.ready(now)]
            if ready:
                self.now += _TICK_SECONDS
                self._go_on(ready[int(self.rng.random() * len(ready))])
            else:
                self._pass_time()
                check_at = self.ticks

    def _pass_time(self) -> None:
        """Nobody can do anything now: goes to the next instant at which somebody can."""
        times = [t.deadline for t in self._threads if t.deadline is not None and not t.process.stopped]
        if self._events:
            times.append(self._events[0][0])
        self.now = max(self.now + _TICK_SECONDS, min([*times, self._deadline + 1.0]))

    def _go_on(self, thread: Thread) -> None:
        self._current = thread
        thread.until, thread.deadline = None, None
        try:
            thread.greenlet.switch()
        finally:
            self._current = None
        if thread.greenlet.dead and not thread.process.dead:
            thread.process.threads.remove(thread)
            self._threads.remove(thread)


class _NoSelector:
    """There are no sockets; a loop with nothing to do returns to its thread, which waits in the world."""

    def select(self, _timeout: float | None) -> list[Any]:
        return []

    def close(self) -> None:
        """Nothing is open."""


class SimLoop(asyncio.BaseEventLoop):
    """An event loop in simulated time, whose executors are simulated threads."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__()
        self._selector = _NoSelector()
        self._world = world
        self._process = process
        process.loop = self
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        return self._world.now

    def run_here(self, main: Any) -> Any:
        """Runs ``main`` to its end in the calling thread of the process."""
        task = self.create_task(main)
        world = self._world
        while not task.done():
            world.wait(self._has_work, self._seconds_to_timer())
            asyncio._set_running_loop(self)
            self._run_once()  # type: ignore[attr-defined]
            asyncio._set_running_loop(None)
        return task.result()

    def _has_work(self) -> bool:
        return bool(self._ready)  # type: ignore[attr-defined]

    def _seconds_to_timer(self) -> float | None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        return max(0.0, scheduled[0]._when - self._world.now) if scheduled else None

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        future = self.create_future()

        def run() -> None:
            try:
                result = func(*args)
            except Crashed:
                raise
            except BaseException as error:  # noqa: BLE001 - carried to whoever awaits it, as executors do
                self.call_soon_threadsafe(_set, future, None, error)
            else:
                self.call_soon_threadsafe(_set, future, result, None)

        self._world.spawn(self._process, run, "executor")
        return future

    def _failed(self, _loop: Any, context: dict[str, Any]) -> None:
        if not self._process.dead:
            self._world.exit(self._process, f"event loop: {context.get('message')} {context.get('exception')!r}")

    def _process_events(self, _events: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """The thread of the loop sees by itself that something is ready."""


def _set(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
