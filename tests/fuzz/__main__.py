"""Coverage-guided fuzzing: `python -m tests.fuzz --seconds 600 [TARGET...]`. Needs atheris.

The seconds are shared by the targets, which run one after the other. What is new
and worth keeping goes to `corpus/TARGET`, as few and as short files as show all
that was reached; `test_corpus.py` replays them. Faults go to `found/TARGET`.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import targets
from .engine import fault_of, keep

HERE = Path(__file__).parent
MOST_FILES = 80  # of a corpus
LONGEST = 2048  # bytes of an input


def engine(folder: Path, name: str, found: Path, options: list[str]) -> str:
    """Run the engine and return what it printed. folder: for its own files."""
    # libFuzzer starts itself anew to merge, by the name that it was called with.
    start = folder / "engine"
    start.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m tests.fuzz.engine "$0" {name} "{found}" "$@"\n'
    )
    start.chmod(0o700)
    command = [str(start), f"-max_len={LONGEST}", f"-artifact_prefix={folder}/", *options]
    done = subprocess.run(
        command, cwd=HERE.parents[1], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode("utf-8", "replace")


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target, keep what is new, and tell what came of it. True if no fault was found."""
    target = targets.TARGETS[name]
    corpus, found = HERE / "corpus" / name, HERE / "found" / name
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        begin, grown, merged = folder / "begin", folder / "grown", folder / "merged"
        for one in (begin, grown, merged):
            one.mkdir()
        for data in target.seeds:
            keep(begin, data)
        for path in sorted(corpus.glob("*")):
            keep(begin, path.read_bytes())
        words = folder / "words"
        words.write_text(
            "".join('"' + "".join(f"\\x{b:02x}" for b in word) + '"\n' for word in target.words)
        )
        said = engine(
            folder,
            name,
            found,
            [
                *(f"-max_total_time={seconds}", f"-dict={words}", "-timeout=10"),
                *("-print_final_stats=1", "-use_value_profile=1", str(grown), str(begin)),
            ],
        )
        for crash in folder.glob("*-*"):  # not of Python: a timeout, no memory left
            print(f"{name}: {crash.name.partition('-')[0]}, kept as {crash.name}")
            keep(found, crash.read_bytes())
        for fault in re.findall("^FOUND .*", said, re.MULTILINE):
            print(fault)
        engine(
            folder,
            name,
            folder / "again",
            ["-set_cover_merge=1", str(merged), str(grown), str(begin)],
        )
        kept = sorted((path.read_bytes() for path in merged.glob("*")), key=len)
        kept = [data for data in kept if fault_of(targets, name, data) is None][:MOST_FILES]
        if kept:
            shutil.rmtree(corpus, ignore_errors=True)
        for data in kept:
            keep(corpus, data)
    runs = re.search(r"number_of_executed_units: *(\d+)", said)
    reached = re.findall(r"cov: (\d+) ft: (\d+)", said)
    faults = len(list(found.glob("*")))
    if not runs or not reached:
        print(said[-3000:])
        return False
    print(
        f"{name}: {runs[1]} runs, {reached[-1][0]} edges, {reached[-1][1]} features,"
        f" {seconds} s, {len(kept)} files of {sum(map(len, kept))} bytes, {faults} faults",
        flush=True,
    )
    return not faults


def main() -> None:
    """Read the command line and fuzz each target for its share of the time."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=600, help="in all")
    parser.add_argument("target", nargs="*", help=f"of {', '.join(targets.TARGETS)}; or all")
    given = parser.parse_args()
    names = given.target or list(targets.TARGETS)
    if unknown := set(names) - set(targets.TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is missing: pip install atheris")
    share = max(1, given.seconds // len(names))
    sound = [fuzz(name, share) for name in names]
    sys.exit(0 if all(sound) else 1)


if __name__ == "__main__":
    main()
