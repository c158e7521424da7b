"""I9: whatever goes wrong, no secret is in an error, its chain, a traceback, a pickle or a log."""

from __future__ import annotations

import base64
import logging
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import pytest
import requests

from requests_refresh import CookieGrant, JSONGrant, RefreshTokenGrant, Token
from requests_refresh.errors import RefreshError
from requests_refresh.grants import http
from requests_refresh.grants.failures import as_refresh_error, as_token
from tests.grants.endpoint import PEM, Answer, Behaviour, EndpointServer, Handler, raw, reset

ACCESS, REFRESH, SECRET, KEY = (
    f"CANARY+{kind}/%==" for kind in ("old", "refresh", "client", "key")
)
NEW = "CANARY+new/%=="
TOKEN = Token(ACCESS, refresh_token=REFRESH)
MARK = "CANARY"
ENCODED = [quote_plus(SECRET), base64.b64encode(f"sync:{quote_plus(SECRET)}".encode()).decode()]
THEIRS = ("requests.", "urllib3.", "http.", "socket", "ssl")


class KeyHeader:
    """An auth object of a user's."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Api-Key"] = KEY
        return request


def oauth(url: str) -> Any:
    return RefreshTokenGrant(url, client_id="sync", client_secret=SECRET, timeout=10)


def oauth_post(url: str) -> Any:
    return RefreshTokenGrant(
        url,
        client_id="sync",
        client_secret=SECRET,
        client_auth="client_secret_post",
        extra={"assertion": lambda: KEY},
        timeout=10,
    )


def oauth_object(url: str) -> Any:
    return RefreshTokenGrant(url, client_id="sync", client_auth=KeyHeader(), timeout=10)


def json_body(url: str) -> Any:
    return JSONGrant(
        url,
        send={"refresh": "refresh_token", "access": "access_token"},
        extra={"key": lambda: KEY},
        headers={"X-Api-Key": KEY},
        timeout=10,
    )


def cookie(url: str) -> Any:
    return CookieGrant(url, headers={"X-Api-Key": lambda: KEY}, timeout=10)


GRANTS: list[Callable[[str], Any]] = [oauth, oauth_post, oauth_object, json_body, cookie]


@pytest.fixture(autouse=True)
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """All libraries log all they have, and none of it is secret."""
    caplog.set_level(logging.DEBUG)
    yield
    assert MARK not in caplog.text
    assert not any(code in caplog.text for code in ENCODED)


def found_in(error: BaseException) -> list[str]:
    """Every text that is within reach of `error`, but for the frames of these tests."""
    texts: list[str] = [repr(pickle.dumps(error)), repr(error.args)]
    chain: list[BaseException | None] = [error]
    seen: list[Any] = []
    while chain:
        one = chain.pop()
        if one is None or any(one is other for other in seen):
            continue
        seen.append(one)
        chain += (one.__cause__, one.__context__)
        below = below_the_test(one)
        shown = traceback.TracebackException(type(one), one, below, capture_locals=True)
        texts += [str(one), repr(one), *shown.format(chain=False)]
        values = list(vars(one).values())
        for frame, _ in traceback.walk_tb(below):
            values += frame.f_locals.values()
        texts += within(values)
    return texts


def below_the_test(error: BaseException) -> TracebackType | None:
    """The traceback of `error` from the first frame that is not the test's own."""
    here = error.__traceback__
    while here is not None and here.tb_frame.f_code.co_name.startswith("test_"):
        here = here.tb_next
    return here


def within(values: list[Any]) -> list[str]:
    """The texts in values and in the objects of requests and urllib3 that they hold."""
    texts: list[str] = []
    todo, seen = list(values), set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        texts.append(repr(value))
        if isinstance(value, dict):
            todo += [*value, *value.values()]
        elif isinstance(value, (list, tuple, set)):
            todo += value
        elif isinstance(value, BaseException) or type(value).__module__.startswith(THEIRS):
            todo += getattr(value, "__dict__", {}).values()
    return texts


def assert_no_secret(error: BaseException) -> None:
    for text in found_in(error):
        assert MARK not in text
        assert not any(code in text for code in ENCODED)


def echo(status: int) -> Behaviour:
    """All that was sent comes back in the places that are quoted."""

    def behave(handler: Handler) -> None:
        seen = handler.server.seen[-1]
        values = [
            v for n, v in seen.headers.items() if n in ("Authorization", "Cookie", "X-Api-Key")
        ]
        values += [value.rpartition("=")[2] for value in values]
        values += [seen.body.decode(), ACCESS, REFRESH]
        if "form" in seen.headers.get("Content-Type", ""):
            values += [unquote_plus(seen.body.decode())]
        if "Authorization" in seen.headers:
            values += [SECRET, quote_plus(SECRET), base64.b64decode(values[0][6:]).decode()]
        sent = " ".join(values)
        split = "\x00".join(sent)  # what is taken out must not put a secret together
        said = f"no {sent} and {split}"
        Answer(status, {"error": said, "error_description": said, "new": NEW})(handler)

    return behave


def broken_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    secret = KEY
    request.headers["X-Api-Key"] = f"{secret}\r\nX: 1"
    return request


BAD: dict[str, Behaviour] = {
    "reset": reset,
    "nothing": raw(b""),
    "not HTTP": raw(f"{NEW}\r\n".encode()),
    "cut": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"access_token": "' + NEW.encode()),
    "cut cookie": raw(f"HTTP/1.1 200 OK\r\nSet-Cookie: refresh_token={NEW}".encode()),
    "bad head": raw(f"HTTP/1.1 400 No\r\nno header\r\nSet-Cookie: a={NEW}\r\n\r\n".encode()),
    "bad chunk": raw(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{NEW}\r\n".encode()),
    "redirect": Answer(307, NEW, headers=[("Location", f"/?{NEW}")]),
    "later": Answer(503, NEW, headers=[("Retry-After", NEW)]),
    "not JSON": Answer(200, f'{{"access_token": "{NEW}", "accessToken": "{NEW}"'),
    "no token": Answer(200, {"token": NEW}),
    "control character": Answer(
        200, dict.fromkeys(("access_token", "access", "accessToken"), NEW + "\n")
    ),
    "bad life": Answer(200, {"access_token": NEW, "expires_in": NEW, "accessToken": 7}),
    "page": Answer(403, f"<html>{NEW}", "text/html"),
    "echo 200": echo(200),
    "echo 400": echo(400),
    "echo 401": echo(401),
    "echo 404": echo(404),
    "echo 429": echo(429),
}


@pytest.mark.parametrize("behaviour", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("make", GRANTS)
def test_no_secret_comes_out(
    server: EndpointServer, make: Callable[[str], Any], behaviour: Behaviour
) -> None:
    """I9: errors of each grant, for each thing that can go wrong on the wire."""
    server.will(behaviour)
    with pytest.raises(RefreshError) as caught:
        make(server.url)(TOKEN)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert (caught.value.request, caught.value.response) == (None, None)
    assert_no_secret(caught.value)


@pytest.mark.parametrize("make", GRANTS)
def test_no_secret_comes_out_unsent(nobody: str, make: Callable[[str], Any]) -> None:
    """I9: errors of what was never sent."""
    for url in (f"http://{nobody}/token", f"https://{nobody}/token", "https://auth.invalid/"):
        with pytest.raises(RefreshError) as caught:
            make(url)(TOKEN)
        assert_no_secret(caught.value)


@pytest.mark.parametrize("make", GRANTS)
def test_no_secret_is_logged_or_kept_when_all_is_well(
    server: EndpointServer, make: Callable[[str], Any]
) -> None:
    """I9: a refresh that works logs no secret, and its grant and token show none."""
    names = ("access_token", "access", "accessToken")
    server.will(
        Answer(200, dict.fromkeys(names, NEW), headers=[("Set-Cookie", f"refresh_token={NEW}")])
    )
    grant = make(server.url)
    token = grant(TOKEN)
    assert token.access_token == NEW
    assert MARK not in repr((grant, token))
    assert MARK.encode() not in server.only.path.encode()


def test_a_header_that_auth_broke(server: EndpointServer) -> None:
    """I9: http.client quotes a header that it refuses; our error does not."""
    grant = RefreshTokenGrant(server.url, client_id="sync", client_auth=broken_auth)
    with pytest.raises(RefreshError, match="could not be sent") as caught:
        grant(TOKEN)
    assert_no_secret(caught.value)


def test_a_callable_of_the_users_that_fails(server: EndpointServer) -> None:
    """I9: what a function among the settings raises is the cause, and its frames are cleared."""

    def auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
        raise LookupError("no key today")

    grant = RefreshTokenGrant(
        server.url, client_id="sync", client_auth=auth, extra={"k": lambda: KEY}
    )
    with pytest.raises(RefreshError) as caught:
        grant(TOKEN)
    assert isinstance(caught.value.__cause__, LookupError)
    assert "in auth" in "".join(traceback.format_exception(caught.value))
    assert_no_secret(caught.value)


def test_a_handled_exception_stays_the_context(server: EndpointServer) -> None:
    """What the caller was handling is the context of the error, untouched."""
    server.will(reset)
    mine = KeyError("mine")

    def renew_meanwhile() -> None:
        try:
            raise mine
        except KeyError:
            oauth(server.url)(TOKEN)

    with pytest.raises(RefreshError) as caught:
        renew_meanwhile()
    assert caught.value.__context__ is mine


def test_ctrl_c_in_the_middle(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """I9: KeyboardInterrupt passes as it is, without the frames that it was raised through."""

    def interrupted() -> float:
        try:
            raise requests.ConnectionError(request=requests.Request("GET", server.url, data=KEY))
        except requests.ConnectionError:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(http, "remaining", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        oauth(server.url)(TOKEN)
    assert caught.value.__context__ is None
    assert_no_secret(caught.value)


def users_grant(token: Token | None, url: str, **options: Any) -> object:
    """A callable as users write it."""
    secret = token and token.refresh_token
    reply = requests.post(url, data={"refresh_token": secret}, timeout=5, **options)
    reply.raise_for_status()
    return reply.json()


@pytest.mark.parametrize(
    "behaviour",
    [Answer(401, NEW), Answer(503, NEW), reset, BAD["cut"], BAD["not JSON"]],
    ids=["401", "503", "reset", "cut", "not JSON"],
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_no_secret_comes_out_of_any_callable(
    server: EndpointServer, behaviour: Behaviour, wrapped: bool
) -> None:
    """I9: the request and reply that requests hangs on its errors are taken off."""
    server.will(behaviour)
    try:
        try:
            users_grant(TOKEN, server.url)
        except requests.RequestException as exc:
            if not wrapped:
                raise
            raise LookupError("it failed") from exc
    except (requests.RequestException, LookupError) as exc:
        error = as_refresh_error(exc)
        del exc
    assert_no_secret(error)


@pytest.mark.parametrize(
    "result",
    [
        {"access_token": NEW, "expires_in": "CANARY"},
        {"token": NEW},
        NEW + "\n",
        [NEW],
        Token(refresh_token=NEW),
    ],
    ids=["life", "no token", "text", "list", "no access"],
)
def test_no_secret_comes_out_of_a_result(result: Any) -> None:
    """I9: what a callable returned is in no frame of the error about it."""
    with pytest.raises(RefreshError) as caught:
        as_token(result, TOKEN, 0.0)
    assert_no_secret(caught.value)


def test_the_search_finds() -> None:
    """The search of these tests sees a secret in each place that it looks into."""

    def leak(error: Exception) -> BaseException:
        try:
            raise error
        except Exception as exc:
            return exc

    request = requests.Request("POST", "http://x/", data={"a": NEW}).prepare()
    chained = ValueError("x")
    chained.__cause__ = requests.ConnectionError(request=request)
    for error in (KeyError(NEW), requests.ConnectionError(request=request), chained):
        with pytest.raises(AssertionError):
            assert_no_secret(leak(error))
    assert PEM.exists()
    assert sys.exc_info()[1] is None
