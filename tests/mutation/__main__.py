"""Mutation testing: `python -m tests.mutation [FILE...]`. Needs cosmic-ray and Python 3.12.

Each of `gate.py`, `source.py`, `replay.py` and `adapter.py`, or those that are named, is
changed in one place at a time, in a copy of the tree, and the tests must notice. First all
tests run once, to learn which of them run which line. A mutant is then given to those that
run its line, the likeliest to fail first, for --seconds; what survives that is given to all
of them, and to those with processes of their own. Without options it does all that there
is, on two cores, in about half an hour.

What survives is told at the end, and must be in `survivors.md`, with the reason why no test
fails: 1 is returned if one is not. What was found out is kept in the folder --keep, so that
a run that was broken off goes on; --again tries again what survived; --sample N takes each Nth.
"""

from __future__ import annotations

import argparse
import ast
import collections
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from .listed import FILES, listed
from .mutants import Mutant, mutants_of

TOP = Path(__file__).parents[2]
PACKAGE = "requests_refresh"
COPIED = [PACKAGE, "tests", "pyproject.toml", "setup.cfg", "README.md", "CHANGELOG.md"]
TESTS = [
    *("tests/mutation_kills", "tests/source", "tests/races", "tests/interleave", "tests/adapter"),
    *("tests/hostile", "tests/pool", "tests/properties", "tests/dpop", "tests/test_tokens.py"),
]
APART = "tests/process"  # what runs there runs in processes of its own, and no line is seen


class Server:
    """A pytest of its own, in a copy of the tree."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder
        for name in COPIED:
            if (TOP / name).is_dir():
                shutil.copytree(
                    TOP / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy2(TOP / name, folder / name)
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir()
        options = ["-q", "-n0", "-s", "-p", "no:cacheprovider", "-p", "tests.mutation.server"]
        self.command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider"]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *options, *TESTS, APART],
                cwd=folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.tests: list[str] = self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit((self.tree / "log").read_text()[-3000:])
        return json.loads(line)

    def ask(self, job: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def apart(self, mutant: Mutant, tests: list[int], limit: float) -> dict[str, Any]:
        """For what is run as the module is imported: a pytest for this mutant alone."""
        path = self.tree / PACKAGE / mutant.file
        original, times = path.read_text("utf-8"), path.stat()
        began = time.monotonic()
        environment = {**self.environment, "PYTHONDONTWRITEBYTECODE": "1"}
        path.write_text(mutant.source, "utf-8")
        os.utime(path, (times.st_atime, times.st_mtime + 1 + began % 1e6))
        process = subprocess.Popen(
            [*self.command, "-x", "-q", *(self.tests[i] for i in tests)],
            cwd=self.tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            outcome = "killed" if process.wait(limit) else "survived"
        except subprocess.TimeoutExpired:
            outcome = "hung"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
            path.write_text(original, "utf-8")
            os.utime(path, (times.st_atime, times.st_mtime))
        return {"outcome": outcome, "by": "", "seconds": time.monotonic() - began}


class Run:
    """All mutants of some files, and what became of them."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given = given
        self.folder = folder
        self.lock = threading.Lock()
        self.known: dict[str, dict[str, Any]] = {}
        self.kept = Path(given.keep) / "results.json"
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        if self.kept.exists():
            self.known = {one["key"]: one for one in map(json.loads, self.kept.open())}
        self.kills: collections.Counter[tuple[str, int]] = collections.Counter()
        self.mutants: list[Mutant] = []
        self.sources = {f: (TOP / PACKAGE / f).read_text("utf-8") for f in given.file}
        for file, source in self.sources.items():
            self.mutants += mutants_of(file, source)[:: given.sample]

    def key(self, mutant: Mutant) -> str:
        """Of the function that is changed, and how: the same, when others were changed since."""
        texts = [
            next(
                (
                    ast.unparse(node)
                    for node in ast.walk(ast.parse(source))
                    if mutant.live
                    and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
                    and mutant.scope.split(".")[-1] == node.name
                    and node.lineno <= mutant.line <= (node.end_lineno or 0)
                ),
                source,
            )
            for source in (self.sources[mutant.file], mutant.source)
        ]
        whole = "\0".join([mutant.file, mutant.scope, *texts])
        return hashlib.sha256(whole.encode()).hexdigest()[:20]

    def work(self) -> None:
        """Learn, then try them all, and once more, with all tests, those that survived."""
        servers = [Server(self._made(f"tree{n}")) for n in range(self.given.jobs)]
        self.servers = servers
        self.learned = self._learned(servers[0])
        for (passed, _, _), name in zip(self.learned, servers[0].tests, strict=True):
            if not passed:
                print(f"It fails without a mutant, and is left out: {name}", flush=True)
        seconds = sum(took for _, took, _ in self.learned)
        print(
            f"{len(self.learned)} tests, {seconds:.0f} s; {len(self.mutants)} mutants", flush=True
        )
        keys = {mutant: self.key(mutant) for mutant in self.mutants}
        self.keys = keys
        todo = [m for m in self.mutants if keys[m] not in self.known]
        self._all(todo, self.given.seconds)
        if not self.given.quick:
            names = set(listed())
            self._all(
                [
                    m
                    for m in self.mutants
                    if self.known[keys[m]]["outcome"] == "survived"
                    and (self.given.again or not self.known[keys[m]]["wide"])
                    and (self.given.again or (m.file, m.name) not in names)
                ],
                None,
            )
        for server in servers:
            server.close()

    def _learned(self, server: Server) -> list[Any]:
        """Of each test: whether it passes, its seconds, the lines that it runs."""
        whole = "".join((TOP / PACKAGE / file).read_text("utf-8") for file in FILES)
        kept = self.kept.with_name(
            f"learned-{hashlib.sha256(whole.encode()).hexdigest()[:12]}.json"
        )
        known: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
        items = [i for i, name in enumerate(server.tests) if name not in known]
        if items:
            job = {"file": None, "folder": str(server.tree / PACKAGE), "items": items}
            learned = server.ask(job)["learned"]
            known.update(zip((server.tests[i] for i in items), learned, strict=True))
            kept.write_text(json.dumps(known))
        return [known[name] for name in server.tests]

    def _made(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name

    def _all(self, mutants: list[Mutant], seconds: float | None) -> None:
        todo = collections.deque(mutants)

        def one(server: Server) -> None:
            while todo:
                try:
                    mutant = todo.popleft()
                except IndexError:
                    return
                self._try(server, mutant, seconds, len(todo))

        threads = [threading.Thread(target=one, args=(s,), daemon=True) for s in self.servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def chosen(self, mutant: Mutant, seconds: float | None) -> list[int]:
        """The tests that run its line, the likeliest to fail in the shortest time first."""
        names = self.servers[0].tests
        place = [mutant.file, mutant.line]
        seen = [i for i, (ok, _, ran) in enumerate(self.learned) if ok and place in ran]
        if not seen or not mutant.live:  # it is run as the module is imported, or by nobody
            seen = [
                i
                for i, (ok, _, ran) in enumerate(self.learned)
                if ok and any(file == mutant.file for file, _ in ran)
            ]
        scope = f"{mutant.file}:{mutant.scope}"

        def price(i: int) -> float:
            here, all_ = self.kills[scope, i], self.kills[mutant.file, i]
            new = 10 if "mutation_kills" in names[i] else 0
            return (float(self.learned[i][1]) + 0.005) / (1 + 10 * here + all_ + new)

        seen.sort(key=price)
        if seconds is None:
            also = [i for i, (ok, _, _) in enumerate(self.learned) if ok and APART in names[i]]
            return list(dict.fromkeys([*seen, *also]))
        most, chosen = seconds, list[int]()
        for i in seen:
            if most - self.learned[i][1] >= 0 or not chosen:
                most -= self.learned[i][1]
                chosen.append(i)
        return chosen

    def _try(self, server: Server, mutant: Mutant, seconds: float | None, left: int) -> None:
        tests = self.chosen(mutant, seconds)
        limits = [6 + 4 * self.learned[i][1] for i in tests]
        path = str(server.tree / PACKAGE / mutant.file)
        got: dict[str, Any] = {"outcome": "apart"}
        if mutant.live:
            got = server.ask(
                {"file": path, "source": mutant.source, "items": tests, "limits": limits}
            )
        if got["outcome"] == "apart":
            got = server.apart(mutant, tests, 60 + 4 * sum(self.learned[i][1] for i in tests))
        with self.lock:
            if got["by"] in server.tests:
                index = server.tests.index(got["by"])
                self.kills[f"{mutant.file}:{mutant.scope}", index] += 1
                self.kills[mutant.file, index] += 1
            got.update(key=self.keys[mutant], wide=seconds is None)
            got.update(file=mutant.file, line=mutant.line, name=mutant.name)
            self.known[self.keys[mutant]] = got
            with self.kept.open("a") as kept:
                kept.write(json.dumps(got) + "\n")
            if got["outcome"] == "survived" or left % 50 == 0:
                print(f"{left} left; {got['outcome']}: {mutant.file}:{mutant.line} {mutant.name}")
                sys.stdout.flush()

    def tell(self) -> bool:
        """Print what came of it. True if all that survived is listed."""
        names, good = dict(listed()), True
        for file in self.given.file:
            mine = [m for m in self.mutants if m.file == file]
            counts = collections.Counter(self.known[self.keys[m]]["outcome"] for m in mine)
            print(f"{file}: {len(mine)} mutants: {dict(counts)}")
            for mutant in mine:
                if self.known[self.keys[mutant]]["outcome"] != "survived":
                    continue
                if (file, mutant.name) not in names:
                    good = False
                    print(f"  NEW {file}:{mutant.line} {mutant.operator} {mutant.name}")
        return good


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("file", nargs="*", help=f"of {', '.join(FILES)}; or all")
    parser.add_argument("--seconds", type=float, default=12.0, help="of tests for each at first")
    parser.add_argument("--quick", action="store_true", help="no second look at what survives")
    parser.add_argument("--again", action="store_true", help="try again what survived before")
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="each Nth only")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    kept = Path(tempfile.gettempdir()) / f"requests-refresh-mutation-{os.getuid()}"
    parser.add_argument("--keep", default=str(kept), help="folder for what was found out")
    given = parser.parse_args()
    given.file = given.file or FILES
    if unknown := set(given.file) - set(FILES):
        parser.error(f"there is no file {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("cosmic_ray") is None:
        parser.error("cosmic-ray is missing: pip install cosmic-ray")
    if sys.version_info < (3, 12):
        parser.error("it needs Python 3.12, which tells what lines are run")
    with tempfile.TemporaryDirectory() as made:
        run = Run(given, Path(made))
        run.work()
        good = run.tell()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
