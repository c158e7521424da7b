"""A TCP proxy on loopback that breaks the bytes it carries, at a byte and in a way it is told.

It takes a whole request, hands it on over a connection of its own, takes the
whole reply and hands that back. So the position of a fault is exact, and the
same fault is the same in every run.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

SAFETY = 30.0  # seconds; what waits longer has failed
_HOST = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)  # no time to linger: RST in place of FIN
_DELAY = 0.002  # seconds

Kind = Literal["delay", "cut", "reset", "stall", "again", "drip", "endless", "flip", "put", "drop"]
Side = Literal["reply", "request"]
Framing = Literal["length", "chunked", "close"]

#: What breaks a message off; what only changes when it comes; what changes its bytes.
ENDING: tuple[Kind, ...] = ("cut", "reset", "stall")
HARMLESS: tuple[Kind, ...] = ("delay", "drip")
GARBLING: tuple[Kind, ...] = ("again", "endless", "flip", "put", "drop")


@dataclass(frozen=True)
class Break:
    """What befalls one message: `kind`, before its byte number `at`.

    delay, drip: the rest comes a little later, byte by byte. cut, reset,
    stall: no more comes; FIN, RST, or an open connection that is silent.
    again: the message begins anew; at its end: it comes twice. endless: the
    rest is x without end. flip: the byte is changed by `what` as a mask. put:
    `what` comes before it. drop: it is left out.
    """

    kind: Kind
    at: int
    what: bytes = b""
    of: Side = "reply"

    def __str__(self) -> str:
        return f"{self.kind} {self.what!r} at {self.at} of the {self.of}"

    def garbled(self, message: bytes) -> bytes:
        """The message, changed; as it is where the kind changes no bytes."""
        head, tail = message[: self.at], message[self.at :]
        if self.kind == "again":
            return head + message
        if self.kind == "put":
            return head + self.what + tail
        if self.kind == "drop":
            return head + tail[1:]
        if self.kind == "flip":
            return head + bytes(byte ^ self.what[0] for byte in tail[:1]) + tail[1:]
        return message


Plan = Callable[[int], "Break | None"]


@dataclass
class Exchange:
    """A request and what the server said to it, both as they were before any fault."""

    request: bytes
    reply: bytes = b""
    broken: Break | None = None


class Proxy:
    """In front of the server at `port`. A context manager; each connection has a thread."""

    def __init__(self, port: int) -> None:
        self._server = port
        self.exchanges: list[Exchange] = []
        self.framing: Framing = "length"
        self._plan: Plan = lambda number: None
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._open: dict[socket.socket, threading.Thread] = {}  # guarded by _changed

    def __enter__(self) -> Proxy:
        self._listener = socket.create_server((_HOST, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(SAFETY)
        self._listener.close()
        with self._changed:
            serving = list(self._open.items())
            for client, _ in serving:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        for _, thread in serving:
            thread.join(SAFETY)

    def url(self, path: str) -> str:
        return f"http://{_HOST}:{self.port}/{path}"

    def begin(self, plan: Plan | None = None, framing: Framing = "length") -> None:
        """Count exchanges from 1 again, and ask `plan` for each what befalls it."""
        with self._changed:
            self.exchanges = []
            self._plan, self.framing = plan or (lambda number: None), framing

    def quiet(self) -> None:
        """Wait until no connection is open: the client has closed each that it made."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._open, SAFETY), "a socket is left open"

    @property
    def connections(self) -> int:
        """How many are open."""
        with self._changed:
            return len(self._open)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._run, args=(client,), name="proxied", daemon=True)
            with self._changed:
                self._open[client] = thread
            thread.start()

    def _run(self, client: socket.socket) -> None:
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):  # the client went away
                data = b""
                while piece := client.recv(65536):
                    data += piece
                    if (message := _whole(data, is_reply=False)) is not None:
                        data = data[len(message) :]
                        if not self._exchange(client, message):
                            return
        finally:
            with self._changed:
                client.close()
                del self._open[client]
                self._changed.notify_all()

    def _exchange(self, client: socket.socket, request: bytes) -> bool:
        """Carry a request and its reply; False when the connection is over."""
        with self._changed:
            exchange = Exchange(request)
            self.exchanges.append(exchange)
            broken = exchange.broken = self._plan(len(self.exchanges))
            framing = self.framing
        if broken is not None and broken.of == "request":
            over = self._carry_request(client, exchange, broken)
            return over if over is not None else self._reply(client, exchange, None, framing)
        with self._upstream(request) as server:
            exchange.reply = _framed(_received(server, client), framing)
        return self._reply(client, exchange, broken, framing)

    def _carry_request(
        self, client: socket.socket, exchange: Exchange, broken: Break
    ) -> bool | None:
        """Hand on what is left of the request and take the answer; not None: it ends here."""
        request = exchange.request
        if broken.kind in ENDING:
            with self._upstream(request[: broken.at]) as server:
                if broken.at == len(request):
                    _received(server, client)  # the work is done before the answer is lost
                if broken.kind == "stall":
                    client.recv(1)
            return self._end(client, broken)
        with self._upstream(b"") as server:
            with contextlib.suppress(OSError):  # it has answered already, and read no further
                _send(server, broken, request, self._closing)
                server.shutdown(socket.SHUT_WR)  # else it may wait for what was garbled away
            twice = broken.kind == "again" and broken.at == len(request)
            exchange.reply = b"".join(_received(server, client) for _ in range(1 + twice))
        return None

    def _reply(
        self, client: socket.socket, exchange: Exchange, broken: Break | None, framing: Framing
    ) -> bool:
        reply = exchange.reply
        if broken is None:
            client.sendall(reply)
        elif broken.kind in HARMLESS or broken.kind == "endless":
            _send(client, broken, reply, self._closing)
        elif broken.kind == "cut":
            return _last(client, reply[: broken.at])
        elif broken.kind in ENDING:
            client.sendall(reply[: broken.at])
            return self._end(client, broken)
        else:
            return _last(client, broken.garbled(reply))
        return framing != "close" and bool(reply)

    def _end(self, client: socket.socket, broken: Break) -> bool:
        if broken.kind == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if broken.kind == "stall":
            client.recv(1)  # until the client goes away, or we do
        return False

    @contextlib.contextmanager
    def _upstream(self, data: bytes) -> Iterator[socket.socket]:
        with socket.create_connection((_HOST, self._server)) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.sendall(data)
            yield server


def _send(to: socket.socket, broken: Break, message: bytes, closing: threading.Event) -> None:
    head, tail = message[: broken.at], message[broken.at :]
    if broken.kind == "delay":
        to.sendall(head)
        closing.wait(_DELAY)
        to.sendall(tail)
    elif broken.kind == "drip":
        to.sendall(head)
        for at in range(len(tail)):
            to.sendall(tail[at : at + 1])
    elif broken.kind == "endless":
        to.sendall(head)
        while not closing.is_set():
            to.sendall(b"x" * 16384)
    else:
        to.sendall(broken.garbled(message))


def _last(client: socket.socket, data: bytes) -> bool:
    """Send it with a FIN in the same segment, so that nobody can take the one for all there is.

    What is garbled ends its connection: a lost Content-Length would be waited for else.
    """
    client.sendall(data, socket.MSG_MORE)
    client.shutdown(socket.SHUT_WR)
    client.recv(1)  # the client closes it, too
    return False


def _received(server: socket.socket, client: socket.socket) -> bytes:
    """One reply, or what there is of it when the server has ended or the client is gone."""
    data = b""
    while (message := _whole(data, is_reply=True)) is None:
        readable, _, _ = select.select([server, client], [], [], SAFETY)
        if server not in readable:
            return data  # the client, which says nothing more, has gone away
        piece = b""
        with contextlib.suppress(OSError):  # a server that leaves bytes unread ends by RST
            piece = server.recv(65536)
        if not piece:
            return data
        data += piece
    return message


def _whole(data: bytes, *, is_reply: bool) -> bytes | None:
    """The first message in `data`, or None while its end has not come."""
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    size = len(head) + 4
    lines = head.lower()
    if b"\r\ntransfer-encoding: chunked" in lines:
        end = _end_of_chunks(body)
        return None if end is None else data[: size + end]
    found = re.search(rb"\r\ncontent-length: *(\d+)", lines)
    if found is None:
        return None if is_reply else data[:size]
    size += int(found[1])
    return data[:size] if len(data) >= size else None


def _end_of_chunks(body: bytes) -> int | None:
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:end], 16)
        at = end + 2 + size + 2
        if at > len(body):
            return None
        if not size:
            return at
    return None


def _framed(reply: bytes, framing: Framing) -> bytes:
    """The reply with its end told in another way."""
    if framing == "length":
        return reply
    head, blank, body = reply.partition(b"\r\n\r\n")
    head = re.sub(rb"(?i)\r\ncontent-length:[^\r]*", b"", head)
    if framing == "close":
        return head + b"\r\nConnection: close" + blank + body
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    return head + b"\r\nTransfer-Encoding: chunked" + blank + chunks + b"0\r\n\r\n"
