"""Connections that keep to a deadline, for the one exchange that they are made for.

A socket's own timeout starts anew with each byte, so a server that drips, be
it the status line, never ends it. Here every read looks at the deadline.
"""

from __future__ import annotations

import http.client
import io
import time
from functools import partial
from typing import Any

from requests.adapters import HTTPAdapter


class Wire:
    """The limits of one exchange, and whether it has begun.

    connect: seconds until a proxy has answered. read: seconds, from when the
    connection is open, until the whole reply is there. end: the moment, on the
    monotonic clock, at which all is over.
    """

    def __init__(self, connect: float, read: float, end: float) -> None:
        self.read = read
        self.end = end
        self.deadline = min(time.monotonic() + connect, end)
        self.opened = False  # connected, through TLS and tunnel: what is sent may arrive
        self.in_head = True  # of a response: it may not end here

    def open(self) -> None:
        self.opened = True
        self.deadline = min(time.monotonic() + self.read, self.end)


class BoundedAdapter(HTTPAdapter):
    """Sends over connections that keep to the limits of a wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        wire, base = self._wire, pool.ConnectionCls

        def connect(connection: Any) -> None:
            base.connect(connection)
            wire.open()

        pool.ConnectionCls = type(
            base.__name__,
            (base,),
            {"connect": connect, "response_class": staticmethod(partial(_Response, wire))},
        )
        return pool


class _Response(http.client.HTTPResponse):
    """A response whose head came whole: http.client takes a cut one for a short one."""

    def __init__(self, wire: Wire, sock: Any, *args: Any, **kwargs: Any) -> None:
        self._wire = wire
        wire.in_head = True
        bounded: Any = _Bounded(sock, wire)
        super().__init__(bounded, *args, **kwargs)

    def begin(self) -> None:
        super().begin()
        self._wire.in_head = False
        # From the first line that is no header on, nothing of the head was parsed. urllib3 would
        # log all of it, and it may hold a Set-Cookie with the refresh token.
        self.msg.set_payload("")
        self.msg.defects.clear()


class _Bounded:
    """What http.client.HTTPResponse wants of a socket."""

    def __init__(self, sock: Any, wire: Wire) -> None:
        self._sock = sock
        self._wire = wire

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._wire))


class _Incoming(io.RawIOBase):
    """The bytes that a socket receives, before the deadline."""

    def __init__(self, sock: Any, wire: Wire) -> None:
        self._sock = sock
        self._wire = wire
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._wire.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the reply took too long")
        self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        if not count and self._wire.in_head:
            raise ConnectionError("the reply ended in its head")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
