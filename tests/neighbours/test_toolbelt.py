"""requests-toolbelt beside us: multipart streams, and a session with a base URL."""

from __future__ import annotations

import hashlib
import io
import os

import pytest
import requests
from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor
from requests_toolbelt.sessions import BaseUrlSession

from requests_refresh import RefreshAdapter, TokenSource
from requests_refresh.testing import AuthServer

DATA = os.urandom(300_000)


def encoder() -> MultipartEncoder:
    return MultipartEncoder({"name": "x", "file": ("f", io.BytesIO(DATA), "text/plain")})


@pytest.mark.parametrize("monitored", [False, True])
def test_a_stream_is_sent_to_the_byte_or_not_at_all(
    server: AuthServer, session: requests.Session, monitored: bool
) -> None:
    """I11: a stream that cannot be rewound is not sent again; its caller gets the 401."""
    made = encoder()
    body = MultipartEncoderMonitor(made) if monitored else made
    server.revoke_access()
    answer = session.post(server.api, data=body, headers={"Content-Type": made.content_type})
    assert answer.status_code == 401
    fresh = encoder()
    whole = fresh.to_string()
    again = MultipartEncoder(fields=fresh.fields, boundary=fresh.boundary_value)
    headers = {"Content-Type": again.content_type}
    again.fields["file"][1].seek(0)
    seen = session.post(server.api, data=again, headers=headers).json()
    assert seen["length"] == len(whole)
    assert server.counts.refreshes == 1


def test_a_stream_that_is_kept_aside(server: AuthServer, tokens: TokenSource) -> None:
    """I11: with `replay_limit` what the API refused once arrives whole the second time."""
    made = encoder()
    size = made.len
    with requests.Session() as session:
        session.trust_env = False
        adapter = RefreshAdapter(tokens, origins=server.url, replay_limit=1_000_000)
        session.mount(server.url, adapter)
        server.revoke_access()
        answer = session.post(server.api, data=made, headers={"Content-Type": made.content_type})
        assert answer.status_code == 200
        assert answer.json()["length"] == size
        assert server.counts.refreshes == 1


def test_a_session_with_a_base_url(server: AuthServer, tokens: TokenSource) -> None:
    """I1: mounted like any other session; paths are joined before the adapter is asked for."""
    with BaseUrlSession(base_url=server.api) as session:
        session.trust_env = False
        session.mount(server.api, RefreshAdapter(tokens, origins=server.api))
        server.revoke_access()
        assert session.get("items").json()["path"] == "/api/items"
        assert session.post("items", data=DATA).json()["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert server.counts.refreshes == 1
