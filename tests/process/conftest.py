"""A server that outlives the programs, a login in a file, and programs to lose it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import FileStore, Token
from requests_refresh.testing import AuthServer

from .harness import Program, Start


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as running:
        yield running


@pytest.fixture
def path(server: AuthServer, tmp_path: Path) -> Path:
    """A token file with a login at the server."""
    where = tmp_path / "private" / "tokens.json"
    FileStore(where).save("default", Token.from_reply(server.login()))
    return where


@pytest.fixture
def near_its_end(path: Path) -> None:
    """The stored token lives, but not for long."""
    store, now = FileStore(path), time.time()
    token = store.load("default")
    assert token is not None
    store.save("default", replace(token, issued_at=now - 3500, expires_at=now + 100))


@pytest.fixture
def held(server: AuthServer) -> Iterator[threading.Event]:
    """Set it, and the provider answers the calls that it holds."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def start(server: AuthServer, path: Path, tmp_path: Path) -> Iterator[Start]:
    """`start("module:function", **settings)`: begins a program, and ends it with the test."""
    with ExitStack() as stack:

        def begin(name: str, **settings: Any) -> Program:
            given = {"api": server.api, "token_url": server.token_url, "path": str(path)}
            number = len(list(tmp_path.glob("*.err")))
            program = Program(name, {**given, **settings}, tmp_path / f"{number}.err")
            stack.callback(program.close)
            return program

        yield begin
