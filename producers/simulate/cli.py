"""``truyvet simulate``: the command line of the simulator."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Final

from producers.simulate.fill import complete
from producers.simulate.generate import DEFAULT_SEED, Manifest, Progress, generate
from producers.simulate.totals import DEFAULT_TOTALS, Publication, TotalsError, load_publication

SCALE_MAX: Final = 20.0
CASES_MAX: Final = 9999
EPILOG: Final = (
    "The totals file is described in producers/simulate/data/README.md; without one it is Hanoi from 8 to 14 October "
    "2021. The same seed, totals and scale give the same bytes. DIR/manifest.json says what the daily report must show "
    "for each day."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to; made if absent")
    parser.add_argument("--seed", type=_seed, default=DEFAULT_SEED, help="whole number from 0 on (default %(default)s)")
    parser.add_argument("--scale", type=_scale, default=1.0, metavar="F", help="times every total, 0.05 is quick")
    parser.add_argument("--cases", type=_cases, metavar="N", help="positive cases (default 12 times F, at least 3)")
    parser.add_argument("--totals", type=Path, default=DEFAULT_TOTALS, metavar="FILE", help="days and totals to fit")
    parser.add_argument("--province", type=_province, metavar="CODE", help="two digits, instead of the totals file's")
    parser.add_argument("--json", action="store_true", help="print the manifest")


def run(args: argparse.Namespace) -> int:
    """Writes the files.

    Raises:
        TotalsError: the totals file is wrong, or the folder cannot be written.
    """
    publication = publication_for(args.totals, args.province)
    started = time.monotonic()
    try:
        manifest = generate(
            *(args.out, publication),
            seed=args.seed,
            scale=args.scale,
            cases=args.cases,
            progress=terminal_progress(),
        )
    except OSError as error:
        raise TotalsError(f"--out {args.out}: {error.strerror or error}") from error
    text = json.dumps(manifest, ensure_ascii=False) if args.json else None
    sys.stdout.write((text or summary(manifest, args.out, time.monotonic() - started)) + "\n")
    return 0


def publication_for(totals: Path, province: str | None) -> Publication:
    """A totals file, checked as a whole, with the province that the command line asks for.

    Raises:
        TotalsError: one clear sentence about what is wrong with it.
    """
    publication = load_publication(totals)
    if province is not None:
        publication = publication.model_copy(update={"province": province})
    try:
        complete(publication, seed=0)
    except TotalsError as error:
        raise TotalsError(f"{totals}: {error}") from error
    return publication


def summary(manifest: Manifest, out: Path, seconds: float) -> str:
    """What was written, for people."""
    lines, days = manifest["lines"], manifest["expected"]["days"]
    bad = sum(manifest["mixed_in"]["bad_lines"].values())
    return (
        f"{out}: {lines['venues']:,} venues and {lines['scans']:,} lines of scans in {seconds:.1f} s; "
        f"{days[0]['day']} to {days[-1]['day']}, {manifest['mixed_in']['accepted_scans']:,} scans that count, "
        f"{bad:,} bad lines, {manifest['cases']['count']} positive cases"
    )


def terminal_progress() -> Progress:
    """Shows progress on one line of the terminal; says nothing where there is none."""
    if not sys.stderr.isatty():
        return lambda *_: None

    def show(what: str, done: int, total: int) -> None:
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{what}: {done:,} of {total:,}{end}")
        sys.stderr.flush()

    return show


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError("must be a whole number from 0 on")
    return value


def _scale(text: str) -> float:
    value = float(text)
    if not 0 < value <= SCALE_MAX:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {SCALE_MAX:g}")
    return value


def _cases(text: str) -> int:
    value = int(text)
    if not 0 <= value <= CASES_MAX:
        raise argparse.ArgumentTypeError(f"must be 0 to {CASES_MAX}")
    return value


def _province(text: str) -> str:
    if len(text) != 2 or not (text.isascii() and text.isdigit()):  # noqa: PLR2004
        raise argparse.ArgumentTypeError("must be two digits, such as 01")
    return text
