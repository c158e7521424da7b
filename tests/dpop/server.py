"""A real authorization server with an API behind it, on loopback, that verifies each proof.

It trusts nothing (RFC 9449 section 4.3): type, algorithm, key, signature, method, URL, time,
`jti`, `ath`, the key that a token is bound to, and nonces of its own on either side. What it
refused and why is counted by name. No code of the package runs here.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from joserfc.jwk import import_key

from tests.dpop.verifier import BadProof, verified

PATIENCE = 30.0  # seconds; what waits longer than this has failed
SECRET = "canary-client-secret"


@dataclass(frozen=True)
class Policy:
    """What one side wants of nonces.

    every: a new one after so many good proofs; the last fifty stay good, as a busy server's do.
    once: each is good once. announced: a good answer brings the next one. never: none is good.
    """

    name: str
    wanted: bool = True
    every: int = 0
    once: bool = False
    announced: bool = True
    never: bool = False


NONE = Policy("none", wanted=False)
FIXED = Policy("fixed", announced=False)
ROTATING = Policy("rotating", every=3)
UNANNOUNCED = Policy("rotating, unannounced", every=3, announced=False)
ONCE = Policy("once", once=True)
ONCE_UNANNOUNCED = Policy("once, unannounced", once=True, announced=False)
NEVER = Policy("never", never=True)


class Nonces:
    """One side's nonces. Any thread may call."""

    def __init__(self, side: str, policy: Policy = NONE) -> None:
        self.policy = policy
        self.given: set[str] = set()  # all that were ever handed out
        self._side = side
        self._lock = threading.Lock()
        self._good: list[str] = []  # guarded by _lock; the newest is last
        self._uses = 0

    def takes(self, nonce: object) -> bool:
        """Whether a proof with this nonce will do."""
        with self._lock:
            if not self.policy.wanted:
                return True
            if self.policy.never or nonce not in self._good:
                return False
            self._uses += 1
            if self.policy.once:
                self._good.remove(str(nonce))
            elif self.policy.every and self._uses % self.policy.every == 0:
                self._good = [*self._good[-49:], self._new()]
            return True

    def next(self) -> str:
        """The nonce for the next proof."""
        with self._lock:
            if self.policy.once or self.policy.never or not self._good:
                self._good.append(self._new())
            return self._good[-1]

    def forget(self) -> None:
        """None of those handed out is good from now on."""
        with self._lock:
            self._good.clear()

    def _new(self) -> str:
        nonce = f"{self._side}-{secrets.token_urlsafe(8)}"
        self.given.add(nonce)
        return nonce


@dataclass
class Issued:
    """What the authorization server knows. `lock` guards all of it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    access: dict[str, str | None] = field(default_factory=dict)  # living -> key it is bound to
    refresh: dict[str, str | None] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)
    numbers: Any = field(default_factory=itertools.count)


@dataclass(frozen=True)
class Seen:
    """One request as it came and what it was answered; `proof`: the claims, where there was one."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    proof: Mapping[str, Any]
    key: str | None
    status: int
    connection: int


class Handler(BaseHTTPRequestHandler):
    """Reads a request, has the server judge it, and answers."""

    server: DPoPServer
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.number = self.server.count("connections")

    def answer_any(self) -> None:
        body = self._body()
        self.proof: Mapping[str, Any] = {}
        self.key: str | None = None
        try:
            if self.path.partition("?")[0] == "/token":
                status, headers, said = self.server.token(self, body)
            else:
                status, headers, said = self.server.api(self, body)
        except Exception as exc:  # shown by the fixture
            self.server.faults.append(exc)
            status, headers, said = 500, {}, {}
        data = b"" if self.command == "HEAD" or status == 204 else json.dumps(said).encode()
        seen = Seen(
            self.command,
            self.path,
            {name.title(): value for name, value in self.headers.items()},
            body,
            self.proof,
            self.key,
            status,
            self.number,
        )
        self.server.note(seen)
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer_any

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def one(self, name: str) -> str | None:
        """The only header of this name."""
        found = self.headers.get_all(name) or []
        if len(found) > 1:
            raise BadProof(f"{len(found)} headers {name}")
        return found[0] if found else None

    def log_message(self, *args: Any) -> None:
        pass


Answer = tuple[int, dict[str, str], Any]


class DPoPServer(ThreadingHTTPServer):
    """`/token` is the token endpoint, all else the API: a context manager.

    issued: another server's, whose tokens this API takes as well. Settings that tests change:
    `provider` and `apis` (nonces), `rotates` (refresh tokens), `bearer` (a provider that knows no
    DPoP), `binds_alone` (RFC 9449 section 5: a Bearer token, and a bound refresh token).
    /redirect?to=URL sends on with 307; /also?nonce=N answers a good request with that nonce.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, issued: Issued | None = None, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), Handler)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_port}/"
        self.token_url = self.url + "token"
        self.provider, self.apis = Nonces("provider"), Nonces("api")
        self.issued = issued or Issued()
        self.rotates, self.bearer, self.binds_alone = True, False, False
        self.seen: list[Seen] = []
        self.faults: list[BaseException] = []
        self.counts: Counter[str] = Counter()
        self._jtis: set[str] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> DPoPServer:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self._thread.join(PATIENCE)
        self.server_close()

    def wants(self, provider: Policy = NONE, api: Policy = NONE) -> None:
        """From now on these nonces are wanted."""
        self.provider, self.apis = Nonces("provider", provider), Nonces("api", api)

    def count(self, name: str) -> int:
        with self._lock:
            self.counts[name] += 1
            return self.counts[name]

    def note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)

    def login(self, jwk: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The reply to a first login of the public client, bound to `jwk` if there is one."""
        key = None if jwk is None else import_key(dict(jwk)).thumbprint()
        reply = self._issue(key, refresh=True, bound_refresh=key)
        return reply if jwk is None else {**reply, "dpop_jwk": dict(jwk)}

    def revoke(self) -> None:
        """All access tokens are dead from now on."""
        with self.issued.lock:
            self.issued.access.clear()

    def token(self, handler: Handler, body: bytes) -> Answer:
        self.count("token_requests")
        form = dict(parse_qsl(body.decode()))
        known = self._client(handler, form)
        if known is None:
            return 401, {}, {"error": "invalid_client"}
        try:
            key = None if self.bearer else self._proven(handler, None)
        except BadProof as exc:
            return self._bad_proof(exc, 400)
        more = {}
        if key is not None:
            nonce = handler.proof.get("nonce")
            if nonce in self.apis.given:
                self.count("mixed")
            if not self.provider.takes(nonce):
                self.count("provider_nonces")
                return 400, {"DPoP-Nonce": self.provider.next()}, {"error": "use_dpop_nonce"}
            if self.provider.policy.wanted and self.provider.policy.announced:
                more = {"DPoP-Nonce": self.provider.next()}
        if form["grant_type"] == "client_credentials":
            self.count("refreshes")
            return 200, more, self._issue(key)
        old = form["refresh_token"]
        with self.issued.lock:
            if old in self.issued.spent:
                self.counts["reuses"] += 1
                return 400, more, {"error": "invalid_grant"}
            if old not in self.issued.refresh:
                return 400, more, {"error": "invalid_grant"}
            if self.issued.refresh[old] not in (None, key):
                self.counts["bindings"] += 1
                return 400, more, {"error": "invalid_grant"}
            bound = key if known == "public" else None
            if self.rotates:
                self.issued.spent.add(old)
                del self.issued.refresh[old]
            else:
                self.issued.refresh[old] = self.issued.refresh[old] or bound
        self.count("refreshes")
        access_key = None if self.binds_alone else key
        return 200, more, self._issue(access_key, refresh=self.rotates, bound_refresh=bound)

    def api(self, handler: Handler, body: bytes) -> Answer:
        self.count("api_requests")
        parts = urlsplit(handler.path)
        query = parse_qs(parts.query)
        if parts.path == "/redirect":
            return 307, {"Location": query["to"][0]}, {}
        scheme, _, token = (handler.headers.get("Authorization") or "").partition(" ")
        if scheme not in ("DPoP", "Bearer"):
            return 401, {"WWW-Authenticate": 'DPoP algs="ES256"'}, {}
        more = {}
        key = None
        if scheme == "DPoP":
            try:
                key = self._proven(handler, token)
                if key is None:
                    raise BadProof("no proof")
            except BadProof as exc:
                return self._bad_proof(exc, 401)
            nonce = handler.proof.get("nonce")
            if nonce in self.provider.given:
                self.count("mixed")
            if not self.apis.takes(nonce):
                self.count("api_nonces")
                return self._refusal("use_dpop_nonce", {"DPoP-Nonce": self.apis.next()})
            if self.apis.policy.wanted and self.apis.policy.announced:
                more = {"DPoP-Nonce": self.apis.next()}
        with self.issued.lock:
            alive, bound = token in self.issued.access, self.issued.access.get(token)
        if not alive:
            self.count("dead")
            return self._refusal("invalid_token", more)
        if bound != key:
            self.count("bindings")
            return self._refusal("invalid_token", more)
        self.count("served")
        if "nonce" in query:
            more = {"DPoP-Nonce": query["nonce"][0]}
        status = int(query.get("status", ["200"])[0])
        return status, more, {"method": handler.command, "sent": hashlib.sha256(body).hexdigest()}

    def _refusal(self, error: str, headers: Mapping[str, str]) -> Answer:
        return 401, {"WWW-Authenticate": f'DPoP error="{error}", algs="ES256"', **headers}, {}

    def _bad_proof(self, exc: BadProof, status: int) -> Answer:
        self.count("replays" if "jti" in str(exc) else "bad_proofs")
        self.faults.append(exc)
        headers = {"WWW-Authenticate": 'DPoP error="invalid_dpop_proof"'} if status == 401 else {}
        return status, headers, {"error": "invalid_dpop_proof"}

    def _client(self, handler: Handler, form: Mapping[str, str]) -> str | None:
        basic = "Basic " + base64.b64encode(f"secret:{SECRET}".encode()).decode()
        if handler.headers.get("Authorization") == basic:
            return "secret"
        return "public" if form.get("client_id") == "public" else None

    def _proven(self, handler: Handler, token: str | None) -> str | None:
        """The thumbprint of the key that this request proves to have; None without a proof."""
        text = handler.one("DPoP")
        if text is None:
            return None
        url = f"http://{handler.one('Host')}{handler.path.partition('?')[0]}"
        handler.key, handler.proof = verified(text, handler.command, url, token)
        with self._lock:
            jti = handler.proof["jti"]
            if jti in self._jtis:
                raise BadProof("this jti was used before")
            self._jtis.add(jti)
        return handler.key

    def _issue(
        self, key: str | None, refresh: bool = False, bound_refresh: str | None = None
    ) -> dict[str, Any]:
        with self.issued.lock:
            number = next(self.issued.numbers)
            access = f"canary-access-{number}"
            self.issued.access[access] = key
            kind = "Bearer" if key is None else "DPoP"
            reply = {"access_token": access, "token_type": kind, "expires_in": 3600}
            if refresh:
                reply["refresh_token"] = f"canary-refresh-{number}"
                self.issued.refresh[str(reply["refresh_token"])] = bound_refresh
            return reply
