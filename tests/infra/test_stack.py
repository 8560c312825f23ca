"""The local stack: what it starts, what it stops, and that it never touches another's process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.processes import PROJECT_DIR, ProcessError, identify
from infra.topics import check_topics
from tests.conftest import SettingsFactory, wait_until
from truyvet import cli, down, members, stack, status, up
from truyvet.config import ConfigError, Settings
from truyvet.members import MEMBERS_FILE, Kind, Member, fetch, read_members, stop_members, write_members
from truyvet.stack import Stack


class StubStack(Stack):
    """A stack whose workers and sink only answer HTTP; on the tests' broker, unless told otherwise."""

    words: tuple[str, ...] = ()

    def _command(self, kind: Kind) -> list[str]:
        return [sys.executable, "-m", "tests.infra.member_stub", kind, *self.words]


@pytest.fixture
def stub(settings: SettingsFactory, tmp_path: Path) -> Iterator[StubStack]:
    """A stack of two stub workers and a stub sink, started."""
    made = StubStack(settings(), tmp_path / "stack", workers=2, own_broker=False)
    with made:
        yield made


def test_a_stack_makes_topics_and_starts_each_process_with_its_own_settings(stub: StubStack) -> None:
    """Every worker has its own name, folder and port; the sink answers where queries go."""
    assert check_topics(stub.settings) == []
    assert [member.name for member in stub.members()] == ["sink", "worker-0", "worker-1"]
    for number, url in enumerate(stub.worker_urls()):
        progress = json.loads(fetch(f"{url}/progress")[1])
        assert progress["worker_id"] == f"worker-{number}"
        assert Path(progress["state_dir"]).name == f"worker-{number}"
    assert stub.sink_url() == f"http://127.0.0.1:{stub.settings.query_port}"
    assert len({*stub.worker_urls(), stub.sink_url()}) == 3
    assert set(stub.usage()) == {"sink", "worker-0", "worker-1"}
    assert all(used.memory_bytes_peak > 0 for used in stub.usage().values())


def test_a_killed_worker_comes_back_and_a_stranger_end_is_noticed(stub: StubStack) -> None:
    """Kill and start are the stack's own; an end it did not ask for is an error that names the process."""
    stub.check()
    assert stub.wait_healthy(5)
    old = stub.members()[1].process
    stub.kill_worker(0)
    assert identify(old.pid) != old
    stub.check()
    with pytest.raises(ProcessError, match="worker-0 is not running"):
        stub.kill_worker(0)
    stub.start_worker(0)
    with pytest.raises(ProcessError, match="worker-0 is running already"):
        stub.start_worker(0)
    stub.stop_worker(1)
    stub.kill_sink()
    stub.start_sink()
    assert [member.name for member in stub.members()] == ["sink", "worker-0"]

    os.kill(stub.members()[1].process.pid, signal.SIGKILL)
    assert wait_until(lambda: not stub.members()[1].running)
    with pytest.raises(ProcessError, match="worker-0 ended: "):
        stub.check()


def _note_and_fail(made: Stack, started: list[Member]) -> None:
    started.extend(made.members())
    (made.directory / "state").mkdir()
    raise ZeroDivisionError


def test_nothing_is_left_after_the_block(
    settings: SettingsFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it fails; processes that do not listen to SIGTERM are killed."""
    made = StubStack(settings(), tmp_path / "stack", own_broker=False)
    made.words = ("deaf",)
    monkeypatch.setattr(members, "STOP_SECONDS_MAX", {"worker": 0.3, "sink": 0.3, "kafka": 0.3})
    started: list[Member] = []
    with pytest.raises(ZeroDivisionError), made:
        _note_and_fail(made, started)
    assert len(started) == 2
    assert not any(member.running for member in started)
    assert read_members(tmp_path / "stack") == []


def test_a_process_that_ends_while_starting_is_named_with_its_words(settings: SettingsFactory, tmp_path: Path) -> None:
    """The end of its log is in the sentence, and the others are stopped."""
    made = StubStack(settings(), tmp_path / "stack", own_broker=False)
    made.words = ("broken",)
    with pytest.raises(ProcessError, match=r"sink ended while starting: .*the stub is broken"), made:
        pytest.fail("must not start")
    assert made.members() == []


def test_a_temporary_stack_leaves_no_folder_but_keeps_logs_after_a_failure(
    settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Data always go; logs stay when they are needed, until the next stack is made."""
    monkeypatch.setattr(stack, "STACKS_DIR", tmp_path / "stacks")
    with StubStack(settings(), own_broker=False) as fine:
        assert fine.directory.parent == tmp_path / "stacks"
    assert not fine.directory.exists()

    with pytest.raises(ZeroDivisionError), StubStack(settings(), own_broker=False) as failed:
        _note_and_fail(failed, [])
    assert (failed.directory / "worker-0.log").exists()
    assert not (failed.directory / "state").exists()

    left = tmp_path / "stacks" / "4194305-left"  # beyond the largest pid there can be
    failed.directory.rename(left)
    assert StubStack(settings(), own_broker=False).directory.exists()
    assert not left.exists()


def test_a_stacks_own_broker_is_started_and_killed_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker of a temporary stack takes no time to stop, and can be killed and started in between."""
    monkeypatch.setattr(stack, "STACKS_DIR", tmp_path / "stacks")
    with StubStack(Settings(partitions=1, restating=True), workers=1) as made:
        assert made.settings.brokers != Settings().brokers
        assert made.settings.query_port != Settings().query_port
        first = made.members()[0]
        assert (first.name, members.health(first)) == ("kafka", "ok")
        made.kill_broker()
        made.start_broker()
        assert check_topics(made.settings) == []
        last = made.members()[0]
    assert not first.running
    assert not last.running


def test_a_recorded_pid_that_was_given_out_again_is_left_alone(tmp_path: Path) -> None:
    """`down` after a reboot or a crash hits nobody else's process."""
    mine = identify(os.getpid())
    assert mine is not None
    stranger = Member("worker-0", "worker", replace(mine, started_ticks=mine.started_ticks - 7), "http://x", "log")
    write_members(tmp_path, [stranger])
    assert read_members(tmp_path) == [stranger]
    assert stop_members(read_members(tmp_path)) == []
    assert members.health(stranger) == "stopped"


def test_the_record_is_private_and_a_broken_one_is_a_sentence(tmp_path: Path) -> None:
    """Only its owner reads it; garbage is an error of usage, not a traceback."""
    write_members(tmp_path, [])
    record = tmp_path / MEMBERS_FILE
    assert record.stat().st_mode & 0o777 == 0o600
    for garbage in ("{", "[1]", '[{"name": "x"}]', '{"a": 1}'):
        record.write_text(garbage)
        with pytest.raises(ConfigError, match="cannot be read as a stack's record"):
            read_members(tmp_path)


def test_children_of_a_killed_stack_die_with_it(settings: SettingsFactory, tmp_path: Path) -> None:
    """SIGKILL to the command leaves no worker behind."""
    script = f"""
import os, pathlib, time
from tests.infra.test_stack import StubStack
from truyvet.config import load_settings
stack = StubStack(load_settings(), pathlib.Path({str(tmp_path / "stack")!r}), own_broker=False)
stack.start()
print("on", flush=True)
time.sleep(60)
"""
    environ = os.environ | settings().environment()
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=PROJECT_DIR, env=environ
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "on\n"
    started = read_members(tmp_path / "stack")
    assert len(started) == 2
    assert all(member.running for member in started)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: not any(member.running for member in started))


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_up_status_down(
    settings: SettingsFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What `up` starts outlives the command, `status` shows it, `down` stops it, twice is harmless."""
    for module in (up, down, status):
        monkeypatch.setattr(module, "UP_DIR", tmp_path / "up")
    monkeypatch.setattr(up, "Stack", StubStack)
    for name, value in settings().environment().items():
        monkeypatch.setenv(name, value)

    assert cli.main(["status"]) == 1
    assert "the stack is down" in capsys.readouterr().out
    assert cli.main(["up", "--workers", "0"]) == 2
    assert cli.main(["up", "--workers", "2"]) == 0
    capsys.readouterr()
    try:
        assert cli.main(["up"]) == 1
        assert "already up: sink, worker-0, worker-1" in capsys.readouterr().err
        assert cli.main(["status", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)["processes"]
        assert [(row["name"], row["health"]) for row in rows] == [
            ("sink", "ok"),
            ("worker-0", "ok"),
            ("worker-1", "ok"),
        ]
        assert os.getsid(rows[1]["pid"]) == rows[1]["pid"]
        os.kill(rows[1]["pid"], signal.SIGKILL)
        assert wait_until(lambda: identify(rows[1]["pid"]) is None)
        assert cli.main(["status"]) == 1
        assert "stopped" in capsys.readouterr().out
    finally:
        assert cli.main(["down"]) == 0
    assert capsys.readouterr().out == "stopped: sink, worker-1\n"
    assert not any(identify(row["pid"]) for row in rows)
    assert cli.main(["down", "--wipe"]) == 0
    assert capsys.readouterr().out.startswith("nothing was running\n")
    assert not (tmp_path / "up").exists()
