"""The frame of the benchmark: counts fail a run and times do not, and the report is whole.

What the parts measure is not run here, and neither matplotlib nor the peers are needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.base import SIZES, Count, Figure, Found, Plot, Size, Table, WentOn

RESULTS = Path(report.__file__).parent / "RESULTS.md"
RIGHT = Count("refreshes in a storm", 1, 1)
SLOW = Figure("CPU added", 7.0, at_most=6, unit="µs")


def part(found: Found | BaseException, steps: int = 2) -> Any:
    def run(size: Size, went_on: WentOn) -> Found:
        for step in range(steps):
            went_on(f"round {step}")
        if isinstance(found, BaseException):
            raise found
        return found

    return SimpleNamespace(TITLE="A storm", steps=lambda size: steps, run=run)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Mapping[str, Any]], int]:
    """Runs these parts as the command does; the report lies in tmp_path."""

    def run(parts: Mapping[str, Any]) -> int:
        monkeypatch.setattr(command, "TOOLS", ())
        monkeypatch.setattr(command, "load", parts.__getitem__)
        return command.main(["--output", str(tmp_path), *parts])

    return run


@pytest.mark.parametrize("name", command.PARTS)
def test_every_part_is_there(name: str) -> None:
    """Each part can be imported without the peers, has a title, and tells how long it is."""
    loaded = command.load(name)
    assert loaded.TITLE
    assert callable(loaded.run)
    small, nightly = (loaded.steps(size) for size in SIZES.values())
    assert 1 <= small <= nightly


def test_a_wrong_count_fails_the_run(
    run: Callable[[Mapping[str, Any]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1, and the count is named, if something counted is not what it must be."""
    wrong = Count("failed requests", 3, 0)
    assert run({"storm": part(Found("", counts=[RIGHT, wrong]))}) == 1
    printed = capsys.readouterr().out
    assert "failed requests: 3, wanted 0" in printed
    assert f"{RIGHT.what}:" not in printed


def test_a_time_never_fails_the_run(
    run: Callable[[Mapping[str, Any]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A figure that is not reached is told of, and the status is 0."""
    assert run({"cpu": part(Found("", counts=[RIGHT], figures=[SLOW]))}) == 0
    assert "CPU added: 7.00 µs, wanted at most 6 µs" in capsys.readouterr().out


def test_a_part_that_raises_does_not_end_the_run(
    run: Callable[[Mapping[str, Any]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next part runs, the report and the last lines name the one that failed, status 1."""
    assert run({"cpu": part(ValueError("no clock")), "storm": part(Found("All is well."))}) == 1
    assert "cpu failed: ValueError: no clock" in capsys.readouterr().out
    text = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert "ValueError: no clock" in text
    assert "All is well." in text


def test_an_interrupt_writes_nothing(
    run: Callable[[Mapping[str, Any]], int], tmp_path: Path
) -> None:
    """Ctrl-C ends the run with the shell's status for it, and leaves an older report alone."""
    assert run({"cpu": part(KeyboardInterrupt()), "storm": part(Found(""))}) == 130
    assert list(tmp_path.iterdir()) == []


def test_missing_tools_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its tools it does not begin, installs nothing, and says what to install."""
    monkeypatch.setattr(command, "TOOLS", ("no_such_tool",))
    assert command.main([]) == 2
    printed = capsys.readouterr().err
    assert "no_such_tool" in printed
    assert ".[test,bench]" in printed


def test_progress_is_short_where_it_is_no_bar(
    run: Callable[[Mapping[str, Any]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A log gets at most forty lines, however many steps there are."""
    run({"cpu": part(Found(""), steps=300), "storm": part(Found(""), steps=500)})
    lines = capsys.readouterr().out.splitlines()
    assert 10 < len(lines) <= 40
    assert any("800/800" in line for line in lines)


def test_the_report_is_whole() -> None:
    """Machine, versions, each count and figure, each table and each plot are in the report."""
    plot = Plot("storm", lambda figure: None, "Threads that\nwait [20]")
    rows = [["ours", 1, 1234.5], ["a | b", 2000, None]]
    found = Found("What was done.", [Table(["who", "n", "µs"], rows, "Times")], [plot])
    found.counts, found.figures = [RIGHT], [SLOW, Figure("bare", 0.98765)]
    results = [report.Result("storm", "The storm", 1.0, found)]
    text = report.markdown(results, [*report.machine(), ("size", "small")])
    for needed in (
        r"^- processor: .+ cores$",
        r"^- size: small$",
        r"^- versions: .*\brequests \d",
        r"^\| storm \| refreshes in a storm +\| 1 +\| +1 \| reached +\|$",
        r"^\| storm \| CPU added +\| at most 6 µs +\| +7\.00 µs \| \*\*not reached\*\* \|$",
        r"^\| storm \| bare +\| - +\| +0\.988 \| +\|$",
        r"^## The storm$",
        r"^What was done\.$",
        r"^\*\*Times\*\*$",
        r"^\| ours +\| +1 \| 1,234 \|$",
        r"^\| a \\\| b +\| 2,000 \| +- \|$",
        r"^!\[Threads that wait \\\[20\\\]\]\(plots/storm\.svg\)$",
    ):
        assert re.search(needed, text, re.M), needed


def test_a_plot_is_the_same_each_time(tmp_path: Path) -> None:
    """The same data give the same file, so that a report changes where its figures do."""
    pytest.importorskip("matplotlib", reason="plots need the extra bench")

    def draw(figure: Any) -> None:
        figure.subplots().plot([1, 2], [3, 4])

    for folder in ("one", "two"):
        report.draw(Plot("line", draw, "A line"), tmp_path / folder)
    one, two = ((tmp_path / folder / "line.svg").read_bytes() for folder in ("one", "two"))
    assert one == two
    assert b"<svg" in one


def test_a_plot_that_cannot_be_drawn_fails_its_part(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The report is written without the plot, and the run fails."""

    def fails(plot: Plot, folder: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(report, "draw", fails)
    found = Found("", plots=[Plot("storm", lambda figure: None, "A storm")])
    results = [report.Result("storm", "The storm", 1.0, found)]
    text = report.save(results, [], tmp_path).read_text("utf-8")
    assert "plots/storm.svg" not in text
    assert [line.partition(":")[0] for line in report.wrong(results)] == ["storm failed"]


def test_the_plots_of_the_report_are_there() -> None:
    """RESULTS.md shows no plot that is missing."""
    if not RESULTS.exists():
        pytest.skip("there is no RESULTS.md yet")
    named = re.findall(r"\]\((plots/[^)]+)\)", RESULTS.read_text("utf-8"))
    assert named
    assert [name for name in named if not (RESULTS.parent / name).exists()] == []
