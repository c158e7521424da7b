"""Connections that a fork leaves in a child."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.servers import RedisServer

FORKS = """
import os, signal, sys, threading
from requests_refresh.stores import RedisStore

store = RedisStore(sys.argv[1])
store.load("user")
lock = store._client().connection_pool._lock
held, done = threading.Event(), threading.Event()

def closes():
    with lock:  # as `close` does in another thread
        held.set()
        done.wait()

thread = threading.Thread(target=closes)
thread.start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(5)
    store.load("user")
    os._exit(0)
done.set()
thread.join()
status = os.waitpid(child, 0)[1]
store.close()
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


def test_a_fork_while_a_client_is_closed(redis_server: RedisServer) -> None:
    """I14: a child can use the store, whatever lock of the client another thread had."""
    command = [sys.executable, "-W", "ignore", "-c", FORKS, redis_server.url]
    top = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=top, timeout=60, check=False)
    assert done.returncode == 0
