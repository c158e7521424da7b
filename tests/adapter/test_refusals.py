"""Which responses are refusals that a new token can mend: by status, challenge and predicate."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from requests_refresh import (
    Bearer,
    ConfigurationError,
    HeaderScheme,
    RefreshAdapter,
    TokenSource,
)
from requests_refresh.schemes import needs_new_token, parse_challenges
from requests_refresh.testing import AuthServer

from .conftest import Mount
from .support import Issuer
from .wire import OK, Request, Wire, answering, reply

RENEWS = {
    "no challenge": [],
    "invalid_token": ['Bearer error="invalid_token"'],
    "a description": ['Bearer realm="a, b", error="invalid_token", error_description="It, died"'],
    "unquoted": ["Bearer error=invalid_token"],
    "spaces": ['Bearer  error = "invalid_token"'],
    "small letters": ['bearer ERROR="INVALID_TOKEN"'],
    "no error": ['Bearer realm="api"'],
    "bare": ["Bearer"],
    "unknown error": ['Bearer error="expired"'],
    "foreign": ['Basic realm="api"'],
    "foreign, with an error": ['Basic realm="api", error="insufficient_scope"'],
    "Negotiate": ["Negotiate abc=="],
    "several in one": ['Basic realm="x", Bearer realm="y", error="invalid_token"'],
    "several": ['Basic realm="x"', 'Bearer error="invalid_token"'],
    "both": ['Bearer error="insufficient_scope"', 'Bearer error="invalid_token"'],
    "in a text": ['Bearer realm="error=\\"insufficient_scope\\""'],
    "in a foreign text": ['Basic realm="Bearer error=insufficient_scope"'],
    "DPoP": ['DPoP error="invalid_token"'],
    "garbage": ['=,;"\\ \x80\xff,,Bearer error'],
    "empty": [""],
    "unterminated": ['Bearer error="insufficient_sc'],
    "beyond the limit": ["x" * 5000 + ' Bearer error="insufficient_scope"'],
}
FINAL = {
    "insufficient_scope": ['Bearer error="insufficient_scope", scope="more"'],
    "invalid_request": ['Bearer error="invalid_request"'],
    "step up": ['Bearer error="insufficient_user_authentication", acr_values="high"'],
    "behind a foreign one": ['Basic realm="x"', 'Bearer error="insufficient_scope"'],
    "in one line": ['Basic realm="Bearer", Bearer realm="r", error="invalid_request"'],
    "DPoP": ['DPoP algs="ES256", error="insufficient_scope"'],
    "escaped": ['Bearer error="insufficient\\_scope"'],
    "first counts": ['Bearer error="invalid_request", error="invalid_token"'],
    "unterminated": ['Bearer error="invalid_request'],
}


def refusing(challenges: list[str], status: int) -> Wire:
    headers = [f"WWW-Authenticate: {challenge}" for challenge in challenges]
    body = "\r\n".join([f"HTTP/1.1 {status} No", *headers, "Content-Length: 2", "", "no"])
    refused = body.encode("latin-1")
    return Wire(answering(lambda request: OK if request.token == "new-1" else refused))


@pytest.mark.parametrize("challenges", RENEWS.values(), ids=RENEWS.keys())
def test_challenges_that_a_new_token_mends(challenges: list[str], mount: Mount) -> None:
    """A 401 with invalid_token, no Bearer error, a foreign challenge or none: renew."""
    issuer = Issuer()
    with refusing(challenges, 401) as wire:
        session = mount(TokenSource(issuer, token="old"), wire.url)
        assert session.get(wire.url, timeout=10).status_code == 200
    assert issuer.calls == 1


@pytest.mark.parametrize("challenges", FINAL.values(), ids=FINAL.keys())
def test_challenges_that_it_does_not_mend(challenges: list[str], mount: Mount) -> None:
    """RFC 6750 3.1, RFC 9470: the response goes to the caller, and nothing is refreshed."""
    issuer = Issuer()
    with refusing(challenges, 401) as wire:
        session = mount(TokenSource(issuer, token="old"), wire.url)
        assert session.get(wire.url, timeout=10).content == b"no"
    assert issuer.calls == 0


@pytest.mark.parametrize("status", [200, 301, 400, 403, 407, 418, 419, 429, 500, 503])
def test_other_statuses_are_the_callers(status: int, mount: Mount) -> None:
    """Only a 401 is a refusal, whatever another response says."""
    issuer = Issuer()
    with refusing(['Bearer error="invalid_token"'], status) as wire:
        session = mount(TokenSource(issuer, token="old"), wire.url)
        assert session.get(wire.url, timeout=10).status_code == status
    assert issuer.calls == 0


def test_a_403_for_want_of_scope_is_the_callers(server: AuthServer, mount: Mount) -> None:
    """insufficient_scope, as RFC 6750 says it: 403, and no new token is asked for."""
    session = mount(server.source(), server.api)
    assert session.get(server.api + "forbidden", timeout=10).status_code == 403
    assert server.counts.refresh_calls == 0


def test_headers_joined_by_a_tool_are_read_too() -> None:
    """Without urllib3's headers, as test tools make responses, the joined value is read."""
    response = requests.Response()
    response.status_code = 401
    assert needs_new_token(response)
    response.headers["WWW-Authenticate"] = 'Basic realm="x", Bearer error="insufficient_scope"'
    assert not needs_new_token(response)


# ------------------------------------------------------------------ schemes


@pytest.mark.parametrize(
    ("scheme", "header", "before"),
    [
        (Bearer(), "Authorization", "Bearer "),
        (HeaderScheme("X-Auth-Token"), "X-Auth-Token", ""),
        (HeaderScheme("Authorization", prefix="Token"), "Authorization", "Token "),
    ],
    ids=repr,
)
@pytest.mark.parametrize("token", ["plain", "a b+/=~.", "tökén ☃"])
def test_how_a_token_is_put_on_a_request(
    scheme: HeaderScheme, header: str, before: str, token: str, mount: Mount
) -> None:
    """Each scheme sets one header, for each of the sends; beyond ASCII it is UTF-8."""
    old = iter([reply(401)])
    with Wire(answering(lambda request: next(old, OK))) as wire:
        tokens = TokenSource(lambda stale: f"{token}2", token=token)
        session = mount(tokens, wire.url, scheme=scheme)
        assert session.get(wire.url, timeout=10).status_code == 200
        sent = [r.headers[header].encode("latin-1").decode() for r in wire.requests]
    assert sent == [before + token, before + token + "2"]
    assert "token" not in repr(scheme).replace("X-Auth-Token", "").lower().replace(" token ...", "")


def test_the_servers_other_headers(mount: Mount) -> None:
    """An API that looks elsewhere for its token works from login to expiry."""
    with AuthServer(header="X-Auth-Token", prefix="") as server:
        session = mount(server.source(), server.api, scheme=HeaderScheme("X-Auth-Token"))
        server.revoke_access()
        assert session.get(server.api, timeout=10).status_code == 200
        assert server.counts.refreshes == 1


def test_a_scheme_of_ones_own(mount: Mount) -> None:
    """Any object with attach and refused is a scheme; it is given a copy of the request."""

    class InTheQuery:
        def attach(self, request: requests.PreparedRequest, token: Any) -> None:
            request.url = f"{request.url}?key={token.access_token}"

        def refused(self, response: requests.Response) -> bool:
            return response.status_code == 400

    def answer(request: Request) -> bytes:
        return OK if request.target == "/?key=new-1" else reply(400)

    with Wire(answering(answer)) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url, scheme=InTheQuery())
        response = session.get(wire.url, timeout=10)
        assert response.status_code == 200
        assert response.request.url == wire.url


@pytest.mark.parametrize("name", ["", "a b", "a:", "ä", "a\r\nb", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """A header's name or prefix that cannot be sent is a ConfigurationError."""
    with pytest.raises(ConfigurationError):
        HeaderScheme(name)
    with pytest.raises(ConfigurationError):
        HeaderScheme("X", prefix=name)


def test_settings_that_are_none() -> None:
    """What is no predicate, no scheme or a scheme's class is a ConfigurationError at once."""
    tokens = TokenSource(Issuer(), token="old")
    with pytest.raises(ConfigurationError):
        Bearer(refused=403)  # type: ignore[arg-type]  # that is the test
    for scheme in ("Bearer", Bearer, object()):
        with pytest.raises(ConfigurationError):
            RefreshAdapter(tokens, origins="https://a.test", scheme=scheme)  # type: ignore[arg-type]  # the test


# --------------------------------------------------------------- predicates


@pytest.mark.parametrize("status", [403, 419])
@pytest.mark.parametrize("stream", [False, True])
def test_a_predicate_by_status(status: int, stream: bool, mount: Mount) -> None:
    """refused= takes the place of the rules: its status renews, and a 401 does not."""
    issuer = Issuer()
    scheme = Bearer(refused=lambda response: response.status_code == status)
    with refusing([], status) as wire, refusing([], 401) as other:
        session = mount(TokenSource(issuer, token="old"), wire.url, other.url, scheme=scheme)
        assert session.get(other.url, timeout=10).status_code == 401
        assert issuer.calls == 0
        with session.get(wire.url, timeout=10, stream=stream) as response:
            assert response.status_code == 200
            assert response.content == b"fine"
    assert issuer.calls == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_predicate_that_reads_the_body(stream: bool, mount: Mount) -> None:
    """An API that says it in the body: what the predicate has read stays readable."""
    dead = reply(200, b'{"ok": false, "error": "token_expired"}')
    fine = reply(200, b'{"ok": true}')

    def refused(response: requests.Response) -> bool:
        return bool(response.json().get("error") == "token_expired")

    answer = answering(lambda request: fine if request.token == "new-1" else dead)
    with Wire(answer) as wire:
        session = mount(
            TokenSource(Issuer(), token="old"),
            wire.url,
            scheme=Bearer(refused=refused),
            pool_block=True,
            pool_maxsize=1,
        )
        with session.get(wire.url, timeout=10, stream=stream) as response:
            assert response.json() == {"ok": True}
            assert b"".join(response.iter_content(2)) == b'{"ok": true}'
        assert wire.connections == 1


def test_a_body_read_by_a_predicate_is_handed_on(mount: Mount) -> None:
    """I12: a refusal that is the answer still has the body that its predicate read."""
    dead = reply(200, b"expired")
    scheme = Bearer(refused=lambda response: response.content == b"expired")
    with Wire(answering(lambda request: dead)) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url, scheme=scheme)
        with session.get(wire.url, timeout=10, stream=True) as response:
            assert response.content == b"expired"
        assert [request.token for request in wire.requests] == ["old", "new-1"]


def test_the_predicate_sees_no_token(mount: Mount) -> None:
    """I9: the response that a predicate is given has the caller's request on it."""
    seen: list[requests.Response] = []

    def refused(response: requests.Response) -> bool:
        seen.append(response)
        return response.status_code == 401

    with refusing([], 401) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url, scheme=Bearer(refused))
        session.get(wire.url, timeout=10)
    assert len(seen) == 2
    assert all("Authorization" not in response.request.headers for response in seen)


# ------------------------------------------------------- reading challenges

TEXT = st.text(alphabet='aB=",\\ \t;realmerror\x00\xff', max_size=200)


@settings(max_examples=200, deadline=None)
@given(st.one_of(TEXT, st.text(max_size=100)))
@example('Bearer error="')
@example('"\\')
def test_parsing_never_fails(value: str) -> None:
    """Whatever a server sends, parse_challenges returns schemes and names in small letters."""
    for scheme, parameters in parse_challenges(value):
        assert scheme == scheme.lower()
        assert all(name == name.lower() for name in parameters)


NAME = st.text(alphabet="abcXYZ-._0", min_size=1, max_size=8)
QUOTED = st.text(alphabet='ab,= "\\ä', max_size=10)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(NAME, st.dictionaries(NAME.map(str.lower), QUOTED, max_size=3)), max_size=3)
)
def test_what_is_well_formed_is_read_as_it_was_meant(
    challenges: list[tuple[str, dict[str, str]]],
) -> None:
    """RFC 9110 11.6.1: schemes, names and quoted strings come back as they were."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    value = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={quoted(text)}" for name, text in parameters.items())
        for scheme, parameters in challenges
    )
    expected = [(scheme.lower(), parameters) for scheme, parameters in challenges]
    assert parse_challenges(value) == expected


HOSTILE = ["a", "a(", "a ", '"', '\\"', '"\\', 'x="', "a=", ",", " ", 'a="\\"', "a\t"]


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_parsing_takes_time_in_line_with_the_length(
    piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile header costs no more than its length: one far beyond the limit is read quickly.

    What grows with the square would take minutes here, so no clock is looked at.
    """
    monkeypatch.setattr("requests_refresh.schemes._LONGEST_CHALLENGE", 10**7)
    for end in ("", "(", '"', "\\"):
        parse_challenges(piece * 50_000 + end)


def test_a_challenge_is_read_up_to_a_limit() -> None:
    """What stands behind 4096 characters is ignored."""
    assert parse_challenges("a, " * 5000) == [("a", {})] * 1366
