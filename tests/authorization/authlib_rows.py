"""What the Authlib server remembers: its clients, what it issued, what it counted.

All of it lives in memory, and every row is read and changed under `State.lock`
only, which the server takes for a whole request: two uses of one refresh token
at the same moment must not both be the first.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from joserfc.jwk import ECKey, RSAKey

USER = "alice"
SCOPES = ["read", "write", "admin"]
ALLOWED = [
    "read",
    "write",
]  # what a client may ask for; asking for more is cut, and for none is all
CLIENT_GRANTS = [
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:token-exchange",
]
# By authentication method: one client each, that may use no other method. The
# characters in the first two are such as must be encoded in a header and a form.
CLIENTS = {
    "client_secret_basic": ("sync:basic", "a%3Asecret:of/100%&more"),
    "client_secret_post": ("sync&post", "another+secret &=100%"),
    "client_secret_jwt": ("sync-jwt", "a secret of thirty-two bytes at the very least"),
    "private_key_jwt": ("sync-key", ""),
    "none": ("sync-app", ""),
}
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass
class Client:
    """One registered client, as Authlib asks after it."""

    client_id: str
    secret: str
    method: str

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str | None) -> str:
        asked = scope.split() if scope else ALLOWED
        return " ".join(s for s in asked if s in ALLOWED)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """A loopback address and any port (RFC 8252 section 7.3)."""
        parts = urlsplit(redirect_uri)
        return parts.scheme == "http" and parts.hostname in LOOPBACK

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        if method == "client_assertion_jwt":
            return self.method in ("client_secret_jwt", "private_key_jwt")
        return method == self.method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in CLIENT_GRANTS


@dataclass
class Issued:
    """One issue of tokens. All that descend from one login share its `login`."""

    client_id: str
    user: str | None
    login: str
    access_token: str
    refresh_token: str | None
    scope: str
    granted_scope: str  # what the refresh token may ask for again
    audience: list[str]
    granted_audience: list[str]
    expires_at: float
    used: bool = False  # the refresh token
    revoked: bool = False  # the access token
    refresh_revoked: bool = False

    def check_client(self, client: Client) -> bool:
        return self.client_id == client.client_id

    def get_scope(self) -> str:
        return self.scope

    def get_expires_in(self) -> int:
        return int(self.expires_at - time.time())

    def is_expired(self) -> bool:
        return time.time() >= self.expires_at

    def is_revoked(self) -> bool:
        return self.revoked


@dataclass
class Code:
    """An authorization code, good for one use within a minute."""

    code: str
    client_id: str
    redirect_uri: str | None
    scope: str
    audience: list[str]
    code_challenge: str | None
    code_challenge_method: str | None
    login: str = field(default_factory=secrets.token_hex)
    expires_at: float = field(default_factory=lambda: time.time() + 60)
    used: bool = False

    def get_redirect_uri(self) -> str | None:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


@dataclass
class Device:
    """A device that waits for somebody to type its user code."""

    client_id: str
    scope: str
    user_code: str
    expires_at: float
    audience: list[str]
    approved: bool | None = None

    def get_client_id(self) -> str:
        return self.client_id

    def get_scope(self) -> str:
        return self.scope

    def get_user_code(self) -> str:
        return self.user_code

    def is_expired(self) -> bool:
        return time.time() >= self.expires_at


class State:
    """Everything, and how a test sets and reads it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clients = {
            client_id: Client(client_id, secret, method)
            for method, (client_id, secret) in CLIENTS.items()
        }
        self.private_keys = {
            "rsa": RSAKey.generate_key(2048, {"kid": "rsa"}),
            "ec": ECKey.generate_key("P-256", {"kid": "ec"}),
        }
        self.reset()

    def reset(self) -> None:
        """Forgets every login, count and setting. Clients and their keys stay."""
        with self.lock:
            self.issued: list[Issued] = []
            self.codes: dict[str, Code] = {}
            self.devices: dict[str, Device] = {}
            self.jtis: set[tuple[str, str]] = set()
            self.counts: Counter[str] = Counter()
            self.requests: Counter[str] = Counter()  # by grant type, refused ones too
            self.successes: Counter[str] = Counter()  # by grant type, answered with a token
            self.last: dict[str, dict[str, Any]] = {}
            self.answers: dict[str, list[tuple[int, str | None]]] = {}
            self.lifetime = 3600
            self.interval = 5
            self.device_lifetime = 1800
            self.slow_downs = 0
            self.denials = 0

    def use_jti(self, issuer: str, jti: str) -> bool:
        """Whether this is the first time that this issuer sends this `jti`."""
        if (issuer, jti) in self.jtis:
            self.counts["repeated_jtis"] += 1
            return False
        self.jtis.add((issuer, jti))
        return True

    def by_access(self, token: str) -> Issued | None:
        return next((row for row in self.issued if row.access_token == token), None)

    def by_refresh(self, token: str) -> Issued | None:
        return next((row for row in self.issued if row.refresh_token == token), None)

    def end_login(self, login: str) -> None:
        """Kills every token of this login."""
        for row in self.issued:
            if row.login == login:
                row.revoked = row.refresh_revoked = True

    def expire(self) -> None:
        """Kills every access token; the refresh tokens stay good."""
        for row in self.issued:
            row.revoked = True
