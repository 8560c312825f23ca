"""``truyvet up``: the local stack, left running in the background with its data under ``var/up``."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from infra.ports import is_free
from infra.processes import ProcessError
from infra.topics import ensure_topics
from truyvet.config import CONFIG_FILE_VARIABLE, ConfigError, Settings, load_settings
from truyvet.members import UP_DIR, read_members
from truyvet.stack import Stack
from truyvet.status import show

CONFIG_NAME = "settings.toml"
_BROKER_PORT = 9092
# Workers share out the partitions and read the register first; `status` tells how far they are.
_HEALTHY_SECONDS_MAX = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``truyvet up``."""
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes (default 1)")
    parser.add_argument(
        "--restore", type=Path, metavar="DIR", help="bring the backup in DIR back first (new stacks only)"
    )
    parser.add_argument("--json", action="store_true", help="print the state as JSON")


def run(args: argparse.Namespace) -> int:
    """Starts what ``down`` stops; refuses if a stack is up already."""
    settings = load_settings()
    if args.workers < 1:
        raise ConfigError("--workers: at least one")
    running = [member.name for member in read_members(UP_DIR) if member.running]
    if running:
        raise ProcessError(f"already up: {', '.join(running)}; see `truyvet status`, or stop it with `truyvet down`")
    stack = Stack(
        settings,
        UP_DIR,
        workers=args.workers,
        own_broker="brokers" not in settings.model_fields_set,
        broker_port=_BROKER_PORT if is_free(_BROKER_PORT) else None,
        detached=True,
    )
    try:
        stack.start(_restoring(args.restore) if args.restore else ensure_topics)
        stack.wait_healthy(_HEALTHY_SECONDS_MAX)
    except BaseException:
        stack.stop()
        raise
    config = _write_config(stack.settings)
    status = show(stack.members(), as_json=args.json)
    if not args.json and _differs(stack.settings):
        print(f"The usual ports were taken; for other commands: export {CONFIG_FILE_VARIABLE}={config}")
    return status


def _restoring(directory: Path) -> Callable[[Settings], None]:
    from truyvet.restore import restore_first  # noqa: PLC0415 - a start without it does not load it

    return lambda settings: restore_first(settings, directory)


def _write_config(settings: Settings) -> Path:
    """What the stack chose itself, for other commands; passwords are not among it."""
    chosen = ("brokers", "query_host", "query_port", "embedded_dir", "state_dir")
    lines = [f"# Written by `truyvet up`, pid {os.getpid()}; the stack's own choices."]
    for name in chosen:
        value = getattr(settings, name)
        lines.append(f"{name} = {value}" if isinstance(value, int) else f'{name} = "{value}"')
    path = UP_DIR / CONFIG_NAME
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _differs(settings: Settings) -> bool:
    usual = load_settings()
    return (settings.brokers, settings.query_port) != (usual.brokers, usual.query_port)
