"""The key lives with the token, in the store: whoever has the login has it, and nobody else."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from requests_refresh import (
    ClientCredentialsGrant,
    ConfigurationError,
    DPoP,
    FileStore,
    MemoryStore,
    RefreshAdapter,
    Token,
    TokenSource,
    TokenStore,
    open_store,
)
from tests.adapter.conftest import Mount
from tests.adapter.support import crowd
from tests.dpop import programs
from tests.dpop.conftest import grant_for, new_key, source_for
from tests.dpop.server import FIXED, ONCE_UNANNOUNCED, ROTATING, SECRET, DPoPServer
from tests.servers.redis import RedisServer
from tests.stores.processes import answer, process


@pytest.fixture(params=["file", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A URL for open_store."""
    if request.param == "file":
        yield f"file://{tmp_path / 'private' / 'tokens.json'}"
    else:
        running: RedisServer = request.getfixturevalue("redis_server")
        yield running.url
        store = open_store(running.url)  # others use the same server
        store.delete("default")
        store.close()


def jkt(server: DPoPServer) -> set[str | None]:
    """The keys that made proofs so far."""
    return {seen.key for seen in server.seen if seen.proof}


def status(session: requests.Session, url: str, _: int) -> int:
    return session.get(url, timeout=30).status_code


@pytest.mark.parametrize("rotates", [True, False])
def test_the_key_survives_refreshes(server: DPoPServer, mount: Mount, rotates: bool) -> None:
    """One key for a login, over refreshes with rotation and without."""
    server.rotates = rotates
    store, key = MemoryStore(), new_key()
    tokens = source_for(server, store, token=server.login(key))
    session = mount(tokens, server.url, scheme=DPoP())
    for _ in range(3):
        server.revoke()
        assert session.get(server.url, timeout=30).status_code == 200
        stored = store.load("default")
        assert stored is not None
        assert stored.extra["dpop_jwk"] == key
    assert server.counts["refreshes"] == 3
    assert len(jkt(server)) == 1


def test_the_first_key_is_made_and_kept(server: DPoPServer, mount: Mount) -> None:
    """A login without a key gets one with its first refresh, and keeps it from then on."""
    store = MemoryStore()
    tokens = source_for(server, store, token={**server.login(), "expires_in": 0})
    session = mount(tokens, server.url, scheme=DPoP())
    for _ in range(3):
        assert session.get(server.url, timeout=30).status_code == 200
        server.revoke()
    assert len(jkt(server)) == 1
    stored = store.load("default")
    assert stored is not None
    assert stored.extra["dpop_jwk"]["kty"] == "EC"


def test_a_second_source_uses_the_key(server: DPoPServer, mount: Mount, place: str) -> None:
    """I1: two sources on one store have one key, and refresh the bound login once for both."""
    server.wants(ROTATING, ROTATING)
    with_login = source_for(server, place)
    sources = [with_login, source_for(server, place, token=None)]
    sessions = [mount(tokens, server.url, scheme=DPoP()) for tokens in sources]
    for session in sessions:
        assert session.get(server.url, timeout=30).status_code == 200
    for expiry in (1, 2):
        server.revoke()
        answers = crowd(lambda n: sessions[n % 2].get(server.url, timeout=30).status_code, 8)
        assert answers == [200] * 8
        assert server.counts["refreshes"] == expiry
    assert len(jkt(server)) == 1
    assert server.counts["reuses"] + server.counts["bindings"] == 0
    for tokens in sources:
        tokens.close()
        tokens._store.close()


def test_a_second_process_uses_the_key(server: DPoPServer, place: str) -> None:
    """I1: two processes on one store: the key of the login for both, one refresh for an expiry."""
    server.wants(FIXED, FIXED)
    store = open_store(place)
    store.save("default", Token.from_reply(server.login(new_key())))
    where = (server.url, server.token_url, place, 4)
    with (
        process(programs.fetching, *where) as (_, one),
        process(programs.fetching, *where) as (_, two),
    ):
        assert (answer(one), answer(two)) == ("ready", "ready")
        for expiry in range(3):
            if expiry:
                server.revoke()
            for child in (one, two):
                child.send("go")
            assert answer(one) + answer(two) == [200] * 8
            assert server.counts["refreshes"] == expiry
    assert len(jkt(server)) == 1
    assert server.counts["reuses"] + server.counts["bindings"] == 0
    store.close()


def test_a_fork(server: DPoPServer, tmp_path: Path) -> None:
    """I14: after a fork both sides prove with the login's key, and no `jti` comes twice."""
    server.wants(FIXED, ROTATING)
    place = f"file://{tmp_path / 'private' / 'tokens.json'}"
    store = open_store(place)
    store.save("default", Token.from_reply(server.login(new_key())))
    with process(programs.forking, server.url, server.token_url, place) as (_, child):
        assert answer(child) == ([200] * 4, [200] * 3)
    assert server.counts["replays"] == 0
    assert len(jkt(server)) == 1
    store.close()


def test_copies_and_pickles_have_no_key(server: DPoPServer, mount: Mount) -> None:
    """I9, I14: what is pickled or copied of a session has neither key nor token nor nonce."""
    key = new_key()
    tokens = source_for(server, token=server.login(key))
    scheme = DPoP()
    session = mount(tokens, server.url, scheme=scheme)
    server.wants(api=FIXED)
    assert session.get(server.url, timeout=30).status_code == 200
    adapter = session.get_adapter(server.url)
    for thing in (scheme, adapter, session, tokens):
        data = pickle.dumps(thing)
        for secret in (key["d"], "canary", *server.apis.given):
            assert secret.encode() not in data
    for again in (copy.copy(scheme), copy.deepcopy(scheme), pickle.loads(pickle.dumps(scheme))):  # noqa: S301 - made here
        assert vars(again)["_last"] == (None, "")
        assert key["d"] not in repr(vars(again))
    with copy.copy(session) as other, pickle.loads(pickle.dumps(session)) as third:  # noqa: S301 - made here
        for session in (other, third):
            assert session.get(server.url, timeout=30).status_code == 200


RUBBISH: dict[str, Any] = {
    "public": {name: value for name, value in new_key().items() if name != "d"},
    "half": {**new_key(), "d": "x"},
    "a secret": {"kty": "oct", "k": "AAAA"},
    "no kind": {"kty": "canary"},
}
OVERLOOKED: dict[str, Any] = {
    "a text": "x",
    "a list": ["x"],
    "a number": 7,
    "no": False,
    "empty": {},
}
UNFIT: dict[str, Any] = {"to encrypt": {**new_key(), "use": "enc"}}
CASES = [
    *RUBBISH.values(),
    *OVERLOOKED.values(),
    *UNFIT.values(),
]


@pytest.mark.parametrize("rubbish", CASES, ids=[*RUBBISH, *OVERLOOKED, *UNFIT])
def test_a_stored_key_that_is_none(server: DPoPServer, mount: Mount, rubbish: Any) -> None:
    """I7: a clear error, nothing is sent and nothing lost; with the key restored it goes on."""
    store, key = MemoryStore(), new_key()
    good = Token.from_reply(server.login(key))
    bad = Token.from_mapping({**good.to_mapping(), "extra": {"dpop_jwk": rubbish}})
    store.save("default", bad)
    tokens = source_for(server, store, token=None)
    session = mount(tokens, server.url, scheme=DPoP())
    with pytest.raises(ConfigurationError, match="key that cannot be used") as caught:
        session.get(server.url, timeout=30)
    assert "The login is kept" in str(caught.value)
    with pytest.raises(ConfigurationError, match="Nothing was sent and the login is kept"):
        tokens.renew(bad)
    assert server.seen == []
    stored = store.load("default")
    assert stored is not None
    assert stored.same_issue(bad)
    tokens.login(good)
    server.revoke()
    assert session.get(server.url, timeout=30).status_code == 200


def test_no_key_is_stored(server: DPoPServer, mount: Mount) -> None:
    """A bound token without its key is not sent; the error says what helps."""
    reply = server.login(new_key())
    del reply["dpop_jwk"]
    session = mount(source_for(server, token=reply), server.url, scheme=DPoP())
    with pytest.raises(ConfigurationError, match="not stored with the token"):
        session.get(server.url, timeout=30)
    assert server.seen == []


def test_a_provider_that_knows_no_dpop(
    server: DPoPServer, mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    """A Bearer token goes out as one, without a proof, and one warning says so."""
    server.bearer = True
    tokens = source_for(server, token={**server.login(), "expires_in": 0})
    session = mount(tokens, server.url, scheme=DPoP())
    with caplog.at_level(logging.WARNING, "requests_refresh"):
        for _ in range(3):
            assert session.get(server.url, timeout=30).status_code == 200
        server.revoke()
        assert session.get(server.url, timeout=30).status_code == 200
    for seen in server.seen:
        if seen.path == "/":
            assert seen.headers["Authorization"].startswith("Bearer ")
            assert "Dpop" not in seen.headers
    assert [record.getMessage()[:40] for record in caplog.records] == [
        "The provider issued a plain bearer token"
    ]


def test_a_bound_refresh_token_beside_a_bearer(server: DPoPServer, mount: Mount) -> None:
    """I7: the refresh token alone may be bound (RFC 9449 5), so its key is kept as well."""
    server.binds_alone = True
    store = MemoryStore()
    tokens = source_for(server, store, token={**server.login(), "expires_in": 0})
    session = mount(tokens, server.url, scheme=DPoP())
    for _ in range(3):
        assert session.get(server.url, timeout=30).status_code == 200
        server.revoke()
    assert server.counts["refreshes"] == 3
    assert server.counts["bindings"] == 0


def test_client_credentials(server: DPoPServer, mount: Mount) -> None:
    """A client's own tokens are bound to one key, that lives in the store as well."""
    server.wants(ONCE_UNANNOUNCED, FIXED)
    grant = ClientCredentialsGrant(
        server.token_url, client_id="secret", client_secret=SECRET, dpop=True, timeout=10
    )
    store = MemoryStore()
    for _ in range(2):  # the second source finds the first one's token
        session = mount(TokenSource(grant, store), server.url, scheme=DPoP())
        assert session.get(server.url, timeout=30).status_code == 200
        server.revoke()
        assert crowd(partial(status, session, server.url), 8) == [200] * 8
    assert server.counts["refreshes"] == 3
    assert len(jkt(server)) == 1


def test_a_relogin_brings_its_key(server: DPoPServer, mount: Mount, place: str) -> None:
    """A new login's own key is in use from then on, here, in the store and at its refreshes."""
    store: TokenStore = open_store(place)
    old, new = new_key(), new_key()
    tokens = source_for(server, store, token=server.login(old), relogin=lambda: server.login(new))
    session = mount(tokens, server.url, scheme=DPoP())
    assert session.get(server.url, timeout=30).status_code == 200
    before = jkt(server)
    server.revoke()
    server.issued.refresh.clear()
    assert session.get(server.url, timeout=30).status_code == 200
    assert len(jkt(server) - before) == 1
    server.revoke()
    assert session.get(server.url, timeout=30).status_code == 200
    assert len(jkt(server)) == 2
    stored = store.load("default")
    assert stored is not None
    assert stored.extra["dpop_jwk"] == new
    store.close()


def test_the_key_is_on_no_other_disk(server: DPoPServer, tmp_path: Path) -> None:
    """I9: a FileStore keeps the key as private as the tokens: for its owner alone."""
    path = tmp_path / "private" / "tokens.json"
    tokens = source_for(server, FileStore(path))
    assert RefreshAdapter(tokens, origins=server.url, scheme=DPoP()).tokens.token()
    assert path.stat().st_mode & 0o077 == 0
    assert grant_for(server).timeout == (10, 10)
    tokens.close()
