"""32 threads through several expiries, against providers that others wrote."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from requests_refresh import (
    Bearer,
    FileStore,
    JSONGrant,
    LoginRequired,
    MemoryStore,
    RefreshAdapter,
    RefreshTokenGrant,
    Token,
    TokenSource,
)

from .conftest import Provider

THREADS = 32
DEADLINE = 120  # seconds; only a fault comes near it


class Expiries:
    """Counts renewals, for `on_refresh`, and says when there were enough."""

    def __init__(self, wanted: int) -> None:
        self.enough = threading.Event()
        self._lock = threading.Lock()
        self._wanted = wanted  # guarded by _lock

    def __call__(self, source: TokenSource, token: Token) -> None:
        with self._lock:
            self._wanted -= 1
            if self._wanted == 0:
                self.enough.set()


@pytest.fixture(params=[1, pytest.param(4, marks=pytest.mark.long)])
def expiries(request: pytest.FixtureRequest) -> Expiries:
    """So many of them."""
    return Expiries(request.param)


def oauth_grant(provider: Provider) -> RefreshTokenGrant:
    return RefreshTokenGrant(
        provider.refresh_url, client_id=provider.client_id, client_secret=provider.client_secret
    )


def storm(
    provider: Provider,
    source: TokenSource,
    expiries: Expiries,
    *,
    path: str = "items",
    bodies: bool = True,
    scheme: Bearer | None = None,
) -> dict[str, int]:
    """Works until there were enough expiries; no request may fail. Returns the counters."""
    session = requests.Session()
    session.trust_env = False
    adapter = RefreshAdapter(
        source, origins=provider.api, scheme=scheme or Bearer(), pool_maxsize=THREADS
    )
    session.mount(provider.api, adapter)
    url = provider.api + path

    def one_request(number: int) -> Any:
        if bodies and number % 2:
            return session.post(url, json={"number": number}, timeout=DEADLINE)
        return session.get(url, timeout=DEADLINE)

    def problem(number: int) -> str | None:
        try:
            response = one_request(number)
        except requests.RequestException as error:
            return repr(error)
        if response.status_code != 200:
            return f"{response.status_code}: {response.text}"
        if bodies and number % 2 and response.json()["sent"] != {"number": number}:
            return f"{number} was sent, this arrived: {response.text}"
        return None

    def work(number: int) -> str | None:
        last = False
        while not last:
            # Once more after the last renewal, so that its token is used as well.
            last = expiries.enough.is_set()
            number += 1
            found = problem(number)
            if found:
                expiries.enough.set()  # nobody need go on
                return found
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        workers = [pool.submit(work, number) for number in range(THREADS)]
        in_time = expiries.enough.wait(DEADLINE)
        expiries.enough.set()
        failures = [worker.result() for worker in workers if worker.result()]
    source.close()
    session.close()
    counters = provider.counters()
    assert failures == []
    assert in_time, f"too few expiries in {DEADLINE} s: {counters}, {source.stats}"
    assert counters["refused_refreshes"] == counters["other_refreshes"] == 0
    assert counters["refreshed"] == source.stats.refreshes
    return counters


def test_oauth_renewed_ahead(oauth: Provider, expiries: Expiries) -> None:
    """I1: django-oauth-toolkit, whose replies tell the lifetime, sees one refresh per token."""
    source = TokenSource(
        oauth_grant(oauth), MemoryStore(), token=oauth.login(), on_refresh=expiries
    )
    counters = storm(oauth, source, expiries)
    # A renewal that ran at the very end may have come too late for any request.
    assert counters["tokens_seen"] in (counters["refreshed"], counters["refreshed"] + 1)


def test_oauth_renewed_on_401(oauth: Provider, expiries: Expiries) -> None:
    """I1: where nobody tells the lifetime, each token that dies is refreshed once."""
    grant = oauth_grant(oauth)

    def without_expiry(token: Token | None) -> Token:
        return dataclasses.replace(grant(token), expires_at=None)

    login = oauth.login()
    first = Token(login["access_token"], refresh_token=login["refresh_token"])
    source = TokenSource(without_expiry, MemoryStore(), token=first, on_refresh=expiries)
    counters = storm(oauth, source, expiries)
    assert counters["refreshed"] == counters["tokens_expired"]
    assert counters["refused"] >= counters["tokens_expired"]


def test_oauth_protected_resource_says_403(oauth: Provider) -> None:
    """I1: an API that says 403 without a challenge is served by a predicate of one's own."""
    login = oauth.login()
    grant = oauth_grant(oauth)

    def without_expiry(token: Token | None) -> Token:
        return dataclasses.replace(grant(token), expires_at=None)

    first = Token(login["access_token"], refresh_token=login["refresh_token"])
    expiries = Expiries(1)
    source = TokenSource(without_expiry, MemoryStore(), token=first, on_refresh=expiries)
    scheme = Bearer(refused=lambda response: response.status_code == 403)
    counters = storm(oauth, source, expiries, path="bare", bodies=False, scheme=scheme)
    assert counters["refreshed"] == counters["tokens_expired"]


def test_jwt(jwt: Provider, tmp_path_factory: pytest.TempPathFactory, expiries: Expiries) -> None:
    """I1: SimpleJWT, over a file store, sees one refresh for each token that dies."""
    login = jwt.login()
    first = Token(login["access"], refresh_token=login["refresh"])
    store = FileStore(tmp_path_factory.mktemp("private", numbered=True) / "tokens.json")
    source = TokenSource(JSONGrant(jwt.refresh_url), store, token=first, on_refresh=expiries)
    counters = storm(jwt, source, expiries)
    assert counters["refreshed"] == counters["tokens_expired"]
    stored = store.load("default")
    assert stored is not None
    assert jwt.refresh(stored.refresh_token or "").status_code == 200


@pytest.mark.parametrize("kind", ["oauth", "jwt"])
def test_a_used_refresh_token_means_log_in(kind: str, request: pytest.FixtureRequest) -> None:
    """I3: a login that the provider has ended is one clear error in each of the threads."""
    provider: Provider = request.getfixturevalue(kind)
    login = provider.login()
    used = login.get("refresh_token") or login["refresh"]
    assert provider.refresh(used).status_code == 200
    grant = oauth_grant(provider) if kind == "oauth" else JSONGrant(provider.refresh_url)
    logouts = []
    source = TokenSource(
        grant,
        MemoryStore(),
        token=Token(refresh_token=used),
        on_logout=lambda _, error: logouts.append(error),
    )
    session = requests.Session()
    session.trust_env = False
    session.mount(provider.api, RefreshAdapter(source, origins=provider.api))
    together = threading.Barrier(8)

    def work(_: int) -> LoginRequired:
        together.wait(DEADLINE)
        with pytest.raises(LoginRequired) as caught:
            session.get(provider.api + "items", timeout=DEADLINE)
        return caught.value

    with ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(work, range(8)))
    source.close()
    session.close()
    assert len({id(error) for error in errors}) == 8
    if kind == "oauth":
        assert {error.error for error in errors} == {"invalid_grant"}
    assert (len(logouts), provider.counters()["refused_refreshes"]) == (1, 1)
    assert provider.counters()["served"] == 0
