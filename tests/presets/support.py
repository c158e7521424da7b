"""A login that is due, and what is left of it after a provider's answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from requests_refresh import MemoryStore, Token, TokenSource
from requests_refresh.presets import Preset
from tests.grants.endpoint import EndpointServer

SECRET = "hush-client-secret"
DEAD = Token("old-access", refresh_token="old-refresh", expires_at=1.0, scope="read")


def grant_for(preset: Preset, server: EndpointServer) -> Any:
    """The preset's grant, set up as a user would, but for the address of the endpoint."""
    if preset.speaks == "json":
        return preset.grant(token_url=server.url)
    return preset.grant(client_id="sync", client_secret=SECRET, token_url=server.url)


@contextmanager
def login(grant: Any, token: Token = DEAD) -> Iterator[tuple[TokenSource, MemoryStore]]:
    """A source whose stored token is `token`, and its store."""
    store = MemoryStore()
    store.save("default", token)
    tokens = TokenSource(grant, store, background=False)
    try:
        yield tokens, store
    finally:
        tokens.close()
