"""The mind of the test server: who is logged in, which tokens live, what was counted.

No HTTP and no sockets. One lock guards all of it, and every change wakes
those who wait for a count, so that tests need no sleeping.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from requests.structures import CaseInsensitiveDict

from .faults import Fault, Faults


@dataclass(frozen=True)
class Counts:
    """What the server has seen so far. Immutable; each change makes a new one.

    A call is counted before its answer is sent, so whoever has the answer
    finds it counted.
    """

    #: Logins that were opened, and those that ended: revoked, logged out, or reuse detected.
    logins: int = 0
    logins_ended: int = 0
    #: Calls of /token, /refresh and /refresh-cookie, counted as they arrive.
    refresh_calls: int = 0
    #: Of these: those that gave a token; those that the provider refused (a
    #: fault's answer is neither); and the uses of a refresh token already spent.
    refreshes: int = 0
    refresh_refused: int = 0
    reuses: int = 0
    #: Access tokens of a living login that had died and were then shown to the API.
    expiries: int = 0
    #: API requests as they arrive, and the answers 200 and 401 to them, a fault's included.
    api_requests: int = 0
    api_200: int = 0
    api_401: int = 0
    #: Connections accepted so far, and open now.
    connections: int = 0
    connections_open: int = 0


@dataclass(frozen=True)
class Seen:
    """One request as the server saw it, its secrets included. `repr` leaves those out.

    at: seconds, of `time.monotonic()`. connection: which one it came over,
        from 1. call: "token", "api" and so on, or "" for an unknown path. path:
        the query included. body: empty for API requests.
    """

    at: float
    connection: int
    call: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"<Seen {self.method} {self.path.partition('?')[0]} on connection {self.connection}>"


class _Login:
    """One login and its chain of refresh tokens. Guarded by the provider's lock."""

    def __init__(self, identity: str, scope: str) -> None:
        self.identity = identity
        self.scope = scope
        self.alive = True
        self.refresh_token = ""
        self.previous = ""
        self.previous_until = 0.0


class _Access:
    """One access token. Guarded by the provider's lock."""

    def __init__(self, login: _Login, until: float) -> None:
        self.login = login
        self.until = until
        self.met_dead = False


class Provider:
    """Logins, tokens, faults and counts. Every method may be called from any thread."""

    def __init__(
        self,
        *,
        lifetime: float = 3600.0,
        expires_in: bool | float | str = True,
        rotation: bool = True,
        reuse_detection: bool = True,
        grace: float = 0.0,
        scope: str = "api",
        log_size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lifetime = lifetime
        self.expires_in = expires_in
        self.rotation = rotation
        self.reuse_detection = reuse_detection
        self.grace = grace
        self.scope = scope
        self._clock = clock
        self._changed = threading.Condition()
        # All below is guarded by _changed.
        self._counts = Counts()
        self._logins: list[_Login] = []
        self._access: dict[str, _Access] = {}
        self._refresh: dict[str, _Login] = {}  # spent ones too: that is how a reuse shows
        self._log: deque[Seen] = deque(maxlen=log_size)
        self._faults = Faults()

    # What tests ask and command.

    @property
    def counts(self) -> Counts:
        """The counts as they are now."""
        with self._changed:
            return self._counts

    @property
    def log(self) -> tuple[Seen, ...]:
        """The last requests (`log_size` of them), in the order of their arrival."""
        with self._changed:
            return tuple(self._log)

    def wait_for(
        self, what: str | Callable[[Counts], bool], n: int = 1, timeout: float = 10.0
    ) -> Counts:
        """Block until a count is reached, and return the counts of that moment.

        what: the name of a count, which is to be `n` at least, or a predicate
            of the counts. It is called with the server's lock held.
        timeout: seconds; then TimeoutError, whose message shows the counts.
        """
        if not callable(what):
            name = what
            if name not in {field.name for field in fields(Counts)}:
                raise ValueError(f"{name!r} is not counted. Counted are the fields of Counts.")

            def reached(counts: Counts) -> bool:
                return bool(getattr(counts, name) >= n)

            what = reached
        condition = what
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self._counts), timeout):
                raise TimeoutError(f"Not seen within {timeout} s. The server saw {self._counts}.")
            return self._counts

    def login(self, identity: str = "default") -> dict[str, Any]:
        """Open a login without HTTP: an OAuth reply with dual tokens (RFC 6749 section 5.1)."""
        with self._changed:
            login = _Login(identity, self.scope)
            self._logins.append(login)
            self._issue_refresh_locked(login)
            self._count_locked(logins=1)
            return self._reply_locked(login, with_refresh=True)

    def logged_in(self, identity: str = "default") -> bool:
        """Whether a login of this identity is alive: its next refresh would be granted."""
        with self._changed:
            return any(one.alive and one.identity == identity for one in self._logins)

    def revoke_access(self, identity: str | None = None) -> int:
        """Kill the living access tokens, of all or of one identity; the logins stay.

        Returns how many there were.
        """
        with self._changed:
            now = self._clock()
            living = [
                access
                for access in self._access.values()
                if access.until > now and identity in (None, access.login.identity)
            ]
            for access in living:
                access.until = now
            return len(living)

    def expire(self, identity: str | None = None) -> int:
        """Let the lifetime of the living access tokens be over now; as `revoke_access`."""
        return self.revoke_access(identity)

    def revoke_login(self, identity: str | None = None) -> int:
        """End the living logins, of all or of one identity, with all their tokens.

        Returns how many there were.
        """
        with self._changed:
            living = [
                login
                for login in self._logins
                if login.alive and identity in (None, login.identity)
            ]
            for login in living:
                self._end_locked(login)
            return len(living)

    def faults(
        self, where: str, fault: Fault, *, times: int | None = 1, at: int | None = None
    ) -> None:
        """Let a fault befall calls from now on.

        where: "login", "token", "refresh", "cookie", "logout", "revoke",
            "api", or a path such as "/api/items". Else ValueError.
        times: the next so many calls, those left out that an earlier fault
            takes; None: all, until `clear_faults`.
        at: only the so-manieth call from now on, the next being 1, and then
            before any fault that is there for `times`.
        """
        with self._changed:
            self._faults.add(where, fault, times, at)

    def clear_faults(self) -> None:
        """Forget the faults that have not come yet. Those under way go on."""
        with self._changed:
            self._faults.clear()

    # What the HTTP side does.

    def count(self, **by: int) -> None:
        """Add to counts."""
        with self._changed:
            self._count_locked(**by)

    def record(
        self,
        connection: int,
        call: str,
        method: str,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes,
    ) -> Fault | None:
        """Note and count a request that has arrived, and give the fault that befalls it."""
        mapping: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        for name, value in headers:
            mapping[name] = f"{mapping[name]}, {value}" if name in mapping else value
        seen = Seen(time.monotonic(), connection, call, method, path, mapping, body)
        with self._changed:
            self._log.append(seen)
            self._count_locked(
                api_requests=call == "api",
                refresh_calls=call in ("token", "refresh", "cookie"),
            )
            return self._faults.take(call, path.partition("?")[0])

    def check(self, access_token: str) -> str | None:
        """The identity that a living access token stands for, or None. Counts expiries."""
        with self._changed:
            access = self._access.get(access_token)
            if access is None or not access.login.alive:
                return None
            if access.until > self._clock():
                return access.login.identity
            if not access.met_dead:
                access.met_dead = True
                self._count_locked(expiries=1)
            return None

    def renew(self, refresh_token: str, scope: str | None = None) -> dict[str, Any] | str:
        """An OAuth reply for a refresh token, or the RFC's error code.

        scope: what the client asks for, if it does; not more than was granted
        (RFC 6749 section 6). The reply holds a refresh token if it rotates.
        """
        with self._changed:
            login = self._refresh.get(refresh_token)
            if login is None or not login.alive:
                return "invalid_grant"
            if refresh_token != login.refresh_token and not (
                refresh_token == login.previous and self._clock() < login.previous_until
            ):
                if self.reuse_detection:
                    self._end_locked(login)
                self._count_locked(reuses=1)
                return "invalid_grant"
            if scope and not set(scope.split()) <= set(login.scope.split()):
                return "invalid_scope"
            # In the time of grace the token that was issued last is given once more.
            if self.rotation and refresh_token == login.refresh_token:
                login.previous = refresh_token
                login.previous_until = self._clock() + self.grace
                self._issue_refresh_locked(login)
            self._count_locked(refreshes=1)
            return self._reply_locked(login, with_refresh=self.rotation, scope=scope)

    def end_login_of(self, token: str) -> None:
        """End the login that an access or refresh token belongs to; unknown ones: nothing."""
        with self._changed:
            access = self._access.get(token)
            login = access.login if access else self._refresh.get(token)
            if login is not None and login.alive:
                self._end_locked(login)

    def revoke_token(self, token: str) -> None:
        """RFC 7009: an access token dies alone, a refresh token with its login."""
        with self._changed:
            access = self._access.get(token)
            if access is not None:
                access.until = min(access.until, self._clock())
            else:
                self.end_login_of(token)

    def _issue_refresh_locked(self, login: _Login) -> None:
        login.refresh_token = "rt-" + secrets.token_urlsafe(24)
        self._refresh[login.refresh_token] = login

    def _reply_locked(
        self, login: _Login, *, with_refresh: bool, scope: str | None = None
    ) -> dict[str, Any]:
        access_token = "at-" + secrets.token_urlsafe(24)
        self._access[access_token] = _Access(login, self._clock() + self.lifetime)
        reply: dict[str, Any] = {
            "access_token": access_token,
            "token_type": "Bearer",
            "scope": scope or login.scope,
        }
        if with_refresh:
            reply["refresh_token"] = login.refresh_token
        if self.expires_in is True:
            whole = int(self.lifetime)
            reply["expires_in"] = whole if whole == self.lifetime else self.lifetime
        elif self.expires_in is not False:
            reply["expires_in"] = self.expires_in
        return reply

    def _end_locked(self, login: _Login) -> None:
        login.alive = False
        self._count_locked(logins_ended=1)

    def _count_locked(self, **by: int) -> None:
        now = self._counts
        self._counts = replace(now, **{name: getattr(now, name) + n for name, n in by.items()})
        self._changed.notify_all()
