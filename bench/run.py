"""``./do bench [peers]``: everyone does the same job on the same broker and input, in alternation, several rounds.

One broker, the input written once. In each round every contender starts with output topics, a group and a folder of its
own, runs until all that is expected is there, and is stopped. Odd rounds go through the contenders backwards, so that
none is always the one after another. ``--only`` takes names of contenders; ``--list`` prints them.
"""

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from bench.checking import Record, Verdict, check
from bench.contenders import INSTALLED_DIR, Contender, contenders
from bench.measuring import Sample, Ticks, cpu_seconds, figures, memory_bytes, tree
from bench.report import Outcome, as_json, table
from bench.rounds import PREFIX, Round, Running
from bench.workload import Expected, Shape, expected_of, scan_lines, venue_lines
from infra.kafka import KafkaBroker
from infra.processes import ProcessError
from infra.topics import BrokerAwayError, admin_client, ensure_topics
from producers.feed import Feed
from producers.lines import SCANS, VENUES
from streams.shell.restore import log_consumer, watermarks
from truyvet.config import Settings, load_settings

SAMPLE_SECONDS: Final = 0.1
MEMORY_SECONDS: Final = 1.0
"""Asking how much memory is shared walks all its pages."""
SETTLE_SECONDS: Final = 3.0
"""So long nothing new comes before a round counts as done: three times as long as counts wait."""
ROUND_SECONDS_MAX: Final = 1800.0
STOLEN_MAX: Final = 0.05
"""More of the machine's time than this, given to others by a hypervisor, has a contender run again."""
AGAIN_MAX: Final = 2
AGAIN_SECONDS_MAX: Final = 180.0
"""So long at most it may have taken already: a run of minutes has quiet and other times in it, like the next one."""
_CONSUME_SECONDS: Final = 0.05
_CONSUME_RECORDS: Final = 10_000


class TooSlowError(Exception):
    """A contender did not produce what was expected in time; one sentence."""


class Watch:
    """Samples one running contender until it has done everything."""

    def __init__(self, settings: Settings, running: Running) -> None:
        self._admin = admin_client(settings)
        self._partitions = settings.partitions
        self._running = running
        self._trees: list[set[int]] = []
        self._looked_at = -MEMORY_SECONDS
        self._began = time.monotonic()
        self.began_at = time.time()
        """Epoch seconds from which samples count."""
        self.samples: list[Sample] = [Sample(0.0, 0, 0, 0.0, finished=False)]
        """The first one is the start itself: a quick contender may be done before the broker answers first."""
        self.memory_bytes_peak = 0

    def until_done(self, outputs_expected: int, seconds_max: float) -> None:
        """Returns once the outputs are there, and for a while nothing new has come.

        Raises:
            ProcessError: a process ended by itself.
            TooSlowError: it takes longer than ``seconds_max``.
        """
        moved_at = 0.0
        while True:
            self._running.check()
            sample = self._look(outputs_expected)
            if _moved(self.samples[-1], sample) or not sample.finished:
                moved_at = sample.seconds
            self.samples.append(sample)
            if sample.finished and sample.outputs >= outputs_expected and sample.seconds > moved_at + SETTLE_SECONDS:
                return
            if sample.seconds > seconds_max:
                raise TooSlowError(f"{sample.outputs} of {outputs_expected} outputs after {sample.seconds:.0f} s")
            time.sleep(SAMPLE_SECONDS)

    def begin_at(self, seconds: float) -> bool:
        """Leaves out what came before, such as members joining; not, and False, if that is half of the outputs."""
        kept = [sample for sample in self.samples if sample.seconds >= seconds]
        worth = bool(kept) and 2 * kept[0].outputs < kept[-1].outputs
        self.samples = kept if worth else self.samples
        return worth

    def _look(self, outputs_expected: int) -> Sample:
        seconds = time.monotonic() - self._began
        if seconds >= self._looked_at + MEMORY_SECONDS:
            self._looked_at = seconds
            self._trees = [tree([process.pid]) for process in self._running.processes]
            self.memory_bytes_peak = max(self.memory_bytes_peak, memory_bytes(set().union(*self._trees)))
        running = self._running
        outputs, counts = _ends(self._admin, (running.enriched, running.counts), self._partitions)
        done_before = self.samples[-1].finished and outputs == self.samples[-1].outputs
        finished = outputs >= outputs_expected and (done_before or running.finished())
        used = tuple(cpu_seconds(pids) for pids in self._trees)
        return Sample(time.monotonic() - self._began, outputs, counts, sum(used), finished, used)


def _moved(before: Sample, after: Sample) -> bool:
    return (before.outputs, before.counts) != (after.outputs, after.counts)


def _ends(admin: AdminClient, topics: Sequence[str], partitions: int) -> list[int]:
    """Records of each topic so far, uncommitted ones and the marks of transactions among them."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the client's types leave it out
    places = {TopicPartition(topic, number): latest for topic in topics for number in range(partitions)}
    ends = dict.fromkeys(topics, 0)
    for place, future in admin.list_offsets(places).items():
        with contextlib.suppress(KafkaException):  # a partition that was made just now has no leader yet
            ends[place.topic] += int(future.result().offset)
    return [ends[topic] for topic in topics]


def read_committed(settings: Settings, topic: str) -> Iterator[Record]:
    """Everything that a topic holds, as readers of committed records see it; partition by partition.

    Raises:
        BrokerAwayError: the broker does not give it.
    """
    consumer = log_consumer(settings)
    try:
        for number in range(settings.partitions):
            begin, end = watermarks(consumer, topic, number)
            consumer.assign([TopicPartition(topic, number, begin)])
            more = begin < end
            while more:
                for message in consumer.consume(_CONSUME_RECORDS, _CONSUME_SECONDS):
                    error = message.error()
                    if error is None:
                        yield message.key(), message.value() or b"{}"
                    elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own codes begin with _
                        more = False
                    else:
                        raise BrokerAwayError(f"topic {topic} cannot be read: {error.str()}")
    finally:
        consumer.close()


def run_round(
    task: Round,
    contender: Contender,
    shape: Shape,
    expected: Expected,
    look: Callable[[Watch], None] = lambda _: None,
) -> Outcome:
    """One contender's run, measured and checked; why it failed, if it did.

    ``look`` is called once all is done and nothing is stopped yet.
    """
    task.directory.mkdir(parents=True)
    running: Running | None = None
    found, verdict, failure = None, None, None
    try:
        running = contender.start(task)
        watch = Watch(task.settings, running)
        watch.until_done(len(expected.venue_of), ROUND_SECONDS_MAX)
        look(watch)
        found = figures(watch.samples, shape.scans, watch.memory_bytes_peak, running.names)
    except (ProcessError, BrokerAwayError, TooSlowError) as error:
        failure = str(error)
    if running is not None:
        running.stop()
        verdict = _verdict(task.settings, running, contender, expected)
        running.clean()
    if failure is None:
        shutil.rmtree(task.directory)
    return Outcome(contender.name, task.number, found, verdict, failure)


def undisturbed(task: Round, contender: Contender, shape: Shape, expected: Expected) -> Outcome:
    """The contender's run; where much of the machine was stolen meanwhile, the least disturbed of some.

    What a hypervisor takes is not all: the time that is left is dearer, too, since whoever took it shares the caches.
    """
    runs: list[Outcome] = []
    deadline = time.monotonic() + AGAIN_SECONDS_MAX
    while not runs or (
        runs[-1].stolen > STOLEN_MAX and runs[-1].right and len(runs) <= AGAIN_MAX and time.monotonic() < deadline
    ):
        before = Ticks.now()
        outcome = run_round(replace(task, attempt=len(runs)), contender, shape, expected)
        runs.append(replace(outcome, stolen=Ticks.now().stolen_since(before)))
    # Whatever was stolen meanwhile, what went wrong is told, and no other run stands in for it.
    best = min(runs, key=lambda run: run.stolen) if runs[-1].right else runs[-1]
    return replace(best, taken=len(runs))


def _verdict(settings: Settings, running: Running, contender: Contender, expected: Expected) -> Verdict:
    enriched = (value for _, value in read_committed(settings, running.enriched))
    return check(expected, enriched, read_committed(settings, running.counts), contender.counts_form)


def feed(settings: Settings, shape: Shape) -> Expected:
    """Writes the input to the broker, and says what must come of it."""
    ensure_topics(settings)
    sender = Feed(settings)
    sender.send(VENUES.topic, venue_lines(shape))
    sender.send(SCANS.topic, scan_lines(shape))
    return expected_of(venue_lines(shape), scan_lines(shape))


def rounds_of(chosen: Sequence[Contender], rounds: int) -> Iterator[tuple[int, Contender]]:
    """Who runs when: forwards, then backwards, and so on."""
    for number in range(1, rounds + 1):
        for contender in chosen if number % 2 else reversed(chosen):
            yield number, contender


def _parse(arguments: Sequence[str] | None, known: Iterable[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do bench peers", description=__doc__)
    parser.add_argument("--scans", type=int, default=Shape.scans, help="records, copies included (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each contender (%(default)s)")
    parser.add_argument("--partitions", type=int, default=4, help="of every topic (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(known), metavar="NAME", help="these contenders alone")
    parser.add_argument("--out", type=Path, default=INSTALLED_DIR / "result.json", help="where the JSON goes")
    parser.add_argument("--list", action="store_true", help="prints the contenders and ends")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs everything; 1 if a contender failed or its output is not what it must be."""
    everyone = contenders()
    args = _parse(arguments, everyone)
    if args.list:
        sys.stdout.writelines(f"{name:20} {found.title}\n" for name, found in everyone.items())
        return 0
    chosen = [everyone[name] for name in args.only or everyone]
    shape = Shape(scans=args.scans)
    directory = INSTALLED_DIR / "run"
    shutil.rmtree(directory, ignore_errors=True)
    outcomes: list[Outcome] = []
    broker = KafkaBroker(directory / "kafka")
    with broker:
        settings = load_settings(
            brokers=broker.brokers, topic_prefix=PREFIX, partitions=args.partitions, restating=True, query_port=0
        )
        expected = feed(settings, shape)
        for number, contender in rounds_of(chosen, args.rounds):
            place = directory / f"{contender.name}-{number}"
            outcomes.append(undisturbed(Round(settings, contender.name, number, place), contender, shape, expected))
            sys.stderr.write(f"round {number}: {table(everyone, outcomes[-1:]).splitlines()[-1]}\n")
    shutil.rmtree(directory / "kafka")
    args.out.write_text(as_json(shape, everyone, outcomes), encoding="utf-8")
    sys.stdout.write(table(everyone, outcomes))
    return 0 if all(outcome.right for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
