"""`AuthServer`: a real provider and API on loopback, to try a client on.

It speaks HTTP/1.1 with keep-alive from one free port, needs nothing beside
the standard library, starts in a millisecond and stops at once, however many
connections are open or held. What it issues is worth nothing elsewhere.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from ..grants import RefreshTokenGrant
from ..source import TokenSource
from .faults import Fault
from .handler import Backend, Handler

#: What the API says to a token that is dead, unknown or missing (RFC 6750 section 3).
REFUSAL = Fault(
    status=401,
    headers={"WWW-Authenticate": 'Bearer realm="api", error="invalid_token"'},
    body={"error": "invalid_token"},
)
_BACKLOG = 2048  # so that hundreds of threads can connect at once
_STOP_TIMEOUT = 5.0  # seconds to wait for the threads of a server that stops
_RETRY_ACCEPT = 0.01  # seconds; out of file descriptors, which pass


class AuthServer(Backend):
    """A login provider and an API that takes its tokens, on one port of this host.

    A context manager; `start` and `stop` do the same, and a stopped server
    starts again on its port with its logins, so an outage can be played. Every
    method may be called from any thread.

    Endpoints:
        POST /login: username and password (JSON or form): an OAuth reply with
            dual tokens, and the refresh token as an HttpOnly cookie too.
        POST /token: the refresh of RFC 6749 section 6.
        POST /refresh: JSON {"refresh"} to {"access", "refresh", "expires_in"}.
        POST /refresh-cookie: the cookie `refresh_token` to {"accessToken",
            "expiresIn"}, the cookie rotated by Set-Cookie.
        POST /logout: ends the login of the bearer token, of JSON {"refresh"}
            or of the cookie. POST /revoke: RFC 7009.
        /api/<anything>, any method: 200 and JSON with `method`, `path`,
            `identity`, and of the body received `length` and `sha256`; the
            refusal for a token that is dead, unknown or missing.
        /api/always-401: always the refusal. /api/forbidden: 403
            `insufficient_scope`. /api/redirect?to=URL&status=302.

    Settings, all of which may be changed while it runs:
        lifetime: seconds that access tokens live. expires_in: True: replies
            say so; False: they do not, so a client learns of the end by a
            401; a number or str: they say that, be it a lie.
        rotation: each refresh gives a new refresh token, and the old one is
            spent. reuse_detection: who uses a spent one ends the login. grace:
            seconds in which the one before the newest still works.
        client_id, client_secret: what /token and /revoke ask for, by Basic or
            in the form; None: not looked at.
        users: passwords by name, for /login; None: anybody with any password.
        scope: what is granted.
        header, prefix: where the API looks for its token; an empty prefix is
            a bare value.
        refusal: status, headers, body, reply and pause of the answer to a
            token that is no good.
        latency: seconds to think, by call or path as for `faults`, before the
            work is done: {"token": 0.3, "/api/slow": 1}.

    log_size: how many requests `log` remembers. port: 0 for a free one.
    clock: monotonic seconds, for lifetimes and grace.
    """

    def __init__(
        self,
        *,
        lifetime: float = 3600.0,
        expires_in: bool | float | str = True,
        rotation: bool = True,
        reuse_detection: bool = True,
        grace: float = 0.0,
        client_id: str | None = None,
        client_secret: str | None = None,
        users: Mapping[str, str] | None = None,
        scope: str = "api",
        header: str = "Authorization",
        prefix: str = "Bearer",
        refusal: Fault = REFUSAL,
        latency: Mapping[str, float] | None = None,
        log_size: int = 10_000,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            lifetime=lifetime,
            expires_in=expires_in,
            rotation=rotation,
            reuse_detection=reuse_detection,
            grace=grace,
            scope=scope,
            log_size=log_size,
            clock=clock,
        )
        self.client_id = client_id
        self.client_secret = client_secret
        self.users = users
        self.header = header
        self.prefix = prefix
        self.refusal = refusal
        self.latency = dict(latency or {})
        self.closing = threading.Event()
        self._host = host
        self._port = port
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._open: set[socket.socket] = set()  # guarded by _changed

    # Its life.

    def start(self) -> AuthServer:
        """Begin to listen; a connection made from here on is served. Returns itself."""
        if self._listener is not None:
            raise RuntimeError("This AuthServer runs already. Stop it first, or make another.")
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        self._listener = listener
        self.closing.clear()
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener,), name="auth-server", daemon=True
        )
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """Close every connection, idle, held or at work, and stop listening.

        Logins, counts and faults stay. Waits for its threads, 5 seconds at
        most. Does nothing if it does not run.
        """
        listener, acceptor = self._listener, self._acceptor
        if listener is None or acceptor is None:
            return
        self._listener = None
        self.closing.set()
        # Only a connection wakes accept() on every system.
        with socket.socket() as waker:
            waker.settimeout(_STOP_TIMEOUT)
            waker.connect((self._host, self._port))
            acceptor.join(_STOP_TIMEOUT)
        listener.close()
        with self._changed:
            for connection in self._open:
                _shut(connection)
            self._changed.wait_for(lambda: not self._open, _STOP_TIMEOUT)

    def __enter__(self) -> AuthServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"at {self.url}" if self._listener else "stopped"
        return f"<AuthServer {state}, {self.counts.connections_open} connections open>"

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if self.closing.wait(_RETRY_ACCEPT):
                    return
                continue
            if self.closing.is_set():
                connection.close()
                return
            with self._changed:
                self._open.add(connection)
                self._count_locked(connections=1, connections_open=1)
                number = self._counts.connections
            threading.Thread(
                target=self._serve,
                args=(connection, number),
                name=f"auth-server-{number}",
                daemon=True,
            ).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            # The client went away, or stop() closed the connection.
            with contextlib.suppress(OSError):
                Handler(connection, number, self)
        finally:
            with self._changed:
                self._open.discard(connection)
                self._count_locked(connections_open=-1)
            connection.close()

    # Where it is.

    @property
    def url(self) -> str:
        """Its root, with a slash at the end; the others below begin with it."""
        if not self._port:
            raise RuntimeError("This AuthServer has no address yet. Start it first.")
        return f"http://{self._host}:{self._port}/"

    @property
    def port(self) -> int:
        """Its port; the same again after `stop` and `start`. 0 before the first start."""
        return self._port

    @property
    def api(self) -> str:
        """The API's root, with a slash at the end."""
        return self.url + "api/"

    @property
    def login_url(self) -> str:
        """Where a name and a password give tokens."""
        return self.url + "login"

    @property
    def token_url(self) -> str:
        """The OAuth token endpoint, for RefreshTokenGrant."""
        return self.url + "token"

    @property
    def refresh_url(self) -> str:
        """The JSON refresh endpoint, for JSONGrant."""
        return self.url + "refresh"

    @property
    def cookie_url(self) -> str:
        """The cookie refresh endpoint, for CookieGrant."""
        return self.url + "refresh-cookie"

    @property
    def logout_url(self) -> str:
        """Where a login is ended."""
        return self.url + "logout"

    @property
    def revoke_url(self) -> str:
        """The revocation endpoint of RFC 7009."""
        return self.url + "revoke"

    # A client for it.

    def grant(self, **options: Any) -> RefreshTokenGrant:
        """A RefreshTokenGrant for this server; `options` are that class's."""
        options.setdefault("client_id", self.client_id or "test")
        options.setdefault("client_secret", self.client_secret)
        return RefreshTokenGrant(self.token_url, **options)

    def source(self, identity: str = "default", **options: Any) -> TokenSource:
        """A TokenSource already logged in here; `options` are that class's, `grant` too."""
        if "token" not in options:
            options["token"] = self.login(identity)
        grant = options.pop("grant", None) or self.grant()
        return TokenSource(grant, identity=identity, **options)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # its client was faster
        connection.shutdown(socket.SHUT_RDWR)
