"""``truyvet rules``: lists rulesets, checks their files, and tries one on a case that was judged by another."""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from schemas.areas import load_areas
from schemas.ruleset import RulesetFile
from sinks.backends import QueryFailedError, StorageError
from sinks.client import open_reader
from streams.core.times import LocalClock, format_ms
from truyvet.config import load_settings
from truyvet.query import print_rows
from truyvet.rules_try import Judged, Trial, TrialError, try_ruleset
from truyvet.rulesets import SUFFIX, RulesetError, files_of, known_paths, load_files, load_rulesets, read_file

LISTED_MAX: Final = 10
"""Ids of a list that a terminal shows; the rest is counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's own arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|check|try")
    listing = actions.add_parser("list", help="show every ruleset that cases may name")
    listing.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    check = actions.add_parser("check", help="check files, and say all that is wrong with them")
    check.add_argument(
        "paths", nargs="*", type=Path, metavar="FILE|DIR", help="default: those shipped and those of the settings"
    )
    trial = actions.add_parser(
        "try", help="show what exposures a case would have under another ruleset, beside those it has; changes nothing"
    )
    trial.add_argument("--case", required=True, type=_matching(r"[A-Za-z0-9_-]{1,64}"), metavar="CASE_ID")
    trial.add_argument(
        "--person",
        type=_matching(r"[0-9a-f]{32}"),
        metavar="PERSON_ID",
        help="whose case, where several have one of this id",
    )
    trial.add_argument("--ruleset", required=True, metavar="NAME|FILE", help=f"a known ruleset, or a {SUFFIX} file")
    trial.add_argument("--json", action="store_true", help="one JSON object instead of tables")


def run(args: argparse.Namespace) -> int:
    """Lists, checks or tries."""
    if args.action == "list":
        return _list(as_json=args.json)
    if args.action == "check":
        return _check(args.paths)
    return _try(args)


def _list(*, as_json: bool) -> int:
    settings = load_settings()
    files = load_files(settings.rulesets_dir, shipped=settings.rulesets_shipped)
    if as_json:
        whole = [files[name].model_dump(mode="json") for name in sorted(files)]
        print(json.dumps({"rulesets": whole}, ensure_ascii=False, indent=1))
        return 0
    heads = ("name", "version", "valid from", "days before", "days after", "tail", "minimum", "levels", "source")
    print_rows(heads, [_listed(files[name]) for name in sorted(files)])
    return 0


def _listed(file: RulesetFile) -> tuple[str | int, ...]:
    minimum = f"{file.min_overlap_minutes} min"
    if file.min_stay_minutes:
        minimum += f", stay {file.min_stay_minutes} min"
    return (
        *(file.name, file.version, file.valid_from.isoformat()),
        f"{file.days_before} (asymptomatic {file.days_before_asymptomatic})",
        file.days_after,
        file.tail.mode if file.tail.minutes is None else f"{file.tail.mode}, {file.tail.minutes} min",
        minimum,
        ", ".join(f"{level.name} {level.min_score:g}" for level in file.levels),
        file.source,
    )


def _check(paths: Sequence[Path]) -> int:
    """Says of each file whether it is good; 1 if one is not."""
    good = 0
    wrong: list[str] = []
    settings = load_settings()
    known = known_paths(settings.rulesets_dir, shipped=settings.rulesets_shipped)
    for path in _toml_files(paths) if paths else known:
        try:
            print(f"{path}: good, version {read_file(path).version}")
            good += 1
        except RulesetError as error:
            wrong += error.sentences
    if not good and not wrong:
        wrong = [f"no {SUFFIX} file is there"]
    for sentence in wrong:
        print(f"truyvet rules: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def _toml_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        yield from files_of(path) if path.is_dir() else [path]


def _try(args: argparse.Namespace) -> int:
    settings = load_settings()
    if args.ruleset.endswith(SUFFIX) or "/" in args.ruleset:
        rule = read_file(Path(args.ruleset)).ruleset()
    else:
        known = load_rulesets(settings.rulesets_dir, shipped=settings.rulesets_shipped)
        if args.ruleset not in known:
            names = ", ".join(sorted(known))
            print(f"truyvet rules: --ruleset: must be a {SUFFIX} file or one of {names}", file=sys.stderr)
            return 2
        rule = known[args.ruleset]
    clock = LocalClock(ZoneInfo(settings.report_timezone))
    try:
        with open_reader(settings) as reader:
            trial = try_ruleset(reader, clock, args.case, args.person, rule)
    except (StorageError, QueryFailedError, TrialError) as error:
        print(f"truyvet rules: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(_as_json(trial))
    else:
        _print(trial, clock)
    return 0


Counts = Mapping[str, tuple[int, int]]
"""Exposures now and under the other ruleset, by level or district."""


def _counts(trial: Trial, key: Callable[[Judged], str], first: Iterable[str] = ()) -> Counts:
    now, then = Counter(map(key, trial.now.values())), Counter(map(key, trial.then.values()))
    keys = [*first, *sorted((now.keys() | then.keys()) - {*first})]
    return {key: (now[key], then[key]) for key in keys}


def _levels(trial: Trial) -> Counts:
    return _counts(trial, lambda one: one.level, [level.name for level in trial.ruleset.levels])


def _districts(trial: Trial) -> Counts:
    return _counts(trial, lambda one: one.district_code)


def _as_json(trial: Trial) -> str:
    def numbers(counts: Counts) -> dict[str, dict[str, int]]:
        return {key: {"now": now, "then": then} for key, (now, then) in counts.items()}

    whole = {
        "case_id": trial.case_id,
        "ruleset_now": trial.ruleset_now,
        "ruleset": trial.ruleset.name,
        "ruleset_version": trial.ruleset.version,
        "infectious_from": format_ms(trial.from_ms),
        "infectious_to": format_ms(trial.to_ms),
        "exposures": {"now": len(trial.now), "then": len(trial.then)},
        "levels": numbers(_levels(trial)),
        "districts": numbers(_districts(trial)),
        "appear": trial.appear,
        "vanish": trial.vanish,
        "changed": [{"exposure_id": one, "now": now, "then": then} for one, now, then in _changes(trial)],
    }
    return json.dumps(whole, ensure_ascii=False, indent=1)


def _changes(trial: Trial) -> list[tuple[str, str, str]]:
    return [(one, trial.now[one].level, trial.then[one].level) for one in trial.changed]


def _print(trial: Trial, clock: LocalClock) -> None:
    rule = trial.ruleset
    print(f"Case {trial.case_id}: now by {trial.ruleset_now}, tried by {rule.name} version {rule.version}")
    print(f"Infectious under it from {_local(trial.from_ms, clock)} to {_local(trial.to_ms, clock)}")
    total = ("all", len(trial.now), len(trial.then))
    print_rows(("level", "now", "then"), [*((level, *both) for level, both in _levels(trial).items()), total])
    names = load_areas().names
    districts = [(code, names.get(code, ""), *both) for code, both in _districts(trial).items()]
    if districts:
        print_rows(("district", "name", "now", "then"), districts)
    changes = [f"{one}: {now} to {then}" for one, now, then in _changes(trial)]
    for heading, lines in (("Would appear", trial.appear), ("Would vanish", trial.vanish), ("Other level", changes)):
        print(f"{heading}: {len(lines)}")
        for line in lines[:LISTED_MAX]:
            print(f"  {line}")
        if len(lines) > LISTED_MAX:
            print(f"  … and {len(lines) - LISTED_MAX} more (--json names all)")


def _local(ms: int, clock: LocalClock) -> str:
    """Local time, ``2021-10-14 08:15``."""
    return format_ms(ms + clock.offset_ms(ms))[:16].replace("T", " ")


def _matching(pattern: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"must be of the form {pattern}")
        return text

    return check
