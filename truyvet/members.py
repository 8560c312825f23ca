"""What a stack leaves written down about its processes, so that another command can find and stop them.

One file in the stack's folder, readable by its owner only, replaced as a whole. It names processes by
pid, start and boot; it holds no secrets.
"""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from infra.ports import accepts
from infra.processes import RUNTIME_DIR, ProcessId, is_running, terminate_all
from truyvet.config import ConfigError

UP_DIR = RUNTIME_DIR / "up"
"""Where ``truyvet up`` keeps its stack, and ``down`` and ``status`` look for it."""

MEMBERS_FILE = "processes.json"
HTTP_SECONDS_MAX = 3.0

Kind = Literal["worker", "sink", "kafka"]

# In the order in which they are stopped, each with what it is given before it is killed: a worker
# finishes its step, the sink its insert, the broker writes its logs out.
STOP_SECONDS_MAX: dict[Kind, float] = {"worker": 6.0, "sink": 10.0, "kafka": 15.0}


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a stack; ``url`` is where it answers HTTP, for the broker where clients connect."""

    name: str
    kind: Kind
    process: ProcessId
    url: str
    log_path: str

    @property
    def running(self) -> bool:
        """Whether exactly this process still runs."""
        return is_running(self.process)


def write_members(directory: Path, members: Iterable[Member]) -> None:
    """Replaces the record of the stack in ``directory``."""
    target = directory / MEMBERS_FILE
    draft = target.with_suffix(".new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump([asdict(member) for member in members], file, indent=1)
    draft.replace(target)


def read_members(directory: Path) -> list[Member]:
    """The recorded processes of the stack in ``directory``; none if there is no record.

    Raises:
        ConfigError: the record cannot be read.
    """
    path = directory / MEMBERS_FILE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [Member(**(row | {"process": ProcessId(**row["process"])})) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: cannot be read as a stack's record ({error}); remove it by hand") from error


def stop_members(members: Sequence[Member]) -> list[Member]:
    """Stops workers, then sinks, then the broker; returns those that were running."""
    stopped = [member for member in members if member.running]
    for kind, grace_seconds in STOP_SECONDS_MAX.items():
        terminate_all([member.process for member in members if member.kind == kind], grace_seconds)
    return stopped


def fetch(url: str) -> tuple[int, str]:
    """GETs a page of the stack's own: status and text.

    Raises:
        OSError: nothing answers there.
    """
    try:
        with urllib.request.urlopen(url, timeout=HTTP_SECONDS_MAX) as answer:  # noqa: S310 -- our own http:// address
            return answer.status, answer.read().decode("utf-8", errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8", errors="replace")


def health(member: Member) -> str:
    """``stopped``, ``silent`` (nothing answers), ``ok`` or what the process says is wrong."""
    if not member.running:
        return "stopped"
    if member.kind == "kafka":
        host, _, port = member.url.rpartition(":")
        return "ok" if accepts(int(port), host) else "silent"
    try:
        status, text = fetch(f"{member.url}/healthz")
    except OSError:
        return "silent"
    return "ok" if status == HTTPStatus.OK else text.strip()
