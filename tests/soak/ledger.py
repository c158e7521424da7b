"""A provider that keeps a book of what it issues: from which refresh token, to whom, when.

`AuthServer`, with the book. "When" is what the client says of the moment at which it
sent: it counts a token's life from there, so whether a refresh came too soon can be
told however busy the machine is.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Any

from requests import PreparedRequest
from requests.auth import AuthBase

from requests_refresh.testing import AuthServer, Fault

SENT, SENDER = "X-Sent", "X-Sender"


class Stamp(AuthBase):
    """For a grant: says in each request when it was sent, by the clock of all, and by whom."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers[SENT] = repr(time.monotonic())
        request.headers[SENDER] = str(os.getpid())
        return request


@dataclass
class Issue:
    """An access token. Seconds of the monotonic clock."""

    sent: float
    at: float
    by: int
    repeat: bool = False  # by the refresh token before the newest, in its time of grace
    revoked: bool = False


class Ledger(AuthServer):
    """Of one login. `issues` is to be read when all is over."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.issues: list[Issue] = []
        self.revocations = 0
        self._arrived = threading.local()  # each connection is served by a thread of its own

    @property
    def newest(self) -> str:
        """The refresh token that is good."""
        with self._changed:
            return self._logins[-1].refresh_token

    def login(self, identity: str = "default") -> dict[str, Any]:
        now = time.monotonic()
        self.issues.append(Issue(now, now, os.getpid()))
        return super().login(identity)

    def record(
        self,
        connection: int,
        call: str,
        method: str,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes,
    ) -> Fault | None:
        self._arrived.stamp = dict(headers) if call == "token" else {}
        return super().record(connection, call, method, path, headers, body)

    def renew(self, refresh_token: str, scope: str | None = None) -> dict[str, Any] | str:
        with self._changed:
            repeat = refresh_token != self.newest
            reply = super().renew(refresh_token, scope)
            if not isinstance(reply, str):
                stamp = self._arrived.stamp
                sent, by = float(stamp[SENT]), int(stamp[SENDER])
                self.issues.append(Issue(sent, time.monotonic(), by, repeat))
            return reply

    def revoke_access(self, identity: str | None = None) -> int:
        with self._changed:
            self.revocations += 1
            for issue in self.issues:
                issue.revoked = True
            return super().revoke_access(identity)
