"""A provider with an API whose every secret is a canary, and that fails as it is told."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.grants.endpoint import PATIENCE, Answer, Behaviour, EndpointServer, Handler, running

from .secrets import Secrets

_CHALLENGE = [("WWW-Authenticate", 'Bearer error="invalid_token"')]


class _Line(list[Behaviour]):
    """The behaviours of an EndpointServer: never empty, as the provider itself comes last."""

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self._provider = provider

    def pop(self, index: object = 0) -> Behaviour:
        return self._provider.answer


class Provider:
    """What the endpoints do, on the server that it was given.

    /api/... takes the newest token; all that is no other endpoint issues tokens.
    """

    def __init__(self, server: EndpointServer, secrets: Secrets) -> None:
        self.server = server
        self.secrets = secrets
        self.root = server.url.removesuffix("/token")
        self.api = f"{self.root}/api/"
        self.living: set[str] = set()
        self._faults: dict[str, list[Behaviour]] = defaultdict(list)
        self._arrived = threading.Semaphore(0)
        server.behaviours = _Line(self)

    def issue(self, kind: str = "Bearer") -> dict[str, Any]:
        """A new login, as an OAuth reply."""
        new = self.secrets.canary
        access, refresh = new("access token", "-._~+/"), new("refresh token", "-+/=%")
        self.living = {access}
        return {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": kind,
            "expires_in": 3600,
            "scope": "api",
            "id_token": new("id_token"),
            "session": {"key": new("extra value", '"\\ä')},
        }

    def revoke_access(self) -> None:
        """The living token dies, and the client is not told."""
        self.living = set()

    def will(self, path: str, *behaviours: Behaviour) -> None:
        """What happens there next, once each; then it works again."""
        self._faults[path] += behaviours

    def clear(self) -> None:
        self._faults.clear()

    @contextmanager
    def holding(self, path: str) -> Iterator[Callable[[], None]]:
        """The next call there is answered at the end; yields what waits until it has come."""
        go = threading.Event()

        def hold(handler: Handler) -> None:
            self._arrived.release()
            assert go.wait(PATIENCE)
            self.answer(handler)

        def arrived() -> None:
            assert self._arrived.acquire(timeout=PATIENCE)

        self.will(path, hold)
        try:
            yield arrived
        finally:
            go.set()

    def answer(self, handler: Handler) -> None:
        parts = urlsplit(handler.path)
        if self._faults[parts.path]:
            self._faults[parts.path].pop(0)(handler)
        elif parts.path.startswith("/api/"):
            self._api(handler, parts.path, parse_qs(parts.query))
        elif parts.path == "/revoke":
            Answer(200, {})(handler)
        elif parts.path == "/device":
            Answer(200, self._device())(handler)
        elif parts.path.startswith("/.well-known/"):
            Answer(200, {"issuer": self.root, "token_endpoint": self.server.url})(handler)
        else:
            reply = self.issue("DPoP" if handler.headers.get("DPoP") else "Bearer")
            cookie = f"refresh_token={reply['refresh_token']}; HttpOnly"
            if "form" not in handler.headers.get("Content-Type", ""):  # no OAuth
                access, refresh = reply["access_token"], reply["refresh_token"]
                reply = {"access": access, "accessToken": access, "refresh": refresh}
            Answer(200, reply, headers=[("Set-Cookie", cookie)])(handler)

    def _api(self, handler: Handler, path: str, query: dict[str, list[str]]) -> None:
        shown = handler.headers.get("Authorization", "").rpartition(" ")[2]
        if shown not in self.living or path.endswith("/always"):
            Answer(401, "dead", headers=_CHALLENGE)(handler)
        elif "to" in query:
            Answer(302, "", headers=[("Location", query["to"][0])])(handler)
        else:
            Answer(200, "fine", headers=[("Set-Cookie", "theme=dark")])(handler)

    def _device(self) -> dict[str, Any]:
        return {
            "device_code": self.secrets.canary("device code"),
            "user_code": "WDJB-MJHT",
            "verification_uri": f"{self.root}/page",
            "expires_in": 60,
            "interval": 1,
        }


@contextmanager
def provided(secrets: Secrets) -> Iterator[Provider]:
    """A provider for the time of a `with`."""
    with running() as server:
        yield Provider(server, secrets)


def echo(status: int) -> Behaviour:
    """All that was sent comes back, in the places that an error quotes."""

    def behave(handler: Handler) -> None:
        seen = handler.server.seen[-1]
        form = parse_qs(seen.body.decode("latin-1"))
        sent = [
            seen.body.decode("latin-1"),
            *(value for values in form.values() for value in values),
        ]
        names = ("Authorization", "Cookie", "X-Key", "Dpop")
        sent += [seen.headers[name] for name in names if name in seen.headers]
        said = " ".join(sent)
        Answer(status, {"error": said, "error_description": json.dumps(sent)})(handler)

    return behave
