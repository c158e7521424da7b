"""Writes what the parts have found: RESULTS.md, and the plots beside it.

The report opens with the machine and with all that was to be reached, so that a
figure is read together with where it was taken and what it was meant to be.
"""

from __future__ import annotations

import configparser
import math
import os
import platform
import re
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from benchmarks.base import Figure, Found, Plot, Table

TOP = Path(__file__).parents[1]
NONE = "-"

# Okabe and Ito's colours, which nearly everybody can tell apart, the strongest first.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]

_STYLE = {
    "svg.fonttype": "none",  # text stays text: a small file, and one can search it
    "svg.hashsalt": "requests_refresh",  # the same names of elements in every run
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass
class Result:
    """What became of a part."""

    name: str
    title: str
    seconds: float = 0.0
    found: Found = field(default_factory=lambda: Found(""))
    error: str = ""  # why the part, or a plot of it, failed


def wrong(results: Sequence[Result]) -> list[str]:
    """Why the run fails, each in words: a part that failed, or a count that is not as wanted."""
    found = [f"{result.name} failed: {result.error}" for result in results if result.error]
    for result in results:
        for count in result.found.counts:
            if count.got != count.wanted:
                found.append(f"{count.what}: {count.got:,}, wanted {count.wanted:,}")
    return found


def missed(results: Sequence[Result]) -> list[str]:
    """The figures that were not reached, each in words."""
    return [
        f"{figure.what}: {_measured(figure)}, wanted {_wanted(figure)}"
        for result in results
        for figure in result.found.figures
        if not figure.reached
    ]


# ----- numbers and tables


def number(value: object) -> str:
    """As it is read best: three digits that say something, thousands kept apart."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        size = abs(value)
        if size and size < 0.001:
            return f"{value:.2e}"
        return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _measured(figure: Figure) -> str:
    # A ratio is held against something like 1.05, which needs its third digit.
    is_ratio = not figure.unit and math.isfinite(figure.got) and abs(figure.got) < 10
    show = "{:.3f}".format if is_ratio else number
    text, bounds = show(float(figure.got)), (figure.at_least, figure.at_most)
    if not figure.reached and text in [show(float(b)) for b in bounds if b is not None]:
        text = f"{figure.got:,.6g}"  # else it would look as if it were reached
    return f"{text} {figure.unit}".strip()


def _wanted(figure: Figure) -> str:
    bounds = []
    if figure.at_least is not None:
        bounds.append(f"at least {figure.at_least:,g}")
    if figure.at_most is not None:
        bounds.append(f"at most {figure.at_most:,g}")
    return f"{' and '.join(bounds)} {figure.unit}".strip() if bounds else ""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table that reads as plain text too; columns of numbers stand on the right."""
    cells = [[_cell(value) for value in row] for row in [columns, *rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(columns))]
    right = [_is_numeric([row[i] for row in rows]) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        parts = (
            cell.rjust(width) if on_right else cell.ljust(width)
            for cell, width, on_right in zip(row, widths, right, strict=True)
        )
        return f"| {' | '.join(parts)} |"

    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def _cell(value: object) -> str:
    return " ".join(number(value).split()).replace("|", r"\|")


def _is_numeric(values: Sequence[object]) -> bool:
    """True if all that is told is numbers, bare or written out ("1.2 ms", "x 0.98")."""
    told = [text for text in map(_cell, values) if text not in ("", NONE)]
    return bool(told) and all(re.fullmatch(r"\W*\d[\d.,e+-]*( ?\S{1,4})?", text) for text in told)


# ----- the machine


def machine() -> list[tuple[str, str]]:
    """What the figures depend on; to be asked before the run, for the load is told as well."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = [
        ("date", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())),
        ("processor", f"{_processor()}, {_cores()} cores"),
        ("memory", f"{memory:.1f} GiB"),
        ("kernel", f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("OpenSSL", ssl.OPENSSL_VERSION),
        ("load before the run", f"{load} (1, 5 and 15 minutes)"),
    ]
    if revision := _revision():
        facts.append(("revision", revision))
    return facts


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _revision() -> str:
    """The checkout's, and whether it was changed; "" where this is none, or git is missing."""
    if not (TOP / ".git").exists():
        return ""
    command = ["git", "-C", str(TOP), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions() -> dict[str, str]:
    """Of all that is measured and used, "" for what is not installed."""
    config = configparser.ConfigParser()
    config.read(TOP / "setup.cfg", "utf-8")
    extra = config["options.extras_require"]["bench"].split()
    found = {}
    for name in [
        "requests_refresh",
        "requests",
        "urllib3",
        *(re.split("[><=]", e)[0] for e in extra),
    ]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


# ----- the report


def markdown(results: Sequence[Result], facts: Sequence[tuple[str, str]]) -> str:
    """RESULTS.md. facts: what was run, and on what machine."""
    return "\n\n".join(_blocks(results, facts)) + "\n"


def _blocks(results: Sequence[Result], facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "# What the benchmark found"
    yield "Written by `python -m benchmarks`, which README.md tells of; not edited by hand."
    yield "## The machine"
    installed = versions()
    there = ", ".join(f"{name} {version}" for name, version in installed.items() if version)
    yield "\n".join(f"- {name}: {value}" for name, value in [*facts, ("versions", there)])
    if missing := ", ".join(name for name, version in installed.items() if not version):
        yield f"Not installed, and so left out: {missing}."
    yield "## What was to be reached"
    yield "A count that is not as it must be fails the run. A figure never does: it is a time."
    yield table(["part", "what", "wanted", "measured", ""], list(_goals(results)))
    for result in results:
        yield f"## {result.title}"
        if result.error:
            yield f"**This failed**: `{result.error}`"
        if text := result.found.text.strip():
            yield text
        for each in result.found.tables:
            yield from _titled(each)
        for plot in result.found.plots:
            yield f"![{_alt(plot)}](plots/{plot.name}.svg)"


def _titled(each: Table) -> Iterator[str]:
    if each.title:
        yield f"**{each.title}**"
    yield table(each.columns, each.rows)


def _alt(plot: Plot) -> str:
    return re.sub(r"([\[\]])", r"\\\1", " ".join(plot.caption.split()))


def _goals(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    for result in results:
        for count in result.found.counts:
            verdict = "reached" if count.got == count.wanted else "**wrong**"
            yield result.name, count.what, f"{count.wanted:,}", f"{count.got:,}", verdict
        for figure in result.found.figures:
            wanted, verdict = _wanted(figure), "reached" if figure.reached else "**not reached**"
            yield (
                result.name,
                figure.what,
                wanted or NONE,
                _measured(figure),
                verdict if wanted else "",
            )
        if result.error:
            yield result.name, "the part itself", NONE, NONE, "**failed**"


def save(results: Sequence[Result], facts: Sequence[tuple[str, str]], folder: Path) -> Path:
    """Write the plots and RESULTS.md. A plot that can't be drawn is its part's failure."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        drawn = []
        for plot in result.found.plots:
            try:
                draw(plot, folder / "plots")
                drawn.append(plot)
            except Exception as error:
                result.error = result.error or f"plot {plot.name}: {described(error)}"
        result.found.plots = drawn
    path = folder / "RESULTS.md"
    path.write_text(markdown(results, facts), "utf-8")
    return path


def draw(plot: Plot, folder: Path) -> None:
    """Save a plot; the same data give the same bytes."""
    import matplotlib  # late, as only this needs it: nothing is measured beside it
    from cycler import cycler
    from matplotlib.figure import Figure as Canvas

    folder.mkdir(exist_ok=True)
    with matplotlib.rc_context({**_STYLE, "axes.prop_cycle": cycler(color=COLOURS)}):
        canvas = Canvas(figsize=(plot.width, plot.height), layout="constrained")
        plot.draw(canvas)
        target = folder / f"{plot.name}.svg"
        canvas.savefig(target, format="svg", metadata={"Date": None, "Creator": None})


def described(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".replace("`", "'").split())[:300]
