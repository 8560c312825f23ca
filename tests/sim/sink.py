"""A simulated sink: consuming, decoding and inserting as they are, over the simulated outside."""

from collections.abc import Callable
from zoneinfo import ZoneInfo

from infra.topics import BrokerAwayError
from sinks.backends import Backend, StorageError
from sinks.columns import TopicDecoder, decoder_of
from sinks.consuming import Consuming, SinkFailedError
from sinks.register_topic import RegisterTopic
from sinks.status import Status
from sinks.tables import SINK_TOPICS
from tests.sim.threads import SimEvent
from tests.sim.worker import AREAS
from tests.sim.world import Process, World
from truyvet.config import Settings


class SimSink:
    """One run of one sink process, from its start to its end."""

    def __init__(
        self, world: World, settings: Settings, name: str, backend: Backend, on_end: Callable[[], None]
    ) -> None:
        """``on_end`` is called when it has ended by its own decision, as it may where ClickHouse or Kafka refuse."""
        self._on_end = on_end
        self._world = world
        self._settings = settings
        self._backend = backend
        self.process = Process(name, "sink")
        self.stop = SimEvent(world)
        world.spawn(self.process, self._main, "main")

    def _main(self) -> None:
        """As ``sinks.process`` does."""
        try:
            register = self._register()
            if register is not None:
                makers = decoders(self._settings)
                Consuming(self._settings, self._backend, makers, Status(), register).run(self.stop)  # type: ignore[arg-type]
        except (StorageError, SinkFailedError) as error:
            self._world.note(f"the sink ends: {error}")
        self._world.kill(self.process)
        self._on_end()

    def _register(self) -> RegisterTopic | None:
        while not self.stop.wait(0.0):
            try:
                return RegisterTopic(self._settings)
            except BrokerAwayError:
                self.stop.wait(0.5)
        return None


def decoders(settings: Settings) -> dict[str, TopicDecoder]:
    """What makes rows of the records of each topic."""
    zone = ZoneInfo(settings.report_timezone)
    return {settings.topic(topic): decoder_of(topic, AREAS, zone, settings.partitions) for topic in SINK_TOPICS}
