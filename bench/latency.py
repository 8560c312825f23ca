"""``./do bench latency``: from a scan produced to its record on ``enriched``, and to its row visible in ClickHouse.

A stack of its own, as in production. Its sustained rate is found first, unless it is given: the highest at which an
even flow is kept up with, in tenths of the rate at which one heap of scans is worked off. That one is higher, since a
heap is taken in large steps. Each try lasts as long as a level: a flow was kept up with for one minute of which nine
tenths were not for two. The tries also warm the broker, whose compiler takes most of a core at first. Then scans come
evenly at shares of the sustained rate, for some minutes each. Sender and watchers share the machine with what they
measure; how late the sender was at worst is told. A level that is seconds behind when the sending ends did not keep
up: its latencies say how long it went on, and no more.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.harness import save, say, table, tell
from bench.live import LIVE, LOOK_SECONDS, CoresBusy, Enriched, Rows, Scans, Sender, live_stack, micros, percentiles_ms
from truyvet.drain import Drain
from truyvet.stack import Stack

HEADER: Final = (
    "load", "scans/s", "scans", "to `enriched`, ms: p50, p99, worst", "row visible, ms: p50, p99, worst",
    "rows looked for", "behind at the end, s", "cores busy", "sender late, ms",
)  # fmt: skip
SETTLE_SECONDS: Final = 5.0
"""At the beginning of each level; not counted."""
_DRAIN_SECONDS_MAX: Final = 120.0
_WARM_SHARE: Final = 0.2
"""Of the heap: so much goes first, and does not count."""
TRY_TENTHS: Final = range(1, 11)
BEHIND_SECONDS_MAX: Final = 2.0
"""A flow is kept up with if after so long no more than this is missing of it."""


def heap_rate(stack: Stack, scans: Scans, heap: int) -> float:
    """Scans a second over a heap of them, until all is stored; the sender's own work included."""
    drain, sender = Drain(stack), Sender(stack.settings, scans)
    sender.send(round(heap * _WARM_SHARE))
    drain.wait(drain.settled)
    began = time.monotonic()
    sender.send(heap)
    drain.wait(drain.settled)
    seconds = time.monotonic() - began
    drain.close()
    return heap / seconds


def sustained_rate(stack: Stack, scans: Scans, of_heap: float, seconds: float) -> float | None:
    """The highest of these shares of the rate of a heap up to which a flow is kept up with; None if not even the first.

    Each is tried for ``seconds``. What is sustained is a flow that does not fall farther behind the longer it lasts
    (Karimov et al., "Benchmarking Distributed Stream Data Processing Systems", 2018).
    """
    sustained = None
    # From below: a flow that is not kept up with leaves merges and compactions behind, which the next one would meet.
    for tenths in TRY_TENTHS:
        found = level(stack, scans, of_heap * tenths / 10, seconds)
        tell(" ".join(["try", *row_of({"share": tenths / 10} | found)]))
        if found["behind_seconds"] > BEHIND_SECONDS_MAX or found["missing"]:
            break
        sustained = float(found["rate"])
    return sustained


def level(stack: Stack, scans: Scans, rate: float, seconds: float) -> dict[str, Any]:
    """One level: scans at that rate for so long, and what they took."""
    enriched, rows = Enriched(stack.settings), Rows(stack.settings, scans.markers)
    sender = Sender(stack.settings, scans)
    began_us, busy = micros(), CoresBusy(stack)
    sender.run(lambda at: at * rate, seconds + SETTLE_SECONDS)
    cores = busy.so_far()
    behind = sender.sent - enriched.count
    enriched.wait(sender.sent, stack, _DRAIN_SECONDS_MAX)
    drain = Drain(stack)
    drain.wait(drain.settled)
    drain.close()
    time.sleep(3 * LOOK_SECONDS)
    found: dict[str, Any] = {"rate": rate, "sent": sender.sent, "behind_seconds": round(behind / rate, 2)}
    found["cores"] = cores
    found["late_ms"] = round(sender.late_seconds_max * 1000, 1)
    for name, watcher in (("enriched", enriched), ("row", rows)):
        watcher.stop()
        sent_us, took = watcher.found()
        counted = took[sent_us >= began_us + SETTLE_SECONDS * 1_000_000]
        found |= {f"{name}_ms": percentiles_ms(counted), f"{name}_count": len(counted)}
    found["missing"] = sender.sent - enriched.count
    return found


def row_of(found: Mapping[str, Any]) -> list[str]:
    """A row of the table."""
    times = [
        ", ".join(f"{value:,.0f}" for value in found[f"{name}_ms"].values()) or "–" for name in ("enriched", "row")
    ]
    told = f"{found['sent']:,}" + (f", {found['missing']:,} NOT SEEN" if found["missing"] else "")
    late, looked_for = f"{found['late_ms']:,.0f}", f"{found['row_count']:,}"
    behind = f"{found['behind_seconds']:.1f}"
    busy = ", ".join(f"{name} {cores:.2f}" for name, cores in found["cores"].items())
    return [f"{found['share']:.0%}", f"{found['rate']:,.0f}", told, *times, looked_for, behind, busy, late]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures all levels; 1 if a scan did not come out."""
    parser = argparse.ArgumentParser(prog="./do bench latency", description=__doc__)
    parser.add_argument("--rate", type=float, help="sustained scans a second; without it, it is found first")
    parser.add_argument("--heap", type=int, default=500_000, help="scans that find it (%(default)s)")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.5, 0.9], help="of the rate")
    parser.add_argument("--minutes", type=float, default=3.0, help="each (%(default)s)")
    parser.add_argument("--partitions", type=int, default=4, help="of every topic (%(default)s)")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args(arguments)
    levels: list[dict[str, Any]] = []
    with live_stack(LIVE, args.partitions, args.workers) as stack:
        scans = Scans(LIVE)
        of_heap = None if args.rate else heap_rate(stack, scans, args.heap)
        rate = args.rate or sustained_rate(stack, scans, of_heap or 0.0, args.minutes * 60)
        if rate is None:
            say(f"a heap is worked off at {of_heap:,.0f} scans/s, but not even a tenth of it is kept up with")
            return 1
        told = "as given" if of_heap is None else f"a heap of {args.heap:,} is worked off at {of_heap:,.0f}"
        say(f"sustained: {rate:,.0f} scans/s ({told})")
        for share in args.shares:
            found = level(stack, scans, rate * share, args.minutes * 60)
            levels.append({"share": share} | found)
            tell(" ".join(row_of(levels[-1])))
    save("latency", vars(args), sustained=rate, heap=of_heap, levels=levels)
    say(table(HEADER, [row_of(found) for found in levels]))
    return 1 if any(found["missing"] for found in levels) else 0


if __name__ == "__main__":
    raise SystemExit(main())
