"""The command line's manners: help, wrong usage, exit statuses."""

import argparse
import os
import signal
import subprocess
import sys
import time
from types import ModuleType

import pytest

from infra.processes import PROJECT_DIR, ProcessError
from infra.topics import BrokerAwayError
from truyvet import cli
from truyvet.cli import VERBS, Verb
from truyvet.config import ConfigError


def _install(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None, status: int = 0) -> None:
    """Adds a verb ``try`` that returns the status or raises the error."""
    module = ModuleType("truyvet_test_verb")

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--day", type=int)

    def run(_args: argparse.Namespace) -> int:
        if error is not None:
            raise error
        return status

    module.__dict__.update(add_arguments=add_arguments, run=run)
    monkeypatch.setitem(sys.modules, "truyvet_test_verb", module)
    monkeypatch.setitem(VERBS, "try", Verb("truyvet_test_verb", "try it"))


@pytest.fixture(autouse=True)
def _keep_sigterm() -> None:
    """The command line sets a handler for its process; the tests' process gets its own back."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a verb, on stdout, exit status 0; without a verb on stderr, 2."""
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out and verb.help in out for name, verb in VERBS.items())
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", out)


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The module is there, and --help says what the verb does and exits 0."""
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: truyvet {name}")


def test_an_unknown_verb_is_wrong_usage_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, the nearest verb named."""
    assert cli.main(["stat"]) == 2
    assert capsys.readouterr().err == "truyvet: no such verb: stat; did you mean status? (see truyvet --help)\n"
    assert cli.main(["xyzzy"]) == 2
    assert capsys.readouterr().err == "truyvet: no such verb: xyzzy (see truyvet --help)\n"


def test_a_wrong_argument_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Argparse's usage block stays with --help."""
    _install(monkeypatch)
    with pytest.raises(SystemExit) as left:
        cli.main(["try", "--day", "x"])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert err == "truyvet try: argument --day: invalid int value: 'x' (see truyvet try --help)\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("TRUYVET_X: wrong"), 2, "truyvet: TRUYVET_X: wrong\n"),
        (ProcessError("kafka\nended"), 1, "truyvet: kafka ended\n"),
        (BrokerAwayError("the broker does not answer"), 1, "truyvet: the broker does not answer\n"),
        (KeyboardInterrupt(), 130, "truyvet: interrupted\n"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    line: str,
) -> None:
    """Known failures have a sentence and no traceback."""
    _install(monkeypatch, error)
    assert cli.main(["try"]) == status
    assert capsys.readouterr().err == line


def test_our_own_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is not dressed up."""
    _install(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["try"])


def test_the_verbs_status_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a verb returns is what the shell sees."""
    _install(monkeypatch, status=1)
    assert cli.main(["try"]) == 1


def test_only_the_verb_in_use_is_imported() -> None:
    """Help is quick: no library of a worker or a sink is loaded for it."""
    script = "import sys; from truyvet import cli; cli.main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT_DIR, check=True)
    for heavy in ("faust", "chdb", "numpy", "rich", "clickhouse_driver"):
        assert f"'{heavy}'" not in done.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_cleans_up(number: signal.Signals, status: int) -> None:
    """Ctrl-C and SIGTERM leave by way of the context managers, with the status that shells expect."""
    script = """
import signal, sys, types
from truyvet import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
verb = types.ModuleType("verb")
def run(args):
    try:
        print("on", flush=True)
        import time; time.sleep(60)
    finally:
        print("cleaned", flush=True)
verb.add_arguments, verb.run = lambda parser: None, run
sys.modules["verb"] = verb
cli.VERBS["try"] = cli.Verb("verb", "try")
sys.exit(cli.main(["try"]))
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=PROJECT_DIR)
    assert child.stdout is not None
    assert child.stdout.readline() == "on\n"
    os.kill(child.pid, number)
    assert child.stdout.read() == "cleaned\n"
    assert child.wait() == status
    child.stdout.close()


def test_a_closed_pipe_is_no_traceback() -> None:
    """`truyvet topics --json | head -1` ends quietly."""
    command = f"{sys.executable} -m truyvet topics --json | head -c 1; echo ${{PIPESTATUS[0]}}"
    began = time.monotonic()
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=PROJECT_DIR, check=True)
    assert done.stderr == ""
    assert done.stdout in ("{141\n", "{0\n")
    assert time.monotonic() - began < 30
