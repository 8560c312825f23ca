"""What a fake asks of the world that it is part of: the time, a place to be interrupted, a way to wait."""

import random
from collections.abc import Callable
from typing import Protocol


class Crashed(BaseException):
    """The process that was running is dead from here on; nothing of what it would do next happens."""


class World(Protocol):
    """The simulated world, or ``Alone`` where a fake is tried by itself."""

    rng: random.Random

    def time(self) -> float:
        """Seconds since the epoch, of the one simulated clock."""
        ...

    def process(self) -> object:
        """The process that is running, to know whose a client is."""
        ...

    def step(self, label: str) -> None:
        """A point between two steps of a process: others may run here, and the process may crash here.

        Raises:
            Crashed: the process died at this point.
        """
        ...

    def wait(self, until: Callable[[], bool], seconds: float | None = None) -> bool:
        """Lets others run until ``until()`` is true, or so many simulated seconds have passed; its value at the end.

        Raises:
            Crashed: the process died while it waited.
        """
        ...


class Alone:
    """A world with nobody else in it: steps are nothing, and waiting only moves the clock."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.now = 1_790_000_000.0

    def time(self) -> float:
        return self.now

    def process(self) -> object:
        return self

    def step(self, label: str) -> None:
        """Nothing happens between two steps."""

    def wait(self, until: Callable[[], bool], seconds: float | None = None) -> bool:
        if not until():
            self.now += 60.0 if seconds is None else seconds
        return until()


class Unattended:
    """A world as a server sees it that acts by itself: the same time and chance, and no process to be interrupted."""

    def __init__(self, world: World) -> None:
        self.rng = world.rng
        self.time = world.time

    def process(self) -> object:
        return None

    def step(self, label: str) -> None:
        """Nobody takes it."""

    def wait(self, until: Callable[[], bool], seconds: float | None = None) -> bool:  # noqa: ARG002 - as the others
        return until()
