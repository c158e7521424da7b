"""What a hostile reading of the adapter found, each as a test that failed before."""

from __future__ import annotations

import io
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from requests_refresh import (
    ConfigurationError,
    HeaderScheme,
    LoginRequired,
    RefreshAdapter,
    Token,
    TokenSource,
)
from requests_refresh.testing import AuthServer, Fault


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as running:
        yield running


def mounted(server: AuthServer, **options: Any) -> requests.Session:
    session = requests.Session()
    adapter = RefreshAdapter(server.source(), origins=server.url, **options)
    session.mount(server.url, adapter)
    return session


@pytest.mark.parametrize("limit", [0, 1000])
@pytest.mark.parametrize("sent", [[], [b"first half"]])
def test_urllib3_cannot_make_a_whole_of_a_broken_body(
    server: AuthServer, limit: int, sent: list[bytes]
) -> None:
    """I11: a body that raised is not sent again as if it had ended, whoever sends again."""

    def body() -> Iterator[bytes]:
        yield from sent
        raise OSError("the disk is gone")

    session = mounted(server, replay_limit=limit, max_retries=2)
    with pytest.raises(requests.RequestException):
        session.put(server.api + "x", data=body())
    assert server.counts.api_200 == 0


class Deaf(io.BytesIO):
    """Says that it can seek, and does not."""

    def seek(self, *args: int) -> int:
        return 0


def test_a_seek_that_does_nothing_is_found_out(server: AuthServer) -> None:
    """I11: what stands elsewhere than before is not sent again."""
    session = mounted(server)
    server.revoke_access()
    assert session.put(server.api + "x", data=Deaf(b"0123456789")).status_code == 401
    assert server.counts.api_200 == 0


def test_cookies_that_are_carried_show_in_no_traceback() -> None:
    """I9: the Cookie header of a second send is in no frame's locals."""
    canary = "canary-in-a-cookie"
    sends = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sends.append(self.headers.get("Cookie"))
            if len(sends) == 1:
                self.send_response(401)
                self.send_header("Set-Cookie", f"sid={canary}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.close_connection = True  # no answer

        def log_message(self, *args: object) -> None:
            pass

    api = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{api.server_port}/"
    session = requests.Session()
    session.mount(url, RefreshAdapter(TokenSource(lambda old: "new", token="old"), origins=url))
    try:
        with pytest.raises(requests.ConnectionError) as caught:
            session.get(url)
    finally:
        api.shutdown()
        api.server_close()
    assert sends[1] == f"sid={canary}"
    error, link = caught.value, caught.value.__traceback__
    assert link is not None
    error.with_traceback(link.tb_next)  # without this frame, which knows it
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert canary not in "".join(shown.format())


def test_an_error_of_a_grant_keeps_no_request_of_the_provider(server: AuthServer) -> None:
    """I9: `raise LoginRequired(..., response=reply)`, as is usual, shows nobody its request."""

    def grant(old: Token | None) -> object:
        reply = requests.post(server.url + "nowhere", data={"refresh_token": "canary"}, timeout=5)
        raise LoginRequired("over", response=reply)

    source = TokenSource(grant)  # type: ignore[arg-type]  # it never returns
    session = requests.Session()
    session.mount(server.url, RefreshAdapter(source, origins=server.url))
    with pytest.raises(LoginRequired) as caught:
        session.get(server.api + "x")
    assert caught.value.response is None
    link: BaseException | None = caught.value
    while link is not None:
        request = getattr(link, "request", None)
        assert "canary" not in str(getattr(request, "body", ""))
        link = link.__cause__ or link.__context__


def test_a_secret_that_no_header_can_hold_is_not_told() -> None:
    """I9: UnicodeEncodeError carries the text that it could not encode."""

    def grant(old: Token | None) -> object:
        return requests.get(
            "http://127.0.0.1:1/", headers={"X-Refresh": "canary-\u0416"}, timeout=5
        )

    with pytest.raises(Exception) as caught:  # noqa: PT011  # any, the text is what matters
        TokenSource(grant).token()  # type: ignore[arg-type]  # it never returns
    link: BaseException | None = caught.value
    while link is not None:
        assert "canary" not in repr((link, vars(link), getattr(link, "object", "")))
        link = link.__cause__ or link.__context__


def test_what_an_error_reply_issues_is_not_quoted(server: AuthServer) -> None:
    """I9: a provider that sends an error with a token, and repeats that, is masked."""
    body = {
        "error": "invalid_grant",
        "error_description": "instead of canary-new use CANARY-NEW",
        "access_token": "canary-new",
    }
    server.faults("token", Fault(status=400, body=body), times=None)
    source = server.source()
    with pytest.raises(LoginRequired) as caught:
        source.renew(source.token())
    assert "canary" not in str(caught.value).lower()


@pytest.mark.parametrize("rubbish", [None, 5, b"X-Token", ""])
def test_rubbish_for_a_header_is_a_wrong_setting(rubbish: object) -> None:
    """Bad input: a clear error at once."""
    with pytest.raises(ConfigurationError):
        HeaderScheme(rubbish)  # type: ignore[arg-type]  # that is the test
    if rubbish is not None:
        with pytest.raises(ConfigurationError):
            HeaderScheme("X-Token", prefix=rubbish)  # type: ignore[arg-type]  # likewise
