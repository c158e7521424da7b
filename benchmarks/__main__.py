"""Runs the benchmark and writes its report: python -m benchmarks --help

It installs nothing. Ends with status 0, 1 if a count is not what it must be or a
part failed, 2 if it could not begin.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from benchmarks import report
from benchmarks.base import SIZES, Part, Size

PARTS = (
    "cpu",
    "throughput",
    "storm",
    "rotation",
    "outage",
    "fleet",
    "bodies",
    "identities",
    "picture",
)
TOOLS = ("matplotlib", "rich")
LINES = 30  # of progress, where it can't be a bar


class Shown(Protocol):
    """Shows how far all is: so many steps are done, and what was done last."""

    def __call__(self, done: int, what: str) -> None: ...


def load(name: str) -> Part:
    return cast(Part, importlib.import_module(f"benchmarks.parts.{name}"))


def run(names: Sequence[str], size: Size) -> list[report.Result]:
    """Run the parts, one after the other. One that raises is told of, and the next is run."""
    results = [report.Result(name, name) for name in names]
    planned: list[tuple[report.Result, Part, int]] = []
    for result in results:
        try:
            part = load(result.name)
            result.title = part.TITLE
            planned.append((result, part, part.steps(size)))
        except Exception as error:
            _failed(result, error)
    before = 0  # steps of the parts that are done with
    with _progress(sum(steps for _, _, steps in planned)) as show:
        for result, part, steps in planned:
            _measure(result, part, size, show, before, steps)
            before += steps
    return results


def _measure(
    result: report.Result, part: Part, size: Size, show: Shown, before: int, steps: int
) -> None:
    done, begun = 0, time.perf_counter()

    def went_on(what: str) -> None:
        nonlocal done
        done = min(done + 1, steps)  # a part may have misjudged itself
        show(before + done, f"{result.name}: {what.removeprefix(f'{result.name}: ')}")

    show(before, f"{result.name}: begins")
    try:
        result.found = part.run(size, went_on)
    except Exception as error:
        _failed(result, error)
    result.seconds = time.perf_counter() - begun
    show(before + steps, f"{result.name}: {'failed' if result.error else 'done'}")


def _failed(result: report.Result, error: Exception) -> None:
    result.error = report.described(error)
    print(f"\n{result.name} failed:", file=sys.stderr)
    traceback.print_exception(error)


@contextmanager
def _progress(total: int) -> Iterator[Shown]:
    if not sys.stdout.isatty():
        yield _lines(total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # No auto_refresh: its thread would run beside what is measured.
    with Progress(*columns, TextColumn("{task.description}"), auto_refresh=False) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, what: bar.update(task, completed=done, description=what, refresh=True)


def _lines(total: int) -> Shown:
    begun, told = time.perf_counter(), -1

    def show(done: int, what: str) -> None:
        nonlocal told
        if done * LINES // max(total, 1) > told:
            told = done * LINES // max(total, 1)
            print(f"{time.perf_counter() - begun:6.0f} s  {done:4}/{total}  {what}", flush=True)

    return show


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures this library and its peers side by side, and writes RESULTS.md.",
    )
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"all, or of these: {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--size",
        choices=SIZES,
        default="small",
        help="small takes two minutes, nightly up to an hour (default: small)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent,
        metavar="DIR",
        help="where RESULTS.md and plots/ are written (default: benchmarks/)",
    )
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.parts if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if missing := [name for name in TOOLS if find_spec(name) is None]:
        print(
            f"The benchmark needs {' and '.join(missing)}, and the peers it measures. "
            "Install them with: pip install -e '.[test,bench]'",
            file=sys.stderr,
        )
        return 2
    names = [name for name in PARTS if name in given.parts or not given.parts]
    facts, begun = report.machine(), time.perf_counter()
    try:
        results = run(names, SIZES[given.size])
    except KeyboardInterrupt:
        print("\nInterrupted: nothing was written.", file=sys.stderr)
        return 130
    seconds = time.perf_counter() - begun
    each = ", ".join(f"{result.name} {result.seconds:,.0f}" for result in results)
    facts += [("size", given.size), ("took", f"{seconds:,.0f} s ({each})")]
    if len(names) < len(PARTS):
        facts.append(("not run", ", ".join(name for name in PARTS if name not in names)))
    path = report.save(results, facts, given.output)
    return _summary(results, path, seconds)


def _summary(results: Sequence[report.Result], path: Path, seconds: float) -> int:
    wrong, missed = report.wrong(results), report.missed(results)
    for line in missed:
        print(f"not reached  {line}")
    for line in wrong:
        print(f"WRONG        {line}")
    figures = sum(len(result.found.figures) for result in results)
    counts = [count for result in results for count in result.found.counts]
    right = sum(count.got == count.wanted for count in counts)
    print(
        f"{right} of {len(counts)} counts are as they must be, {figures - len(missed)} of "
        f"{figures} figures are reached; {seconds:,.0f} s. The report: {path}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all that was started ends
    sys.exit(main())
