"""AuthServer: its life, its API, the commands and the counts."""

from __future__ import annotations

import gc
import hashlib
import socket
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from requests_refresh.testing import AuthServer, Counts, Fault

JOIN = 30.0  # seconds; only a hanging test needs them


def bearer(reply: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {reply['access_token']}"}


def test_a_living_token_gets_an_echo_with_the_hash_of_the_body(
    server: AuthServer, http: requests.Session
) -> None:
    """The API answers with what it received, to the byte, and for whom."""
    body = b"\x00\xff" * 100_000
    answer = http.post(
        server.api + "items?a=1", data=body, headers=bearer(server.login("ann")), timeout=JOIN
    )
    assert answer.json() == {
        "method": "POST",
        "path": "/api/items?a=1",
        "identity": "ann",
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    assert server.counts == Counts(
        logins=1, api_requests=1, api_200=1, connections=1, connections_open=1
    )


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_is_answered(server: AuthServer, http: requests.Session, method: str) -> None:
    """Every method is answered, HEAD without a body, and the connection stays usable."""
    headers = bearer(server.login())
    for _ in range(2):
        answer = http.request(method, server.api + "x", headers=headers, timeout=JOIN)
        assert answer.status_code == 200
        assert (answer.content == b"") == (method == "HEAD")
    assert server.counts.connections == 1


def test_a_chunked_body_is_read_with_its_trailers(
    server: AuthServer, http: requests.Session
) -> None:
    """A body of unknown length arrives whole, and what follows it is the next request."""

    def parts() -> Iterator[bytes]:
        yield b"one"
        yield b"two" * 50_000

    headers = bearer(server.login())
    answer = http.post(server.api + "x", data=parts(), headers=headers, timeout=JOIN)
    assert answer.json()["sha256"] == hashlib.sha256(b"one" + b"two" * 50_000).hexdigest()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        head = f"POST /api/y HTTP/1.1\r\nAuthorization: {headers['Authorization']}\r\n"
        raw.sendall(head.encode() + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        raw.sendall(b"3;x=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n")
        assert hashlib.sha256(b"abc").hexdigest().encode() in read_all(raw)


def read_all(raw: socket.socket) -> bytes:
    raw.settimeout(JOIN)
    with raw.makefile("rb") as reader:
        return reader.read()


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: -1\r\n",
        b"Content-Length: many\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_gets_400_and_the_end(server: AuthServer, headers: bytes) -> None:
    """A request whose length makes no sense ends its connection, and only that."""
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /api/x HTTP/1.1\r\n" + headers + b"\r\n")
        assert read_all(raw).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_goes_away_in_its_body_leaves_nothing_open(server: AuthServer) -> None:
    """A body that never ends as promised is no request, and its connection is given back."""
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /api/x HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
        server.wait_for("connections_open")
    assert server.wait_for(lambda counts: not counts.connections_open).api_requests == 0


@pytest.mark.parametrize("sent", [{}, {"Authorization": "Bearer nope"}, {"Authorization": "x"}])
def test_a_token_missing_or_unknown_is_refused(
    server: AuthServer, http: requests.Session, sent: dict[str, str]
) -> None:
    """The refusal carries RFC 6750's challenge and counts no expiry."""
    answer = http.get(server.api + "x", headers=sent, timeout=JOIN)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'
    assert (server.counts.api_401, server.counts.expiries) == (1, 0)


def test_the_scheme_is_case_insensitive(server: AuthServer, http: requests.Session) -> None:
    """RFC 9110 11.1: the name of a scheme has no case."""
    headers = {"Authorization": f"bearer  {server.login()['access_token']}"}
    assert http.get(server.api + "x", headers=headers, timeout=JOIN).status_code == 200


def test_special_paths(server: AuthServer, http: requests.Session) -> None:
    """always-401, forbidden and redirect do what their names say, to a living token too."""
    headers = bearer(server.login())
    assert http.get(server.api + "always-401", headers=headers, timeout=JOIN).status_code == 401
    forbidden = http.get(server.api + "forbidden", headers=headers, timeout=JOIN)
    assert forbidden.status_code == 403
    assert "insufficient_scope" in forbidden.headers["WWW-Authenticate"]
    for query, status in [
        ("to=http://127.0.0.1/x", 302),
        ("to=/x&status=307", 307),
        ("to=/x&status=y", 400),
        ("", 400),
    ]:
        answer = http.get(
            f"{server.api}redirect?{query}", headers=headers, allow_redirects=False, timeout=JOIN
        )
        assert answer.status_code == status
        assert ("Location" in answer.headers) == (status != 400)
    assert http.get(server.url + "nothing", timeout=JOIN).status_code == 404
    assert http.get(server.token_url, timeout=JOIN).headers["Allow"] == "POST"
    assert server.counts.expiries == 0


def test_a_lifetime_ends_by_the_clock(
    server: AuthServer, http: requests.Session, clock: Any
) -> None:
    """A token dies after its lifetime, and that it was met dead is counted once."""
    server.lifetime = 2.0
    headers = bearer(server.login())
    clock.now += 1.9
    assert http.get(server.api + "x", headers=headers, timeout=JOIN).status_code == 200
    clock.now += 0.1
    for _ in range(3):
        assert http.get(server.api + "x", headers=headers, timeout=JOIN).status_code == 401
    assert server.counts.expiries == 1


def test_revoking_access_leaves_the_login(server: AuthServer, http: requests.Session) -> None:
    """`revoke_access` and `expire` kill access tokens, of one identity or of all; logins live."""
    ann, ben = server.login("ann"), server.login("ben")
    assert server.revoke_access("ann") == 1
    assert http.get(server.api + "x", headers=bearer(ann), timeout=JOIN).status_code == 401
    assert http.get(server.api + "x", headers=bearer(ben), timeout=JOIN).status_code == 200
    assert server.expire() == 1
    assert http.get(server.api + "x", headers=bearer(ben), timeout=JOIN).status_code == 401
    assert server.logged_in("ann")
    assert server.logged_in("ben")
    assert server.counts.expiries == 2


def test_revoking_a_login_ends_all_of_it(server: AuthServer, http: requests.Session) -> None:
    """`revoke_login` kills access and refresh tokens, of one identity or of all."""
    ann, ben = server.login("ann"), server.login("ben")
    assert server.revoke_login("ann") == 1
    assert not server.logged_in("ann")
    assert http.get(server.api + "x", headers=bearer(ann), timeout=JOIN).status_code == 401
    assert http.get(server.api + "x", headers=bearer(ben), timeout=JOIN).status_code == 200
    assert isinstance(server.renew(ann["refresh_token"]), str)
    assert server.revoke_login() == 1
    assert not server.logged_in("ben")
    assert server.counts.logins_ended == 2
    assert server.counts.expiries == 0


def test_the_place_of_the_token_and_the_refusal_can_be_chosen(http: requests.Session) -> None:
    """`header`, `prefix` and `refusal` play APIs that do it their own way."""
    refusal = Fault(status=419, headers=[("X-A", "1"), ("X-A", "2")], body="gone", reply="drip")
    with AuthServer(header="X-Auth-Token", prefix="", refusal=refusal) as server:
        token = server.login()["access_token"]
        answer = http.get(server.api + "x", headers={"X-Auth-Token": token}, timeout=JOIN)
        assert answer.status_code == 200
        refused = http.get(server.api + "x", timeout=JOIN)
        assert (refused.status_code, refused.text) == (419, "gone")
        assert refused.headers["X-A"] == "1, 2"
        server.refusal = Fault()
        assert http.get(server.api + "x", timeout=JOIN).status_code == 401


def test_latency_is_by_path_before_call(server: AuthServer, http: requests.Session) -> None:
    """The server thinks as long as told: a path's own latency goes before its call's."""
    server.latency = {"api": 3600.0, "/api/quick": 0.001}
    headers = bearer(server.login())
    assert http.get(server.api + "quick", headers=headers, timeout=JOIN).status_code == 200
    with pytest.raises(requests.exceptions.ReadTimeout):
        http.get(server.api + "slow", headers=headers, timeout=0.05)


def test_the_log_is_what_arrived_and_is_bounded(http: requests.Session) -> None:
    """The log has headers, bodies of auth calls, connections; the oldest fall out of it."""
    with AuthServer(log_size=2) as server:
        http.get(server.api + "a", timeout=JOIN)
        http.post(server.token_url, data={"secret": "s3"}, headers={"X-Y": "z"}, timeout=JOIN)
        http.post(server.api + "b?q=s3", data=b"body", timeout=JOIN)
        token, api = server.log
    assert (token.call, token.method, token.path, token.body) == (
        "token",
        "POST",
        "/token",
        b"secret=s3",
    )
    assert token.headers["x-y"] == "z"
    assert (api.call, api.path, api.body, api.connection) == ("api", "/api/b?q=s3", b"", 1)
    assert token.at <= api.at
    assert "s3" not in repr(server.log)


def test_a_header_that_comes_twice_is_joined(server: AuthServer) -> None:
    """The log keeps both values of a header that came twice."""
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"GET /x HTTP/1.1\r\nA: 1\r\nA: 2\r\nConnection: close\r\n\r\n")
        read_all(raw)
    assert server.log[0].headers["A"] == "1, 2"


def test_wait_for_blocks_until_counted(server: AuthServer) -> None:
    """A waiter wakes at the count itself, so a test needs no sleeping."""
    found: list[Counts] = []
    waiter = threading.Thread(target=lambda: found.append(server.wait_for("logins", 2, JOIN)))
    waiter.start()
    server.login()
    server.login()
    waiter.join(JOIN)
    assert found[0].logins == 2
    with pytest.raises(TimeoutError, match="logins=2"):
        server.wait_for(lambda counts: counts.logins > 2, timeout=0.0)
    with pytest.raises(ValueError, match="not counted"):
        server.wait_for("likes")


def test_500_threads_connect_at_once() -> None:
    """The backlog and the threads suffice for 500 clients at one moment."""
    threads = 500
    statuses: list[int] = []
    together = threading.Barrier(threads)

    def ask() -> None:
        together.wait(JOIN)
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(server.api + "x", headers=headers, timeout=JOIN)
            statuses.append(answer.status_code)

    with AuthServer() as server:
        headers = bearer(server.login())
        crowd = [threading.Thread(target=ask) for _ in range(threads)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join(2 * JOIN)
        assert statuses == [200] * threads
        assert server.counts.connections == threads


def test_stop_closes_idle_and_held_connections_and_ends_its_threads() -> None:
    """I13: after `stop` no connection is open and no thread of the server's runs."""
    errors: list[str] = []

    def ask() -> None:
        try:
            requests.get(server.api + "x", timeout=JOIN)
        except requests.exceptions.ConnectionError as error:
            errors.append(type(error).__name__)

    server = AuthServer().start()
    server.faults("api", Fault(hold=threading.Event()))
    idle = socket.create_connection(("127.0.0.1", server.port))
    held = threading.Thread(target=ask)
    held.start()
    server.wait_for(lambda counts: counts.api_requests == 1 and counts.connections_open == 2)
    server.stop()
    held.join(JOIN)
    assert server.counts.connections_open == 0
    assert idle.recv(1) == b""
    idle.close()
    server.stop()  # once more does nothing
    for thread in threading.enumerate():
        if thread.name.startswith("auth-server"):
            thread.join(JOIN)
            assert not thread.is_alive()


def test_a_stopped_server_starts_again_where_it_was(http: requests.Session) -> None:
    """An outage: same port, same logins, and the counts go on."""
    server = AuthServer()
    with pytest.raises(RuntimeError, match="Start it first"):
        server.url  # noqa: B018  # a property that raises
    assert repr(server) == "<AuthServer stopped, 0 connections open>"
    with server:
        url, headers = server.api + "x", bearer(server.login())
        assert http.get(url, headers=headers, timeout=JOIN).status_code == 200
        with pytest.raises(RuntimeError, match="runs already"):
            server.start()
    with pytest.raises(requests.exceptions.ConnectionError):
        http.get(url, headers=headers, timeout=JOIN)
    with server:
        assert http.get(url, headers=headers, timeout=JOIN).status_code == 200
        assert server.counts.api_200 == 2
        assert repr(server) == f"<AuthServer at {server.url}, 1 connections open>"


def test_a_port_in_use_is_an_error_and_leaks_nothing(server: AuthServer) -> None:
    """A server that cannot have its port says so and holds no socket."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(OSError, match="in use"):
            AuthServer(port=server.port).start()
        gc.collect()


def test_accepting_survives_a_shortage_of_descriptors(
    http: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files is a pause, not the end of the server; stop ends it even then."""
    server = AuthServer()
    failed = threading.Event()
    accept = socket.socket.accept

    def short(self: socket.socket) -> Any:
        if not failed.is_set():
            failed.set()
            raise OSError("too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", short)
    with server:
        assert http.get(server.api + "x", timeout=JOIN).status_code == 401
    assert failed.is_set()
    failed.clear()
    always = threading.Event()

    def shorter(self: socket.socket) -> Any:
        always.set()
        raise OSError("too many open files")

    monkeypatch.setattr(socket.socket, "accept", shorter)
    with server:
        assert always.wait(JOIN)


def test_urls(server: AuthServer) -> None:
    """The addresses are those of the endpoints."""
    root = f"http://127.0.0.1:{server.port}/"
    assert server.url == root
    assert server.api == root + "api/"
    assert (server.login_url, server.logout_url) == (root + "login", root + "logout")
    assert (server.token_url, server.revoke_url) == (root + "token", root + "revoke")
    assert (server.refresh_url, server.cookie_url) == (root + "refresh", root + "refresh-cookie")


def test_a_body_that_stalls_does_not_hold_up_the_end(server: AuthServer) -> None:
    """A client that promised more than it sends is cut off by `stop`."""
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /token HTTP/1.1\r\nContent-Length: 3\r\n\r\na")
        server.wait_for("connections")
        server.stop()
        assert server.counts.connections_open == 0
