"""The Authlib server as a test sees it: where it is, who may use it, what it counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import requests

from tests.providers.processes import started


@dataclass(frozen=True)
class Counts:
    """What the server saw since `reset()`. The two mappings are by grant type."""

    requests: dict[str, int]  # at the token endpoint, refused ones too
    issued: dict[str, int]  # answered with a token
    refreshes: int  # refresh tokens spent well
    reuses: int  # refresh tokens that came a second time; each ended its login
    jtis: int  # different ones, in client assertions and assertion grants
    repeated_jtis: int  # refused
    revocations: int  # of tokens that the server knew
    served: int  # by the API
    refused: int  # by the API


class AuthlibServer:
    """A running server. Every method may be called from any thread."""

    def __init__(self, where: dict[str, Any]) -> None:
        self.url: str = where["url"]
        self.issuer = self.url
        self.token_url = f"{self.url}/token"
        self.authorize_url = f"{self.url}/authorize"
        self.device_url = f"{self.url}/device_authorization"
        self.revocation_url = f"{self.url}/revoke"
        self.api = f"{self.url}/api/"
        self.user: str = where["user"]
        self._clients: dict[str, list[str]] = where["clients"]
        self._keys: dict[str, str] = where["keys"]

    def client_id(self, method: str) -> str:
        """The client that authenticates by `method`, and by no other."""
        return self._clients[method][0]

    def client_secret(self, method: str) -> str | None:
        """Its secret; None for `private_key_jwt` and `none`."""
        return self._clients[method][1] or None

    def private_key(self, kind: str = "rsa") -> str:
        """The PEM of the "rsa" or "ec" key of the client of `private_key_jwt`.

        The key's id is its kind; an assertion may also name no id.
        """
        return self._keys[kind]

    def login(
        self, method: str = "client_secret_basic", scope: str = "", audience: Sequence[str] = ()
    ) -> dict[str, Any]:
        """A new login of the user with that client: the token reply, with a refresh token.

        Without a scope it is "read write"; with an audience, that is what was granted.
        """
        values = {"client_id": self.client_id(method), "scope": scope, "audience": list(audience)}
        return cast("dict[str, Any]", self._control("login", **values))

    def reset(self) -> None:
        """Forgets every login, count, setting and `jti`."""
        self._control("reset")

    def counts(self) -> Counts:
        return Counts(**self._control("counts"))

    def last(self, path: str = "/token") -> dict[str, Any]:
        """What came last to this path: no secrets, but the names of what was sent.

        method, names and query_names (sorted), grant_type, scope, resource and
        audience (lists), token_type_hint, authorization (the scheme), accept,
        content_type. Raises AssertionError if nothing came.
        """
        found = self._control("last", path=path)
        assert found is not None, f"nothing came to {path}"
        return cast("dict[str, Any]", found)

    def expire(self) -> None:
        """All access tokens are dead now; refresh tokens stay good."""
        self._control("expire")

    def configure(self, **settings: int) -> None:
        """Seconds: lifetime (of access tokens, 3600), interval (5) and device_lifetime (1800)."""
        assert settings.keys() <= {"lifetime", "interval", "device_lifetime"}
        self._control("settings", **settings)

    def slow_down(self, times: int = 1) -> None:
        """The next polls for a device that is not confirmed get `slow_down`."""
        self._control("settings", slow_downs=times)

    def deny(self, times: int = 1) -> None:
        """The next authorization requests end in `access_denied`."""
        self._control("settings", denials=times)

    def answer(
        self, path: str, status: int, times: int = 1, retry_after: str | None = None
    ) -> None:
        """The next requests to this path, as "/token", get this status and do nothing."""
        values = {"status": status, "times": times, "retry_after": retry_after}
        self._control("answer", path=path, **values)

    def confirm(self, user_code: str, approve: bool = True) -> None:
        """The person at the verification page says yes, or no."""
        decision = {"user_code": user_code, "approve": "yes" if approve else "no"}
        with _plain() as http:
            http.post(f"{self.url}/device", data=decision, timeout=30).raise_for_status()

    def get(self, access_token: str, path: str = "items") -> requests.Response:
        """The API's answer to this token: `items` wants the scope read, `admin` wants admin."""
        with _plain() as http:
            headers = {"Authorization": f"Bearer {access_token}"}
            return http.get(self.api + path, headers=headers, timeout=30)

    def _control(self, name: str, **values: Any) -> Any:
        with _plain() as http:
            reply = http.post(f"{self.url}/control/{name}", json=values, timeout=30)
            reply.raise_for_status()
            return reply.json()


def _plain() -> requests.Session:
    http = requests.Session()
    http.trust_env = False
    return http


@contextmanager
def running_authlib(directory: Path) -> Iterator[AuthlibServer]:
    """One server, from its first answer until the end of the block."""
    module = ["-m", "tests.authorization.authlib_server"]
    with started("authlib_server", module, directory) as where:
        yield AuthlibServer(where)
