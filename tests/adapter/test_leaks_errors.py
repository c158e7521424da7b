"""I9: what is raised through `send` shows no secret, and leaves the caller's own frames alone."""

from __future__ import annotations

import gc
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.util import Retry

from requests_refresh import (
    LoginRequired,
    RefreshError,
    RefreshUnavailable,
    Token,
    TokenSource,
)
from requests_refresh.testing import AuthServer, Fault

from .conftest import Mount
from .leaks import ACCESS, CANARY, SECRET, assert_silent, chain, frames, in_error
from .support import Issuer
from .wire import OK, PATIENCE, PEM, RESET, Connection, Wire, answering, reply


def source() -> TokenSource:
    return TokenSource(lambda old: f"{CANARY}-issued", token=ACCESS)


def raising(work: Callable[[], Any], *kinds: type[BaseException]) -> BaseException:
    """What `work` raises, which is one of `kinds`."""
    with pytest.raises(kinds) as caught:
        work()
    return caught.value


def silent(connection: Connection) -> None:
    connection.request()
    connection.wire.closing.wait(PATIENCE)


def cut_head(connection: Connection) -> None:
    connection.request()
    connection.send(b"HTT")


def cut_chunks(connection: Connection) -> None:
    connection.request()
    connection.send(reply(200, b"5\r\nab", "Transfer-Encoding: chunked", length=False))


Broken = tuple[str, type[Exception], float]  # a URL, what requests raises, a timeout
MANNERS: dict[str, tuple[Any, type[Exception]]] = {
    "reset": (answering(lambda request: RESET), requests.ConnectionError),
    "hung up": (answering(lambda request: None), requests.ConnectionError),
    "silence": (silent, requests.ReadTimeout),
    "cut head": (cut_head, requests.ConnectionError),
    "garbage": (answering(lambda request: b"what?\r\n\r\n"), requests.ConnectionError),
    "two lengths": (
        answering(lambda request: reply(200, b"", "Content-Length: 1, 2", length=False)),
        requests.exceptions.InvalidHeader,
    ),
    "long header": (
        answering(lambda request: reply(200, b"", "X: " + "x" * 70000)),
        requests.ConnectionError,
    ),
    "cut chunks": (cut_chunks, requests.exceptions.ChunkedEncodingError),
    "bad gzip": (
        answering(lambda request: reply(200, b"no gzip", "Content-Encoding: gzip")),
        requests.exceptions.ContentDecodingError,
    ),
}


@pytest.fixture(params=MANNERS)
def broken(request: pytest.FixtureRequest) -> Iterator[Broken]:
    """A server that breaks in one way."""
    serve, kind = MANNERS[request.param]
    with Wire(serve) as wire:
        yield wire.url, kind, 0.3 if serve is silent else PATIENCE


def test_errors_of_the_network_show_no_secret(broken: Broken, mount: Mount) -> None:
    """I9: text, arguments, attributes, chain, frames and request of what the network raises."""
    url, kind, timeout = broken
    session = mount(source(), url)
    request = session.prepare_request(requests.Request("GET", url))
    error = raising(lambda: session.send(request, timeout=timeout), kind)
    assert_silent(*in_error(error))
    for one in chain(error):
        if isinstance(one, requests.RequestException) and one.request is not None:
            assert one.request is request
    assert isinstance(error, kind)


def test_the_check_itself_finds_a_secret(broken: Broken) -> None:
    """Without the adapter the same errors do show what the header had: the search is no sham."""
    url, kind, timeout = broken
    headers = {"Authorization": f"Bearer {ACCESS}"}
    error = raising(lambda: requests.get(url, headers=headers, timeout=timeout), kind)
    assert any(CANARY in text for text in in_error(error))
    with warnings.catch_warnings():  # requests leaves sockets to the collector here
        warnings.simplefilter("ignore", ResourceWarning)
        del error
        gc.collect()


def test_the_lines_of_a_traceback_stay(mount: Mount) -> None:
    """What is cleared are locals: the traceback still leads to where it happened."""
    with Wire(answering(lambda request: RESET)) as wire:
        session = mount(source(), wire.url)
        error = raising(lambda: session.get(wire.url, timeout=5), requests.ConnectionError)
    names = [frame.f_code.co_name for frame in frames(error.__traceback__)]
    assert names.count("send") == 3  # the session's, the adapter's and HTTPAdapter's
    assert "_attempt" not in names


def test_nothing_listens(mount: Mount) -> None:
    """I9: a connection that is refused, with urllib3 trying again, shows no secret."""
    with Wire(answering(lambda request: OK)) as wire:
        url = wire.url
    session = mount(source(), url, max_retries=Retry(2))
    assert_silent(*in_error(raising(lambda: session.get(url), requests.ConnectionError)))


def test_a_certificate_that_is_unknown(mount: Mount) -> None:
    """I9: an SSLError shows no secret."""
    with Wire(answering(lambda request: OK), tls=True) as wire:
        session = mount(source(), wire.url)
        error = raising(lambda: session.get(wire.url, timeout=10), requests.exceptions.SSLError)
        assert_silent(*in_error(error))
        assert session.get(wire.url, timeout=10, verify=str(PEM)).status_code == 200


def test_a_header_that_cannot_be_sent(mount: Mount) -> None:
    """I9: http.client prints the value of a bad header; that is never the token."""
    with Wire(answering(lambda request: OK)) as wire:
        session = mount(source(), wire.url)
        request = session.prepare_request(requests.Request("GET", wire.url))
        request.headers["X-Mine"] = "a\r\nb: c"
        assert_silent(*in_error(raising(lambda: session.send(request), ValueError)))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupt_in_the_middle_of_a_send(
    kind: type[BaseException], mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I9: Ctrl-C while urllib3 has the headers in hand shows no secret."""

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        raise kind

    monkeypatch.setattr(HTTPConnectionPool, "_make_request", interrupted)
    session = mount(source(), "http://127.0.0.1:9/")
    assert_silent(*in_error(raising(lambda: session.get("http://127.0.0.1:9/"), kind)))


@pytest.mark.parametrize("limit", [0, 100])
@pytest.mark.parametrize("failure", [LookupError("mine"), requests.RequestException("mine")])
def test_a_body_that_fails(failure: Exception, limit: int, mount: Mount) -> None:
    """I9: what a body's generator raises shows no secret, though it came through urllib3."""

    def body() -> Iterator[bytes]:
        yield b"a"
        raise failure

    with Wire(answering(lambda request: OK)) as wire:
        session = mount(source(), wire.url, replay_limit=limit)
        error = raising(
            lambda: session.post(wire.url, data=body(), timeout=5),
            LookupError,
            requests.ConnectionError,  # what urllib3 makes of any OSError
        )
        assert failure in chain(error)
        assert getattr(failure, "request", None) is None
        assert_silent(*in_error(error))


def test_a_body_that_fails_in_reading_urllib3s_error(mount: Mount) -> None:
    """I9: an error that is raised while another is handled: both sides of the chain are clean."""

    class Inner(requests.adapters.HTTPAdapter):
        def send(self, request: requests.PreparedRequest, **options: Any) -> Any:  # type: ignore[override]  # as short as users write it
            try:
                return super().send(request, **options)
            except requests.ConnectionError:
                raise RuntimeError("wrapped") from OSError("another cause")

    with Wire(answering(lambda request: RESET)) as wire:
        session = mount(source(), wire.url, inner=Inner())
        error = raising(lambda: session.get(wire.url, timeout=5), RuntimeError)
        assert_silent(*in_error(error))


def test_an_inner_that_raises_for_status(mount: Mount) -> None:
    """I9: an error with a response, and that with the signed request: both are the caller's."""

    class Raising(requests.adapters.HTTPAdapter):
        def send(self, request: requests.PreparedRequest, **options: Any) -> Any:  # type: ignore[override]  # as short as users write it
            response = super().send(request, **options)
            assert response.content == b""
            response.raise_for_status()
            return response

    with Wire(answering(lambda request: reply(500))) as wire:
        inner = Raising()
        session = mount(source(), wire.url, inner=inner)
        request = session.prepare_request(requests.Request("GET", wire.url))
        error = raising(lambda: session.send(request, timeout=5), requests.HTTPError)
        assert isinstance(error, requests.HTTPError)
        assert error.request is request
        assert error.response is not None
        assert error.response.request is request
        assert_silent(*in_error(error))
        inner.close()


def test_what_the_caller_was_handling_keeps_its_locals(mount: Mount) -> None:
    """An exception that was being handled when send was called is the caller's, frames and all."""

    own = requests.Request("GET", "http://a.test/").prepare()

    def fails() -> None:
        mine = "still here"
        raise requests.ConnectionError(mine, request=own)

    with Wire(answering(lambda request: RESET)) as wire:
        session = mount(source(), wire.url)
        try:
            fails()
        except requests.ConnectionError as exc:
            handled = exc
            error = raising(lambda: session.get(wire.url, timeout=5), requests.ConnectionError)
    assert handled in list(chain(error))
    assert handled.request is own
    (*_, last) = frames(handled.__traceback__)
    assert last.f_locals["mine"] == "still here"
    assert_silent(*in_error(error))


def test_urllib3s_retries_leave_it_alone_too(mount: Mount) -> None:
    """The same, where the send succeeds at its second try."""

    def fails() -> None:
        mine = "still here"
        raise LookupError(mine)

    answers = iter([RESET])
    with Wire(answering(lambda request: next(answers, OK))) as wire:
        session = mount(source(), wire.url, max_retries=Retry(3))
        try:
            fails()
        except LookupError as exc:
            handled = exc
            assert session.get(wire.url, timeout=5).status_code == 200
    (*_, last) = frames(handled.__traceback__)
    assert last.f_locals["mine"] == "still here"


# ------------------------------------------------- errors of the library's own


@pytest.fixture
def secret_server() -> Iterator[AuthServer]:
    with AuthServer(client_id="app", client_secret=SECRET) as server:
        yield server


PROVIDER: dict[str, tuple[Fault, type[RefreshError]]] = {
    "over": (Fault(status=400, body={"error": "invalid_grant"}), LoginRequired),
    "refused": (Fault(status=400, body={"error": "invalid_client"}), RefreshError),
    "down": (Fault(status=503), RefreshUnavailable),
    "reset": (Fault(reply="reset"), RefreshUnavailable),
    "cut": (Fault(after_work=True, reply="cut"), RefreshError),
    "no token": (Fault(status=200, body={"access_token": 7, "x": CANARY}), RefreshError),
    "html": (Fault(status=200, body=f"<html>{CANARY}"), RefreshError),
}


@pytest.mark.parametrize(("fault", "kind"), PROVIDER.values(), ids=PROVIDER.keys())
@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_a_refresh_show_no_secret(
    fault: Fault,
    kind: type[RefreshError],
    stream: bool,
    secret_server: AuthServer,
    mount: Mount,
) -> None:
    """I9: what a failed refresh raises, its response and its pickle; which come back whole."""
    login = secret_server.login()
    tokens = secret_server.source(token={**login, "access_token": ACCESS}, timeout=8)
    session = mount(tokens, secret_server.api)
    secret_server.faults("token", fault, times=None)
    request = session.prepare_request(requests.Request("GET", secret_server.api))
    error = raising(lambda: session.send(request, timeout=5, stream=stream), kind)
    assert isinstance(error, RefreshError)
    assert error.request is request
    secrets = [login["refresh_token"], SECRET, CANARY]
    for text in in_error(error):
        assert not any(secret in text for secret in secrets)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # ours
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.response is not None
    assert again.response.status_code == 401
    assert again.response.json() == {"error": "invalid_token"}
    assert getattr(again, "error", None) == getattr(error, "error", None)


def test_a_grants_own_failure_shows_no_secret(mount: Mount) -> None:
    """I9: a callable that fails with the token in its hands: neither its frames nor its cause."""

    def grant(old: Token | None) -> str:
        assert old is not None
        secret = old.access_token
        raise LookupError("failed") if secret else AssertionError

    with Wire(answering(lambda request: reply(401))) as wire:
        session = mount(TokenSource(grant, token=ACCESS), wire.url)
        error = raising(lambda: session.get(wire.url, timeout=5), RefreshError)
        assert isinstance(error.__cause__, BaseException)
        assert_silent(*in_error(error))
    for one in chain(error):
        for frame in frames(one.__traceback__):
            if frame.f_code.co_name == "grant":
                assert frame.f_locals == {}


def test_an_interrupt_while_waiting_shows_no_secret(
    server: AuthServer, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I9: Ctrl-C in the wait for a round: the frames of the gate show no secret."""
    login = server.login()
    tokens = server.source(token={**login, "access_token": ACCESS})
    session = mount(tokens, server.api)
    hold = threading.Event()
    server.faults("token", Fault(hold=hold))
    condition: Any = tokens._gate._changed
    waited: list[bool] = []

    def wait(timeout: float) -> bool:
        if threading.current_thread() is threading.main_thread():
            waited.append(True)
            raise KeyboardInterrupt
        return bool(type(condition).wait(condition, timeout))

    monkeypatch.setattr(condition, "wait", wait)
    error = raising(lambda: session.get(server.api, timeout=5), KeyboardInterrupt)
    hold.set()
    assert waited
    for text in in_error(error):
        assert CANARY not in text
        assert login["refresh_token"] not in text


def test_the_frame_that_raises_holds_no_cycle(mount: Mount) -> None:
    """An error holds the frame of send, and that frame does not hold the error."""
    with Wire(answering(lambda request: RESET)) as wire:
        session = mount(TokenSource(Issuer(), token=ACCESS), wire.url)
        error = raising(lambda: session.get(wire.url, timeout=5), requests.ConnectionError)
    ours = [f for f in frames(error.__traceback__) if "requests_refresh" in f.f_code.co_filename]
    assert ours
    assert not any(value is error for frame in ours for value in frame.f_locals.values())
