"""``truyvet status``: the local stack's processes, endpoints and health, and how far behind they are."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from infra.processes import usage
from truyvet.disk import complaint
from truyvet.members import UP_DIR, Member, fetch, health, read_members
from truyvet.terminal import console

_MIB = 1024 * 1024
_COLOURS = {"ok": "green", "stopped": "red", "silent": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``truyvet status``."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Shows every process of the stack; exit status 1 unless all run and say that they are well."""
    return show(read_members(UP_DIR), as_json=args.json)


def show(members: Sequence[Member], *, as_json: bool) -> int:
    """Prints the members as a table or JSON; returns 0 if all are well, else 1."""
    rows = [_row(member) for member in members]
    if as_json:
        print(json.dumps({"processes": rows}, indent=1))
    elif not rows:
        print("the stack is down; `truyvet up` starts it")
    else:
        _print_table(rows)
    return 0 if rows and all(row["health"] == "ok" for row in rows) else 1


def _row(member: Member) -> dict[str, Any]:
    used = usage(member.process)
    return {
        "name": member.name,
        "pid": member.process.pid,
        "endpoint": member.url,
        "health": health(member),
        "cpu_seconds": None if used is None else round(used.cpu_seconds, 2),
        "memory_peak_mib": None if used is None else round(used.memory_bytes_peak / _MIB, 1),
        "log": member.log_path,
        "backlog": _backlog(member),
        "disk": complaint(Path(member.log_path).parent / ("data" if member.kind == "kafka" else "")),
    }


def _backlog(member: Member) -> dict[str, Any] | None:
    """What a worker or the sink says of its backlog; None where there is nobody to ask."""
    if member.kind == "kafka":
        return None
    try:
        answer = json.loads(fetch(f"{member.url}/progress")[1])
    except (OSError, ValueError):
        return None
    backlog: dict[str, Any] | None = answer.get("backlog")
    return backlog


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column, justify in (("process", "left"), ("pid", "right"), ("health", "left"), ("endpoint", "left")):
        table.add_column(column, justify="right" if justify == "right" else "left", overflow="fold")
    table.add_column("CPU s", justify="right")
    table.add_column("peak MiB", justify="right")
    for row in rows:
        colour = _COLOURS.get(str(row["health"]), "yellow")
        cells = [str(row[name]) for name in ("name", "pid")]
        cells += [f"[{colour}]{row['health']}[/]", str(row["endpoint"])]
        cells += ["" if row[name] is None else str(row[name]) for name in ("cpu_seconds", "memory_peak_mib")]
        table.add_row(*cells)
    console().print(table)
    for row in rows:
        if row["backlog"]:
            print(f"{row['name']}: {row['backlog']['text']}")
    for full in sorted({row["disk"] for row in rows if row["disk"] is not None}):
        print(full)
    print(f"logs: {', '.join(sorted({str(row['log']) for row in rows}))}")
