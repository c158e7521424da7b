"""A server on loopback that sends the very bytes a test tells it, and notes what came.

For what `AuthServer` cannot do: answers before the body was read, broken
framing, TLS, a proxy. A test gives the function that serves a connection.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requests.structures import CaseInsensitiveDict

PEM = Path(__file__).parents[1] / "grants" / "localhost.pem"  # for 127.0.0.1 and localhost
PATIENCE = 20.0  # seconds; what waits longer than this has failed
RESET = b"reset"  # an answer: no bytes, but RST


@dataclass(frozen=True)
class Request:
    """One request as it came, over the so-manieth connection."""

    method: str
    target: str
    headers: CaseInsensitiveDict[str]
    connection: int
    body: bytes = b""

    @property
    def token(self) -> str | None:
        """What the Authorization header says, without the scheme."""
        value = self.headers.get("Authorization")
        return None if value is None else value.partition(" ")[2]


def reply(status: int, body: bytes = b"", *headers: str, length: bool = True) -> bytes:
    """An answer; headers are whole lines."""
    lines = [f"HTTP/1.1 {status} Said", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


OK = reply(200, b"fine")
REFUSED = reply(401, b"refused", 'WWW-Authenticate: Bearer error="invalid_token"')


class Connection:
    """What a function that serves has in hand."""

    def __init__(self, wire: Wire, sock: socket.socket, number: int) -> None:
        self.wire = wire
        self.sock = sock
        self.number = number
        self.file: io.BufferedReader = sock.makefile("rb")

    def head(self) -> Request | None:
        """The next request without its body, which is then noted; None at the end."""
        line = self.file.readline().decode("latin-1").split()
        if not line:
            return None
        headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        while text := self.file.readline().decode("latin-1").strip():
            name, _, value = text.partition(":")
            headers[name] = value.strip()
        request = Request(line[0], line[1], headers, self.number)
        self.wire.note(request)
        return request

    def body_of(self, request: Request) -> bytes | None:
        """Its body; None if the client broke it off."""
        if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
            size = int(request.headers.get("Content-Length", 0))
            data = self.file.read(size)
            return data if len(data) == size else None
        data = b""
        while line := self.file.readline():
            size = int(line, 16)
            data += self.file.read(size)
            self.file.readline()
            if not size:
                return data
        return None

    def request(self) -> Request | None:
        """The next request as a whole; None at the end."""
        head = self.head()
        if head is None:
            return None
        body = self.body_of(head)
        self.wire.broken_off += body is None
        whole = Request(head.method, head.target, head.headers, self.number, body or b"")
        self.wire.note(whole, instead_of=head)
        return None if body is None else whole

    def send(self, data: bytes) -> None:
        """Send `data`, or what RESET stands for."""
        if data == RESET:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionError
        self.sock.sendall(data)


Serve = Callable[[Connection], None]


def answering(answer: Callable[[Request], bytes | None]) -> Serve:
    """Serves each whole request with what `answer` says; None ends the connection."""

    def serve(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            data = answer(request)
            if data is None:
                return
            connection.send(data)

    return serve


def taking(*tokens: str, refused: bytes = REFUSED, ok: bytes = OK) -> Serve:
    """An API that takes these tokens and no other."""
    return answering(lambda request: ok if request.token in tokens else refused)


class Wire:
    """The server; a context manager. Each connection is served on a thread of its own."""

    def __init__(self, serve: Serve, *, host: str = "127.0.0.1", tls: bool = False) -> None:
        self._serve = serve
        self._host = host
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(PEM)
        self.requests: list[Request] = []
        self.broken_off = 0  # requests whose body did not come to its end
        self.connections = 0
        self.tired = 0  # connections that stayed silent for as long as a test may take
        self.closing = threading.Event()
        self._changed = threading.Condition()
        self._open: set[Any] = set()  # guarded by _changed

    def __enter__(self) -> Wire:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.create_server((self._host, 0), family=family, backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)
        with self._changed:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            assert self._changed.wait_for(lambda: not self._open, PATIENCE)

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http{'s' if self._tls else ''}://{host}:{self.port}/"

    def note(self, request: Request, instead_of: Request | None = None) -> None:
        with self._changed:
            if instead_of is not None:
                self.requests.remove(instead_of)
            self.requests.append(request)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[Wire], bool]) -> None:
        """Block until a request makes `condition` true."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self._open.add(sock)
                self.connections += 1
                number = self.connections
            threading.Thread(target=self._run, args=(sock, number), daemon=True).start()

    def _run(self, sock: socket.socket, number: int) -> None:
        plain = sock
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                with self._changed:
                    self._open.discard(plain)
                    self._open.add(sock)
            connection = Connection(self, sock, number)
            with connection.file:
                self._serve(connection)
        except (OSError, ValueError):
            pass  # the client went away, or the test ends
        finally:
            sock.close()
            with self._changed:
                self._open -= {plain, sock}
                self._changed.notify_all()
