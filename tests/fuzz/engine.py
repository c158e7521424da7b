"""The process in which a target is fuzzed: for `python -m tests.fuzz` to start.

Its arguments: what starts it, the target, the folder for what is found, options of libFuzzer's.

The package, and these targets, are instrumented
as they are imported, so nothing here may import them earlier. A fault is
written down once for each place that it comes from, and the run goes on.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

LONGEST_MINIMISING = 2000  # attempts
OURS = ("requests_refresh", "tests.fuzz")


def place_of(error: BaseException) -> tuple[str, str, int]:
    """What tells a fault from another: its kind, and the innermost line of ours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [
        (frame.f_globals["__name__"], line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals["__name__"].startswith(OURS)
    ]
    return type(error).__name__, *lines[-1]


def fault_of(targets: Any, name: str, data: bytes) -> BaseException | None:
    """What the target raises for these bytes, or None."""
    try:
        targets.run(name, data)
    except Exception as error:
        return error
    return None


def smaller(targets: Any, name: str, data: bytes) -> bytes:
    """The shortest part of `data` found that fails in the same place."""
    error = fault_of(targets, name, data)
    place = place_of(error) if error else None
    size, tries = max(1, len(data) // 2), 0
    while size and tries < LONGEST_MINIMISING:
        at, cut = 0, False
        while at < len(data) and tries < LONGEST_MINIMISING:
            tries += 1
            shorter = data[:at] + data[at + size :]
            fault = fault_of(targets, name, shorter)
            if fault is not None and place_of(fault) == place:
                data, cut = shorter, True
            else:
                at += size
        size = size if cut and size == 1 else size // 2
    return data


def keep(folder: Path, data: bytes) -> Path:
    """Write `data` under the name of its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    starter, name, found, *options = sys.argv[1:]
    atheris: Any = importlib.import_module("atheris")  # has no types, and is not for every platform
    with atheris.instrument_imports(include=["requests_refresh", "tests.fuzz"]):
        targets = importlib.import_module("tests.fuzz.targets")
    mutator = importlib.import_module("tests.fuzz.mutation").changing  # what it reaches counts not
    places = set()

    def once(data: bytes) -> int:
        try:
            return 0 if targets.run(name, data) else -1
        except Exception as error:
            place = place_of(error)
        if place not in places:
            places.add(place)
            path = keep(Path(found), smaller(targets, name, data))
            print(f"FOUND {place[0]} at {place[1]}:{place[2]}: {path.name}", flush=True)
        return -1  # it belongs in no corpus

    # atheris.Mutate is another function once the fuzzing runs.
    change = mutator(lambda data, most: atheris.Mutate(data, most))
    atheris.Setup([starter, *options], once, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
