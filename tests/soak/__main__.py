"""`make soak`: rounds for so many minutes, and what they did."""

import argparse
import logging
import random
import time

from tests.soak.rounds import KINDS, soak


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", choices=KINDS, help="whole runs under faults, or racing writers")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    # What the runs warn of is meant to happen here, thousands of times.
    logging.getLogger("sequin_pipeline").addHandler(logging.NullHandler())
    deadline = time.monotonic() + 60 * arguments.minutes
    report, races = soak(
        arguments.seed,
        goes_on=lambda rounds: time.monotonic() < deadline,
        tell=lambda line: print(line, flush=True),
        kinds=[arguments.only] if arguments.only else KINDS,
    )
    print(f"\nseed {arguments.seed}: {report.rounds} rounds, {report.records} records, table and ledger equal at each end")
    for name, counted in (("runs", report.runs), ("faults", report.faults), ("endings", report.endings)):
        print(f"{name:8} {', '.join(f'{what} {count}' for what, count in counted.most_common())}")
    print(races.summary)


if __name__ == "__main__":
    main()
