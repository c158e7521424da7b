"""What any callable gives or raises, made into a token or one of our errors."""

from __future__ import annotations

import json
import ssl
import time
import traceback
from collections import OrderedDict
from email.utils import formatdate
from types import MappingProxyType
from typing import Any

import pytest
import requests
import requests.exceptions as rex
import urllib3.exceptions as uex

from requests_refresh import (
    InvalidReply,
    LoginRequired,
    RefreshRefused,
    RefreshUnavailable,
    StoreError,
    Token,
)
from requests_refresh.errors import RefreshError
from requests_refresh.grants.failures import as_refresh_error, as_token, retry_after
from tests.adapter.support import name_of
from tests.grants.endpoint import Answer, EndpointServer, raw, reset, silence

OLD = Token("old-access", refresh_token="old-refresh", scope="read", extra={"id": 7})
NOW = 1_700_000_000.0


def http_error(status: int, **headers: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return requests.HTTPError("bad", response=response)


def raised_by(url: str, read: float = 10, **options: Any) -> Exception:
    """What requests itself raises there."""
    try:
        requests.post(url, data={"refresh_token": "old"}, timeout=(10, read), **options)
    except requests.RequestException as exc:
        return exc
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_a_status_that_says_later(status: int) -> None:
    """I8: an HTTPError of an outage is RefreshUnavailable, with its Retry-After."""
    error = as_refresh_error(http_error(status, Retry_After="7"))
    assert isinstance(error, RefreshUnavailable)
    assert (error.retry_after, error.outcome_unknown) == (7, False)
    assert str(status) in str(error)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 418])
def test_a_status_that_refuses(status: int) -> None:
    """Any other HTTPError is RefreshRefused; that a login is over is the callable's to say."""
    error = as_refresh_error(http_error(status))
    assert isinstance(error, RefreshRefused)
    assert (str(status) in str(error), error.response, error.__cause__) == (True, None, None)


def test_a_status_that_is_not_known() -> None:
    """An HTTPError with no response is RefreshRefused too."""
    assert isinstance(as_refresh_error(requests.HTTPError("made up")), RefreshRefused)


@pytest.mark.parametrize("behaviour", [reset, silence, raw(b""), raw(b"SSH-2.0\r\n")])
def test_an_answer_that_is_lost(server: EndpointServer, behaviour: Any) -> None:
    """A connection that broke after it opened leaves the outcome unknown."""
    server.will(behaviour)
    exc = raised_by(server.url, read=0.3 if behaviour is silence else 10)
    error = as_refresh_error(exc)
    assert isinstance(error, RefreshUnavailable)
    assert error.outcome_unknown is True


def test_an_answer_cut_in_the_middle(server: EndpointServer) -> None:
    """A reply that breaks off leaves the outcome unknown."""
    server.will(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"))
    exc = raised_by(server.url)
    assert isinstance(exc, rex.ChunkedEncodingError)
    error = as_refresh_error(exc)
    assert isinstance(error, RefreshUnavailable)
    assert error.outcome_unknown is True


def test_a_connection_that_never_opened(nobody: str) -> None:
    """Where requests says that nothing can have been sent, the outcome is known."""
    url = f"http://{nobody}/token"
    for exc in (
        raised_by(url),
        raised_by("https://auth.invalid/", proxies={"https": url}),
        raised_by("https://auth.invalid/"),
    ):
        error = as_refresh_error(exc)
        assert isinstance(error, RefreshUnavailable)
        assert error.outcome_unknown is False


def max_retry(reason: Exception) -> uex.MaxRetryError:
    pool: Any = None
    return uex.MaxRetryError(pool, "/", reason)


CERTIFICATE = uex.SSLError(ssl.SSLCertVerificationError("self-signed"))
BROKEN_TLS = uex.SSLError(ssl.SSLError("bad record mac"))


@pytest.mark.parametrize(
    ("exc", "unknown"),
    [
        (rex.ConnectTimeout(), False),
        (rex.ProxyError(), False),
        (rex.SSLError(max_retry(CERTIFICATE)), False),
        (rex.SSLError(max_retry(BROKEN_TLS)), True),
        (rex.SSLError(max_retry(uex.SSLError())), True),
        (rex.ConnectionError(max_retry(uex.ConnectTimeoutError())), False),
        (rex.ReadTimeout(), True),
        (rex.Timeout("mine"), True),
        (rex.ConnectionError(), True),
    ],
    ids=repr,
)
def test_when_the_outcome_is_unknown(exc: Exception, unknown: bool) -> None:
    """Only what surely was not sent counts as not sent; in doubt, the outcome is unknown."""
    error = as_refresh_error(exc)
    assert isinstance(error, RefreshUnavailable)
    assert error.outcome_unknown is unknown
    assert error.__cause__ is None


@pytest.mark.parametrize("exc", [LoginRequired("x", error="gone"), StoreError("y")])
def test_our_own_errors_stay(exc: RefreshError) -> None:
    """A RefreshError is returned as it is, so a callable may raise LoginRequired."""
    assert as_refresh_error(exc) is exc


@pytest.mark.parametrize(
    "exc", [KeyError("access_token"), OSError(5, "x"), TimeoutError(), rex.InvalidURL("x")]
)
def test_anything_else_is_the_cause(exc: Exception) -> None:
    """What nothing is known of is a bare RefreshError, with it as the cause."""
    error = as_refresh_error(exc)
    assert type(error) is RefreshError
    assert error.__cause__ is exc
    assert type(exc).__name__ in str(error)
    assert "login" not in str(error)


def test_what_was_being_handled_is_left_alone() -> None:
    """The exception that the caller was handling keeps its request and its frames."""

    def outer() -> None:
        mark = "kept"
        raise rex.ConnectionError(mark, request=requests.PreparedRequest())

    def grant() -> None:
        mark = "dropped"
        raise KeyError(mark)

    def meanwhile() -> None:
        try:
            outer()
        except rex.ConnectionError:
            grant()

    with pytest.raises(KeyError) as caught:
        meanwhile()
    handled = caught.value.__context__
    assert isinstance(handled, rex.ConnectionError)
    as_refresh_error(caught.value, handled)
    assert "'dropped'" not in locals_of(caught.value)
    assert "'kept'" in locals_of(handled)
    assert handled.request is not None


def locals_of(exc: BaseException) -> str:
    """The locals in the frames that `exc` was raised through, below this test's."""
    assert exc.__traceback__ is not None
    below = exc.with_traceback(exc.__traceback__.tb_next)
    lines = traceback.TracebackException.from_exception(below, capture_locals=True, compact=True)
    return "".join(str(frame.locals) for frame in lines.stack)


def test_a_chain_that_bites_its_tail() -> None:
    """A chain of exceptions that is a ring is walked once."""
    one, two = KeyError("1"), KeyError("2")
    one.__context__, two.__context__ = two, one
    assert as_refresh_error(one).__cause__ is one


def test_a_reply_that_was_no_json_keeps_no_text() -> None:
    """A JSONDecodeError holds the text that it failed on, which may be half a token."""
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads('{"access_token": "secret"')
    as_refresh_error(caught.value)
    assert caught.value.doc == ""


def test_a_reply_that_was_no_text_keeps_no_bytes() -> None:
    """A UnicodeDecodeError holds, and shows, the bytes that it failed on."""
    with pytest.raises(UnicodeDecodeError) as caught:
        b"secret\xff".decode()
    as_refresh_error(caught.value)
    assert "secret" not in repr(caught.value) + str(caught.value) + repr(caught.value.object)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("1.5", 1.5),
        ("-1", None),
        ("+5", None),
        ("1e3", None),
        ("inf", None),
        ("9" * 400, None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    """Seconds or a date to come; rubbish and the past are ignored (RFC 9110 section 10.2.3)."""
    assert retry_after({"Retry-After": value}) == expected


def test_retry_after_as_a_date() -> None:
    """A date counts from the reply's own Date, as clocks differ; without one, from now."""
    later = formatdate(NOW + 90, usegmt=True)
    assert retry_after({"Retry-After": later, "Date": formatdate(NOW, usegmt=True)}) == 90
    assert retry_after({"Retry-After": later.replace("GMT", "-0000"), "Date": later}) is None
    soon = retry_after({"Retry-After": formatdate(time.time() + 3600, usegmt=True)})
    assert soon is not None
    assert 3000 < soon <= 3600
    assert retry_after({}) is None


@pytest.mark.parametrize(
    "reply",
    [
        {"access_token": "a2", "expires_in": 60},
        OrderedDict(access_token="a2", expires_in="60"),
        MappingProxyType({"access_token": "a2", "expires_in": 60}),
    ],
    ids=["dict", "OrderedDict", "proxy"],
)
def test_a_mapping_is_an_oauth_reply(reply: Any) -> None:
    """Any mapping is read as an OAuth reply, counted from when the grant was called."""
    token = as_token(reply, OLD, NOW)
    assert (token.access_token, token.refresh_token) == ("a2", "old-refresh")
    assert (token.issued_at, token.expires_at) == (NOW, NOW + 60)


def test_a_text_is_an_access_token() -> None:
    """A str is an access token; the refresh token goes on."""
    token = as_token("a2", OLD, NOW)
    assert (token.access_token, token.refresh_token, token.scope) == ("a2", "old-refresh", "read")
    assert as_token("a2", None, NOW).refresh_token is None


def test_a_token_is_filled_in() -> None:
    """A Token keeps what it has; a refresh token and its moment are filled in where missing."""
    bare = as_token(Token("a2", scope="all", expires_at=NOW + 5), OLD, NOW)
    assert (bare.refresh_token, bare.issued_at, bare.scope) == ("old-refresh", NOW, "all")
    assert (bare.expires_at, bare.extra) == (NOW + 5, {})
    whole = as_token(Token("a2", refresh_token="r2", issued_at=NOW - 9), OLD, NOW)
    assert (whole.refresh_token, whole.issued_at) == ("r2", NOW - 9)


@pytest.mark.parametrize(
    "result",
    [None, 7, b"a2", ["a2"], object(), Token(refresh_token="r"), {}, "", "a\nb"],
    ids=name_of,
)
def test_anything_else_is_no_token(result: Any) -> None:
    """What is no token is InvalidReply, which names at most its type."""
    with pytest.raises(InvalidReply, match="Nothing was stored") as caught:
        as_token(result, OLD, NOW)
    assert caught.value.__context__ is None


def test_an_answer_that_is_a_response(server: EndpointServer) -> None:
    """A callable that returns the Response itself is told so, by its type."""
    server.will(Answer())
    with pytest.raises(InvalidReply, match="returned Response, which is no token"):
        as_token(requests.post(server.url, timeout=5), OLD, NOW)
