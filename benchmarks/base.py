"""What a part of the benchmark takes and gives.

A part is a module of `benchmarks.parts` with a `TITLE`, a `steps(size)`, which
tells how often it will say that it went on, and a `run(size, went_on)`, which
does the work and returns what it has found. Within a part whatever is compared
takes turns, round by round, so that whatever else the machine does falls on all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Size:
    """How much is run."""

    name: str
    rounds: int  # in which whatever is compared takes turns
    small: bool  # the two minutes that CI can spare; else the night's


SIZES = {"small": Size("small", 3, True), "nightly": Size("nightly", 4, False)}

WentOn = Callable[[str], None]  # told what was done; moves the progress bar by one step


@dataclass(frozen=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""


@dataclass(frozen=True)
class Plot:
    """A picture, drawn by `draw(figure)` on a matplotlib Figure, saved as `name`.svg."""

    name: str
    draw: Callable[[Any], None]
    caption: str
    width: float = 8.0  # inches
    height: float = 4.0


@dataclass(frozen=True)
class Count:
    """Something counted that must be as it is wanted; else the run fails."""

    what: str
    got: int
    wanted: int


@dataclass(frozen=True)
class Figure:
    """Something measured that is to be reached; it never fails the run, being a time."""

    what: str
    got: float
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""  # "µs", "s", "" for a ratio

    @property
    def reached(self) -> bool:
        low, high = self.at_least, self.at_most
        return (low is None or self.got >= low) and (high is None or self.got <= high)


@dataclass
class Found:
    """What a part has found. text: Markdown; what was done, and what bounds the figures."""

    text: str
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


class Part(Protocol):
    TITLE: str

    def steps(self, size: Size) -> int: ...
    def run(self, size: Size, went_on: WentOn) -> Found: ...
