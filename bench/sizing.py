"""``./do bench sizing``: on paper, what a nation needs, computed from what the other tools found here.

Nothing is measured. Figures come from what ``scaling``, ``state`` and ``latency`` left in ``var/bench`` or from
arguments; the formulas stand beside their results. People come in an even flow, whose steps are small and cost more a
scan than those of ``scaling``'s heap: cores are those of the levels of ``latency`` up to half of what is sustained,
ClickHouse included. A flow below the lowest level is taken to keep as many cores busy as that level does (fewer, in
truth); one above the highest costs as much a scan as there. Where ``latency`` left nothing the heap's figures count,
which is too little.

What was not measured is an assumption, and said to be one: that a follower's copy costs a broker as much as the
leader's (more than it does), that a compacted topic holds twice what is alive in it (a cleaner begins when half is
stale), that cells are never compacted (they are), that ClickHouse's bytes are shared between events and cells as their
topics' bytes are. The register is left out: it grows with venues, not with scans.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from bench.harness import load, save, say, table
from bench.scaling import ROOMS, disk_per_scan
from infra.topics import TOPICS
from sinks.tables import CELLS_RETENTION_DAYS
from streams.core.room import PERSON_ROOM, VENUE_ROOM
from truyvet.config import load_settings

NATION_SCANS_A_DAY: Final = 2_200_000
NATION_PEAK: Final = 150.0
"""Scans a second in the busiest minute."""
BROKERS_MIN: Final = 3
COMPACTED_TIMES: Final = 2.0
FLOW_SHARE_MAX: Final = 0.5
"""Of what is sustained: beyond it steps grow and a scan costs less, but waits longer."""
_CELLS: Final = "aggregates"
_GIB: Final = 2**30
_WHOLE_FROM: Final = 10.0
_SECONDS_A_DAY: Final = 86_400


@dataclass(frozen=True)
class Flow:
    """What a scan costs in an even flow of so many a second, in microseconds of CPU."""

    rate: float
    worker_us: float
    """Workers and sink, with the ClickHouse that is in it."""
    broker_us: float


@dataclass(frozen=True)
class Figures:
    """What is known of one scan."""

    worker_us: float
    """CPU of workers and sink, microseconds, as a heap is worked off."""
    broker_us: float
    """CPU of the broker, microseconds, all topics once."""
    topic_bytes: Mapping[str, float]
    """Written to each topic."""
    clickhouse_bytes: float
    held_bytes: float
    """In the person room's stores, for each scan that is held."""
    venue_bytes: float
    """The same in the venue room's."""
    flows: Sequence[Flow] = ()
    """By their rate."""

    def at(self, rate: float) -> Flow:
        """What a scan costs at this rate: at most, if it is below all that were measured."""
        if not self.flows:
            return Flow(rate, self.worker_us, self.broker_us)
        flow = next((flow for flow in self.flows if flow.rate >= rate), self.flows[-1])
        times = max(flow.rate / rate, 1.0)
        return Flow(rate, flow.worker_us * times, flow.broker_us * times)


@dataclass(frozen=True)
class Demand:
    """What is asked for, and on what terms."""

    scans_a_day: float
    peak: float
    load: float
    """Share of its cores that the pipeline may use at the peak."""
    replication: int
    broker_cores: int
    broker_disk_gib: float


def flows_of(latency: Mapping[str, Any] | None) -> list[Flow]:
    """The levels of an even flow up to half of what is sustained."""
    levels = latency["levels"] if latency else []
    flows = []
    for level in levels:
        if level["share"] <= FLOW_SHARE_MAX and not level["missing"]:
            cores = {name: busy for name, busy in level["cores"].items() if name != "stolen"}
            broker, us = cores.pop("kafka"), 1e6 / level["rate"]
            flows.append(Flow(level["rate"], sum(cores.values()) * us, broker * us))
    return sorted(flows, key=lambda flow: flow.rate)


def figures_of(
    scaling: Mapping[str, Any], state: Mapping[str, Any] | None, latency: Mapping[str, Any] | None
) -> Figures:
    """The dearest whole pipeline of the scaling runs, the largest state, and what even flows cost.

    Raises:
        ValueError: no whole pipeline was measured.
    """
    whole = [row for row in scaling["rows"] if row["kind"] == "pipeline" and row["figures"] is not None]
    if not whole:
        raise ValueError("scaling.json has no whole pipeline that went well")
    scans = scaling["arguments"]["scans"]
    disk = disk_per_scan(scaling["rows"], scans)
    clickhouse = disk.pop("clickhouse")
    stores = {room: disk.pop(f"store-{room}") for room in ROOMS}
    disk.pop("venues", None)
    held = max(state["rows"], key=lambda row: row["held"]) if state and state["rows"] else None
    return Figures(
        worker_us=max(row["figures"]["cpu_seconds_per_million"] for row in whole),
        broker_us=max(row["broker_cpu_seconds"] for row in whole) / scans * 1e6,
        topic_bytes=disk,
        clickhouse_bytes=clickhouse,
        held_bytes=held["state_bytes"] / held["held"] if held else stores[PERSON_ROOM],
        venue_bytes=stores[VENUE_ROOM],
        flows=flows_of(latency),
    )


def topics_gib(figures: Figures, demand: Demand, retention_days: int) -> float:
    """What all topics hold, replicas included."""
    held_bytes = retention_days * (figures.held_bytes + figures.venue_bytes)
    written_bytes = sum(
        spec.retention_days * figures.topic_bytes.get(spec.name, 0.0)
        for spec in TOPICS
        if spec.retention_days is not None
    )
    return demand.scans_a_day * (written_bytes + held_bytes * COMPACTED_TIMES) * demand.replication / _GIB


def clickhouse_gib(figures: Figures, demand: Demand, retention_days: int) -> float:
    """What ClickHouse holds: events for the retention, cells for theirs."""
    stored = {name: figures.topic_bytes.get(name, 0.0) for name in ("enriched", "visits", _CELLS)}
    cells = stored[_CELLS] / (sum(stored.values()) or 1.0)
    days = (1 - cells) * retention_days + cells * CELLS_RETENTION_DAYS
    return demand.scans_a_day * figures.clickhouse_bytes * days / _GIB


def needs(figures: Figures, demand: Demand, retention_days: int) -> dict[str, tuple[str, float]]:
    """Each need with its formula."""
    peak, mean = figures.at(demand.peak), figures.at(demand.scans_a_day / _SECONDS_A_DAY)
    worker = demand.peak * peak.worker_us / 1e6 / demand.load
    broker = demand.peak * peak.broker_us * demand.replication / 1e6 / demand.load
    topics = topics_gib(figures, demand, retention_days)
    brokers = max(BROKERS_MIN, math.ceil(broker / demand.broker_cores), math.ceil(topics / demand.broker_disk_gib))
    hours = demand.scans_a_day * (mean.worker_us + mean.broker_us * demand.replication) / 1e6 / 3600
    state = demand.scans_a_day * retention_days * (figures.held_bytes + figures.venue_bytes) / _GIB
    database = clickhouse_gib(figures, demand, retention_days)
    return {
        "µs a scan at the peak, workers and sink": ("as measured, or as given", peak.worker_us),
        "µs a scan at the peak, one broker": ("as measured, or as given", peak.broker_us),
        "cores, workers and sink": ("peak × worker µs / load", worker),
        "cores, brokers": ("peak × broker µs × replicas / load", broker),
        "brokers": (f"the most of {BROKERS_MIN}, cores / cores each, disk / disk each", brokers),
        "CPU-hours a day": ("scans a day × (worker µs + broker µs × replicas), as at the day's mean rate", hours),
        "workers' disk, GiB": ("scans a day × retention × bytes held in both rooms", state),
        "brokers' disk, GiB": (
            "scans a day × (Σ topic's retention × its bytes + 2 × what workers hold) × replicas",
            topics,
        ),
        "ClickHouse's disk, GiB": ("scans a day × bytes × (retention, of cells theirs)", database),
    }


def _source_of_cores(figures: Figures) -> str:
    """Which figures the cores come from, in a sentence."""
    if not figures.flows:
        return (
            "cores are those of a heap, or given; an even flow costs more a scan, and counts once ./do bench latency "
            "has measured it, unless costs are given"
        )
    rates = " and ".join(f"{flow.rate:,.0f}" for flow in figures.flows)
    return f"cores are those of an even flow, measured at {rates} scans a second"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= _WHOLE_FROM else f"{value:,.2f}".removesuffix(".00")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a column for the nation and one for each multiple of it."""
    parser = argparse.ArgumentParser(prog="./do bench sizing", description=__doc__)
    parser.add_argument("--scans-a-day", type=float, default=NATION_SCANS_A_DAY, help="of the nation (%(default)s)")
    parser.add_argument("--peak", type=float, default=NATION_PEAK, help="its scans a second at the peak (%(default)s)")
    parser.add_argument("--times", type=float, nargs="+", default=[1.0, 100.0], help="how often the nation (1, 100)")
    parser.add_argument("--load", type=float, default=0.5, help="share of the cores used at the peak (%(default)s)")
    parser.add_argument("--replication", type=int, default=3, help="copies of every topic (%(default)s)")
    parser.add_argument("--broker-cores", type=int, default=8, help="of each broker (%(default)s)")
    parser.add_argument("--broker-disk-gib", type=float, default=2000.0, help="of each broker (%(default)s)")
    for name, text in (
        ("worker-us", "CPU of workers and sink a scan; with it nothing of even flows counts"),
        ("broker-us", "CPU of the broker a scan; the same"),
        ("held-bytes", "bytes of the person room a scan held"),
    ):
        parser.add_argument(f"--{name}", type=float, help=f"{text}, in place of what was measured")
    args = parser.parse_args(arguments)
    scaling = load("scaling")
    if scaling is None:
        parser.error("there is no var/bench/scaling.json: ./do bench scaling makes it")
    try:
        figures = figures_of(scaling, load("state"), load("latency"))
    except (KeyError, ValueError):
        parser.error("var/bench has no whole pipeline, or is of another build: ./do bench scaling, state, latency")
    names = ("worker_us", "broker_us", "held_bytes")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if "worker_us" in given or "broker_us" in given:
        figures = replace(figures, flows=())
    figures = replace(figures, **given)
    days = load_settings().retention_days
    terms = (args.load, args.replication, args.broker_cores, args.broker_disk_gib)
    found = [needs(figures, Demand(args.scans_a_day * times, args.peak * times, *terms), days) for times in args.times]
    say(
        f"a scan of a heap: {figures.worker_us:.1f} µs in workers and sink, {figures.broker_us:.1f} µs in the broker, "
        f"{sum(figures.topic_bytes.values()):,.0f} bytes in topics, {figures.clickhouse_bytes:,.0f} in ClickHouse, "
        f"{figures.held_bytes:,.0f} and {figures.venue_bytes:,.0f} held in the rooms; "
        f"{_source_of_cores(figures)}\n"
    )
    rates = [f"{args.scans_a_day * times:,.0f} a day, {args.peak * times:,.0f}/s" for times in args.times]
    rows = [[what, text, *(_figure(one[what][1]) for one in found)] for what, (text, _) in found[0].items()]
    say(table(["need", "formula", *rates], rows))
    save("sizing", vars(args), figures=asdict(figures), needs=[{n: v for n, (_, v) in one.items()} for one in found])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
