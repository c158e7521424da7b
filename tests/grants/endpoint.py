"""A real HTTP server on loopback that answers as a test tells it, down to the bytes."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

PEM = Path(__file__).with_name("localhost.pem")  # made up, and good for 127.0.0.1 alone
TOKEN = {"access_token": "new-access", "token_type": "bearer", "expires_in": 3600}
PATIENCE = 30.0  # seconds; what waits longer than this has failed


@dataclass(frozen=True)
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        pairs = parse_qsl(self.body.decode(), keep_blank_values=True)
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Handler(BaseHTTPRequestHandler):
    """Notes each request and leaves the answer to the next behaviour in line."""

    server: EndpointServer
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.title(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, headers, body))
        self.close_connection = True
        behave = self.server.behaviours.pop(0)
        with suppress(OSError):  # the client has gone, as it should
            behave(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_CONNECT = handle_any

    def log_message(self, *args: Any) -> None:
        pass


class EndpointServer(ThreadingHTTPServer):
    """Where it is, what it saw, and what it will do."""

    daemon_threads = True
    request_queue_size = 64  # connections that nobody has accepted yet

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[Seen] = []
        self.behaviours: list[Behaviour] = []
        self.closing = threading.Event()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/token"

    @property
    def only(self) -> Seen:
        (request,) = self.seen
        return request

    def will(self, *behaviours: Behaviour) -> None:
        self.behaviours += behaviours

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up in a handshake


Behaviour = Callable[[Handler], None]


@dataclass
class Answer:
    """An ordinary answer: a dict goes as JSON."""

    status: int = 200
    body: bytes | str | dict[str, Any] | list[Any] = field(default_factory=lambda: dict(TOKEN))
    media: str | None = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, handler: Handler) -> None:
        body = self.body if isinstance(self.body, (bytes, str)) else json.dumps(self.body)
        data = body.encode() if isinstance(body, str) else body
        handler.send_response_only(self.status)  # no Date but a test's
        if self.media is not None:
            handler.send_header("Content-Type", self.media)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("Connection", "close")
        for name, value in self.headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


def raw(data: bytes) -> Behaviour:
    """These bytes, and then the connection ends."""

    def behave(handler: Handler) -> None:
        handler.wfile.write(data)

    return behave


def reset(handler: Handler) -> None:
    """The connection is reset with nothing said."""
    option = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # linger for no time: close sends RST
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
    handler.connection.close()


def silence(handler: Handler) -> None:
    """Nothing, until the client gives up."""
    handler.connection.settimeout(PATIENCE)
    handler.connection.recv(1)


def drip(data: bytes, slow_from: int) -> Behaviour:
    """`data` at once up to `slow_from`, then a byte at a time; all of it comes in the end.

    Each byte comes well within a read timeout, so only a bound on the whole
    keeps a client from taking it.
    """

    def behave(handler: Handler) -> None:
        handler.wfile.write(data[:slow_from])
        for byte in data[slow_from:]:
            if handler.server.closing.wait(0.02):
                return
            handler.wfile.write(bytes([byte]))

    return behave


def flood(handler: Handler) -> None:
    """One interim answer after the other, as fast as they are taken."""
    while not handler.server.closing.is_set():
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@contextmanager
def running(*, tls: bool | ssl.SSLContext = False) -> Iterator[EndpointServer]:
    """A server for the time of a `with`. tls: with this host's certificate, or with a context."""
    server = EndpointServer()
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if isinstance(tls, ssl.SSLContext):
            context = tls
        else:
            context.load_cert_chain(PEM)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()
