"""The command: `python -m tests.soak --seconds 3600`. Status 1 if a rule was broken.

The hour: 64 threads in all, 16 in each of 4 processes, on a Redis of its own, with
tokens of 2 s. The seed that it prints gives the same faults at the same times again.
Ctrl-C ends it in good order, with the table so far.
"""

from __future__ import annotations

import argparse
import random
import sys

from .run import Soak
from .verdict import Verdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=64, help="of all processes together")
    parser.add_argument("--store", help="a URL, whose server no fault befalls; else a Redis")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    soak = Soak(
        seconds=asked.seconds,
        processes=asked.processes,
        threads=asked.threads,
        seed=asked.seed,
        store=asked.store,
    )
    soak.run()
    verdict = Verdict(soak)
    print(verdict.table())
    return 1 if verdict.broken else 0


if __name__ == "__main__":
    sys.exit(main())
