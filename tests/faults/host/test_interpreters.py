"""Subinterpreters, and builds without the global lock where one is at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from requests_refresh import FileStore, Token
from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .life import SAFETY

TOP = Path(__file__).parents[3]
#: Runs one text in so many subinterpreters, which share the process with daemon threads.
HOST = """
import sys, time
try:
    import _interpreters as subs
    make = lambda: subs.create("legacy")
except ImportError:
    import _xxsubinterpreters as subs
    make = lambda: subs.create(isolated=False)
several = [make() for _ in range(int(sys.argv[1]))]
for one in several:
    failed = subs.run_string(one, sys.argv[2])
    assert failed is None, failed
for one in several:
    while True:
        try:
            subs.destroy(one)
            break
        except RuntimeError:  # before 3.13 it waits for no thread, and says so
            assert sys.version_info < (3, 13)
            time.sleep(0.01)
print("destroyed")
"""
USE = """
import sys, warnings
sys.path[:] = {path!r}
warnings.simplefilter("ignore")
import requests
from requests_refresh import FileStore, RefreshAdapter, RefreshTokenGrant, TokenSource
grant = RefreshTokenGrant({token_url!r}, client_id="test")
tokens = TokenSource(grant, FileStore({file!r}))
http = requests.Session()
http.trust_env = False
http.mount({api!r}, RefreshAdapter(tokens, origins={api!r}))
print([http.get({api!r} + "items").status_code for _ in range(2)], flush=True)
"""


def run(server: AuthServer, file: Path, number: int) -> subprocess.CompletedProcess[str]:
    """Use the login in so many subinterpreters of a new process."""
    text = USE.format(
        path=[str(TOP), *sys.path], token_url=server.token_url, api=server.api, file=str(file)
    )
    return subprocess.run(
        [sys.executable, "-c", HOST, str(number), text],
        cwd=TOP,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=SAFETY,
    )


@pytest.mark.parametrize("number", [1, 2])
def test_subinterpreters_share_a_login(number: int, tmp_path: Path) -> None:
    """I1, I14: a source works in a subinterpreter; two of them make one refresh."""
    file = tmp_path / "private" / "tokens.json"
    with AuthServer() as server:
        FileStore(file).save("default", Token.from_reply(server.login()))
        server.revoke_access()
        done = run(server, file, number)
        assert done.stdout.splitlines() == ["[200, 200]"] * number + ["destroyed"], done.stderr
        assert server.counts.refreshes == 1
        assert server.counts.reuses == 0


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="it does not end there while it has more than one thread"
)
def test_the_end_of_a_subinterpreter_waits_for_the_round(tmp_path: Path) -> None:
    """I7, I14: it ends while a round runs in the background: what that brings is stored."""
    file = tmp_path / "private" / "tokens.json"
    with AuthServer() as server:
        store, now = FileStore(file), time.time()
        login = Token.from_reply(server.login())
        store.save("default", replace(login, issued_at=now - 3500, expires_at=now + 100))
        server.faults("token", Fault(delay=0.3, after_work=True))
        done = run(server, file, 1)
        assert done.returncode == 0, done.stderr
        stored = store.load("default")
        assert stored is not None
        assert server.counts.refreshes == 1
        assert stored.refresh_token == server._logins[0].refresh_token


def test_a_build_without_the_global_lock(tmp_path: Path) -> None:
    """I1, I3: 16 threads at one expiry make one refresh where threads run side by side."""
    free = shutil.which("python3.13t") or shutil.which("python3.14t")
    if free is None:
        pytest.skip("No free-threaded Python (python3.13t or python3.14t) is on the PATH.")
    text = """
import sys, threading
import requests
from requests_refresh import RefreshAdapter
from requests_refresh.testing import AuthServer
with AuthServer() as server:
    tokens = server.source()
    server.revoke_access()
    http = requests.Session()
    http.mount(server.api, RefreshAdapter(tokens, origins=server.api))
    answers = []
    ask = lambda: answers.append(http.get(server.api + "items").status_code)
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads: thread.start()
    for thread in threads: thread.join(30)
    assert answers == [200] * 16, answers
    assert server.counts.refreshes == 1
"""
    code = f"import sys; sys.path[:0] = {[str(TOP), *sys.path]!r}\n{text}"
    done = subprocess.run([free, "-c", code], capture_output=True, text=True, timeout=SAFETY)
    assert done.returncode == 0, done.stderr
