"""Reads `survivors.md`: the mutants that no test kills, each with the reason."""

from __future__ import annotations

import re
from pathlib import Path

FILES = ["gate.py", "source.py", "replay.py", "adapter.py"]
LIST = Path(__file__).with_name("survivors.md")
_LINE = re.compile(r"- (?P<name>[\w.]*: `(?P<old>.*?)` -> `.*`)")


def listed() -> dict[tuple[str, str], tuple[str, str]]:
    """By file and name of the mutant: the line that it changes, and the reason."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    file, reason = "", ""
    for line in LIST.read_text("utf-8").splitlines():
        if line.startswith("## "):
            file, reason = line[3:].strip(), ""
        elif entry := _LINE.fullmatch(line):
            found[file, entry["name"]] = (entry["old"], reason.strip())
        elif line.startswith("- "):
            raise ValueError(f"not the form of an entry: {line}")
        elif line.startswith("### "):
            reason = line[4:]
        else:
            reason += f" {line}"
    return found
