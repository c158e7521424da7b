"""Installs oidc-provider once for a lock file, outside the checkout, and starts it for a run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from platformdirs import user_cache_path

from tests.node.oidc import Oidc

HERE = Path(__file__).parent
PACKAGE = ("package.json", "package-lock.json")
INSTALLING = 300  # seconds
log: Path | None = None


def installed() -> Path:
    """The node_modules for our lock file; made now where no run before has made it.

    It appears under its name only once it is whole, so that a run that was ended while
    it installed leaves no half of one behind.
    """
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        pytest.skip("needs Node.js and npm, and one of them is not on the PATH")
    key = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in PACKAGE)).hexdigest()
    cache = user_cache_path("requests_refresh-tests", appauthor=False)
    cache.mkdir(parents=True, exist_ok=True)
    home = cache / f"node-{key[:16]}"
    with FileLock(f"{home}.lock", timeout=2 * INSTALLING):
        if not home.exists():
            new = home.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            for name in PACKAGE:
                shutil.copy(HERE / name, new)
            try:
                done = subprocess.run(
                    [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                    cwd=new,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=INSTALLING,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm could not install oidc-provider in {INSTALLING} s")
            if done.returncode:
                pytest.skip(f"npm could not install oidc-provider: {done.stdout[-2000:]}")
            os.replace(new, home)
    return home / "node_modules"


@pytest.fixture(scope="session")
def oidc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oidc]:
    """oidc-provider, in a process that ends with its input, so that it never outlives us."""
    global log
    modules = installed()
    home = tmp_path_factory.mktemp("oidc-provider")
    log = home / "log"
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, home)
    # Node looks for packages beside the script that imports them.
    (home / "node_modules").symlink_to(modules, target_is_directory=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NODE_")}
    with (
        open(log, "w") as stderr,
        subprocess.Popen(
            ["node", "provider.mjs"],  # noqa: S607 - the one on the PATH is meant
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"oidc-provider did not start: {log.read_text()[-3000:]}"
            yield Oidc(json.loads(line))
        finally:
            process.kill()


@pytest.fixture
def oidc(oidc_server: Oidc) -> Iterator[Oidc]:
    """The provider with counters at 0 and its default settings; no fault of its own may come."""
    oidc_server.reset()
    yield oidc_server
    assert oidc_server.counts()["server_errors"] == 0, "the provider failed; see its log"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the end of the provider's log below a test that failed."""
    report = yield
    if report.failed and log is not None and "oidc" in getattr(item, "fixturenames", ()):
        end = log.read_text().splitlines()[-30:]
        report.sections.append(("the end of oidc-provider's log", "\n".join(end)))
    return report
