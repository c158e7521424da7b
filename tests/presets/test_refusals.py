"""How an API refuses a token beside a 401: Slack's 200, Salesforce's 403, and what is none."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
import urllib3

from requests_refresh import RefreshAdapter, Token
from requests_refresh.presets import ALL, GITHUB, GOOGLE, SALESFORCE, SLACK, Preset, Refusal
from tests.grants.endpoint import Answer, EndpointServer, raw
from tests.presets.support import grant_for, login

ALIVE = Token("old-access", refresh_token="old-refresh")
EXPIRED = {"ok": False, "error": "token_expired"}
ISSUED = {"ok": True, "access_token": "new-access", "refresh_token": "r2", "expires_in": 43200}
SESSION_OVER = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
IDENTITY = "id/00Dx0000000BV7z/005x00000012Q9P"


@contextmanager
def logged_in(
    preset: Preset, server: EndpointServer, api: EndpointServer
) -> Iterator[Callable[..., requests.Response]]:
    """GET at the API, logged in by the preset's grant and scheme."""
    base = api.url.removesuffix("token")
    with login(grant_for(preset, server), ALIVE) as (tokens, _), requests.Session() as session:
        session.mount(base, RefreshAdapter(tokens, origins=base, scheme=preset.scheme()))
        yield lambda path, **options: session.get(base + path, timeout=30, **options)


REFUSED: dict[str, tuple[Preset, str, Answer]] = {
    "Slack, expired": (SLACK, "api/conversations.list", Answer(200, EXPIRED)),
    "Slack, revoked": (
        SLACK,
        "api/auth.test",
        Answer(200, {"ok": False, "error": "token_revoked"}),
    ),
    "Salesforce, the session": (SALESFORCE, "services/data", Answer(401, SESSION_OVER)),
    "Salesforce, the identity URL": (
        SALESFORCE,
        IDENTITY,
        Answer(403, "Bad_OAuth_Token", "text/html;charset=UTF-8"),
    ),
    "GitHub": (GITHUB, "user", Answer(401, {"message": "Bad credentials"})),
    "Google": (
        GOOGLE,
        "drive/v2/files",
        Answer(401, {"error": {"code": 401, "message": "Invalid Credentials"}}),
    ),
}


@pytest.mark.parametrize(("preset", "path", "refusal"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_is_seen(
    server: EndpointServer, api: EndpointServer, preset: Preset, path: str, refusal: Answer
) -> None:
    """I12: the refusal costs one refresh; the request is sent again, and its caller sees that."""
    server.will(Answer(body=ISSUED))
    api.will(refusal, Answer(body={"ok": True}))
    with logged_in(preset, server, api) as get:
        assert get(path).json() == {"ok": True}
    assert len(server.seen) == 1
    assert [request.headers["Authorization"] for request in api.seen] == [
        "Bearer old-access",
        "Bearer new-access",
    ]


LONG = json.dumps({**EXPIRED, "pad": "x" * 2**16})
NONE: dict[str, tuple[Preset, str, Answer]] = {
    "all is well": (SLACK, "api/auth.test", Answer(200, {"ok": True})),
    "another error": (SLACK, "api/x", Answer(200, {"ok": False, "error": "channel_not_found"})),
    "another type": (SLACK, "api/x", Answer(200, {"error": ["token_expired"]})),
    "another shape": (SLACK, "api/x", Answer(200, ["token_expired"])),
    "another status": (SLACK, "api/x", Answer(403, EXPIRED)),
    "another path": (SLACK, "files/x", Answer(200, EXPIRED)),
    "another content type": (SLACK, "api/x", Answer(200, EXPIRED, "text/plain")),
    "no content type": (SLACK, "api/x", Answer(200, EXPIRED, None)),
    "not JSON": (SLACK, "api/x", Answer(200, "token_expired")),
    "not UTF-8": (SLACK, "api/x", Answer(200, b'{"error": "token_expired\xff"}')),
    "deep": (SLACK, "api/x", Answer(200, "[" * 60_000)),
    "empty": (SLACK, "api/x", Answer(200, "")),
    "long": (SLACK, "api/x", Answer(200, LONG)),
    "another text": (SALESFORCE, IDENTITY, Answer(403, "Wrong_Org", "text/html")),
    "more text": (SALESFORCE, IDENTITY, Answer(403, "Bad_OAuth_Token?", "text/html")),
    "not the identity URL": (SALESFORCE, "services/x", Answer(403, "Bad_OAuth_Token")),
    "a scope": (
        GITHUB,
        "user",
        Answer(401, "", headers=[("WWW-Authenticate", 'Bearer error="insufficient_scope"')]),
    ),
    "no preset has it": (GITHUB, "api/x", Answer(200, EXPIRED)),
}


@pytest.mark.parametrize(("preset", "path", "answer"), NONE.values(), ids=NONE.keys())
def test_no_refusal(
    server: EndpointServer, api: EndpointServer, preset: Preset, path: str, answer: Answer
) -> None:
    """Anything else goes to its caller as it came, to the byte, and costs no refresh."""
    api.will(answer)
    with logged_in(preset, server, api) as get:
        response = get(path)
    body = answer.body if isinstance(answer.body, (bytes, str)) else json.dumps(answer.body)
    assert response.status_code == answer.status
    assert response.content == (body.encode() if isinstance(body, str) else body)
    assert len(api.seen) == 1
    assert server.seen == []


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_long_body_of_unknown_length(server: EndpointServer, api: EndpointServer) -> None:
    """A body that tells no length is read to its end, whether or not it is looked into."""
    data = LONG.encode()
    api.will(raw(CHUNKED + f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"))
    with logged_in(SLACK, server, api) as get:
        response = get("api/x", stream=True)
        assert b"".join(response.iter_content(1000)) == data
    assert server.seen == []


def test_a_body_that_is_cut_off(server: EndpointServer, api: EndpointServer) -> None:
    """I11: a body that breaks off is its caller's error, and no half of it passes for the whole."""
    api.will(raw(CHUNKED + b'ff\r\n{"ok": tr'))
    with logged_in(SLACK, server, api) as get, pytest.raises(requests.RequestException):
        get("api/x")
    assert server.seen == []


def response_with(headers: dict[str, str], body: bytes) -> tuple[requests.Response, io.BytesIO]:
    """A Slack response that nobody has read, and what it would be read from."""
    source = io.BytesIO(body)
    response = requests.Response()
    response.status_code, response.url = 200, "https://slack.com/api/auth.test"
    response.headers.update({"Content-Type": "application/json", **headers})
    response.raw = urllib3.HTTPResponse(body=source, headers=headers, preload_content=False)
    return response, source


@pytest.mark.parametrize(
    ("headers", "read"),
    [
        ({"Content-Length": str(2**16 + 1)}, False),
        ({"Content-Length": "9" * 18}, False),
        ({"Content-Type": "text/html"}, False),
        ({"Content-Length": "9" * 5000}, False),
        ({"Content-Length": "many"}, True),
        ({"Content-Type": "application/problem+json; charset=utf-8"}, True),
    ],
    ids=["long", "longer", "a page", "endless", "no number", "problem+json"],
)
def test_what_is_read(headers: dict[str, str], read: bool) -> None:
    """A body is read only where it can be a refusal; one that is too long is left alone."""
    response, source = response_with(headers, json.dumps(EXPIRED).encode())
    (refusal,) = SLACK.refused
    assert refusal.matches(response) is read
    assert (source.closed or source.tell() > 0) is read


def test_lists_and_texts() -> None:
    """Digits count in lists, and white space around a text is nothing."""
    codes = frozenset({"INVALID_SESSION_ID"})
    response, _ = response_with({}, json.dumps(SESSION_OVER).encode())
    assert Refusal(200, at="0.errorCode", values=codes).matches(response)
    assert not Refusal(200, at="1.errorCode", values=codes).matches(response)
    response, _ = response_with({"Content-Type": "text/plain"}, b" INVALID_SESSION_ID\r\n")
    assert Refusal(200, values=codes).matches(response)
    response.url = None  # type: ignore[assignment] # as a response that was made by hand
    assert Refusal(200, values=codes).matches(response)


@pytest.mark.parametrize("preset", ALL, ids=lambda preset: str(preset.name))
def test_a_scheme_pickles(preset: Preset) -> None:
    """I14: an adapter with a preset's scheme pickles as any other."""
    scheme: Any = pickle.loads(pickle.dumps(preset.scheme()))  # noqa: S301 # just made
    assert repr(scheme) == repr(preset.scheme())
    response = requests.Response()
    response.status_code, response.url = 401, "https://api.example.com/"
    assert scheme.refused(response)
