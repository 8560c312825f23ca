"""``./do bench day``: the busiest day of New Zealand, played faster than it was: latency and lag, as a picture.

3,888,111 scans of 23 December 2021, minute by minute as the Ministry of Health's counters told them
(``producers/simulate/data/README.md``), sent in their own rhythm at 10, 30 or 60 times its speed to a stack as in
production. Latency is that of each scan from its produce call to its record on ``enriched``, told for each ten seconds;
lag is how many were sent and had not come out.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.harness import save, say, tell
from bench.live import LIVE, CoresBusy, Enriched, Scans, Sender, live_stack, micros, percentiles_ms
from bench.picture import Line, Panel, draw
from infra.processes import PROJECT_DIR
from producers.simulate.arrays import Floats, Ints
from producers.simulate.profile import MINUTES_PER_DAY, PROFILE_FILE
from truyvet.stack import Stack

DAY: Final = "2021-12-23"
WINDOW_SECONDS: Final = 10.0
TARGET_SECONDS: Final = 1.0
_LAG_SECONDS: Final = 1.0
_DRAIN_SECONDS_MAX: Final = 600.0
_HOUR_MINUTES: Final = 60
_HOURS_PER_LABEL: Final = 2
HOURS_LABELLED_MAX: Final = 12
"""In a longer stretch not every hour has its label."""


def minutes_of(day: str) -> Ints:
    """Scans of each minute of a day of the collection."""
    with PROFILE_FILE.open(encoding="utf-8", newline="") as file:
        found = [int(row["scans"]) for row in csv.DictReader(file) if row["day"] == day]
    if len(found) != MINUTES_PER_DAY:
        raise ValueError(f"{PROFILE_FILE}: {day} has {len(found)} minutes")
    return np.array(found, dtype=np.int64)


class Played:
    """A stretch of a day at a multiple of its speed: how many scans are due after so many seconds."""

    def __init__(self, minutes: Ints, speed: float, first_minute: int) -> None:
        self.speed, self.first_minute = speed, first_minute
        self.seconds = len(minutes) * 60 / speed
        self._edges = np.arange(len(minutes) + 1) * 60 / speed
        self._due = np.concatenate([[0], np.cumsum(minutes)])

    def due(self, seconds: float) -> float:
        """Within a minute scans come evenly."""
        return float(np.interp(seconds, self._edges, self._due))

    def hour(self, seconds: float) -> float:
        """The hour of the day that is played then."""
        return (self.first_minute + seconds * self.speed / 60) / _HOUR_MINUTES


def windows(sent_seconds: Floats, took: Floats, seconds: float) -> list[dict[str, Any]]:
    """Latency for each ten seconds, by when scans were sent; with the rate at which they were."""
    found = []
    for number in range(int(-(-seconds // WINDOW_SECONDS))):
        begin = number * WINDOW_SECONDS
        length = min(WINDOW_SECONDS, seconds - begin)
        chosen = took[(sent_seconds >= begin) & (sent_seconds < begin + length)]
        found.append({"at": begin + length / 2, "rate": len(chosen) / length} | percentiles_ms(chosen))
    return found


def lag_windows(lag: Sequence[tuple[float, int]], count: int) -> list[int | None]:
    """The greatest lag in each of so many ten seconds; None where it was not looked at."""
    most: list[int | None] = [None] * count
    for seconds, many in lag:
        number = min(int(seconds // WINDOW_SECONDS), count - 1)
        most[number] = max(many, most[number] or 0)
    return most


def play(stack: Stack, played: Played) -> dict[str, Any]:
    """Plays it, and waits until all has come out or ten minutes have passed."""
    enriched, sender = Enriched(stack.settings), Sender(stack.settings, Scans(LIVE))
    lag: list[tuple[float, int]] = []

    def note(seconds: float) -> None:
        if not lag or seconds >= lag[-1][0] + _LAG_SECONDS:
            stack.check()
            lag.append((round(seconds, 1), sender.sent - enriched.count))

    began_us, busy = micros(), CoresBusy(stack)
    sender.run(played.due, played.seconds, note)
    cores = busy.so_far()
    enriched.wait(sender.sent, stack, _DRAIN_SECONDS_MAX)
    enriched.stop()
    sent_us, took = enriched.found()
    return {
        "sent": sender.sent,
        "missing": sender.sent - enriched.count,
        "late_ms": round(sender.late_seconds_max * 1000, 1),
        "all_ms": percentiles_ms(took),
        "cores": cores,
        "lag_max": max(many for _, many in lag),
        "windows": windows((sent_us - began_us) / 1_000_000, took, played.seconds),
        "lag": lag,
    }


def picture(found: dict[str, Any], played: Played) -> str:
    """The day as an SVG: rate, latency, lag over its hours."""
    spans = found["windows"]
    places = [played.hour(span["at"]) for span in spans]
    latency = [
        Line(name, [None if span.get(key) is None else span[key] / 1000 for span in spans])
        for key, name in (("p50", "median"), ("p99", "p99"))
    ]
    every = _HOURS_PER_LABEL if places[-1] - places[0] > HOURS_LABELLED_MAX else 1
    hours = [hour for hour in range(0, 25, every) if places[0] <= hour <= places[-1]]
    title = f"New Zealand, 23 December 2021: {found['sent']:,} scans at {played.speed:g} times its speed"
    panels = [
        Panel("scans sent, a second", [Line("", [span["rate"] for span in spans])]),
        Panel("seconds from produce to enriched", latency, TARGET_SECONDS),
        Panel("scans sent and not yet enriched, at most", [Line("", lag_windows(found["lag"], len(spans)))]),
    ]
    return draw(title, places, [(hour, f"{hour}:00") for hour in hours], panels)


def _minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * _HOUR_MINUTES + int(minutes or 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays the day; 1 if a scan did not come out."""
    parser = argparse.ArgumentParser(prog="./do bench day", description=__doc__)
    parser.add_argument("--speed", type=float, default=60.0, help="times its own (%(default)s)")
    parser.add_argument("--begin", type=_minute, default=0, metavar="HH:MM", help="of the day (00:00)")
    parser.add_argument("--end", type=_minute, default=MINUTES_PER_DAY, metavar="HH:MM", help="of the day (24:00)")
    parser.add_argument("--partitions", type=int, default=4, help="of every topic (%(default)s)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="where the SVG goes (docs/day-SPEED.svg)")
    args = parser.parse_args(arguments)
    path = args.picture or PROJECT_DIR / "docs" / f"day-{args.speed:g}.svg"
    played = Played(minutes_of(DAY)[args.begin : args.end], args.speed, args.begin)
    tell(f"{played.due(played.seconds):,.0f} scans in {played.seconds / 60:.1f} minutes")
    with live_stack(LIVE, args.partitions, args.workers) as stack:
        found = play(stack, played)
    save(f"day-{args.speed:g}", vars(args), **found)
    path.write_text(picture(found, played), encoding="utf-8")
    times = ", ".join(f"{name} {value:,.0f}" for name, value in found["all_ms"].items())
    say(f"{found['sent']:,} scans at {args.speed:g} times the day's speed; to enriched, ms: {times}")
    say(f"at most {found['lag_max']:,} behind; {found['missing']:,} not seen")
    say("cores busy: " + ", ".join(f"{name} {busy:.2f}" for name, busy in found["cores"].items()))
    say(f"the sender was {found['late_ms']:,.0f} ms late at worst")
    say(f"picture: {path}")
    return 1 if found["missing"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
