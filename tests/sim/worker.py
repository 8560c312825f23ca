"""A simulated worker: register, rooms and agents as they are, over the simulated outside."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.areas import load_areas
from streams.shell.inputs import TOPICS
from streams.shell.register import Register
from streams.shell.rooms import Rooms
from streams.shell.runner import Runner
from streams.shell.seeking import LOOK_SECONDS
from streams.shell.worker import add_agents
from tests.sim.faust_stub import App
from tests.sim.groups import Group
from tests.sim.kafka import Broker
from tests.sim.threads import SimEvent
from tests.sim.world import Process, SimLoop, World
from truyvet.config import Settings

AREAS = load_areas()


@dataclass(frozen=True)
class WorkerOptions:
    """How one worker behaves where Faust leaves it open."""

    fetch_max: int
    """Most records of one fetch of a partition."""
    sloppy_share: float
    """How often it delivers what was fetched before a rebalance, or goes on fetching during one."""
    loses: Callable[[], bool]
    """Whether it drops this run, as Faust does in silence with what it takes for another generation's."""
    instance_id: str | None
    """Static membership."""


async def _look(rooms: Rooms) -> None:
    while True:
        await rooms.look_at_inputs()
        await asyncio.sleep(LOOK_SECONDS)


class SimWorker:
    """One run of one worker process, from its start to its end."""

    def __init__(
        self,
        world: World,
        broker: Broker,
        group: Group,
        settings: Settings,
        name: str,
        options: WorkerOptions,
        directory: Path,
    ) -> None:
        self._world = world
        self._broker = broker
        self._group = group
        self._settings = settings
        self._options = options
        self._directory = directory
        self.process = Process(name, "worker")
        self.stop = SimEvent(world)
        self.rooms: Rooms | None = None
        self.ended = False
        loop = SimLoop(world, self.process)
        world.spawn(self.process, lambda: loop.run_here(self._main()), "main")

    async def _main(self) -> None:
        """As ``streams.shell.worker.Worker.run`` does."""
        settings, name = self._settings, self.process.name
        topics = [settings.topic(topic) for topics in TOPICS.values() for topic in topics]
        places = [(topic, p) for topic in topics for p in range(settings.partitions)]
        register = Register(settings, AREAS)
        app = App(self._world, self._broker, self._group, name, places, self._options)
        self.rooms = rooms = Rooms(settings, app, register, AREAS, self._directory)  # type: ignore[arg-type]
        add_agents(app, settings, rooms)  # type: ignore[arg-type]
        register.start(rooms.register_changed)
        app.start(rooms.rebalanced)
        looking = asyncio.get_running_loop().create_task(_look(rooms))
        while not self.stop.is_set():
            await asyncio.sleep(1.0)
            rooms.measure()
        looking.cancel()
        await rooms.close()
        await app.stop()
        register.stop()
        self.ended = True

    def runners(self) -> list[Runner]:
        """The room partitions that it has open."""
        return [] if self.rooms is None else list(self.rooms._runners.values())
