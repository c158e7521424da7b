"""A plugin of pytest that runs chosen tests on one mutant after another.

pytest starts once, in a copy of the tree, and collects. Then it serves: each job comes as a
line of JSON on stdin and is answered by one on stdout. A mutant gets a process of its own,
forked with all imported and collected, in which the code of the functions that change is put
in place of what they had. What tests start as processes of their own imports the file, which
is changed as well. A test that takes too long is killed with all its processes.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
import types
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from _pytest.runner import runtestprotocol

MONITORING: Any = getattr(sys, "monitoring", None)  # since Python 3.12
TOOL = 3
JOBS = os.fdopen(os.dup(0), "r")
ANSWERS = os.fdopen(os.dup(1), "w")
NULL = os.open(os.devnull, os.O_RDWR)
os.dup2(NULL, 0)
os.dup2(2, 1)  # what tests print is no answer


def pytest_runtestloop(session: pytest.Session) -> bool:
    """In place of running all tests once: serve until there are no more jobs."""
    answer([item.nodeid for item in session.items])
    for line in JOBS:
        job = json.loads(line)
        if job["file"] is None:
            answer(in_child(partial(learn, session.items, job), [], job))
        else:
            answer(try_mutant(session.items, job))
    return True


def answer(value: Any) -> None:
    ANSWERS.write(json.dumps(value) + "\n")
    ANSWERS.flush()


def try_mutant(items: list[pytest.Item], job: dict[str, Any]) -> dict[str, Any]:
    """Change the file, run the tests that the job names, and change it back."""
    path, chosen = Path(job["file"]), [items[i] for i in job["items"]]
    original, times = path.read_text("utf-8"), path.stat()
    try:
        path.write_text(job["source"], "utf-8")
        # Python compares the time, in seconds, with that of the bytecode it has.
        os.utime(path, (times.st_atime, times.st_mtime + 1 + time.time() % 1e6))
        return in_child(partial(run, path, job["source"], chosen), chosen, job)
    finally:
        path.write_text(original, "utf-8")
        os.utime(path, (times.st_atime, times.st_mtime))


def in_child(work: Any, chosen: list[pytest.Item], job: dict[str, Any]) -> dict[str, Any]:
    """Fork for it. Returns what it wrote last, or by which test it was ended."""
    began = time.monotonic()
    into, out = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(into)
            os.setsid()
            with os.fdopen(out, "w") as stream:
                work(stream)
            code = 0
        finally:
            os._exit(code)
    os.close(out)
    data, last, limit = "", dict[str, Any](), job["limits"][0] if chosen else 900.0
    with os.fdopen(into, "r") as stream:
        while select.select([stream], [], [], limit)[0]:
            piece = os.read(into, 1 << 16).decode()
            data += piece
            if not piece:
                break
            *lines, data = data.split("\n")
            for line in lines:
                last = json.loads(line)
                limit = job["limits"][last["at"]] if "at" in last else 10.0
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if "at" in last:  # it did not end by itself
        last = {"outcome": "hung", "by": chosen[last["at"]].nodeid}
    return {"outcome": "broken", "by": "", **last, "seconds": time.monotonic() - began}


def tell(out: IO[str], **what: Any) -> None:
    out.write(json.dumps(what) + "\n")
    out.flush()


def run(path: Path, source: str, chosen: list[pytest.Item], out: IO[str]) -> None:
    """Run the tests until one fails."""
    try:
        put_in(path, source)
    except ValueError as error:  # other free variables than before
        return tell(out, outcome="apart", by=str(error))
    for place, item in enumerate(chosen):
        tell(out, at=place)
        following = chosen[place + 1] if place + 1 < len(chosen) else None
        if not passes(item, following):
            return tell(out, outcome="killed", by=item.nodeid)
    return tell(out, outcome="survived", by="")


def passes(item: pytest.Item, following: pytest.Item | None) -> bool:
    reports = runtestprotocol(item, log=False, nextitem=following)
    return not any(report.failed for report in reports)


def put_in(path: Path, source: str) -> None:
    """Give the functions of a module that is imported the code that they have in `source`."""
    new = codes(compile(source, str(path.resolve()), "exec"))
    for function in functions_of(path):
        code = function.__code__
        name = code.co_qualname  # type: ignore[attr-defined, unused-ignore]  # since 3.11
        same = [c for c in new if c.co_qualname == name]  # type: ignore[attr-defined, unused-ignore]
        if len(same) > 1:
            same = [c for c in same if c.co_firstlineno == code.co_firstlineno]
        if same and same[0] != code:
            function.__code__ = same[0]


def functions_of(path: Path) -> list[types.FunctionType]:
    here = str(path.resolve())
    return [
        thing
        for thing in gc.get_objects()
        if isinstance(thing, types.FunctionType) and thing.__code__.co_filename == here
    ]


def codes(code: types.CodeType) -> list[types.CodeType]:
    """All code below this one, and itself."""
    inner = [
        one for const in code.co_consts if isinstance(const, types.CodeType) for one in codes(const)
    ]
    return [code, *inner]


def learn(items: list[pytest.Item], job: dict[str, Any], out: IO[str]) -> None:
    """Run what the job names; tell of each whether it passed, its seconds and what it ran."""
    lines: set[tuple[str, int]] = set()

    def note(code: types.CodeType, line: int) -> object:
        lines.add((Path(code.co_filename).name, line))
        return MONITORING.DISABLE  # until the next test

    MONITORING.use_tool_id(TOOL, "mutation")
    MONITORING.register_callback(TOOL, MONITORING.events.LINE, note)
    for path in Path(job["folder"]).glob("*.py"):
        for function in functions_of(path):
            for code in codes(function.__code__):
                MONITORING.set_local_events(TOOL, code, MONITORING.events.LINE)
    learned = []
    for item, following in pairs([items[i] for i in job["items"]]):
        lines.clear()
        MONITORING.restart_events()
        began = time.monotonic()
        passed = passes(item, following)
        learned.append([passed, time.monotonic() - began, sorted(lines)])
    tell(out, outcome="learned", learned=learned)


def pairs(items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    yield from zip(items, [*items[1:], None], strict=True)
