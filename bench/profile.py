"""``./do bench profile``: microseconds a scan by stage, each beside what its library call alone costs.

The canonical workload, in one process on a real broker, RocksDB and ClickHouse: both rooms' steps and the sink's
inserts, stage after stage; fetching apart, in a whole worker that takes nothing. CPU is that of the process with all
its threads, so what RocksDB and librdkafka do in the background stands with the stage that ran meanwhile; wall is what
somebody waiting would see. What visits cost is the difference between a batch taken with them and without.

What no line has: Faust's work for the venue room's topics, rebalances, several steps in flight at once, and what
processes take from each other. ``./do bench scaling`` tells the whole, and the difference is that.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.floors import TEXTS, Floors
from bench.harness import fresh_broker, save, say, table, tell
from bench.measuring import MILLION
from bench.profile_rooms import as_in_a_worker, fetched, person_room, venue_room
from bench.profile_sink import sink
from bench.run import feed
from bench.stages import Ledger, Spent
from bench.workload import Shape
from infra.clickhouse import ClickHouseServer
from truyvet.config import Settings, load_settings

HEADER: Final = (
    "stage", "CPU µs a scan", "wall µs a scan", "records a scan", "library call alone", "its CPU µs a scan",
)  # fmt: skip
FETCH: Final = "person: fetch (worker, transport, Faust's agents)"
PERSON_ORDER: Final = (
    "fetch", "decode", "store, reads", "dedupe, enrich, encode", "visits", "counts", "what is unusual, and in between",
)  # fmt: skip


@contextmanager
def databases(settings: Settings, directory: Path, backends: Sequence[str]) -> Iterator[dict[str, Settings]]:
    """Settings of each kind of database, a server started where it is wanted."""
    found = {}
    if "embedded" in backends:
        found["embedded"] = settings.model_copy(update={"embedded_dir": directory / "clickhouse"})
    if "server" in backends:
        with ClickHouseServer(directory / "clickhouse-server") as server:
            yield found | {"server": settings.model_copy(update={"clickhouse": server.url})}
    else:
        yield found


def floor_of(stage: str) -> str:
    """The name of a stage's floor: that of the stage without its room."""
    return stage.partition(": ")[2].partition(" (")[0] if not stage.startswith("sink: ") else stage.replace(": ", " ")


def rank(stage: str) -> tuple[int, int]:
    """Where a stage stands in the table: by room, and in the person room by what comes first."""
    room = ("person", "venue", "sink").index(stage.partition(":")[0])
    part = floor_of(stage)
    return room, PERSON_ORDER.index(part) if room == 0 and part in PERSON_ORDER else len(PERSON_ORDER)


def rows_of(spent: Mapping[str, Spent], floors: Mapping[str, Spent], scans: int) -> list[list[str]]:
    """The table's rows: each stage, then the sums."""
    rows = []
    for stage in sorted(spent, key=rank):
        used, floor = spent[stage], floors.get(stage)
        alone = [TEXTS.get(floor_of(stage), ""), _micros(floor.cpu, scans)] if floor is not None else ["–", "–"]
        rows.append([stage, _micros(used.cpu, scans), _micros(used.wall, scans), _records(used.records, scans), *alone])
    for what, total in sums_of(spent).items():
        rows.append([f"**{what}**", _micros(total.cpu, scans), _micros(total.wall, scans), "", "", ""])
    return rows


def sums_of(spent: Mapping[str, Spent]) -> dict[str, Spent]:
    """Each room's sum, that of the sink with each kind of database, and the whole with each."""
    total = Ledger()
    kinds = {stage.rpartition(", ")[2] for stage in spent if stage.startswith("sink: insert")}
    for stage, used in spent.items():
        room = stage.partition(":")[0]
        mine = [kind for kind in kinds if room != "sink" or not stage.endswith(tuple(kinds - {kind}))]
        if room != "sink":
            total.add(f"{room} room", used)
        for kind in sorted(mine):
            if room == "sink":
                total.add(f"sink, {kind}", used)
            total.add(f"all, {kind}", used)
    return {what: total.spent[what] for what in sorted(total.spent, key=lambda what: what.startswith("all"))}


def _micros(seconds: float, scans: int) -> str:
    return f"{seconds / scans * MILLION:.2f}"


def _records(records: int, scans: int) -> str:
    return f"{records / scans:.2g}" if records < scans / 10 else f"{records / scans:.2f}"


def merged_floors(floors: Ledger) -> dict[str, Spent]:
    """Floors under the names of their stages: those of deciding are the person room's alone."""
    return {stage if ":" in stage else f"person: {stage}": spent for stage, spent in floors.spent.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="./do bench profile", description=__doc__)
    parser.add_argument("--scans", type=int, default=Shape.scans, help="records, copies included (%(default)s)")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--batch", type=int, help="records of a step (the setting's default)")
    parser.add_argument("--backends", nargs="+", choices=("embedded", "server"), default=["embedded", "server"])
    args = parser.parse_args(arguments)
    shape = Shape(scans=args.scans)
    ledger, floor = Ledger(), Ledger()
    with fresh_broker("profile") as (broker, directory):
        settings = load_settings(
            brokers=broker.brokers,
            topic_prefix="bench.",
            partitions=args.partitions,
            batch_records_max=args.batch,
            restating=True,
            query_port=0,
        )
        feed(settings, shape)
        tell("fetching")
        found = fetched(settings, directory / "fetch", args.scans)
        share = args.scans / max(found["records"], 1)
        ledger.spent[FETCH] = Spent(found["cpu_seconds"] * share, found["wall_seconds"] * share, args.scans)
        tell("rooms")
        floors = Floors(settings, directory / "floor", floor, "floor")
        with as_in_a_worker():
            person_room(settings, directory / "rooms", shape, ledger, floors)
            venue_room(settings, directory / "rooms", ledger, floors)
        floors.close()
        tell("sink")
        with databases(settings, directory, args.backends) as kinds:
            sink(settings, kinds, ledger, floor)
    alone = merged_floors(floor)
    alone[FETCH] = ledger.spent.pop("floor of fetch")
    stages = {stage: dataclasses.asdict(used) for stage, used in ledger.spent.items()}
    lowest = {stage: dataclasses.asdict(used) for stage, used in alone.items()}
    save("profile", vars(args), stages=stages, floors=lowest, runs=found)
    say(table(HEADER, rows_of(ledger.spent, alone, args.scans)))
    say(f"scans of a run in the worker that fetches: {found['records'] / max(found['runs'] - 1, 1):,.0f}")
    say(f"scans of a step here, at most: {settings.batch_records_max:,}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
