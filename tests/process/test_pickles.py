"""pickle, copy and deepcopy: one source in one process, and no secret on the way to another."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from requests_refresh import (
    FileStore,
    LoginRequired,
    MemoryStore,
    RefreshAdapter,
    RefreshTokenGrant,
    TokenSource,
    lifecycle,
)
from requests_refresh.testing import AuthServer

from .harness import SAFETY, Start, goes_on

SECRET = "the-client-secret-itself"


def secret() -> str:
    """What a grant may be given in place of the text: it travels by its name."""
    return SECRET


@pytest.fixture
def make(server: AuthServer) -> Iterator[Callable[..., requests.Session]]:
    """`make(store, **options)`: a session that is logged in."""
    opened = []

    def session(store: Any, client_secret: Any = None, **options: Any) -> requests.Session:
        grant = RefreshTokenGrant(server.token_url, client_id="test", client_secret=client_secret)
        tokens = TokenSource(grant, store, **options)
        http = requests.Session()
        http.trust_env = False
        http.mount(server.api, RefreshAdapter(tokens, origins=server.api, max_retries=2))
        opened.append(http)
        return http

    yield session
    for http in opened:
        http.close()


def adapter_of(http: requests.Session) -> RefreshAdapter:
    adapter = next(iter(http.adapters.values()))
    assert isinstance(adapter, RefreshAdapter)
    return adapter


def unpickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))  # noqa: S301  # it is our own


@pytest.mark.parametrize("duplicate", [unpickled, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("store", ["memory", "file"])
def test_in_one_process_it_is_the_same_source(
    duplicate: Callable[[Any], Any],
    store: str,
    server: AuthServer,
    path: Path,
    make: Callable[..., requests.Session],
) -> None:
    """I1, I14: sources, adapters and sessions may be copied as one likes: one login, one gate."""
    login = (
        {"store": FileStore(path)} if store == "file" else {"store": None, "token": server.login()}
    )
    http = make(**login)
    adapter = adapter_of(http)
    assert duplicate(adapter.tokens) is adapter.tokens
    assert duplicate(adapter).tokens is adapter.tokens
    twin = duplicate(http)
    server.revoke_access()
    with twin:
        for one in (http, twin):
            assert one.get(server.api + "items", timeout=SAFETY).status_code == 200
    assert server.counts.refreshes == 1
    assert server.counts.reuses == 0


@pytest.mark.parametrize("duplicate", [unpickled, copy.copy, copy.deepcopy])
def test_a_copied_adapter_has_its_settings_and_connections_of_its_own(
    duplicate: Callable[[Any], Any], make: Callable[..., requests.Session], server: AuthServer
) -> None:
    """I13, I14: a copy keeps every option, and shares no pool, so closing one closes one."""
    adapter = adapter_of(make(None, token=server.login()))
    twin = duplicate(adapter)
    assert twin.max_retries.total == 2
    assert twin._origins == adapter._origins
    assert twin.poolmanager is not adapter.poolmanager


def test_an_adapter_with_an_inner_one_travels(server: AuthServer) -> None:
    """I14: the adapter that does the sending is part of the pickle."""
    tokens = server.source()
    adapter = RefreshAdapter(tokens, origins=server.api, inner=HTTPAdapter(max_retries=1))
    twin = unpickled(adapter)
    with requests.Session() as http:
        http.trust_env = False
        http.mount(server.api, twin)
        assert http.get(server.api + "items", timeout=SAFETY).status_code == 200
    assert twin._inner.max_retries.total == 1


def test_no_secret_is_in_a_pickle(
    server: AuthServer, path: Path, make: Callable[..., requests.Session]
) -> None:
    """I9: neither tokens nor the client's secret, be they in the store, in use or still to come."""
    first = server.login()
    for store in (FileStore(path), MemoryStore()):
        http = make(store, SECRET, token=first)
        tokens = adapter_of(http).tokens
        for _ in range(2):  # before its first use, and after it
            for thing in (tokens, adapter_of(http), http):
                text = pickle.dumps(thing)
                assert SECRET.encode() not in text
                assert b"at-" not in text
                assert b"rt-" not in text
            assert http.get(server.api + "items", timeout=SAFETY).status_code == 200


def test_in_another_process(
    server: AuthServer, path: Path, start: Start, make: Callable[..., requests.Session]
) -> None:
    """I9, I14: there a FileStore goes on with the login, and what did not travel says so."""
    server.client_secret = SECRET
    server.revoke_access()
    sessions = [
        make(FileStore(path), secret),
        make(FileStore(path), SECRET),
        make(MemoryStore(), secret, token=server.login("other"), identity="other"),
    ]
    program = start("pickles:ask", pickles=[pickle.dumps(one).hex() for one in sessions])
    assert program.expect("answer") == {"status": 200}
    assert server.counts.refreshes == 1
    server.revoke_access()
    program.tell()
    literal = program.expect("answer")
    assert literal["error"] == "ConfigurationError"
    assert "client_secret was left behind" in literal["text"]
    memory = program.expect("answer")
    assert memory["error"] == "LoginRequired"
    assert "pickle" in memory["text"]
    assert "FileStore" in memory["text"]
    program.ends()
    assert server.counts.refresh_calls == 1
    server.client_secret = None
    goes_on(server, path)


def test_a_source_that_is_gone_is_made_anew(
    server: AuthServer, path: Path, make: Callable[..., requests.Session]
) -> None:
    """I14: a pickle that outlives its source makes one, and all that come after are that one."""
    http = make(FileStore(path))
    text = pickle.dumps(adapter_of(http).tokens)
    key = adapter_of(http).tokens._key
    lifecycle._working.pop(key)  # as in a process that never had it
    one, other = pickle.loads(text), pickle.loads(text)  # noqa: S301  # they are our own
    assert one is other
    assert one is not adapter_of(http).tokens
    assert pickle.loads(pickle.dumps(one)) is one  # noqa: S301
    assert one.token().access_token == adapter_of(http).tokens.token().access_token


def test_a_store_that_was_emptied_is_not_filled_by_a_pickle(
    server: AuthServer, path: Path, make: Callable[..., requests.Session]
) -> None:
    """I9, I14: the first token of a source is no part of a pickle; elsewhere it has none."""
    http = make(FileStore(path.with_name("other.json")), token=server.login())
    text = pickle.dumps(adapter_of(http).tokens)
    lifecycle._working.pop(adapter_of(http).tokens._key)
    with pytest.raises(LoginRequired):
        pickle.loads(text).token()  # noqa: S301  # it is our own
