"""The simulator's workloads through the core alone, in any interleaving: the checker agrees; and sees what is wrong."""

import dataclasses
import random
from collections import defaultdict
from typing import Any

import pytest

from streams.core import held_scans
from streams.core.step import HeadedMessage, Record
from tests.core.pipeline import CROSSING, PERSONS, Pipeline
from tests.sim.checking import differences
from tests.sim.workload import EARLY, Workload, make

Row = dict[str, Any]
Rows = dict[str, list[Row]]
Topics = dict[str, list[Record]]

SEEDS = range(32)
TOPICS = (*PERSONS, *CROSSING)


class Played(Pipeline):
    """A pipeline that remembers what it wrote to its topics, and takes a workload."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload.partitions, workload.retention_days)
        self.rooms = [dataclasses.replace(room, rulesets=workload.rulesets) for room in self.rooms]
        self.topics: Topics = defaultdict(list)

    def _deliver(self, message: HeadedMessage) -> None:
        super()._deliver(message)
        log = self.topics[message.topic]
        log.append(Record(len(log), message.timestamp, message.key, message.value, message.headers))

    @property
    def is_behind(self) -> bool:
        """Whether an input has records that no step has taken."""
        logs, steps = self.logs, self.steps
        return any(len(log) > steps[f"next {topic}", at] for (topic, at), log in logs.items() if topic in TOPICS)

    def take_some(self, rng: random.Random) -> None:
        """One step over the next few records of one topic, whatever lies in the others."""
        topic, room = rng.choice(TOPICS), rng.choice(self.rooms)
        done = self.steps[f"next {topic}", room.partition]
        records = self.logs[topic, room.partition][done : done + rng.choice([1, 1, 2, 5, 30])]
        if records:
            self.steps[f"next {topic}", room.partition] += len(records)
            self._take(topic, room, records)


def play(workload: Workload, seed: int) -> tuple[Rows, Topics]:
    """The final rows and the committed records of one interleaving."""
    rng = random.Random(f"{workload.seed} {seed}")
    eagerness = rng.choice([0.1, 1.0, 3.0])
    pipeline = Played(workload)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_scans, "CHUNK_BYTES_MAX", workload.chunk_bytes)
        for number, send in enumerate(workload.sends):
            pipeline.produce(send.topic, send.key, send.value, send.timestamp_ms, send.partition, send.headers)
            if send.at > EARLY:
                if workload.sends[number - 1].at == EARLY or (send.topic == "venues" and rng.random() < 0.5):
                    pipeline.register()
                for _ in range(int(rng.expovariate(1 / eagerness))):
                    pipeline.take_some(rng)
                if workload.expires and rng.random() < 0.05:
                    pipeline.run(lambda _: [3, 20])
                    pipeline.expire()
        pipeline.register()
        while pipeline.is_behind:
            pipeline.take_some(rng)
        pipeline.register()
    return pipeline.views(), pipeline.topics


@pytest.mark.parametrize("seed", SEEDS)
def test_any_interleaving_gives_what_the_workload_must(seed: int) -> None:
    """At least 300 records, and no difference."""
    workload = make(seed)
    assert len(workload.sends) >= 300
    assert differences(workload, *play(workload, seed)) == []
