"""The command line: one table of verbs, each a module that is imported only when its verb is used.

A verb's module has ``add_arguments(parser)`` and ``run(args) -> int``. Exit status: 0 good, 1 failed,
2 wrong usage or a wrong setting (one line on stderr), 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import NoReturn, Protocol, cast

from infra.processes import ProcessError
from infra.topics import BrokerAwayError
from truyvet.config import ConfigError

GOOD = 0
FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
TERMINATED = 143
PIPE_CLOSED = 141


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: the module that does it, and what it does in one line."""

    module: str
    help: str


VERBS: dict[str, Verb] = {
    "up": Verb("truyvet.up", "start the local stack: Kafka broker, workers, sink with embedded ClickHouse"),
    "down": Verb("truyvet.down", "stop the local stack; its data stay"),
    "status": Verb("truyvet.status", "show the local stack's processes, endpoints and health"),
    "topics": Verb("truyvet.topics", "list, check or create the topics of the pipeline"),
    "worker": Verb("streams.shell.worker", "run one worker in the foreground"),
    "sink": Verb("sinks.process", "run the sink in the foreground"),
    "simulate": Verb("producers.simulate.cli", "write seeded, realistic input files"),
    "replay": Verb("producers.replay", "run the whole pipeline on input files and write every table"),
    "report": Verb("truyvet.report", "print the daily report of an area"),
    "explain": Verb("truyvet.explain", "say why an exposure was raised or taken back"),
    "query": Verb("truyvet.query", "read through the views with SQL"),
    "rejects": Verb("truyvet.rejects", "list dead letters, or count them by reason"),
    "rules": Verb("truyvet.rules", "list and check rulesets, or try one on a case"),
    "purge": Verb("truyvet.purge", "drop from ClickHouse what is past its retention"),
    "erase": Verb("truyvet.erase", "have a person forgotten everywhere, and certify it"),
    "subject": Verb("truyvet.subject", "export everything that is held on a person"),
    "backup": Verb("truyvet.backup", "copy every topic into files, and what is new the next time"),
    "restore": Verb("truyvet.restore", "bring a backup back onto a broker that has none of the topics"),
    "demo": Verb("truyvet.demo", "a simulated week of Hanoi through the real parts, to the daily report"),
}


class VerbModule(Protocol):
    """What a verb's module must have."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the verb's own arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Does it; returns the exit status."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and where the usage stands, then exits with status 2."""
        self.exit(WRONG_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def overview() -> str:
    """What ``truyvet --help`` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: truyvet VERB [arguments]      truyvet VERB --help      truyvet --version",
            "",
            *lines,
            "",
            "Settings come from TRUYVET_<NAME> in the environment, then from the TOML file that",
            "TRUYVET_CONFIG names; docs/configuration.md lists them. Exit status: 0 good, 1 failed, 2 wrong usage.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # A terminated command leaves by way of its context managers, like an interrupted one.
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        return _dispatch(arguments)
    except (ConfigError, ProcessError, BrokerAwayError) as error:
        _complain(str(error))
        return WRONG_USAGE if isinstance(error, ConfigError) else FAILED
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # `truyvet query … | head` is no failure worth a traceback; the interpreter must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(), file=sys.stdout if arguments else sys.stderr)
        return GOOD if arguments else WRONG_USAGE
    if arguments[0] == "--version":
        print(f"truyvet {version('truyvet')}")
        return GOOD
    name, *rest = arguments
    if name not in VERBS:
        near = difflib.get_close_matches(name, VERBS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        _complain(f"no such verb: {name}{hint} (see truyvet --help)")
        return WRONG_USAGE
    verb = VERBS[name]
    module = cast("VerbModule", importlib.import_module(verb.module))
    parser = Parser(prog=f"truyvet {name}", description=verb.help.capitalize() + ".")
    module.add_arguments(parser)
    status = module.run(parser.parse_args(rest))
    sys.stdout.flush()
    return status


def _complain(message: str) -> None:
    print("truyvet: " + " ".join(message.split()), file=sys.stderr)


def _on_sigterm(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)
