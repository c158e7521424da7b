"""The server on this host to which a browser brings the answer (RFC 8252 section 7.3).

It works in its caller's thread, takes a few bytes from each connection for a
few seconds, and hands on what came for its path. One that hangs or floods
keeps no other from being heard. It logs nothing, as the query holds the code.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from ..errors import ConfigurationError

HOST = "127.0.0.1"
_LONGEST = 8192  # bytes of a request
_PATIENCE = 10.0  # seconds for a request
_MOST = 64  # connections at a time; the oldest makes place
_PAGE = (
    "<!DOCTYPE html>\n"
    '<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
    "<body><h1>{title}</h1><p>{text}</p></body></html>\n"
)
_HEADERS = (
    "Content-Type: text/html; charset=utf-8",
    "Cache-Control: no-store",
    "Referrer-Policy: no-referrer",
    "Content-Security-Policy: default-src 'none'",
    "X-Content-Type-Options: nosniff",
    "Connection: close",
)


def answer(status: str, title: str, text: str) -> bytes:
    """A whole HTTP answer: a page with no script in it, that nobody may keep."""
    body = _PAGE.format(title=title, text=text).encode()
    lines = [f"HTTP/1.1 {status}", *_HEADERS, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


_BAD = answer("400 Bad Request", "Bad request", "This is not what a login waits for.")
_NOT_FOUND = answer("404 Not Found", "Not found", "There is nothing here.")

Taken = Callable[[str], bytes | None]


class Loopback:
    """Listens from its making until the end of its `with`.

    port: 0 for any that is free. path: of the redirect URI. clock: monotonic.

    Raises ConfigurationError where it cannot listen.
    """

    def __init__(self, port: int, path: str, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._open: dict[socket.socket, tuple[bytes, float]] = {}  # what came, until when
        self._selector = selectors.DefaultSelector()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # A port that the last login gave back a moment ago is free.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setblocking(False)
            self._socket.bind((HOST, port))
            self._socket.listen(_MOST)
            self._selector.register(self._socket, selectors.EVENT_READ)
        except BaseException as exc:
            self.close()
            if not isinstance(exc, OSError):
                raise
            problem = exc.strerror
        else:
            self.url = f"http://{HOST}:{self._socket.getsockname()[1]}{path}"
            return
        raise ConfigurationError(
            f"The login could not listen on {HOST}, port {port}: {problem}. Nothing was sent. Wait"
            " for another login to end, or choose another port that is registered; 0 takes one"
            " that is free."
        )

    def __enter__(self) -> Loopback:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all that is open, and listen no more."""
        for connection in [*self._open, self._socket]:
            connection.close()
        self._open.clear()
        self._selector.close()

    def serve(self, seconds: float, taken: Taken) -> None:
        """Wait for requests, for so long at most, and answer those that have come.

        taken: given the query of each request for the path, returns the
            answer to it, or None for one that means nothing.
        """
        ready = [key.fileobj for key, _ in self._selector.select(seconds)]
        for connection in [one for one in self._open if one in ready]:
            self._read(connection, taken)
        if self._socket in ready:
            self._accept()  # last, as it may drop one of the others
        now = self._clock()
        for connection in [one for one, (_, until) in self._open.items() if until <= now]:
            self._drop(connection)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:  # it has gone again, or there are too many files open just now
            return
        if len(self._open) >= _MOST:
            self._drop(next(iter(self._open)))
        connection.setblocking(False)
        self._open[connection] = b"", self._clock() + _PATIENCE
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket, taken: Taken) -> None:
        came, until = self._open[connection]
        try:
            piece = connection.recv(_LONGEST + 1 - len(came))
        except OSError:  # a reset, or nothing after all
            piece = b""
        came += piece
        if piece and b"\r\n\r\n" not in came and len(came) <= _LONGEST:
            self._open[connection] = came, until
            return
        if piece:
            reply = _BAD if len(came) > _LONGEST else self._reply_to(came, taken)
            with suppress(OSError):  # whoever asked has gone; what he brought counts all the same
                connection.send(reply)  # it is short, and the first: there is room for it
        self._drop(connection)

    def _reply_to(self, came: bytes, taken: Taken) -> bytes:
        words = came.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or words[0] != "GET" or not words[2].startswith("HTTP/1."):
            return _BAD
        path, _, query = words[1].partition("?")
        if path != self._path:
            return _NOT_FOUND
        return taken(query) or _BAD

    def _drop(self, connection: socket.socket) -> None:
        del self._open[connection]
        self._selector.unregister(connection)
        connection.close()
