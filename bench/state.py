"""``./do bench state``: does the cost of a scan stay flat while the scans held become 50 times as many?

For each size, a worker with the person room starts on stores that already hold four weeks of that many scans
(``filling.py``), ten a person unless told. It then takes the canonical day of 100,000 people, who are among those held;
``--people all`` draws the day's scans over everybody instead, so that nearly every scan meets another person.
Figures and checks are those of ``./do bench peers``. Disk: about 60 bytes a scan held; gone afterwards.
"""

import argparse
import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.contenders import Contender
from bench.filling import Models, fill
from bench.harness import folder_bytes, fresh_broker, save, say, table, tell
from bench.measuring import MILLION
from bench.own import INPUTS, PersonRoom
from bench.report import Outcome
from bench.rounds import Round
from bench.run import Watch, feed, run_round
from bench.workload import Shape
from infra.kafka import KafkaBroker
from infra.topics import remove_topics, topic_ids
from streams.shell.changelogs import CHANGELOGS, keep_only_stores_of
from truyvet.config import load_settings
from truyvet.stack import Stack

HEADER: Final = (
    "million scans held", "people", "state MiB", "CPU s per million scans", "×", "scans/s", "start-up s", "output",
)  # fmt: skip
RATIO_MAX: Final = 1.3
"""What the largest state may cost as a multiple of the smallest."""
_MODELS_PEOPLE_MAX: Final = 20_000


def worker_directory(stack: Stack, number: int) -> Path:
    """Where a worker of the stack keeps its stores."""
    name = f"worker-{number}"
    return stack.settings.state_dir / name / name


class States:
    """Rounds of one broker and workload, each on a state of another size."""

    def __init__(self, broker: KafkaBroker, directory: Path, args: argparse.Namespace) -> None:
        self._directory, self._args = directory, args
        self._settings = load_settings(
            brokers=broker.brokers, topic_prefix="bench.", partitions=args.partitions, restating=True, query_port=0
        )
        people = min(_MODELS_PEOPLE_MAX, max(1, min(args.held) // args.scans_per_person))
        self._models = Models(self._settings, Shape(people=people), args.scans_per_person)

    def run(self, held: int, number: int) -> dict[str, Any]:
        """One size: what its state takes on disk, and what a scan costs on it."""
        args, settings = self._args, self._settings
        people = max(1, held // args.scans_per_person)
        active = people if args.people == "all" else min(people, Shape.people)
        shape = Shape(scans=args.scans, people=active)
        found: dict[str, Any] = {"held": held, "people": people, "active": active, "round": number}

        def prepare(stack: Stack) -> None:
            began = time.monotonic()
            directory = worker_directory(stack, 0)
            directory.mkdir(parents=True)
            ids = topic_ids(stack.settings, CHANGELOGS)
            keep_only_stores_of(directory, ids)
            found["state_bytes"] = fill(stack.settings, directory, self._models, people, shape.seed)
            found["fill_seconds"] = time.monotonic() - began
            tell(
                f"{held:,} scans held: filled in {found['fill_seconds']:.0f} s, {found['state_bytes'] / 2**20:,.0f} MiB"
            )

        expected = feed(settings, shape)
        name = f"held-{held}"
        task = Round(settings, name, number, self._directory / f"{name}-{number}")
        contender = Contender(name, name, "", lambda task: PersonRoom(task, prepare=prepare))

        def look(_: Watch) -> None:
            # A worker that does not believe what it finds begins from nothing, and would be measured on that.
            kept = folder_bytes(task.directory / "state")
            assert kept >= found["state_bytes"] / 2, f"of {found['state_bytes']} bytes of state {kept} are left"

        outcome: Outcome = run_round(task, contender, shape, expected, look)
        remove_topics(settings, [settings.topic(topic) for topic in INPUTS])
        shutil.rmtree(task.directory / "state", ignore_errors=True)
        return found | dataclasses.asdict(outcome)


def row_of(found: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    """A row of the table; ``first`` is what it is compared with."""
    cells = [f"{found['held'] / MILLION:g}", f"{found['people']:,}", f"{found.get('state_bytes', 0) / 2**20:,.0f}"]
    figures, verdict = found["figures"], found["verdict"]
    if figures is None:
        return [*cells, "–", "–", "–", "–", f"FAILED: {found['failure']}"]
    base = first["figures"] or figures
    wrong = verdict is None or any(verdict[name] for name in ("missing", "unknown", "wrong", "cells_wrong"))
    return [
        *cells,
        f"{figures['cpu_seconds_per_million']:.1f}",
        f"{figures['cpu_seconds_per_million'] / base['cpu_seconds_per_million']:.2f}",
        f"{figures['events_per_second']:,.0f}",
        f"{figures['startup_seconds']:.1f}",
        "WRONG" if wrong else "right",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all sizes; 1 if a round failed or its output is not what it must be."""
    parser = argparse.ArgumentParser(prog="./do bench state", description=__doc__)
    parser.add_argument("--held", type=int, nargs="+", default=[1_000_000, 10_000_000, 50_000_000], help="scans")
    parser.add_argument("--scans-per-person", type=int, default=10, help="held, in four weeks (%(default)s)")
    parser.add_argument("--people", choices=("canonical", "all"), default="canonical", help="who scans (%(default)s)")
    parser.add_argument("--scans", type=int, default=Shape.scans, help="taken on each size (%(default)s)")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=1, help="of all sizes (%(default)s)")
    args = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with fresh_broker("state") as (broker, directory):
        states = States(broker, directory, args)
        for number in range(1, args.rounds + 1):
            for held in args.held:
                rows.append(states.run(held, number))
                tell(" ".join(row_of(rows[-1], rows[0])))
    save("state", vars(args), rows=rows, ratio_max=RATIO_MAX)
    first = {row["round"]: row for row in reversed(rows)}
    cells = [row_of(row, first[row["round"]]) for row in rows]
    say(table(HEADER, cells))
    return 0 if all(row[-1] == "right" for row in cells) else 1


if __name__ == "__main__":
    raise SystemExit(main())
