"""The server that waits for the browser: nobody on this host can block it or make it err."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from requests_refresh.logins import loopback
from requests_refresh.logins.loopback import Loopback, answer
from tests.grants.endpoint import PATIENCE
from tests.logins.support import Clock

DONE = answer("200 OK", "Done", "Done.")
GOOD = b"GET /callback?code=c HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Served:
    """A server, what it took, and connections to it that a test opens."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.server = Loopback(0, "/callback", self.clock)
        self.queries: list[str] = []
        self.opened: list[socket.socket] = []

    def connect(self, data: bytes = b"") -> socket.socket:
        port = urlsplit(self.server.url).port
        connection = socket.create_connection(("127.0.0.1", port or 0), timeout=PATIENCE)
        self.opened.append(connection)
        connection.sendall(data)
        self.serve()
        return connection

    def serve(self, rounds: int = 3) -> None:
        for _ in range(rounds):
            self.server.serve(0.02, self.taken)

    def taken(self, query: str) -> bytes | None:
        self.queries.append(query)
        return DONE if query == "code=c" else None

    @property
    def connections(self) -> int:
        return len(self.server._open)


@pytest.fixture
def served() -> Iterator[Served]:
    """A server that works when the test lets it."""
    found = Served()
    with found.server:
        yield found
    for connection in found.opened:
        connection.close()


def all_of(connection: socket.socket) -> bytes:
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass  # what it had not read is thrown away
    return found


def test_a_request(served: Served) -> None:
    """The query of a request for the path is handed on, and the answer comes whole."""
    assert all_of(served.connect(GOOD)) == DONE
    assert served.queries == ["code=c"]
    assert served.connections == 0


def test_a_request_in_pieces(served: Served) -> None:
    """A request may come byte by byte."""
    connection = served.connect(GOOD[:5])
    connection.sendall(GOOD[5:-1])
    served.serve()
    assert served.queries == []
    connection.sendall(GOOD[-1:])
    served.serve()
    assert all_of(connection) == DONE


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (GOOD.replace(b"GET", b"POST"), b"400"),
        (GOOD.replace(b"GET", b"HEAD"), b"400"),
        (GOOD.replace(b" HTTP/1.1", b""), b"400"),
        (GOOD.replace(b"HTTP/1.1", b"SPDY/3"), b"400"),
        (GOOD.replace(b"/callback", b"/favicon.ico"), b"404"),
        (GOOD.replace(b"/callback", b"/callback/"), b"404"),
        (GOOD.replace(b"/callback", b"http://evil.test/callback"), b"404"),
        (GOOD.replace(b"code=c", b"code=d"), b"400"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"\r\n\r\n", b"400"),
    ],
    ids=["POST", "HEAD", "short", "protocol", "icon", "slash", "proxy", "refused", "TLS", "empty"],
)
def test_what_is_no_answer(served: Served, data: bytes, status: bytes) -> None:
    """Another path, method or protocol is answered, has no effect, and quotes nothing."""
    said = all_of(served.connect(data))
    assert said.startswith(b"HTTP/1.1 " + status)
    assert b"code" not in said
    assert b"evil" not in said
    assert served.queries in ([], ["code=d"])
    assert all_of(served.connect(GOOD)) == DONE


def test_one_that_floods(served: Served) -> None:
    """A request of over 8 KiB is refused, and no more of it is read."""
    connection = served.connect(b"GET /callback?code=c HTTP/1.1\r\nX: " + b"x" * 9000)
    served.serve()
    assert all_of(connection)[:12] in (b"HTTP/1.1 400", b"")
    assert (served.queries, served.connections) == ([], 0)


def test_one_that_hangs(served: Served) -> None:
    """One that says nothing, or too little, keeps nobody waiting, and is dropped in the end."""
    hung = [served.connect(), served.connect(GOOD[:9])]
    assert all_of(served.connect(GOOD)) == DONE
    assert served.connections == 2
    served.clock.now += 11
    served.serve(1)
    assert served.connections == 0
    assert [all_of(one) for one in hung] == [b"", b""]


def test_many_that_hang(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many hang the oldest makes place, so that the browser is heard."""
    monkeypatch.setattr(loopback, "_MOST", 3)
    hung = [served.connect() for _ in range(5)]
    assert served.connections == 3
    assert all_of(served.connect(GOOD)) == DONE
    assert all_of(hung[0]) == b""


def test_one_that_goes(served: Served) -> None:
    """One that hangs up, or resets, or does not take its answer, harms nobody."""
    served.connect(GOOD[:9]).close()
    reset = served.connect(GOOD[:9])
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # for no time: close sends RST
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    reset.close()
    served.serve()
    assert (served.queries, served.connections) == ([], 0)
    assert all_of(served.connect(GOOD)) == DONE


def test_one_that_does_not_take_its_answer(served: Served) -> None:
    """What a browser brought counts, even if it is gone before the answer."""
    connection = served.connect()
    (mine,) = served.server._open
    connection.sendall(GOOD)
    mine.shutdown(socket.SHUT_WR)  # nothing can be sent on it any more
    served.serve()
    assert served.queries == ["code=c"]
    assert all_of(connection) == b""


def test_one_that_is_gone_before_it_is_accepted(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where accepting fails, as with too many open files, the next one is still heard."""
    real = served.server._socket

    class Failing:
        def accept(self) -> None:
            raise OSError("too many open files")

    monkeypatch.setattr(served.server, "_socket", Failing())
    served.server._accept()
    monkeypatch.setattr(served.server, "_socket", real)
    assert all_of(served.connect(GOOD)) == DONE


def test_waiting(served: Served) -> None:
    """With nothing to do it sleeps for as long as it was told to, and no longer."""
    before = time.monotonic()
    served.server.serve(0.05, served.taken)
    assert time.monotonic() - before >= 0.04
    served.server.serve(-1.0, served.taken)


def test_a_port_again(served: Served) -> None:
    """The next login can listen on the same port at once, though its connections linger there."""
    assert all_of(served.connect(GOOD)) == DONE
    served.opened[0].close()
    port = urlsplit(served.server.url).port
    served.server.close()
    with Loopback(port or 0, "/", served.clock) as again:
        assert urlsplit(again.url).port == port


def test_an_interrupted_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """I14: Ctrl-C while it begins to listen leaves nothing open."""

    def listen(self: socket.socket, backlog: int = 0) -> None:
        raise KeyboardInterrupt

    class Socket(socket.socket):
        made: socket.socket

        def __init__(self, *args: int) -> None:
            super().__init__(*args)
            Socket.made = self

    Socket.listen = listen  # type: ignore[method-assign, assignment]  # it is the test's own
    monkeypatch.setattr(socket, "socket", Socket)
    with pytest.raises(KeyboardInterrupt):
        Loopback(0, "/", Clock())
    assert Socket.made.fileno() == -1
