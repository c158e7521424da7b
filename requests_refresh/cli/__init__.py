"""The `requests-refresh` command. It runs with the core dependencies alone."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from importlib import metadata

from .demo import Settings, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; blocks until it is done.

    argv: the arguments without the command's name; None: those of the process.
    Raises SystemExit as argparse does: 2 for wrong usage, 0 after --help.
    """
    parser = argparse.ArgumentParser(
        prog="requests-refresh", description="One expiry, one refresh, nobody notices."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="many threads work through several expiries, and nobody notices",
        description=(
            "Starts a provider with an API on this host, whose access tokens live for seconds,"
            " and which ends a login whose refresh token is used twice. Many threads work there"
            " on one session until the given number of tokens has died in use."
        ),
        epilog=(
            "Exit status: 0 when the promise was kept (one refresh for each expiry, no 401 and no"
            " error that a caller saw, the login alive at the end), 1 when it was broken, with"
            " --naive too, 130 after Ctrl-C."
        ),
    )
    demo.add_argument(
        "--naive",
        action="store_true",
        help="do it with the refresh queue of browser code, carried over to threads",
    )
    demo.add_argument("--threads", type=_whole(1, 500), default=32, help="default: %(default)s")
    demo.add_argument("--expiries", type=_whole(1, 1000), default=5, help="default: %(default)s")
    demo.add_argument(
        "--lifetime",
        type=_seconds(0.1, 600.0),
        default=2.0,
        help="seconds that an access token lives; default: %(default)s",
    )
    demo.add_argument(
        "--latency",
        type=_seconds(0.0, 10.0),
        default=0.3,
        help="seconds that a refresh takes; default: %(default)s",
    )
    given = parser.parse_args(argv)
    return run(Settings(given.naive, given.threads, given.expiries, given.lifetime, given.latency))


def _version() -> str:
    try:
        return metadata.version("requests-refresh")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _whole(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:  # its name is what argparse calls a bad value
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def seconds(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and least <= value <= most):
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return seconds
