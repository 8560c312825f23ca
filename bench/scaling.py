"""``./do bench scaling``: the person room and the whole pipeline with 1 and 2 workers and 1 to 24 partitions.

Each row is a round of ``./do bench peers`` with other parameters: the same input, the same checks. A round with several
workers is measured from when the last of them has its partitions. What the broker uses is told apart, and what is on
disk at the end: the topics and ClickHouse, uncompacted, so an upper bound of what stays, and the stores.
"""

import argparse
import dataclasses
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

from bench.contenders import Contender
from bench.harness import folder_bytes, fresh_broker, save, say, table, tell
from bench.measuring import MILLION, cpu_seconds
from bench.own import PersonRoom, Pipeline
from bench.report import Outcome
from bench.rounds import Round
from bench.run import Watch, feed, run_round
from bench.workload import Expected, Shape
from infra.kafka import KafkaBroker
from infra.topics import TOPICS, remove_topics
from streams.core.room import PERSON_ROOM, VENUE_ROOM
from truyvet.config import load_settings
from truyvet.members import fetch

KINDS: Final[Mapping[str, type[PersonRoom] | type[Pipeline]]] = {"person": PersonRoom, "pipeline": Pipeline}
HEADER: Final = (
    "what", "workers", "partitions", "scans/s", "CPU s per million", "broker's CPU s per million", "peak MiB", "output",
)  # fmt: skip
ROOMS: Final = (PERSON_ROOM, VENUE_ROOM)
_ASSIGNED: Final = "partitions assigned"


def assigned_at(logs: Mapping[str, str]) -> float:
    """When (epoch seconds) the last worker was assigned partitions for the last time; 0 if none was."""
    lines = [line for text in logs.values() for line in text.splitlines() if _ASSIGNED in line]
    return max((datetime.fromisoformat(line.partition(" ")[0]).timestamp() for line in lines), default=0.0)


def disk_bytes(broker: KafkaBroker, prefix: str, directory: Path) -> dict[str, int]:
    """What is on disk, by topic and by place, index files left out."""
    found = dict.fromkeys([spec.name for spec in TOPICS], 0)
    for folder in (broker.directory / "data").glob(f"{prefix}*"):
        topic, _, number = folder.name.removeprefix(prefix).rpartition("-")
        # What was deleted lies there for a minute more, under a longer name.
        if topic in found and number.isdecimal():
            found[topic] += folder_bytes(folder, "*.log")
    return found | {"clickhouse": folder_bytes(directory / "clickhouse")}


def store_bytes(metrics: Iterable[str]) -> dict[str, int]:
    """What the stores of each room hold, from the pages of metrics of all workers: on disk and not yet there."""
    found = {f"store-{room}": 0 for room in ROOMS}
    for line in chain.from_iterable(page.splitlines() for page in metrics):
        if line.startswith("truyvet_state_bytes{"):
            labels, _, value = line.rpartition(" ")
            for room in ROOMS:
                found[f"store-{room}"] += round(float(value)) if f'room="{room}"' in labels else 0
    return found


class Rounds:
    """Rounds of one number of partitions: input written once, prefix of its own."""

    def __init__(self, broker: KafkaBroker, directory: Path, partitions: int, shape: Shape) -> None:
        self._broker, self._directory, self._shape = broker, directory, shape
        prefix = f"bench-{partitions}."
        self._settings = load_settings(
            brokers=broker.brokers, topic_prefix=prefix, partitions=partitions, restating=True, query_port=0
        )
        self._expected: Expected = feed(self._settings, shape)

    def run(self, kind: str, workers: int, number: int) -> dict[str, Any]:
        """One round: its figures, what the broker used, what is on disk; why it failed, if it did."""
        settings, broker = self._settings, self._broker
        name = f"{kind}-{workers}w-{settings.partitions}p"
        task = Round(settings, name, number, self._directory / f"{name}-{number}")
        found: dict[str, Any] = {}
        running: list[PersonRoom | Pipeline] = []
        broker_before = cpu_seconds([broker.process.pid])

        def look(watch: Watch) -> None:
            found["broker_cpu_seconds"] = cpu_seconds([broker.process.pid]) - broker_before
            pages = [fetch(f"{url}/metrics")[1] for own in running for url in own.stack.worker_urls()]
            found["disk_bytes"] = disk_bytes(broker, settings.topic_prefix, task.directory) | store_bytes(pages)
            logs = {path.name: path.read_text(encoding="utf-8") for path in task.directory.glob("worker-*.log")}
            found["steady"] = workers == 1 or watch.begin_at(assigned_at(logs) - watch.began_at)

        def start(task: Round) -> PersonRoom | Pipeline:
            running.append(KINDS[kind](task, workers=workers))
            return running[0]

        contender = Contender(name, name, "", start)
        outcome: Outcome = run_round(task, contender, self._shape, self._expected, look)
        return (
            {"kind": kind, "workers": workers, "partitions": settings.partitions} | dataclasses.asdict(outcome) | found
        )

    def remove(self) -> None:
        """Removes the input, which is the only thing left."""
        remove_topics(self._settings, [self._settings.topic(name) for name in ("scans", "venues")])


def row_of(found: Mapping[str, Any], scans: int) -> list[str]:
    """A row of the table."""
    figures, verdict = found["figures"], found["verdict"]
    cells = [found["kind"], str(found["workers"]), str(found["partitions"])]
    if figures is None:
        return [*cells, "–", "–", "–", "–", f"FAILED: {found['failure']}"]
    wrong = verdict is None or any(verdict[name] for name in ("missing", "unknown", "wrong", "cells_wrong"))
    return [
        *cells,
        f"{figures['events_per_second']:,.0f}",
        f"{figures['cpu_seconds_per_million']:.1f}",
        f"{found['broker_cpu_seconds'] / scans * MILLION:.1f}",
        f"{figures['memory_mib_peak']:,.0f}",
        ("WRONG" if wrong else "right") + ("" if found["steady"] else ", joining included"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all rounds; 1 if one failed or its output is not what it must be."""
    parser = argparse.ArgumentParser(prog="./do bench scaling", description=__doc__)
    parser.add_argument("--scans", type=int, default=Shape.scans, help="records, copies included (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--partitions", type=int, nargs="+", default=[1, 4, 12, 24])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=1, help="of each (%(default)s)")
    args = parser.parse_args(arguments)
    shape = Shape(scans=args.scans)
    rows: list[dict[str, Any]] = []
    with fresh_broker("scaling") as (broker, directory):
        for partitions in args.partitions:
            rounds = Rounds(broker, directory, partitions, shape)
            for number in range(1, args.rounds + 1):
                # More workers than partitions would stand idle.
                for workers in [count for count in args.workers if count <= partitions]:
                    for kind in args.kinds:
                        rows.append(rounds.run(kind, workers, number))
                        tell(" ".join(row_of(rows[-1], args.scans)))
            rounds.remove()
        for left in directory.glob("*-*p-*"):
            shutil.rmtree(left)
    save("scaling", vars(args), rows=rows)
    cells = [row_of(row, args.scans) for row in rows]
    say(table(HEADER, cells))
    say(json.dumps({"disk, bytes a scan": disk_per_scan(rows, args.scans)}, indent=1))
    return 0 if all(row[-1].startswith("right") for row in cells) else 1


def disk_per_scan(rows: Sequence[Mapping[str, Any]], scans: int) -> dict[str, float]:
    """Bytes a scan by place, of the last whole pipeline that went well; nothing if none did."""
    whole = [row for row in rows if row["kind"] == "pipeline" and row["figures"] is not None]
    return {place: round(size / scans, 1) for place, size in whole[-1]["disk_bytes"].items()} if whole else {}


if __name__ == "__main__":
    raise SystemExit(main())
