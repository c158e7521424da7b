"""I9: secrets are in no log, repr, pickle or response that the caller gets."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from urllib3.util import Retry

from requests_refresh import HeaderScheme, RefreshAdapter, Token, TokenSource
from requests_refresh.testing import AuthServer, Fault

from .conftest import Mount
from .leaks import ACCESS, CANARY, REFRESH, SECRET, assert_silent, in_response
from .support import Issuer
from .wire import OK, RESET, Request, Wire, answering, reply


@pytest.fixture
def secret_server() -> Iterator[AuthServer]:
    """Its client has a secret with a canary in it."""
    with AuthServer(client_id="app", client_secret=SECRET) as server:
        yield server


def logged_in(server: AuthServer) -> tuple[TokenSource, list[str]]:
    """A source with a dead access token, and all the secrets that it comes to know."""
    login = server.login()
    tokens = server.source(token={**login, "access_token": ACCESS})
    return tokens, [ACCESS, SECRET, login["refresh_token"], CANARY]


def test_logs_at_debug_show_no_secret(
    secret_server: AuthServer, mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    """I9: every logger there is, at DEBUG: refresh, resend, failure and logout show no secret."""
    caplog.set_level(logging.DEBUG)
    tokens, secrets = logged_in(secret_server)
    session = mount(tokens, secret_server.api)
    assert session.get(secret_server.api, timeout=10).status_code == 200
    token = tokens.token()
    secrets += [str(token.access_token), str(token.refresh_token)]
    secret_server.revoke_access()
    secret_server.faults("token", Fault(status=400, body={"error": "invalid_scope"}))
    with pytest.raises(requests.RequestException):
        session.get(secret_server.api, auth=("u", CANARY), timeout=10)
    tokens.login({"access_token": "dead", "refresh_token": str(token.refresh_token)})
    session.get(secret_server.api + "always-401", timeout=10)
    token = tokens.token()
    secrets += [str(token.access_token), str(token.refresh_token)]
    secret_server.revoke_login()
    with pytest.raises(requests.RequestException):
        session.get(secret_server.api, timeout=10)
    lines = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    assert len(lines) > 10
    names = {record.name.partition(".")[0] for record in caplog.records}
    assert names >= {"requests_refresh", "urllib3"}
    for secret in secrets:
        assert not any(secret in line for line in lines)


def test_reprs_show_no_secret(secret_server: AuthServer, mount: Mount) -> None:
    """I9: repr, str and format of everything a user holds, before and after a refresh."""
    tokens, _ = logged_in(secret_server)
    session = mount(tokens, secret_server.api)
    adapter = session.get_adapter(secret_server.api)
    things: list[Any] = [tokens, session, adapter, tokens.stats, secret_server.grant()]
    things += [tokens._gate, tokens._store, adapter.__dict__, Token(ACCESS, refresh_token=REFRESH)]
    for _ in range(2):
        for thing in things:
            assert_silent(repr(thing), str(thing), f"{thing}")
        session.get(secret_server.api, timeout=10)


def secrets_of(tokens: TokenSource) -> list[bytes]:
    token = tokens.token()
    found = [token.access_token, token.refresh_token, SECRET, CANARY]
    return [secret.encode() for secret in found if secret]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_hold_no_secret(protocol: int, secret_server: AuthServer, mount: Mount) -> None:
    """I9, I14: session, adapter, source and response go through pickle without a secret."""
    tokens, _ = logged_in(secret_server)
    session = mount(tokens, secret_server.api, replay_limit=7, pool_maxsize=3)
    response = session.get(secret_server.api, timeout=10)
    secrets = secrets_of(tokens)
    things: list[Any] = [session, session.get_adapter(secret_server.api), tokens, response]
    for thing in things:
        data = pickle.dumps(thing, protocol)
        assert not any(secret in data for secret in secrets)
    again = pickle.loads(pickle.dumps(session, protocol))  # noqa: S301  # ours
    adapter = again.get_adapter(secret_server.api)
    assert isinstance(adapter, RefreshAdapter)
    assert adapter.tokens is tokens  # in the same process
    assert (adapter._replay_limit, adapter._pool_maxsize) == (7, 3)
    secret_server.revoke_access()
    assert again.get(secret_server.api, timeout=10).status_code == 200
    again.close()


def test_copies_are_mounted_on_the_same_source(server: AuthServer, mount: Mount) -> None:
    """I14: copy and deepcopy of an adapter send with the same source, over pools of their own."""
    tokens = server.source()
    session = mount(tokens, server.api)
    for made in (copy.copy, copy.deepcopy):
        adapter: Any = made(session.get_adapter(server.api))
        other = requests.Session()
        other.mount(server.api, adapter)
        assert other.get(server.api, timeout=10).status_code == 200
        assert adapter.tokens is tokens
        other.close()
    assert session.get(server.api, timeout=10).status_code == 200


@pytest.mark.parametrize(
    "scheme", [None, HeaderScheme("X-Auth-Token")], ids=["Bearer", "X-Auth-Token"]
)
def test_responses_show_no_secret(scheme: HeaderScheme | None, mount: Mount) -> None:
    """I9: response.request and history, after redirects and resends, and their pickles."""
    dead: list[bool] = []

    def answer(request: Request) -> bytes:
        if request.target != "/end":
            return reply(302, b"", "Location: /end")
        dead.append(True)
        return reply(401) if len(dead) == 1 else OK

    tokens = TokenSource(lambda old: f"{CANARY}-issued", token=ACCESS)
    with Wire(answering(answer)) as wire:
        session = mount(tokens, wire.url, scheme=scheme)
        response = session.get(wire.url, timeout=10)
        assert response.status_code == 200
        assert len(response.history) == 1
        assert CANARY in str(wire.requests)
        assert_silent(*in_response(response))
        assert pickle.loads(pickle.dumps(response)).content == b"fine"  # noqa: S301  # ours


@pytest.mark.parametrize("first", [RESET, b"this is no HTTP\r\n"], ids=["reset", "garbage"])
def test_retries_that_urllib3_made_show_no_secret(first: bytes, mount: Mount) -> None:
    """I9: with max_retries, a response leads to the failures before it, and these to frames."""
    answers = iter([first])
    with Wire(answering(lambda request: next(answers, OK))) as wire:
        tokens = TokenSource(Issuer(), token=ACCESS)
        session = mount(tokens, wire.url, max_retries=Retry(3))
        response = session.get(wire.url, timeout=10)
        assert len(response.raw.retries.history) == 1
        assert_silent(*in_response(response))


def test_a_401_that_is_handed_on_shows_no_secret(server: AuthServer, mount: Mount) -> None:
    """I9: the 401 that a caller gets, and the one on an error, have his request on them."""
    tokens = server.source()
    session = mount(tokens, server.api)
    response = session.get(server.api + "always-401", timeout=10)
    token = str(tokens.token().access_token)
    assert response.status_code == 401
    assert not any(token in text for text in in_response(response))
    session.post(server.api + "always-401", data=iter([b"x"]), timeout=10)
    assert not any(token in text for text in in_response(response))
