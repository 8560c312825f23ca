"""``./do fuzz``: see CONTRIBUTING.md, or ``./do fuzz --help``."""

import argparse
import secrets
import sys
import time
from collections import Counter
from typing import Final

from tests.fuzz import broker, building, covering, planted, working
from tests.fuzz.events import HOWS
from tests.fuzz.running import Runner, Tally, unreached
from tests.fuzz.table import BY_NAME, READERS

_SECONDS: Final = 60.0
_LEAST: Final = 1_000
_FOLDER: Final = building.ROOT / "var" / "fuzz"


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./do fuzz", description="Every reader on valid, bent and hostile input.")
    parser.add_argument("--seconds", type=float, help=f"how long (default {_SECONDS:.0f}; with --records: no bound)")
    parser.add_argument("--records", type=int, default=0, metavar="N", help="until N records, and --batches, were read")
    parser.add_argument("--batches", type=int, default=0, metavar="N", help="until N record batches were read")
    parser.add_argument("--seed", help="what all chance comes from (default: a new one, which is printed)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument("--reader", choices=sorted(BY_NAME), help="this one only")
    parser.add_argument(
        "--case", type=int, metavar="N", help="with --seed and --reader: this case again, in this process"
    )
    parser.add_argument("--sanitized", action="store_true", help="the compiled modules with AddressSanitizer and UBSan")
    parser.add_argument("--coverage", action="store_true", help="which lines of the .pyx and .pxd were not reached")
    parser.add_argument("--planted", action="store_true", help="whether it finds three faults that are planted")
    parser.add_argument("--broker", action="store_true", help="a sample through a real broker")
    parser.add_argument("--least", type=int, metavar="N", help=f"each verdict at least so often (default {_LEAST})")
    return parser


def main() -> int:
    """Does what the arguments say; 0 where nothing was found."""
    args = _arguments().parse_args()
    if working.is_worker():
        return working.serve()
    if args.planted:
        return planted.main(_FOLDER)
    seed = args.seed or secrets.token_hex(4)
    print(f"seed {seed}")
    readers = [BY_NAME[args.reader]] if args.reader else list(READERS)
    if args.case is not None:
        return _again(seed, args.reader, args.case)
    if args.broker:
        return broker.main(seed)
    kind = building.SANITIZED if args.sanitized else building.COVERED if args.coverage else None
    bounded = bool(args.records or args.batches)
    plan = working.Plan(
        seed=seed,
        readers=[reader.name for reader in readers],
        seconds=args.seconds or (1e9 if bounded else _SECONDS),
        records_max=args.records if bounded else 10**12,
        batches_max=args.batches,
        jobs=args.jobs,
    )
    covering.forget(_FOLDER / building.COVERED.name)
    began = time.monotonic()
    tally = working.run(plan, kind, _FOLDER)
    _say(tally, time.monotonic() - began)
    missing = list(unreached(readers, tally.verdicts, _LEAST if args.least is None else args.least))
    for line in missing:
        print(f"too seldom: {line}")
    if args.coverage:
        covering.report(_FOLDER / building.COVERED.name)
    return int(bool(tally.faults_in_all) or (bounded and bool(missing)))


def _again(seed: str, reader: str | None, case: int) -> int:
    if reader is None:
        print("--case needs --reader", file=sys.stderr)
        return 2
    runner = Runner(seed, [BY_NAME[reader]])
    runner.case(BY_NAME[reader], case)
    _say(runner.tally, 1.0)
    return int(bool(runner.tally.faults_in_all))


def _say(tally: Tally, seconds: float) -> None:
    for reader, found in tally.verdicts.items():
        print(f"{reader}:")
        for verdict, amount in sorted(found.items()):
            print(f"  {amount:>12,}  {verdict}")
    made = sum(tally.hows.values()) or 1
    shares = ", ".join(f"{how} {100 * tally.hows[how] / made:.0f} %" for how in HOWS)
    print(f"made: {shares}")
    print(
        f"{tally.records:,} records and {tally.batches:,} batches in {tally.calls:,} calls and {seconds:.0f} s"
        f" ({tally.records / max(seconds, 0.001):,.0f} records/s); {tally.twins:,} calls in both forms"
    )
    print(
        f"at most: {tally.seconds_single * 1000:.1f} ms of CPU for one record, {100 * tally.share_batch:.0f} % of what"
        f" a run may take, {tally.bytes_most / 2**20:.1f} MiB of memory beside twice the input"
    )
    said = Counter[tuple[str, str]]()
    for fault in tally.faults:
        key = (fault.reader, fault.what.split(":")[0])
        said[key] += 1
        if said[key] <= 2:
            print(f"FAULT {fault}")
    print(f"{tally.faults_in_all} faults")


if __name__ == "__main__":
    sys.exit(main())
