"""CacheControl beside us: as `inner`, and around."""

from __future__ import annotations

from contextlib import closing
from email.utils import formatdate

import pytest
import requests
from cachecontrol import CacheControl, CacheControlAdapter
from cachecontrol.cache import DictCache

from requests_refresh import RefreshAdapter, TokenSource
from requests_refresh.testing import AuthServer, Fault

NOW = {"Date": formatdate(usegmt=True)}  # without it nothing is kept
FRESH = {"Cache-Control": "max-age=600", **NOW}
KEPT = {"Cache-Control": "max-age=600, private", "Vary": "Authorization", **NOW}


def test_inside(server: AuthServer, tokens: TokenSource) -> None:
    """I2: as `inner` it answers from its cache, and the 401 of an expiry is mended behind it."""
    with requests.Session() as session, closing(CacheControlAdapter(cache=DictCache())) as cache:
        session.trust_env = False
        session.mount(server.url, RefreshAdapter(tokens, origins=server.url, inner=cache))
        server.faults("/api/kept", Fault(status=200, headers=FRESH), times=2)
        assert session.get(server.api + "kept").status_code == 200
        before = server.counts.api_requests
        assert session.get(server.api + "kept").status_code == 200
        assert server.counts.api_requests == before  # from the cache
        server.revoke_access()
        assert session.get(server.api + "other").status_code == 200
        assert server.counts.refreshes == 1


def test_a_refusal_is_not_kept(server: AuthServer, tokens: TokenSource) -> None:
    """I1: a 401 that says that it may be kept is not answered from the cache to a new token."""
    server.refusal = Fault(status=401, headers={"WWW-Authenticate": "Bearer", **FRESH})
    with requests.Session() as session, closing(CacheControlAdapter(cache=DictCache())) as cache:
        session.trust_env = False
        session.mount(server.url, RefreshAdapter(tokens, origins=server.url, inner=cache))
        server.revoke_access()
        assert session.get(server.api + "items").status_code == 200
        assert server.counts.refreshes == 1


@pytest.mark.parametrize("headers", [KEPT, {**KEPT, "Vary": "accept, authorization"}])
def test_a_cache_that_two_share(server: AuthServer, headers: dict[str, str]) -> None:
    """I9: what varies with the token is not handed from one identity to another."""
    shared = DictCache()
    for who in ("ann", "ben"):
        source = server.source(who)
        with requests.Session() as session, closing(CacheControlAdapter(cache=shared)) as cache:
            session.trust_env = False
            session.mount(server.url, RefreshAdapter(source, origins=server.url, inner=cache))
            server.faults(
                "/api/me", Fault(status=200, headers=headers, body={"identity": who}), times=1
            )
            seen = [session.get(server.api + "me").json()["identity"] for _ in "12"]
            assert seen == [who, who]  # the second from the cache
        source.close()


def test_around(server: AuthServer, session: requests.Session) -> None:
    """`CacheControl(session)` mounts itself on https:// and http://, and the longer mount wins."""
    cached = CacheControl(session, cache=DictCache())
    assert cached is session
    assert isinstance(session.get_adapter(server.api), RefreshAdapter)
    server.revoke_access()
    assert cached.get(server.api + "items").status_code == 200
    assert server.counts.refreshes == 1
