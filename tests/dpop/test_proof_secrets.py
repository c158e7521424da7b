"""I9: no private key, proof or bound token is in a log, repr, error, frame or response."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from requests_refresh import ConfigurationError, DPoP, RefreshError, Token, TokenSource
from tests.adapter.conftest import Mount
from tests.adapter.leaks import chain, frames, in_error, in_response
from tests.adapter.wire import RESET, Connection, Wire, answering, reply
from tests.dpop.conftest import grant_for, new_key, source_for
from tests.dpop.server import FIXED, NEVER, ONCE_UNANNOUNCED, DPoPServer
from tests.grants.endpoint import Answer, Handler, running

KEY = new_key()
SECRETS = [KEY["d"], "canary", "eyJ0eXA"]  # the key, every token, and how a proof begins


def assert_silent(*texts: object) -> None:
    for text in texts:
        assert not [secret for secret in SECRETS if secret in str(text)]


@pytest.fixture(autouse=True)
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """All libraries log all that they have, and none of it is secret."""
    caplog.set_level(logging.DEBUG)
    yield
    assert_silent(*(f"{record.getMessage()} {vars(record)}" for record in caplog.records))


def test_what_a_proof_begins_with(server: DPoPServer, mount: Mount) -> None:
    """The marks that these tests look for are in what goes over the wire."""
    session = mount(source_for(server, token=server.login(KEY)), server.url, scheme=DPoP())
    assert session.get(server.url, timeout=30).status_code == 200
    (seen,) = server.seen
    assert seen.headers["Dpop"].startswith("eyJ0eXA")
    assert "canary" in seen.headers["Authorization"]


def test_when_all_goes_well(
    server: DPoPServer, mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    """I9: with nonces, a refresh and a redirect: logs, reprs, responses and their pickles."""
    server.wants(FIXED, ONCE_UNANNOUNCED)
    tokens, scheme = source_for(server, token=server.login(KEY)), DPoP()
    session = mount(tokens, server.url, scheme=scheme)
    server.revoke()
    answers = [
        session.get(server.url, timeout=30),
        session.post(server.url + "redirect", params={"to": server.url}, timeout=30),
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert_silent(*in_response(answer))
    adapter = session.get_adapter(server.url)
    things = [session, adapter, scheme, tokens, tokens.token(), tokens.stats, grant_for(server)]
    for thing in things:
        assert_silent(repr(thing), str(thing), f"{thing}")
    assert_silent(repr(vars(adapter)), repr(vars(tokens)))
    assert {record.name.partition(".")[0] for record in caplog.records} >= {
        "requests_refresh",
        "urllib3",
    }


def test_when_no_nonce_is_good(server: DPoPServer, mount: Mount) -> None:
    """I9: the 401 that is handed on shows the caller's own request."""
    server.wants(NEVER, NEVER)
    session = mount(source_for(server, token=server.login(KEY)), server.url, scheme=DPoP())
    answer = session.get(server.url, timeout=30)
    assert answer.status_code == 401
    assert_silent(*in_response(answer))


def bound(tokens: str = "canary-access", **more: Any) -> Token:
    extra = {"dpop_jwk": {**KEY, **more}}
    return Token(tokens, refresh_token="canary-refresh", token_type="DPoP", extra=extra)


def grumble(connection: Connection) -> None:
    connection.request()
    connection.send(RESET)


def test_when_the_network_fails(mount: Mount) -> None:
    """I9: what the network raises has the caller's request on it, and frames without locals."""
    challenge = reply(401, b"", 'WWW-Authenticate: DPoP error="use_dpop_nonce"', "DPoP-Nonce: n")
    turns = iter([grumble, answering(lambda request: challenge if first(request) else RESET)])
    seen: list[object] = []

    def first(request: object) -> bool:
        seen.append(request)
        return len(seen) == 1

    with Wire(lambda connection: next(turns, grumble)(connection)) as wire:
        tokens = TokenSource(lambda old: bound("canary-new"), token=bound())
        session = mount(tokens, wire.url, scheme=DPoP())
        for _ in range(2):
            with pytest.raises(requests.ConnectionError) as caught:
                session.get(wire.url, timeout=10)
            assert_silent(*in_error(caught.value))
    assert len(seen) == 2


@pytest.mark.parametrize(
    "more",
    [
        {"d": "canary"},
        {"kty": "canary"},
        {"use": "enc"},
    ],
    ids=["broken", "unknown", "to encrypt"],
)
def test_when_the_key_is_rubbish(server: DPoPServer, mount: Mount, more: dict[str, Any]) -> None:
    """I9: the errors about a stored key quote nothing of it, at the API and at the provider."""
    tokens = source_for(server, token=bound(**more))
    session = mount(tokens, server.url, scheme=DPoP())
    with pytest.raises(ConfigurationError) as caught:
        session.get(server.url, timeout=30)
    assert_silent(*in_error(caught.value))
    with pytest.raises(ConfigurationError) as caught:
        tokens.renew(tokens.token())
    assert_silent(*in_error(caught.value))


def test_when_the_provider_repeats_what_it_got(mount: Mount) -> None:
    """I9: a proof or token that a provider quotes in its error is not in ours."""

    def repeat(handler: Handler) -> None:
        got = handler.server.seen[-1]
        said = f"no {got.headers['Dpop']} and {got.form['refresh_token']}"
        Answer(400, {"error": "invalid_dpop_proof", "error_description": said})(handler)

    with running() as endpoint:
        endpoint.will(repeat)
        grant = grant_for(endpoint.url)
        with pytest.raises(RefreshError) as caught:
            grant(bound())
    assert "invalid_dpop_proof" in str(caught.value)
    assert "this host's clock" in str(caught.value)
    assert_silent(*in_error(caught.value))


def test_a_token_beyond_latin(server: DPoPServer, mount: Mount) -> None:
    """I9: a token that no header should have is sent as UTF-8, and is in no error."""
    reply_ = server.login(KEY)
    token = "canary-\N{SNOWMAN}"
    session = mount(
        source_for(server, token={**reply_, "access_token": token}), server.url, scheme=DPoP()
    )
    answer = session.get(server.url, timeout=30)
    server.faults.clear()  # it read the header as Latin-1
    assert answer.status_code == 401


def test_the_frames_of_an_attachment() -> None:
    """I9: who calls `attach` himself gets an error whose frames hold no key."""
    request = requests.Request("GET", "https://api.example.com/").prepare()
    with pytest.raises(ConfigurationError) as caught:
        DPoP().attach(request, bound(kty="canary"))
    below = list(frames(caught.value.__traceback__))[1:]
    assert below
    assert_silent(*(repr(value) for frame in below for value in frame.f_locals.values()))
    assert [type(one) for one in chain(caught.value)] == [ConfigurationError]
