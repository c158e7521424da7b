"""Hostile and broken replies: each a clear error, bounded in bytes and time, and none a token."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from requests_refresh import InvalidReply, RefreshRefused, RefreshTokenGrant, Token
from requests_refresh.grants.http import LONGEST_REPLY
from tests.grants.endpoint import TOKEN, Answer, Behaviour, EndpointServer, raw

OLD = Token("old-access", refresh_token="old-refresh")
DEEP = "[" * 200_000 + "]" * 200_000


def token_with(**fields: Any) -> Answer:
    return Answer(body={**TOKEN, **fields})


def text(body: str | bytes) -> Answer:
    return Answer(body=body)


NO_TOKEN: dict[str, Behaviour] = {
    "nothing": text(""),
    "no content": Answer(204, b"", None),
    "spaces": text("  \r\n"),
    "not JSON": text("access denied"),
    "not JSON, but like a form": text("a=b&c=d"),
    "a form with no token": Answer(200, "access_token=", "application/x-www-form-urlencoded"),
    "a form of a thousand fields": text("&".join(f"f{n}=1" for n in range(1000)) + "&error=x"),
    "a form that is not UTF-8": text("access_token=%ff%fe"),
    "JSON cut short": text('{"access_token": "new-acc'),
    "a web page": Answer(200, "<html><form action=/login>", "text/html"),
    "XML": text('\n<?xml version="1.0"?><access_token>x</access_token>'),
    "an array": Answer(body=[TOKEN]),
    "a text": text('"new-access"'),
    "a number": text("7"),
    "null": text("null"),
    "not UTF-8": text(b'{"access_token": "new-\xff-access"}'),
    "UTF-16": text(json.dumps(TOKEN).encode("utf-16")),
    "deep nesting": text(DEEP),
    "deep nesting in a field": text('{"access_token": "a", "x": ' + DEEP + "}"),
    "a number without end": text('{"access_token": "a", "expires_in": ' + "9" * 100_000 + "}"),
    "too long by a byte": text(json.dumps(TOKEN).ljust(LONGEST_REPLY + 1)),
    "much too long": text(json.dumps(TOKEN).ljust(LONGEST_REPLY * 3)),
    "a gzip bomb": Answer(
        body=gzip.compress(json.dumps(TOKEN).ljust(50_000_000).encode()),
        headers=[("Content-Encoding", "gzip")],
    ),
    "brotli, by its name": Answer(headers=[("Content-Encoding", "br")]),
    "an unknown status": raw(b"HTTP/1.1 199 Hm\r\nContent-Length: 2\r\n\r\n{}"),
    "no access token": Answer(body={"token_type": "bearer"}),
    "an empty one": token_with(access_token=""),
    "a null one": token_with(access_token=None),
    "a number for one": token_with(access_token=7),
    "a list for one": token_with(access_token=["a"]),
    "true for one": token_with(access_token=True),
    "NUL": token_with(access_token="a\x00b"),
    "CR LF": token_with(access_token="a\r\nX-Admin: yes"),
    "a lone surrogate": text('{"access_token": "a\\ud800b"}'),
    "CR LF in the refresh token": token_with(refresh_token="a\r\nb"),
    "a number for the refresh token": token_with(refresh_token=7),
    "a list for the type": token_with(token_type=["bearer"]),
    "a life of -1": token_with(expires_in=-1),
    "a life of NaN": text('{"access_token": "a", "expires_in": NaN}'),
    "a life of 1e400": text('{"access_token": "a", "expires_in": 1e400}'),
    "a life without end": text('{"access_token": "a", "expires_in": Infinity}'),
    "a life that is true": token_with(expires_in=True),
    "a life in words": token_with(expires_in="soon"),
    "a life that is a list": token_with(expires_in=[3600]),
}


@pytest.mark.parametrize("behaviour", NO_TOKEN.values(), ids=NO_TOKEN.keys())
def test_no_token(server: EndpointServer, behaviour: Behaviour) -> None:
    """A reply that is no token is InvalidReply, and nothing of it is quoted."""
    server.will(behaviour)
    with pytest.raises(InvalidReply, match="Nothing was stored") as caught:
        RefreshTokenGrant(server.url, client_id="sync")(OLD)
    assert "new-acc" not in str(caught.value)
    assert caught.value.__context__ is None


STILL_A_TOKEN: dict[str, Behaviour] = {
    "digits as a text": token_with(expires_in="3600"),
    "an exponent": text('{"access_token": "new-access", "expires_in": 3.6e3}'),
    "a name twice: the last counts": text(
        '{"access_token": "first", "access_token": "new-access", "expires_in": 3600}'
    ),
    "a form with a name twice": text("access_token=first&access_token=new-access&expires_in=3600"),
    "a byte order mark": text(b"\xef\xbb\xbf" + json.dumps(TOKEN).encode()),
    "as long as may be": text(json.dumps(TOKEN).ljust(LONGEST_REPLY)),
    "the wrong type": Answer(media="text/plain"),
    "no type": Answer(media=None),
    "a parameter of the type": Answer(media="application/json; charset=iso-8859-1"),
    "identity by name": Answer(headers=[("Content-Encoding", "identity")]),
    "created": Answer(201),
    "no error after all": token_with(error=None, error_description=""),
    "null for the rest": token_with(refresh_token=None, token_type=None, scope=None),
    "NaN where nobody looks": text(
        '{"access_token": "new-access", "expires_in": 3600, "load": NaN}'
    ),
    "in chunks": raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'1b\r\n{"access_token":"new-access\r\n15\r\n","expires_in": 3600}\r\n0\r\n\r\n'
    ),
    "until the connection ends": raw(
        b'HTTP/1.0 200 OK\r\n\r\n{"access_token": "new-access", "expires_in": 3600}'
    ),
}


@pytest.mark.parametrize("behaviour", STILL_A_TOKEN.values(), ids=STILL_A_TOKEN.keys())
def test_still_a_token(server: EndpointServer, behaviour: Behaviour) -> None:
    """What is only odd is read."""
    server.will(behaviour)
    token = RefreshTokenGrant(server.url, client_id="sync")(OLD)
    assert (token.access_token, token.refresh_token) == ("new-access", "old-refresh")
    assert token.issued_at is not None
    assert token.expires_at == token.issued_at + 3600
    json.dumps(token.to_mapping(), allow_nan=False)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, json.dumps({"error": "invalid_grant"}).ljust(LONGEST_REPLY + 1)),
        Answer(
            400,
            gzip.compress(b'{"error": "invalid_grant"}'),
            headers=[("Content-Encoding", "gzip")],
        ),
        Answer(400, DEEP),
    ],
    ids=["too long", "compressed", "deep"],
)
def test_an_error_that_cannot_be_read(server: EndpointServer, answer: Answer) -> None:
    """I8: an error whose body cannot be read is never taken for the end of a login."""
    server.will(answer)
    with pytest.raises(RefreshRefused, match="400"):
        RefreshTokenGrant(server.url, client_id="sync")(OLD)


def test_what_is_quoted_is_short_and_plain(server: EndpointServer) -> None:
    """The provider's words are cut to 200 characters, and control characters are taken out."""
    said = "\x1b[31mred\r\nnext\u202eline " + "x" * 500
    server.will(Answer(400, {"error": "odd\x00one", "error_description": said}))
    with pytest.raises(RefreshRefused) as caught:
        RefreshTokenGrant(server.url, client_id="sync")(OLD)
    assert caught.value.error == "oddone"
    assert caught.value.error_description is not None
    assert caught.value.error_description.startswith("[31mrednextline xxx")
    assert len(caught.value.error_description) == 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("said", [7, ["a"], {"secret": "b"}, "\x00", ""])
def test_only_texts_are_quoted(server: EndpointServer, said: Any) -> None:
    """An error or description that is no text is not quoted."""
    server.will(Answer(400, {"error": said or {}, "error_description": said}))
    with pytest.raises(RefreshRefused) as caught:
        RefreshTokenGrant(server.url, client_id="sync")(OLD)
    assert (caught.value.error, caught.value.error_description) == (None, None)
