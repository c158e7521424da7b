"""How a fleet gets through expiries, on each store: `python benchmarks/fleet.py`.

Real processes, real servers, all on this host. The refresh of each expiry is
answered when every other process waits for it; measured is the time from the
return of the save to the first request with the new token that the last of
the processes sends. The stores take turns, round by round, so that whatever
else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fleet.support import STORES, Storm, new_place, storm
from tests.servers import MariaServer, PostgresServer, RedisServer, temporary_directory

SERVERS: dict[str, type[RedisServer | PostgresServer | MariaServer]] = {
    "redis": RedisServer,
    "postgres": PostgresServer,
    "maria": MariaServer,
}
TITLES = ("store", "expiries", "refreshes", "reuse", "requests", "failed", "median ms", "worst ms")


def main() -> int:
    settings = arguments()
    found: dict[str, list[Storm]] = {kind: [] for kind in settings.stores}
    with ExitStack() as stack:

        def scratch() -> Path:
            return stack.enter_context(temporary_directory())

        def start(kind: str) -> str:
            return stack.enter_context(SERVERS[kind](scratch())).url

        urls = {kind: start(kind) for kind in settings.stores if kind in SERVERS}
        directory = scratch()
        directory.chmod(0o700)
        for number in range(settings.rounds):
            for kind in settings.stores:
                found[kind].append(
                    storm(
                        new_place(kind, directory, urls.__getitem__),
                        directory,
                        processes=settings.processes,
                        threads=settings.threads,
                        expiries=settings.expiries,
                    )
                )
                print(f"round {number + 1}, {row(kind, found[kind][-1:])}", file=sys.stderr)
    print(
        f"{settings.processes} processes x {settings.threads} threads, {settings.rounds} rounds"
        f" of {settings.expiries} expiries; {os.cpu_count()} processors, load"
        f" {os.getloadavg()[0]:.1f}\n"
    )
    print(f"| {' | '.join(TITLES)} |\n|{' --- |' * len(TITLES)}")
    for kind in settings.stores:
        print(row(kind, found[kind]))
    faulty = [
        one
        for storms in found.values()
        for one in storms
        if one.refreshes != one.expiries or one.reuses or one.failed
    ]
    return int(bool(faulty))


def row(kind: str, storms: list[Storm]) -> str:
    delays = [delay * 1000 for one in storms for delay in one.delays]
    cells = (
        kind,
        sum(one.expiries for one in storms),
        sum(one.refreshes for one in storms),
        sum(one.reuses for one in storms),
        sum(one.requests for one in storms),
        sum(sum(one.failed.values()) for one in storms),
        f"{statistics.median(delays):.1f}",
        f"{max(delays):.1f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A fleet on each store, through expiries.")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--threads", type=int, default=8, help="of each process")
    parser.add_argument("--expiries", type=int, default=20, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("stores", nargs="*", metavar="store", help=", ".join(STORES))
    settings = parser.parse_args()
    settings.stores = settings.stores or list(STORES)
    if unknown := set(settings.stores) - set(STORES):
        parser.error(f"no such store: {', '.join(sorted(unknown))}")
    return settings


if __name__ == "__main__":
    sys.exit(main())
