"""Who takes part: how each is started, what it promises, and how its counts are to be read."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.checking import CountsForm
from bench.own import PersonRoom, Pipeline
from bench.programs import start
from bench.rounds import Round, Running
from infra.processes import RUNTIME_DIR

BENCH_DIR: Final = Path(__file__).resolve().parent
INSTALLED_DIR: Final = RUNTIME_DIR / "bench"
JAVA_DIR: Final = INSTALLED_DIR / "kafka-streams"
_JVM: Final = ("java", "-Xmx1g", "-cp", f"{JAVA_DIR}/classes:{JAVA_DIR}/jars/*", "vn.truyvet.bench.Bench")
_SNAPSHOT_SECONDS: Final = 5
"""How often Bytewax and Pathway write what they must recover; Quix commits as often by itself."""


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str
    title: str
    promises: str
    """What survives a crash, and what is sent how often."""
    start: Callable[[Round], Running]
    counts_form: CountsForm = "upserts"


def _python(peer: str, module: str, *arguments: str) -> tuple[str, ...]:
    return (f"{INSTALLED_DIR}/venv-{peer}/bin/python", "-m", module, *arguments)


def _program(*commands: tuple[str, ...]) -> Callable[[Round], Running]:
    def run(task: Round) -> Running:
        return start(task, commands)

    return run


def version(peer: str, package: str) -> str:
    """The locked version of a package of a peer."""
    lock = (BENCH_DIR / f"requirements-{peer}.lock").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(package)}==(\S+)", lock, re.MULTILINE)
    return found[1] if found else "?"


def kafka_streams_version() -> str:
    """The version that the project of the reference names."""
    pom = (BENCH_DIR / "peers" / "kafka-streams" / "pom.xml").read_text(encoding="utf-8")
    found = re.search(r"<kafka\.version>(.+)</kafka\.version>", pom)
    return found[1] if found else "?"


def _own() -> list[Contender]:
    return [
        Contender(
            "person",
            "Truy Vết, person room, this job",
            "exactly-once: outputs, rejects, state and offsets are one transaction a step; state, counts among it, in "
            "RocksDB and a changelog",
            lambda task: PersonRoom(task, "--counts-only"),
        ),
        Contender(
            "person-whole",
            "Truy Vết, person room, all it does",
            "the same; besides the job: visits, counts by venue and hour, by area and day, of distinct persons",
            PersonRoom,
        ),
        Contender(
            "pipeline",
            "Truy Vết, whole pipeline",
            "the same, with the venue room, and a sink into ClickHouse that is exact by revision",
            Pipeline,
        ),
    ]


def _kafka_streams() -> list[Contender]:
    said = f"Kafka Streams {kafka_streams_version()} (Java)"
    promises = "state in RocksDB and changelogs"
    return [
        Contender(
            "kafka-streams",
            f"{said}, at_least_once",
            f"at-least-once; {promises}; after a crash outputs may double and counts may be too high",
            _program((*_JVM, "at_least_once")),
        ),
        Contender(
            "kafka-streams-eos",
            f"{said}, exactly_once_v2",
            f"exactly-once: outputs, changelogs and offsets are one transaction each 100 ms; {promises}",
            _program((*_JVM, "exactly_once_v2")),
        ),
    ]


def _quix() -> list[Contender]:
    said, module = f"Quix Streams {version('quix', 'quixstreams')}", "bench.peers.quix"
    promises = "exactly-once: outputs, changelog and offsets are one transaction each 5 s; what was seen in RocksDB"
    return [
        Contender(
            "quix",
            f"{said}, counts in memory",
            f"{promises}; counts are lost with the process",
            _program(_python("quix", module, "--counts", "memory")),
        ),
        Contender(
            "quix-state",
            f"{said}, counts in state",
            f"{promises}, and so are counts, by a topic of its own that groups anew",
            _program(_python("quix", module, "--counts", "state")),
        ),
    ]


def _pathway() -> list[Contender]:
    said, module = f"Pathway {version('pathway', 'pathway')}", "bench.peers.pathway_flow"
    return [
        Contender(
            "pathway",
            f"{said}, no persistence",
            "none: state in memory; a restart reads everything again and sends it again",
            _program(_python("pathway", module, "--persistence", "none")),
            "changes",
        ),
        Contender(
            "pathway-inputs",
            f"{said}, inputs persisted",
            f"at-least-once: inputs are kept in files each {_SNAPSHOT_SECONDS} s and computed again after a crash",
            _program(_python("pathway", module, "--persistence", "inputs")),
            "changes",
        ),
    ]


def _others() -> list[Contender]:
    faust = ("-L", "uvloop", "worker", "-l", "warn", "--without-web")
    recovery = ("-r", "{directory}/recovery", "-s", str(_SNAPSHOT_SECONDS), "-b", "0")
    return [
        Contender(
            "plain",
            f"confluent-kafka {version('plain', 'confluent-kafka')}, a plain loop",
            "offsets alone: what was seen and counted is lost with the process, so copies double after a restart",
            _program(_python("plain", "bench.peers.plain_confluent")),
        ),
        Contender(
            "faust",
            f"faust-streaming {version('faust', 'faust-streaming')}, as documented",
            "at-least-once: tables in RocksDB and changelogs; a crash doubles or loses outputs and counts",
            _program(_python("faust", "bench.peers.stock_faust", *faust)),
        ),
        Contender(
            "bytewax",
            f"Bytewax {version('bytewax', 'bytewax')}, with recovery",
            f"at-least-once outputs; state and offsets in SQLite, a snapshot each {_SNAPSHOT_SECONDS} s",
            _program(
                ("mkdir", "-p", "{directory}/recovery"),
                _python("bytewax", "bytewax.recovery", "{directory}/recovery", "1"),
                _python("bytewax", "bytewax.run", "bench.peers.bytewax_flow:flow", *recovery),
            ),
        ),
    ]


def contenders() -> dict[str, Contender]:
    """All contenders by name, in the order of the table."""
    everyone = [*_own(), *_kafka_streams(), *_pathway(), *_quix(), *_others()]
    return {contender.name: contender for contender in everyone}
